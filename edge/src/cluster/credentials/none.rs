//! For a build without TLS: a cluster that asks for it is refused.

use std::path::Path;

use crate::WITHOUT_TLS;
use pingora_core::upstreams::peer::HttpPeer;

use crate::config::model::UpstreamTls;

/// # Errors
///
/// Always.
pub(crate) fn count(_: &Path) -> Result<usize, String> {
    Err(WITHOUT_TLS.to_owned())
}

/// Is never made.
pub(super) enum Files {}

/// No certificates.
#[derive(Default)]
pub(super) struct Credentials;

impl Files {
    /// # Errors
    ///
    /// Always.
    pub(super) fn read(_: &UpstreamTls) -> Result<Self, String> {
        Err(WITHOUT_TLS.to_owned())
    }

    pub(super) fn hash(&self) -> u64 {
        match *self {}
    }

    pub(super) fn credentials(&self) -> Credentials {
        match *self {}
    }
}

impl Credentials {
    pub(super) fn give(&self, _: &mut HttpPeer) {}
}
