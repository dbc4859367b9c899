//! What the tests ask of this backend by its own names.

use std::sync::Arc;

use crate::tls::ext;
use crate::tls::pkey::PKey;
use crate::tls::ssl::{NameType, SslVerifyMode, SslVersion};
use crate::tls::x509::X509;
use async_trait::async_trait;
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
        self.0.certificate_callback(ssl).await;
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
    assert_eq!(pair.serial().unwrap().to_uppercase(), "1A2B3C");
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
    assert!(digest.serial_number.is_some());
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

/// The key exchange groups of which the first message of a client has a share (RFC 8446 section 4.2.8).
#[cfg(feature = "openssl")]
fn shares(hello: &[u8]) -> Vec<u16> {
    let short = |at: usize| usize::from(u16::from_be_bytes([hello[at], hello[at + 1]]));
    // Behind the headers, the version and the random number: the session, the ciphers, the compressions.
    let mut at = 5 + 4 + 2 + 32;
    at += 1 + usize::from(hello[at]);
    at += 2 + short(at);
    at += 1 + usize::from(hello[at]);
    let end = at + 2 + short(at);
    at += 2;
    const KEY_SHARE: usize = 51;
    while short(at) != KEY_SHARE {
        at += 4 + short(at + 2);
        assert!(at < end, "there is no share at all");
    }
    let end = at + 4 + short(at + 2);
    at += 6;
    let mut groups = Vec::new();
    while at < end {
        groups.push(short(at) as u16);
        at += 4 + short(at + 2);
    }
    groups
}

// BoringSSL chooses by itself.
#[cfg(feature = "openssl")]
#[tokio::test]
async fn a_second_key_share() {
    const X25519: u16 = 0x001D;
    const X25519_MLKEM768: u16 = 0x11EC;
    let socket = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut peer = HttpPeer::new(socket.local_addr().unwrap(), true, "name.example".into());
    let connector = TransportConnector::new(None);
    for (second, curves, expected) in [
        (true, None, &[X25519_MLKEM768, X25519][..]),
        (false, None, &[X25519_MLKEM768]),
        (true, Some("X25519:P-256"), &[X25519]),
    ] {
        peer.options.second_keyshare = second;
        peer.options.curves = curves.map(Into::into);
        let hello = async {
            let (mut tcp, _) = socket.accept().await.unwrap();
            let mut hello = vec![0; 5];
            tcp.read_exact(&mut hello).await.unwrap();
            hello.resize(5 + usize::from(u16::from_be_bytes([hello[3], hello[4]])), 0);
            tcp.read_exact(&mut hello[5..]).await.unwrap();
            hello
        };
        let (_, hello) = tokio::join!(connector.new_stream(&peer), hello);
        assert_eq!(shares(&hello), expected, "{second} {curves:?}");
    }
}
