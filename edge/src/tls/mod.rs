//! TLS with clients: the certificate of each site, chosen by the name that a client asks for (SNI).

#[cfg_attr(feature = "rustls", path = "rustls.rs")]
#[cfg_attr(not(feature = "rustls"), path = "none.rs")]
mod backend;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::certificates::Certificates as Pair;
use pingora_core::listeners::tls::TlsSettings;
use pingora_core::Result;

use crate::live::Live;
use crate::plan::{host, Certificate, Plan};

/// The certificates of a plan.
pub(crate) struct Certificates {
    /// By the index of the site.
    of_sites: Vec<Option<Arc<Pair>>>,
}

impl Certificates {
    /// Reads the certificates of all sites. What cannot be used is added to `problems`.
    pub(crate) fn load(plan: &Plan, problems: &mut Vec<String>) -> Self {
        let mut known: HashMap<&Certificate, Option<Arc<Pair>>> = HashMap::new();
        let mut of_site = |of: &'_ Certificate, site: &str| {
            let (cert, key) = (of.cert.to_string_lossy(), of.key.to_string_lossy());
            let loaded = Pair::load(&cert, &key);
            loaded
                .map_err(|e| problems.push(format!("the site `{site}`: `tls`: {e}")))
                .ok()
        };
        let mut of_sites = Vec::new();
        for site in &plan.sites {
            let pair = site.certificate.as_ref().and_then(|certificate| {
                let known = known.entry(certificate);
                known
                    .or_insert_with(|| of_site(certificate, &site.name))
                    .clone()
            });
            of_sites.push(pair);
        }
        Self { of_sites }
    }

    /// Returns the files of the certificates of a plan.
    pub(crate) fn files(plan: &Plan) -> impl Iterator<Item = PathBuf> + use<'_> {
        let all = plan
            .sites
            .iter()
            .filter_map(|site| site.certificate.as_ref());
        all.flat_map(|pair| [Path::to_owned(&pair.cert), Path::to_owned(&pair.key)])
    }

    /// Returns the end of the time of each site's certificate, `Some(None)` when that cannot be read from it.
    pub(crate) fn ends(&self) -> impl Iterator<Item = Option<Option<i64>>> + use<'_> {
        let end = |pair: &Arc<Pair>| Some(pair.validity().ok()?.not_after());
        let sites = self.of_sites.iter();
        sites.map(move |pair| pair.as_ref().map(end))
    }

    /// Returns the certificate for a client that asks for `name`: that of the name's site, else the first one.
    #[cfg_attr(not(feature = "rustls"), allow(dead_code, reason = "nobody asks"))]
    fn of(&self, plan: &Plan, name: Option<&str>) -> Option<&Arc<Pair>> {
        let name = name.and_then(host::normalise);
        let site = name.and_then(|name| plan.site(&name));
        let own = site.and_then(|site| self.of_sites[site].as_ref());
        own.or_else(|| self.of_sites.iter().flatten().next())
    }
}

/// Makes the settings of a listener that shows the certificates of the generation that runs.
///
/// # Errors
///
/// When the TLS library refuses, or none is built in.
pub(crate) fn settings(live: &Arc<Live>) -> Result<TlsSettings> {
    let mut settings = backend::settings(live.clone())?;
    settings.enable_h2();
    Ok(settings)
}
