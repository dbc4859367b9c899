//! For a build without TLS.

use std::sync::Arc;

use async_trait::async_trait;
use pingora_core::server::ShutdownWatch;
use pingora_core::services::background::BackgroundService;

use crate::WITHOUT_TLS;
use pingora_core::listeners::tls::TlsSettings;
use pingora_core::{Error, InternalError, Result};

use super::{CertificateState, Policy};
use crate::live::Live;
use crate::plan::acme::Acme;
use crate::plan::Plan;

/// No certificates.
pub(crate) struct Certificates;

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

/// Returns the number of certificates that were issued, and of tries that failed.
pub(crate) fn orders() -> (u64, u64) {
    (0, 0)
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

pub(super) fn init() {}

pub(super) fn settings(_: Arc<Live>) -> Result<TlsSettings> {
    Error::e_explain(InternalError, WITHOUT_TLS)
}

impl Certificates {
    /// Refuses a plan that has certificates.
    pub(crate) fn load(plan: &Plan, _: Option<&Self>, problems: &mut Vec<String>) -> Self {
        for site in plan
            .sites
            .iter()
            .filter(|site| site.is_automatic || !site.certificates.is_empty())
        {
            problems.push(format!("the site `{}`: `tls`: {WITHOUT_TLS}", site.name));
        }
        Self
    }

    /// Returns the automatic ones: none.
    pub(crate) fn automatic(&self) -> Arc<Automatic> {
        Arc::new(Automatic)
    }

    /// Returns the states of all certificates: none.
    pub(crate) fn states(&self) -> Vec<CertificateState> {
        Vec::new()
    }

    /// Returns what tells the check of client certificates of a site from others: there is none.
    #[inline]
    pub(crate) fn policy(&self, _: usize) -> Option<Policy> {
        None
    }
}
