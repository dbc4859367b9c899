//! TLS with clients, as a plan has it.

use std::path::PathBuf;

use crate::config::model::{AlpnProtocol, Cipher, ClientAuthMode, KeyExchange, TlsVersion};

/// A certificate and its key.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Certificate {
    /// The file of the certificate and those that vouch for it.
    pub cert: PathBuf,
    /// The file of the private key.
    pub key: PathBuf,
    /// The file of an OCSP response.
    pub ocsp: Option<PathBuf>,
}

impl Certificate {
    /// Returns all files of it.
    pub fn files(&self) -> impl Iterator<Item = &PathBuf> {
        [&self.cert, &self.key].into_iter().chain(&self.ocsp)
    }
}

/// The terms on which the clients of a site speak TLS.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TlsOptions {
    /// The lowest version.
    pub min_version: TlsVersion,
    /// The highest version.
    pub max_version: TlsVersion,
    /// The cipher suites, the preferred one first; all when empty.
    pub ciphers: Vec<Cipher>,
    /// The groups of the key exchange, the preferred one first; the default ones when empty.
    pub key_exchange: Vec<KeyExchange>,
    /// The application protocols, the preferred one first.
    pub alpn: Vec<AlpnProtocol>,
    /// The check of client certificates.
    pub client_auth: Option<ClientAuth>,
}

/// The check of client certificates.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ClientAuth {
    /// The file of those who issue them.
    pub ca: PathBuf,
    /// True if a client must show one: [`ClientAuthMode::Require`] or [`ClientAuthMode::Request`].
    pub mode: ClientAuthMode,
    /// The file of their revocation lists.
    pub crl: Option<PathBuf>,
}

impl Default for TlsOptions {
    fn default() -> Self {
        Self {
            min_version: TlsVersion::Tls12,
            max_version: TlsVersion::Tls13,
            ciphers: Vec::new(),
            key_exchange: Vec::new(),
            alpn: vec![AlpnProtocol::H2, AlpnProtocol::Http1],
            client_auth: None,
        }
    }
}

/// The certificate that a client has shown, and that was checked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientCertificate {
    /// The subject, in the form of RFC 4514.
    pub subject: String,
    /// The names of hosts, addresses, URIs and mailboxes.
    pub san: Vec<String>,
    /// The SHA-256 fingerprint, in hexadecimal digits.
    pub fingerprint: String,
}
