//! The choice of a site's certificate.

use std::fmt;
use std::sync::Arc;

use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::acme::Automatic;
use super::identity::Identity;
use crate::config::values::HostPattern;
use crate::plan::host;

/// The certificates of a site.
pub(super) struct OfSite(Own);

/// The origin of the certificates of a site.
#[derive(Clone)]
pub(super) enum Own {
    /// Files.
    Files(Vec<Arc<Identity>>),
    /// ACME, with one for each of these hosts.
    Automatic(Arc<Automatic>, AutomaticHosts),
}

/// The hosts of a site that have certificates by ACME.
#[derive(Clone, Default)]
pub(super) struct AutomaticHosts {
    /// Those that have one each.
    pub(super) exact: Vec<String>,
    /// Those whose names have one on demand.
    pub(super) patterns: Vec<HostPattern>,
}

impl Default for Own {
    fn default() -> Self {
        Self::Files(Vec::new())
    }
}

impl OfSite {
    pub(super) fn new(own: Own) -> Self {
        Self(own)
    }
}

impl fmt::Debug for OfSite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OfSite").finish_non_exhaustive()
    }
}

impl ResolvesServerCert for OfSite {
    /// Returns the first one with a kind of key that the client knows; of automatic ones, that of the name which the client
    /// asks for, and nothing while there is none.
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        match &self.0 {
            Own::Files(all) => {
                let schemes = hello.signature_schemes();
                let known =
                    |identity: &&Arc<Identity>| identity.key.key.choose_scheme(schemes).is_some();
                // None fits: the library tells the client so.
                let found = all.iter().find(known).or(all.first());
                found.map(|identity| identity.key.clone())
            }
            Own::Automatic(automatic, hosts) => {
                let name = hello.server_name().and_then(host::normalise);
                if let Some(name) = &name {
                    if let Some(own) = hosts.exact.iter().find(|host| *host == name) {
                        return automatic.certificate(own);
                    }
                    if hosts.patterns.iter().any(|host| host.matches(name)) {
                        return automatic.demanded(name);
                    }
                }
                // Those who ask for no name, or for one that nobody has, are shown the first one.
                automatic.certificate(hosts.exact.first()?)
            }
        }
    }
}
