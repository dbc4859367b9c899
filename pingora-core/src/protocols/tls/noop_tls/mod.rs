//! The backend that stands in when no TLS feature is on: it has the types, and refuses to connect.

pub mod connectors;
pub mod listeners;
pub mod stream;
#[cfg(test)]
mod tests;
pub mod utils;

use std::hash::{Hash, Hasher};

pub(crate) use stream::SslStream as Layer;

/// Stands for a TLS session; there never is one.
pub struct TlsRef;

/// Trusted certificates of a peer.
pub type CaType = [CertWrapper];

/// Hashes how many certificates there are, as nothing else is known of them.
pub(crate) fn hash_ca(ca: &CaType, state: &mut impl Hasher) {
    ca.len().hash(state);
}

/// Stands for a certificate.
#[derive(Debug)]
pub struct CertWrapper;

impl CertWrapper {
    /// The end of the certificate's validity; empty, as nothing is known of it.
    pub fn not_after(&self) -> &str {
        ""
    }
}

/// Why everything here fails.
const NO_BACKEND: &str = "no TLS backend is compiled in: build with one of the TLS features";

#[cfg(test)]
pub(crate) fn some_cert_key() -> utils::CertKey {
    utils::CertKey
}

#[cfg(test)]
pub(crate) fn no_ca() -> std::sync::Arc<CaType> {
    std::sync::Arc::new([])
}
