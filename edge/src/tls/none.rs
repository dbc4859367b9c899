//! For a build without TLS.

use std::sync::Arc;

use crate::WITHOUT_TLS;
use pingora_core::listeners::tls::TlsSettings;
use pingora_core::{Error, InternalError, Result};

use crate::live::Live;

pub(super) fn settings(_: Arc<Live>) -> Result<TlsSettings> {
    Error::e_explain(InternalError, WITHOUT_TLS)
}
