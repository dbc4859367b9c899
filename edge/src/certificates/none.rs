//! For a build without TLS: there is nothing that could use a certificate.

use std::sync::Arc;

use pingora_core::listeners::tls::TlsSettings;
use pingora_core::{Error, InternalError, Result};

use super::{Certificates, Validity};

/// Is never made.
pub(super) enum Pair {}

pub(super) fn load(cert: &str, _key: &str) -> Result<Pair> {
    Error::e_explain(
        InternalError,
        format!("{cert} cannot be used: {}", crate::WITHOUT_TLS),
    )
}

pub(super) fn validity(pair: &Pair) -> Result<Validity> {
    match *pair {}
}

pub(super) fn authorities(_: &str) -> Result<usize> {
    Error::e_explain(InternalError, crate::WITHOUT_TLS)
}

pub(super) fn settings(certificates: Arc<Certificates>) -> Result<TlsSettings> {
    match *certificates.current() {}
}
