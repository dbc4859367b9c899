//! The answers to challenges: by a token on port 80, or by a handshake on port 443.

use std::sync::Arc;

use rcgen::{CertificateParams, CustomExtension, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::ServerConfig;

use super::order::Wanted;
use super::storage::Storage;
use super::{lock, Automatic};
use crate::tls::backend::provider;

/// The application protocol of the challenge (RFC 8737 section 6.2).
pub(in crate::tls) const ALPN: &[u8] = b"acme-tls/1";

/// An answer that is out. It is taken back when this is dropped.
pub(super) struct Proof<'a> {
    automatic: &'a Automatic,
    storage: &'a Storage,
    kind: Kind,
}

enum Kind {
    Token(String),
    Handshake(String),
}

impl<'a> Proof<'a> {
    /// Answers whoever asks for a token (RFC 8555 section 8.3).
    ///
    /// # Errors
    ///
    /// When the token could not stand in a path.
    pub(super) fn by_token(wanted: &Wanted<'a>, token: &str, answer: &str) -> Result<Self, String> {
        if !is_token(token.as_bytes()) {
            return Err("the authority sends a malformed token".to_owned());
        }
        let proof = Self::of(wanted, Kind::Token(token.to_owned()));
        wanted.tell_others(token, answer);
        lock(&wanted.automatic.tokens).insert(token.to_owned(), answer.to_owned());
        Ok(proof)
    }

    /// Answers handshakes for the host by a certificate with this digest (RFC 8737 section 3).
    ///
    /// # Errors
    ///
    /// When the certificate cannot be made.
    pub(super) fn by_handshake(wanted: &Wanted<'a>, digest: &[u8]) -> Result<Self, String> {
        let pem = certificate(wanted.host, digest).map_err(|e| e.to_string())?;
        let config = config(pem.as_bytes())?;
        let host = wanted.host.to_owned();
        let proof = Self::of(wanted, Kind::Handshake(host.clone()));
        wanted.tell_others(&format!("{host}.pem"), &pem);
        lock(&wanted.automatic.handshakes).insert(host, config);
        Ok(proof)
    }

    fn of(wanted: &Wanted<'a>, kind: Kind) -> Self {
        Self {
            automatic: wanted.automatic,
            storage: wanted.storage,
            kind,
        }
    }
}

impl Wanted<'_> {
    /// Has other processes with the same storage answer too. This one does by itself, and may be the only one.
    fn tell_others(&self, name: &str, text: &str) {
        if let Err(e) = self.storage.write_challenge(name, text) {
            log::warn!(
                "only this process answers the challenge for {}: {e}",
                self.host
            );
        }
    }
}

impl Drop for Proof<'_> {
    fn drop(&mut self) {
        match &self.kind {
            Kind::Token(token) => {
                lock(&self.automatic.tokens).remove(token);
                self.storage.remove_challenge(token);
            }
            Kind::Handshake(host) => {
                lock(&self.automatic.handshakes).remove(host);
                self.storage.remove_challenge(&format!("{host}.pem"));
            }
        }
    }
}

/// Tells whether a text is a token: base64url (RFC 8555 section 8.3), and not too long for the name of a file.
pub(crate) fn is_token(text: &[u8]) -> bool {
    let known = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
    (1..=200).contains(&text.len()) && text.iter().all(known)
}

/// Makes the certificate, with its key.
fn certificate(host: &str, digest: &[u8]) -> Result<String, rcgen::Error> {
    let mut params = CertificateParams::new(vec![host.to_owned()])?;
    params.custom_extensions = vec![CustomExtension::new_acme_identifier(digest)];
    let key = KeyPair::generate()?;
    let certificate = params.self_signed(&key)?;
    Ok(format!("{}{}", key.serialize_pem(), certificate.pem()))
}

/// Makes the configuration of handshakes that show such a certificate.
pub(super) fn config(pem: &[u8]) -> Result<Arc<ServerConfig>, String> {
    let chain = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>();
    let chain = chain.map_err(|e| e.to_string())?;
    let key = PrivateKeyDer::from_pem_slice(pem).map_err(|e| e.to_string())?;
    let provider = provider();
    let key = provider.key_provider.load_private_key(key);
    let key = key.map_err(|e| e.to_string())?;
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| e.to_string())?
        .with_no_client_auth();
    // Not compared with its key: the library refuses to read its critical extension.
    let shown = SingleCertAndKey::from(CertifiedKey::new(chain, key));
    let mut config = config.with_cert_resolver(Arc::new(shown));
    config.alpn_protocols = vec![ALPN.to_vec()];
    Ok(Arc::new(config))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_names_of_files_and_never_paths() {
        assert!(is_token(b"LoqXcYV8q5ONbJQxbmR7SCTNo3tiAXDfowyjxAjEuX0_-"));
        for bad in [
            &b""[..],
            b".",
            b"..",
            b"a/b",
            b"a.pem",
            b"%2e",
            b"a\0",
            &[b'a'; 201],
        ] {
            assert!(!is_token(bad), "{bad:?}");
        }
    }

    #[test]
    fn the_certificate_of_a_handshake_is_read_back_from_its_file() {
        let pem = certificate("a.test", &[7; 32]).unwrap();
        let config = config(pem.as_bytes()).unwrap();
        assert_eq!(config.alpn_protocols, [ALPN]);
        assert!(super::config(b"nothing").is_err());
    }
}
