//! The choice of a site's certificate.

use std::fmt;
use std::sync::Arc;

use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::identity::Identity;

/// The certificates of a site.
pub(super) struct OfSite(Vec<Arc<Identity>>);

impl OfSite {
    pub(super) fn new(identities: Vec<Arc<Identity>>) -> Self {
        Self(identities)
    }
}

impl fmt::Debug for OfSite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OfSite").finish_non_exhaustive()
    }
}

impl ResolvesServerCert for OfSite {
    /// Returns the first one with a kind of key that the client knows.
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let schemes = hello.signature_schemes();
        let known = |identity: &&Arc<Identity>| identity.key.key.choose_scheme(schemes).is_some();
        let own = self.0.iter();
        // None fits: the library tells the client so.
        let found = own.clone().find(known).or(self.0.first());
        found.map(|identity| identity.key.clone())
    }
}
