//! Warnings of a start, as errors: `-t --strict`.

use std::collections::HashMap;
use std::time::SystemTime;

use crate::calendar::unix_seconds;
use crate::config::section::Scalar;
use crate::config::{Config, ConfigErrors, Errors};
use crate::live::{LoadError, Loaded, Source};
use crate::names::Resolver;
use crate::tls::CertificateState;

/// Looks every name of a server up, and at the times of the certificates in files. It blocks for as long as that takes.
///
/// # Errors
///
/// Names that are not found and certificates that clients refuse by their time, each with the place that names it.
pub fn check(source: &dyn Source, loaded: &Loaded) -> Result<(), LoadError> {
    let (config, _) = source.compile()?;
    let mut errors = Errors::default();
    let resolver = Resolver::new(&loaded.running.plan.resolver);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    match runtime {
        Ok(runtime) => runtime.block_on(names(&config, &resolver, &mut errors)),
        Err(e) => errors.at(
            config.model.place,
            format!("names cannot be looked up: {e}"),
        ),
    }
    certificates(&config, &loaded.running.certificates(), &mut errors);
    if errors.is_empty() {
        return Ok(());
    }
    let errors: ConfigErrors = config.refused(errors, loaded.watched.clone());
    let mut failed = LoadError::from(errors.clone());
    if source.file().is_none() {
        // Nobody has written the text that the places are in.
        let messages = errors.problems.into_iter().map(|problem| problem.message);
        failed.problems = messages.collect();
        failed.shown = failed.problems.join("; ");
    }
    Err(failed)
}

async fn names(config: &Config, resolver: &Resolver, errors: &mut Errors) {
    let servers = config.servers();
    // Each name once, wherever it stands.
    let mut asked = HashMap::new();
    for server in &servers {
        asked.entry(&server.value).or_insert(());
    }
    let asked = asked.into_keys().map(|server| async move {
        let found = resolver.find(server).await;
        found.err().map(|why| (server, why))
    });
    let failed = futures::future::join_all(asked).await;
    let failed: HashMap<_, _> = failed.into_iter().flatten().collect();
    for server in &servers {
        if let Some(why) = failed.get(&server.value) {
            let name = server.value.show();
            let message = format!("the server `{name}` is not found by its name: {why}");
            errors.at(server.place, message);
        }
    }
}

fn certificates(config: &Config, all: &[CertificateState], errors: &mut Errors) {
    let now = unix_seconds(SystemTime::now());
    let refused = |state: &&CertificateState| {
        let times = state.not_before.zip(state.not_after);
        times.is_some_and(|(from, to)| now < from || now > to)
    };
    for state in all.iter().filter(refused) {
        let named = config.model.sites.iter().flat_map(|site| site.tls.files());
        let mut named = named.map(|pair| &pair.cert);
        let found = named.find(|cert| {
            let path = cert.to_string_lossy();
            let shown = cert.shown().to_string_lossy();
            let file = state.file.as_deref();
            file == Some(&*path) || file == Some(&*shown)
        });
        let (Some(cert), Some(sentence)) = (found, state.sentence()) else {
            continue;
        };
        errors.at(cert.place, sentence);
    }
}
