//! From the options of a site to the configuration of its handshakes.

use std::collections::hash_map::DefaultHasher;
use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use rustls::crypto::aws_lc_rs::{cipher_suite as suites, kx_group as groups, Ticketer};
use rustls::crypto::{CryptoProvider, SupportedKxGroup};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{
    NoServerSessionStorage, ProducesTickets, ResolvesServerCert, WebPkiClientVerifier,
};
use rustls::{
    version, RootCertStore, ServerConfig, SupportedCipherSuite, SupportedProtocolVersion,
};

use super::provider;
use crate::calendar::{unix_seconds, Utc};
use crate::config::model::{AlpnProtocol, Cipher, ClientAuthMode, KeyExchange, TlsVersion};
use crate::config::section::Scalar;
use crate::plan::{ClientAuth, TlsOptions};
use crate::tls::Policy;

/// Terms made of the options of several sites, once for equal ones.
#[derive(Default)]
pub(super) struct Known<'p>(HashMap<&'p TlsOptions, Arc<Terms>>);

/// The terms of handshakes, without certificates.
pub(super) struct Terms {
    /// Tells terms apart, the contents of their files among them.
    pub(super) hash: u64,
    base: ServerConfig,
    required: Option<bool>,
}

impl<'p> Known<'p> {
    /// Makes the terms of these options.
    ///
    /// # Errors
    ///
    /// Names the file that cannot be used, and why.
    pub(super) fn of(&mut self, options: &'p TlsOptions) -> Result<Arc<Terms>, String> {
        if let Some(known) = self.0.get(options) {
            return Ok(known.clone());
        }
        let made = Arc::new(Terms::new(options)?);
        self.0.insert(options, made.clone());
        Ok(made)
    }
}

impl Terms {
    fn new(options: &TlsOptions) -> Result<Self, String> {
        let mut hasher = DefaultHasher::new();
        options.hash(&mut hasher);
        let provider = Arc::new(cryptography(options));
        let versions = versions(options);
        let config = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&versions)
            .map_err(|e| e.to_string())?;
        let config = match &options.client_auth {
            Some(auth) => {
                let verifier = verifier(auth, provider, &mut hasher);
                let verifier = verifier.map_err(|e| format!("`client_auth`: {e}"))?;
                config.with_client_cert_verifier(verifier)
            }
            None => config.with_no_client_auth(),
        };
        let mut base = config.with_cert_resolver(Arc::new(super::resolver::OfSite::new(
            super::Own::default(),
        )));
        let protocols = options.alpn.iter();
        base.alpn_protocols = protocols
            .map(|name: &AlpnProtocol| name.show().into_bytes())
            .collect();
        // Clients keep their sessions, in tickets: no memory is shared by workers.
        base.session_storage = Arc::new(NoServerSessionStorage {});
        let auth = options.client_auth.as_ref();
        Ok(Self {
            hash: hasher.finish(),
            base,
            required: auth.map(|auth| auth.mode == ClientAuthMode::Require),
        })
    }

    /// Returns the configuration with the certificates of a site. Without keys of tickets no session is resumed.
    pub(super) fn config(
        &self,
        resolver: impl ResolvesServerCert + 'static,
        tickets: Option<Arc<dyn ProducesTickets>>,
    ) -> Arc<ServerConfig> {
        let mut config = self.base.clone();
        config.cert_resolver = Arc::new(resolver);
        if let Some(tickets) = tickets {
            config.ticketer = tickets;
        }
        Arc::new(config)
    }

    /// Returns the check of client certificates.
    pub(super) fn policy(&self) -> Option<Policy> {
        self.required.map(|required| Policy {
            id: self.hash,
            required,
        })
    }
}

/// Returns a configuration without a certificate, under which every handshake fails.
pub(super) fn refusing() -> Arc<ServerConfig> {
    let config = ServerConfig::builder_with_provider(provider());
    let config = config.with_safe_default_protocol_versions();
    let config = config.unwrap_or_else(|_| ServerConfig::builder());
    let config = config.with_no_client_auth();
    Arc::new(
        config.with_cert_resolver(Arc::new(
            super::resolver::OfSite::new(super::Own::default()),
        )),
    )
}

/// Makes keys of tickets. Without them no session is resumed.
pub(super) fn tickets() -> Arc<dyn ProducesTickets> {
    Ticketer::new().unwrap_or_else(|e| {
        log::error!("clients of TLS cannot resume sessions: no keys of tickets: {e}");
        Arc::new(NoTickets)
    })
}

#[derive(Debug)]
struct NoTickets;

impl ProducesTickets for NoTickets {
    fn enabled(&self) -> bool {
        false
    }

    fn lifetime(&self) -> u32 {
        0
    }

    fn encrypt(&self, _: &[u8]) -> Option<Vec<u8>> {
        None
    }

    fn decrypt(&self, _: &[u8]) -> Option<Vec<u8>> {
        None
    }
}

fn cryptography(options: &TlsOptions) -> CryptoProvider {
    let mut made = (*provider()).clone();
    if !options.ciphers.is_empty() {
        made.cipher_suites = options.ciphers.iter().copied().map(suite).collect();
    }
    if !options.key_exchange.is_empty() {
        made.kx_groups = options.key_exchange.iter().copied().map(group).collect();
    }
    made
}

fn versions(options: &TlsOptions) -> Vec<&'static SupportedProtocolVersion> {
    let wanted = options.min_version as u8..=options.max_version as u8;
    let all = [
        (TlsVersion::Tls13, &version::TLS13),
        (TlsVersion::Tls12, &version::TLS12),
    ];
    let wanted = all
        .into_iter()
        .filter(|(of, _)| wanted.contains(&(*of as u8)));
    wanted.map(|(_, version)| version).collect()
}

fn suite(cipher: Cipher) -> SupportedCipherSuite {
    match cipher {
        Cipher::Tls13Aes256 => suites::TLS13_AES_256_GCM_SHA384,
        Cipher::Tls13Aes128 => suites::TLS13_AES_128_GCM_SHA256,
        Cipher::Tls13Chacha => suites::TLS13_CHACHA20_POLY1305_SHA256,
        Cipher::EcdsaAes256 => suites::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
        Cipher::EcdsaAes128 => suites::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
        Cipher::EcdsaChacha => suites::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
        Cipher::RsaAes256 => suites::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
        Cipher::RsaAes128 => suites::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
        Cipher::RsaChacha => suites::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
    }
}

fn group(group: KeyExchange) -> &'static dyn SupportedKxGroup {
    match group {
        KeyExchange::X25519MlKem768 => groups::X25519MLKEM768,
        KeyExchange::X25519 => groups::X25519,
        KeyExchange::Secp256r1 => groups::SECP256R1,
        KeyExchange::Secp384r1 => groups::SECP384R1,
    }
}

fn verifier(
    auth: &ClientAuth,
    provider: Arc<CryptoProvider>,
    hasher: &mut DefaultHasher,
) -> Result<Arc<dyn ClientCertVerifier>, String> {
    let mut roots = RootCertStore::empty();
    let (ca, found) = (auth.ca.display(), read::<CertificateDer<'_>>(&auth.ca)?);
    for certificate in found {
        certificate.hash(hasher);
        let added = roots.add(certificate);
        added.map_err(|e| format!("cannot use a certificate in {ca}: {e}"))?;
    }
    let mut builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
    if let Some(crl) = &auth.crl {
        let lists = read::<CertificateRevocationListDer<'_>>(crl)?;
        for list in &lists {
            list.as_ref().hash(hasher);
            warn_of_expiry(list, crl);
        }
        // Without a list of now nobody knows who is revoked.
        builder = builder.with_crls(lists).enforce_revocation_expiration();
    }
    if auth.mode == ClientAuthMode::Request {
        builder = builder.allow_unauthenticated();
    }
    builder.build().map_err(|e| e.to_string())
}

/// Says that a revocation list is out of date, if it is. A malformed one is refused elsewhere.
fn warn_of_expiry(list: &[u8], file: &Path) {
    let parsed = x509_parser::parse_x509_crl(list).ok();
    let Some(next) = parsed.and_then(|(_, parsed)| parsed.next_update()) else {
        return;
    };
    if next.timestamp() < unix_seconds(SystemTime::now()) {
        let (file, date) = (file.display(), Utc::at(next.timestamp()).date());
        log::warn!(
            "a revocation list in {file} has expired on {date}: certificates of its issuer are refused"
        );
    }
}

/// Reads everything of one kind in a PEM file.
fn read<T: PemObject>(file: &Path) -> Result<Vec<T>, String> {
    let shown = file.display();
    let found = T::pem_file_iter(file)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|e| format!("cannot read {shown}: {e}"))?;
    if found.is_empty() {
        return Err(format!("nothing of use is in {shown}"));
    }
    Ok(found)
}
