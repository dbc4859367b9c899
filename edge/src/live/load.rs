//! From the configuration to a generation that can run.

use std::collections::HashSet;
use std::fmt;
use std::io;
use std::sync::Arc;

use super::counted::Limits;
use super::{Running, Source};
use crate::cluster::{self, unique};
use crate::config::section::Scalar;
use crate::config::{Config, ConfigErrors, Watched};
use crate::observe::log::AccessLog;
use crate::observe::PlanSeries;
use crate::plan::{self, Admin, Plan};
use crate::tls::{self, Certificates};
use crate::tools;

/// A generation, and what would change it.
pub struct Loaded {
    /// The generation.
    pub running: Running,
    /// The files that it was made of, those of certificates among them.
    pub watched: Watched,
    /// A line about its size.
    pub summary: String,
}

/// Everything that keeps a configuration from being run.
#[derive(Debug)]
pub struct LoadError {
    /// The errors with the lines of the file that they are about.
    pub shown: String,
    /// Each error in a line.
    pub problems: Vec<String>,
    /// The files whose change may mend it.
    pub watched: Watched,
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.shown.trim_end())
    }
}

impl std::error::Error for LoadError {}

impl From<ConfigErrors> for LoadError {
    fn from(errors: ConfigErrors) -> Self {
        let problems = errors.problems.iter();
        let problems = problems.map(|problem| format!("{}: {}", problem.at, problem.message));
        Self {
            problems: problems.collect(),
            shown: errors.to_string(),
            watched: errors.watched,
        }
    }
}

/// Reads a configuration, and makes a generation of it. It keeps what is unchanged of the one before.
///
/// # Errors
///
/// Everything that is wrong in the files and with certificates.
pub fn load(source: &dyn Source, before: Option<&Running>) -> Result<Loaded, LoadError> {
    made(source, before, |plan| {
        let before = before.and_then(|before| before.log.as_ref());
        AccessLog::open(plan, before).map(Some)
    })
}

/// Looks whether a configuration could be run. It makes no file: one of the user that looks could not be written by that of
/// the service. What it returns has no access log.
///
/// # Errors
///
/// Those of [`load`].
pub fn check(source: &dyn Source) -> Result<Loaded, LoadError> {
    made(source, None, |plan| AccessLog::check(plan).map(|()| None))
}

fn made(
    source: &dyn Source,
    before: Option<&Running>,
    open_log: impl FnOnce(&plan::observe::AccessLog) -> io::Result<Option<AccessLog>>,
) -> Result<Loaded, LoadError> {
    let (config, plan) = source.compile()?;
    let watched = watched(&config, &plan);
    source.check_files(&config, &watched)?;
    let summary = tools::summary(source.name(), &config, &plan);
    let mut problems = Vec::new();
    if let Some(before) = before {
        admin(
            before.plan.admin.as_ref(),
            plan.admin.as_ref(),
            &mut problems,
        );
        if before.plan.server != plan.server {
            problems.push("`server`: other settings of the process take a restart".to_owned());
        }
    }
    let certificates = Certificates::load(
        &plan,
        before.map(|before| &before.certificates),
        &mut problems,
    );
    let known = before.map_or(&[][..], |before| &before.clusters);
    let clusters = cluster::clusters(&plan, known).unwrap_or_else(|all| {
        let name = source.name().display();
        let shown = all.iter().map(|why| format!("{name}: {why}"));
        problems.extend(shown);
        Vec::new()
    });
    let log = plan.observe.log.as_ref().and_then(|log| {
        let tell = |e| problems.push(format!("`access_log`: {}: {e}", log.to.show()));
        open_log(log).map_err(tell).ok().flatten()
    });
    if !problems.is_empty() {
        let problems: Vec<_> = problems
            .into_iter()
            .map(|problem| source.told(problem))
            .collect();
        return Err(LoadError {
            shown: problems.join("\n"),
            problems,
            watched,
        });
    }
    // It takes memory and time, so only for those who have an admin interface to see it.
    let shown = shown(&config, &plan);
    let running = Running {
        generation: unique(),
        limits: Limits::of(&plan, before.map(|before| &before.limits)),
        series: PlanSeries::of(&plan, before.map(|before| &before.series)),
        plan,
        clusters,
        certificates,
        shown,
        log,
    };
    Ok(Loaded {
        running,
        watched,
        summary,
    })
}

fn shown(config: &Config, plan: &Plan) -> Arc<str> {
    match plan.admin {
        Some(_) => config.shown().into(),
        None => Arc::default(),
    }
}

fn watched(config: &Config, plan: &Plan) -> Watched {
    let mut watched = config.watched.clone();
    watched.files.extend(tls::files(plan));
    watched
        .files
        .extend(plan.clusters.iter().flat_map(cluster::files));
    let mut known = HashSet::new();
    watched.files.retain(|file| known.insert(file.clone()));
    watched
}

/// Tells of an admin interface that is not where it was.
fn admin(before: Option<&Admin>, now: Option<&Admin>, problems: &mut Vec<String>) {
    let what = match (before, now) {
        (None, Some(now)) => format!("{} is new", now.address),
        (Some(before), None) => format!("{} is gone", before.address),
        (Some(before), Some(now)) if before.address != now.address => {
            format!("{} becomes {}", before.address, now.address)
        }
        _ => return,
    };
    problems.push(format!("`admin`: {what}, which takes a restart"));
}
