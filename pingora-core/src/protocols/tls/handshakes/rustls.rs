//! What the tests ask of this backend by its own names.

use std::sync::Arc;

use pingora_rustls::{RootCertStore, WebPkiClientVerifier};

use super::certs::{Authority, Pair};
use crate::listeners::tls::TlsSettings;
use crate::listeners::TlsAcceptCallbacks;
use crate::protocols::tls::{CaType, TlsRef};
use crate::utils::tls::{get_organization_serial_bytes, parse_x509, CertKey, WrappedX509};

pub(super) fn ca(authority: &Authority) -> Arc<CaType> {
    Arc::from([WrappedX509::new(authority.der(), |der: &Vec<u8>| {
        parse_x509(der)
    })])
}

pub(crate) fn no_ca() -> Arc<CaType> {
    Arc::new([])
}

pub(super) fn cert_key(pair: &Pair) -> CertKey {
    let (chain, key) = pingora_rustls::load_certs_and_key_files(&pair.cert, &pair.key)
        .unwrap()
        .unwrap();
    let chain = chain.iter().map(|der| der.to_vec()).collect();
    CertKey::new(chain, key.secret_der().to_vec())
}

/// Asks clients for a certificate of `authority`.
pub(super) fn require_client(settings: &mut TlsSettings, authority: &Authority) {
    let mut roots = RootCertStore::empty();
    roots.add(authority.der().into()).unwrap();
    pingora_rustls::install_default_crypto_provider();
    let verifier = WebPkiClientVerifier::builder(Arc::new(roots));
    settings.set_client_cert_verifier(verifier.build().unwrap());
}

pub(super) fn server_name(session: &TlsRef) -> Option<&str> {
    session.server_name()
}

#[test]
fn facts_of_certificates() {
    let authority = Authority::new();
    let pair = cert_key(&authority.ordinary());
    assert_eq!(pair.serial(), "1A2B3C");
    assert_eq!(pair.organization().as_deref(), Some("Test Organization"));
    assert_eq!(
        crate::utils::tls::get_common_name(pair.leaf()).unwrap(),
        "name.example"
    );
    assert_eq!(crate::utils::tls::get_organization_unit(pair.leaf()), None);
    assert!(pair.intermediates().is_empty());
    let text = pair.to_string();
    assert!(
        text.contains("name.example") && text.contains("2099"),
        "{text}"
    );
    assert!(get_organization_serial_bytes(b"not a certificate").is_err());
}

/// Settings with callbacks alone, where the backend knows that they cannot do.
pub(super) fn callbacks_only(callbacks: TlsAcceptCallbacks) -> Option<TlsSettings> {
    Some(TlsSettings::with_callbacks(callbacks).unwrap())
}

pub(super) fn with_callbacks(callbacks: TlsAcceptCallbacks, pair: &Pair) -> TlsSettings {
    let mut settings = TlsSettings::with_callbacks(callbacks).unwrap();
    settings.set_certificate_chain_file(&pair.cert).unwrap();
    settings.set_private_key_file(&pair.key).unwrap();
    settings
}
