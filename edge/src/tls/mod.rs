//! TLS with clients: the certificate of each site, chosen by the name that a client asks for (SNI), and the terms of the
//! handshake.

#[cfg_attr(feature = "rustls", path = "rustls/mod.rs")]
#[cfg_attr(any(feature = "openssl", feature = "boringssl"), path = "openssl.rs")]
#[cfg_attr(
    not(any(feature = "rustls", feature = "openssl", feature = "boringssl")),
    path = "none.rs"
)]
mod backend;
mod failures;
mod state;
mod validity;
#[cfg(not(feature = "rustls"))]
mod without_acme;

use std::path::PathBuf;
use std::sync::Arc;

use pingora_core::listeners::tls::TlsSettings;
use pingora_core::protocols::tls::SslDigest;
use pingora_core::Result;

use crate::live::Live;
use crate::plan::{ClientCertificate, Plan};
pub use failures::{failures, Failure};
pub use state::{CertificateState, Source};
use validity::Validity;

pub(crate) use backend::{is_token, orders, Certificates, Ordering};

/// Installs the cryptography of this process, before anything else does.
pub fn init() {
    backend::init();
}

/// Makes the settings of a listener that shows the certificates of the generation that runs.
///
/// # Errors
///
/// When the TLS library refuses, or none is built in.
pub(crate) fn settings(live: &Arc<Live>) -> Result<TlsSettings> {
    backend::settings(live.clone())
}

/// Returns the files of the certificates of a plan, and those that its clients' are checked by.
pub(crate) fn files(plan: &Plan) -> impl Iterator<Item = PathBuf> + use<'_> {
    let of_site = |site: &'_ crate::plan::Site| {
        let certificates = site
            .certificates
            .iter()
            .flat_map(|own| own.files().cloned());
        let auth = site.tls_options.client_auth.iter();
        let auth = auth.flat_map(|auth| [Some(auth.ca.clone()), auth.crl.clone()]);
        certificates.chain(auth.flatten()).collect::<Vec<_>>()
    };
    plan.sites.iter().flat_map(of_site)
}

/// The outcome of a handshake in which the client was asked for a certificate.
#[derive(Debug)]
pub(crate) struct Checked {
    /// Tells one check of client certificates from another.
    pub(crate) policy: u64,
    /// The certificate, if the client has shown one.
    pub(crate) client: Option<ClientCertificate>,
}

impl Checked {
    /// Returns that of a connection.
    #[inline]
    pub(crate) fn of(digest: &SslDigest) -> Option<&Self> {
        digest.extension.get()
    }
}

/// The check of client certificates of a site.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Policy {
    /// Tells it from others: it is the same where the same certificates are asked for.
    pub(crate) id: u64,
    /// True if a client must show one.
    pub(crate) required: bool,
}
