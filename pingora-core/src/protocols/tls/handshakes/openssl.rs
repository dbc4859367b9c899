//! What the tests ask of this backend by its own names.

use std::sync::Arc;

use async_trait::async_trait;
use pingora_openssl::ext;
use pingora_openssl::pkey::PKey;
use pingora_openssl::ssl::{NameType, SslVerifyMode, SslVersion};
use pingora_openssl::x509::X509;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::certs::{Authority, Pair};
use super::{peer, trusting, Server};
use crate::connectors::TransportConnector;
use crate::listeners::tls::TlsSettings;
use crate::listeners::{TlsAccept, TlsAcceptCallbacks};
use crate::protocols::tls::{CaType, TlsRef};
use crate::upstreams::peer::HttpPeer;
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

/// Connects, receives what the server sends, and says whether the session was one from before.
async fn resumes(server: &Server, connector: &TransportConnector, peer: &HttpPeer) -> bool {
    let (mut client, mut accepted) = server.agree(connector, peer).await;
    accepted.write_all(b"a").await.unwrap();
    accepted.flush().await.unwrap();
    client.read_exact(&mut [0]).await.unwrap();
    let ours = client.get_ssl().unwrap().session_reused();
    assert_eq!(ours, accepted.get_ssl().unwrap().session_reused());
    // Known from the session, when no certificate was shown.
    let digest = client.get_ssl_digest().unwrap();
    assert_eq!(digest.serial_number.as_deref(), Some("1A2B3C"));
    ours
}

#[tokio::test]
async fn sessions_with_servers_are_resumed() {
    let authority = Authority::new();
    let pair = authority.ordinary();
    for version in [SslVersion::TLS1_2, SslVersion::TLS1_3] {
        let mut settings = TlsSettings::intermediate(&pair.cert, &pair.key).unwrap();
        settings.set_max_proto_version(Some(version)).unwrap();
        let server = Server::new(settings).await;
        let connector = trusting(&authority);
        let peer = peer(&server);
        assert!(!resumes(&server, &connector, &peer).await);
        for _ in 0..3 {
            assert!(resumes(&server, &connector, &peer).await);
        }
        // What was verified for one is not for another.
        let mut other = peer.clone();
        other.options.alternative_cn = Some("other.example".into());
        assert!(!resumes(&server, &connector, &other).await);
        let mut other = peer.clone();
        other.options.ca = Some(ca(&authority));
        assert!(!resumes(&server, &connector, &other).await);
        assert!(resumes(&server, &connector, &other).await);
        let mut other = peer.clone();
        other.options.verify_hostname = false;
        assert!(!resumes(&server, &connector, &other).await);
        let other = HttpPeer::new(server.address(), true, "127.0.0.1".into());
        assert!(!resumes(&server, &connector, &other).await);
        assert!(!resumes(&server, &trusting(&authority), &peer).await);
    }
}
