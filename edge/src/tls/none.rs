//! For a build without TLS.

use std::sync::Arc;

use crate::WITHOUT_TLS;
use pingora_core::listeners::tls::TlsSettings;
use pingora_core::{Error, InternalError, Result};

use super::without_acme::Automatic;
pub(crate) use super::without_acme::{is_token, orders, Ordering};
use super::{CertificateState, Policy};
use crate::live::Live;
use crate::plan::Plan;

/// No certificates.
pub(crate) struct Certificates;

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
    pub(crate) fn states(&self, _: &Plan) -> Vec<CertificateState> {
        Vec::new()
    }

    /// Returns what tells the check of client certificates of a site from others: there is none.
    #[inline]
    pub(crate) fn policy(&self, _: usize) -> Option<Policy> {
        None
    }
}
