//! What the tests ask of this backend by its own names.

use std::any::Any;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use pingora_error::Error;
use pingora_rustls::{ClientHello, RootCertStore, ServerConfig, WebPkiClientVerifier};

use super::certs::{Authority, Pair};
use super::{peer, trusting, Server};
use crate::listeners::tls::{Choice, ChosenConfig, ConfigChooser, TlsSettings};
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

/// Shows the certificate to those who ask for `name.example`, at once or later, and refuses others.
struct ByName {
    good: Arc<ServerConfig>,
    none: Arc<ServerConfig>,
    later: bool,
    failed: Mutex<Vec<Option<SocketAddr>>>,
}

impl ConfigChooser for ByName {
    fn choose(&self, hello: &ClientHello<'_>) -> Choice {
        let name = hello.server_name().unwrap_or_default().to_owned();
        let known = name == "name.example";
        let chosen = ChosenConfig {
            config: if known { &self.good } else { &self.none }.clone(),
            note: Some(Arc::new(name)),
        };
        if !self.later {
            return Choice::Now(chosen);
        }
        Choice::Later(Box::pin(async {
            tokio::task::yield_now().await;
            chosen
        }))
    }

    fn complete(&self, chosen: &ChosenConfig, _: &TlsRef) -> Option<Arc<dyn Any + Send + Sync>> {
        chosen.note.clone()
    }

    fn failed(&self, peer: Option<SocketAddr>, _: &Error) {
        self.failed.lock().unwrap().push(peer);
    }
}

#[tokio::test]
async fn a_configuration_is_chosen_for_each_handshake() {
    pingora_rustls::install_default_crypto_provider();
    let authority = Authority::new();
    let pair = authority.ordinary();
    let (chain, key) = pingora_rustls::load_certs_and_key_files(&pair.cert, &pair.key)
        .unwrap()
        .unwrap();
    let config = |resolver: Option<()>| {
        let builder = ServerConfig::builder().with_no_client_auth();
        Arc::new(match resolver {
            Some(()) => builder
                .with_single_cert(chain.clone(), key.clone_key())
                .unwrap(),
            None => builder
                .with_cert_resolver(Arc::new(rustls::server::ResolvesServerCertUsingSni::new())),
        })
    };
    for later in [false, true] {
        let chooser = Arc::new(ByName {
            good: config(Some(())),
            none: config(None),
            later,
            failed: Mutex::default(),
        });
        let server = Server::new(TlsSettings::with_config_chooser(chooser.clone())).await;
        let connector = trusting(&authority);
        let known = peer(&server);
        let (_, accepted) = server.agree(&connector, &known).await;
        let digest = accepted.get_ssl_digest().unwrap();
        let note: Option<&String> = digest.extension.get();
        assert_eq!(note.map(String::as_str), Some("name.example"));
        assert_eq!(chooser.failed.lock().unwrap().len(), 0);
        let mut other = known;
        other.sni = "other.example".to_owned();
        let (client, refused) = server.meet(&connector, &other).await;
        assert!(client.is_err());
        // As the listener does, which knows the peer.
        let peer = "127.0.0.1:1".parse().ok();
        server
            .acceptor
            .handshake_failed(peer, &refused.err().unwrap());
        let failed = chooser.failed.lock().unwrap();
        assert_eq!(failed[..], [peer]);
    }
}
