//! What the tests ask of this backend by its own names.

use std::sync::Arc;

use async_trait::async_trait;
use pingora_openssl::ext;
use pingora_openssl::pkey::PKey;
use pingora_openssl::ssl::{NameType, SslVerifyMode};
use pingora_openssl::x509::X509;

use super::certs::{Authority, Pair};
use crate::listeners::tls::TlsSettings;
use crate::listeners::{TlsAccept, TlsAcceptCallbacks};
use crate::protocols::tls::{CaType, TlsRef};
use crate::utils::tls::CertKey;

pub(super) fn ca(authority: &Authority) -> Arc<CaType> {
    Arc::new(Box::new([X509::from_der(&authority.der()).unwrap()]))
}

pub(crate) fn no_ca() -> Arc<CaType> {
    Arc::new(Box::new([]))
}

pub(super) fn cert_key(pair: &Pair) -> CertKey {
    let chain = X509::stack_from_pem(&std::fs::read(&pair.cert).unwrap()).unwrap();
    let key = PKey::private_key_from_pem(&std::fs::read(&pair.key).unwrap()).unwrap();
    CertKey::new(chain, key)
}

/// Asks clients for a certificate of `authority`.
pub(super) fn require_client(settings: &mut TlsSettings, authority: &Authority) {
    settings.set_ca_file(authority.file()).unwrap();
    settings.set_verify(SslVerifyMode::PEER | SslVerifyMode::FAIL_IF_NO_PEER_CERT);
}

pub(super) fn server_name(session: &TlsRef) -> Option<&str> {
    session.servername(NameType::HOST_NAME)
}

/// Settings with callbacks alone, where the backend knows that they cannot do.
pub(super) fn callbacks_only(_: TlsAcceptCallbacks) -> Option<TlsSettings> {
    None
}

/// Sets a certificate in the handshake, and passes the rest on.
struct Choosing(TlsAcceptCallbacks, CertKey);

#[async_trait]
impl TlsAccept for Choosing {
    async fn certificate_callback(&self, ssl: &mut TlsRef) {
        assert_eq!(server_name(ssl), Some("name.example"));
        tokio::task::yield_now().await;
        ext::ssl_use_certificate(ssl, self.1.leaf()).unwrap();
        ext::ssl_use_private_key(ssl, self.1.key()).unwrap();
    }

    async fn handshake_complete_callback(
        &self,
        ssl: &TlsRef,
    ) -> Option<Arc<dyn std::any::Any + Send + Sync>> {
        self.0.handshake_complete_callback(ssl).await
    }
}

pub(super) fn with_callbacks(callbacks: TlsAcceptCallbacks, pair: &Pair) -> TlsSettings {
    TlsSettings::with_callbacks(Box::new(Choosing(callbacks, cert_key(pair)))).unwrap()
}

#[test]
fn facts_of_certificates() {
    let authority = Authority::new();
    let pair = cert_key(&authority.ordinary());
    assert_eq!(pair.serial().unwrap(), "1A2B3C");
    assert_eq!(pair.organization().as_deref(), Some("Test Organization"));
    let leaf = pair.leaf();
    assert_eq!(
        crate::utils::tls::get_common_name(leaf).unwrap(),
        "name.example"
    );
    assert_eq!(crate::utils::tls::get_organization_unit(leaf), None);
    assert!(pair.intermediates().is_empty());
    let text = pair.to_string();
    assert!(
        text.contains("name.example") && text.contains("2099"),
        "{text}"
    );
}
