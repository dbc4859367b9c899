//! For a build without rustls: no certificate is had by itself.

use std::sync::Arc;

use async_trait::async_trait;
use pingora_core::server::ShutdownWatch;
use pingora_core::services::background::BackgroundService;

use crate::live::Live;
use crate::plan::acme::Acme;

/// No automatic certificates.
pub(crate) struct Automatic;

/// The service that has certificates: it has none.
pub(crate) struct Ordering(pub(crate) Arc<Live>);

#[async_trait]
impl BackgroundService for Ordering {
    async fn start(&self, _: ShutdownWatch) {
        let _ = &self.0;
    }
}

/// Returns the number of certificates that were issued, of tries that failed, and of names that are not allowed.
pub(crate) fn orders() -> [u64; 3] {
    [0; 3]
}

/// Tells whether a text is a token of a challenge: none is known.
pub(crate) fn is_token(_: &[u8]) -> bool {
    false
}

impl Automatic {
    /// Returns the answer to a challenge: there is none.
    pub(crate) async fn answer(&self, _: &Acme, _: &str) -> Option<String> {
        None
    }
}
