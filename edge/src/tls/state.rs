//! The state of certificates, for those who look at it.

use std::time::SystemTime;

use serde::Serialize;

use super::Validity;
use crate::calendar::unix_seconds;

/// A certificate that clients are shown, or that is to be had for them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CertificateState {
    /// The site: its first host.
    pub site: String,
    /// The hosts that the certificate is for.
    pub names: Vec<String>,
    /// The origin of the certificate.
    pub source: Source,
    /// The file of the certificate, if there is one.
    pub file: Option<String>,
    /// The kind of its key, such as `ECDSA`.
    pub key: Option<String>,
    /// The name of its issuer, in the form of RFC 4514.
    pub issuer: Option<String>,
    /// The SHA-256 fingerprint, in hexadecimal digits.
    pub fingerprint: Option<String>,
    /// The first second of its validity, since the beginning of 1970.
    pub not_before: Option<i64>,
    /// The last second of its validity, since the beginning of 1970.
    pub not_after: Option<i64>,
    /// True if an OCSP response is sent with it.
    pub ocsp: bool,
    /// The last error on the way to a new certificate.
    pub error: Option<String>,
    /// The second of the next try to have a new certificate, since the beginning of 1970.
    pub next_try: Option<i64>,
}

/// The origin of a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// The files that the configuration names.
    File,
    /// An authority, by ACME.
    Acme,
}

#[cfg_attr(
    not(feature = "rustls"),
    allow(dead_code, reason = "no certificate is missing")
)]
impl CertificateState {
    /// Makes the state of a certificate that is to be had for a host of `site`.
    pub(super) fn missing(site: &str, host: &str) -> Self {
        Self {
            site: site.to_owned(),
            names: vec![host.to_owned()],
            source: Source::Acme,
            file: None,
            key: None,
            issuer: None,
            fingerprint: None,
            not_before: None,
            not_after: None,
            ocsp: false,
            error: None,
            next_try: None,
        }
    }
}

impl CertificateState {
    /// Returns until when the certificate in a file is valid, in a sentence.
    pub fn sentence(&self) -> Option<String> {
        let validity = Validity {
            not_before: self.not_before?,
            not_after: self.not_after?,
            of_authority: false,
        };
        let text = validity.text(unix_seconds(SystemTime::now()));
        Some(format!("the certificate in {} {text}", self.file.as_ref()?))
    }
}
