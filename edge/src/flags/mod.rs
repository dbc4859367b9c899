//! A configuration made of flags, and of a file of settings if there is one.
//!
//! ```text
//! flags ----+
//!           +--> settings --> the text of a file (configuration) --> as any other file
//! --conf ---+
//! ```
//!
//! What is wrong with a flag is told by its name, before there is a text. What is found later goes through
//! [`Source::told`].

mod args;
mod configuration;
mod limits;
mod settings;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use crate::config::values::ServerAddress;
use crate::config::{self, Config, ConfigErrors, OneFile, Watched};
use crate::live::{LoadError, Source};
use crate::names::Resolver;
use crate::plan::{self, Plan};

pub use args::Flags;
use configuration::Wanted;
pub use settings::has_settings;

/// The name of the configuration in messages.
const NAME: &str = "the configuration";

/// The flags of a process, and what they stand for.
pub struct FromFlags {
    flags: Flags,
    /// The demo origin, which requests go to where no upstream is told.
    demo: Option<SocketAddr>,
    identity: PathBuf,
}

impl FromFlags {
    /// Takes flags, which name files as seen from the folder that the process is in now.
    pub fn new(flags: &Flags, demo: Option<SocketAddr>) -> Self {
        let mut flags = flags.clone();
        flags.make_absolute();
        let first = flags.addresses().into_iter().next();
        Self {
            identity: format!("--listen {}", first.unwrap_or_default()).into(),
            flags,
            demo,
        }
    }

    /// Checks what is only looked at on demand: whether the names of upstreams have addresses.
    ///
    /// # Errors
    ///
    /// Names the flag and the name.
    pub fn check_names(&self) -> Result<(), String> {
        let wanted = Wanted::of(&self.flags)?;
        // As the proxy will look them up.
        let resolver = Resolver::new(&plan::Resolver::default());
        let asked = wanted.upstreams.into_iter().map(|upstream| {
            let (server, resolver) = (ServerAddress::At(upstream.address), &resolver);
            async move {
                let found = resolver.find(&server).await;
                found.map_err(|why| format!("--upstream: cannot look up {server}: {why}"))
            }
        });
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        let runtime = runtime.map_err(|e| format!("names cannot be looked up: {e}"))?;
        let found = runtime.block_on(futures::future::join_all(asked));
        found.into_iter().collect()
    }

    /// Returns the servers that requests go to, as they were written.
    pub fn servers(&self) -> String {
        match &self.flags.upstream[..] {
            [] => "the demo origin".to_owned(),
            upstreams => upstreams.join(", "),
        }
    }

    /// Returns the text of the configuration.
    ///
    /// # Errors
    ///
    /// Names the flag, or the file and the key, and its value, in one line.
    fn text(&self) -> Result<String, String> {
        let settings = settings::read(&self.flags)?;
        let wanted = Wanted::of(&self.flags)?;
        Ok(configuration::text(
            &self.flags,
            &wanted,
            &settings,
            self.demo,
        ))
    }

    fn watched(&self) -> Watched {
        Watched {
            files: self.flags.conf.iter().cloned().collect(),
            globs: Vec::new(),
        }
    }

    fn failed(&self, problems: Vec<String>) -> LoadError {
        LoadError {
            shown: problems.join("; "),
            problems,
            watched: self.watched(),
        }
    }

    /// Leaves the places out: nobody has written the text that they are in.
    fn rephrased(&self, errors: ConfigErrors) -> LoadError {
        let problems = errors.problems.into_iter();
        self.failed(problems.map(|problem| problem.message).collect())
    }
}

impl Source for FromFlags {
    fn name(&self) -> &Path {
        Path::new(NAME)
    }

    fn identity(&self) -> &Path {
        &self.identity
    }

    fn file(&self) -> Option<&Path> {
        self.flags.conf.as_deref()
    }

    fn compile(&self) -> Result<(Config, Plan), LoadError> {
        let text = self.text().map_err(|e| self.failed(vec![e]))?;
        let config = config::load(Path::new(NAME), &OneFile(text));
        let mut config = config.map_err(|errors| self.rephrased(errors))?;
        let plan = Plan::compile(&config).map_err(|errors| self.rephrased(errors))?;
        config.watched = self.watched();
        Ok((config, plan))
    }

    fn told(&self, problem: String) -> String {
        let log = match (&self.flags.access_log, &self.flags.conf) {
            (None, Some(file)) => format!("{}: access_log", file.display()),
            _ => "--access-log".to_owned(),
        };
        let flags = [
            ("the site `*`: `tls`: ", "--tls-cert and --tls-key: "),
            ("`access_log`: ", &format!("{log}: cannot write to ")),
            ("`listen`: ", "--listen: "),
            ("`admin`: ", "--admin: "),
            ("the configuration: `ca`: ", "--upstream-ca: "),
        ];
        for (key, flag) in flags {
            if let Some(rest) = problem.strip_prefix(key) {
                return format!("{flag}{rest}");
            }
        }
        problem
    }
}
