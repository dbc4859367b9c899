//! Checks, certificates and messages of a client.

use std::time::Duration;

use pingora_error::ErrorType::{InvalidCert, TLSHandshakeFailure, TLSHandshakeTimedout};
use pingora_error::{Error, ErrorSource, ErrorType};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::protocols::tls::SslDigest;
use crate::protocols::ALPN;
use crate::upstreams::peer::Peer;

/// In the letters of the backends that write it in capitals.
fn serial(digest: &SslDigest) -> String {
    digest
        .serial_number
        .as_deref()
        .unwrap_or("none")
        .to_uppercase()
}

#[tokio::test]
async fn a_connection_and_what_is_known_of_it() {
    let authority = Authority::new();
    let server = Server::with(&authority.ordinary()).await;
    let connector = trusting(&authority);
    let (mut client, mut accepted) = server.agree(&connector, &peer(&server)).await;
    let digest = client.get_ssl_digest().unwrap();
    assert_eq!(digest.version, "TLSv1.3");
    assert!(digest.cipher.contains("AES"), "{}", digest.cipher);
    assert_eq!(digest.organization.as_deref(), Some("Test Organization"));
    assert_eq!(serial(&digest), "1A2B3C");
    assert_eq!(digest.cert_digest.len(), 32);
    let theirs = accepted.get_ssl_digest().unwrap();
    assert_eq!(theirs.version, "TLSv1.3");
    assert_eq!(theirs.serial_number, None);
    assert!(theirs.cert_digest.is_empty());
    let session = accepted.get_ssl().unwrap();
    assert_eq!(backend::server_name(session), Some("name.example"));
    for digest in [digest, theirs] {
        assert_eq!(digest.server_name(), Some("name.example"));
    }
    let layers = client.get_timing_digest();
    assert_eq!(layers.len(), 2);
    assert!(layers[1].as_ref().unwrap().establishment_duration.is_some());
    assert!(client.get_socket_digest().unwrap().peer_addr().is_some());

    client.write_all(b"ping").await.unwrap();
    client.flush().await.unwrap();
    let mut got = [0; 4];
    accepted.read_exact(&mut got).await.unwrap();
    assert_eq!(&got, b"ping");
    // What says that nothing more comes arrives as the end, and not as an error.
    accepted.shutdown().await.unwrap();
    assert_eq!(client.read(&mut got).await.unwrap(), 0);
}

#[tokio::test]
async fn long_data_in_both_directions_at_once() {
    let authority = Authority::new();
    let server = Server::with(&authority.ordinary()).await;
    let (client, accepted) = server.agree(&trusting(&authority), &peer(&server)).await;
    let sent: Vec<u8> = (0..3 << 20).map(|i: u32| (i / 7) as u8).collect();
    let exchange = |stream: Stream| {
        let sent = sent.clone();
        async move {
            let (mut read, mut write) = tokio::io::split(stream);
            let writing = async {
                write.write_all(&sent).await.unwrap();
                write.shutdown().await.unwrap();
            };
            let mut got = Vec::new();
            let reading = async { read.read_to_end(&mut got).await.unwrap() };
            tokio::join!(writing, reading);
            assert!(got == sent, "{} bytes came", got.len());
        }
    };
    tokio::join!(exchange(client), exchange(accepted));
}

#[tokio::test]
async fn application_protocols() {
    let authority = Authority::new();
    let pair = authority.ordinary();
    let table = [
        (ALPN::H2H1, ALPN::H2H1, Some(ALPN::H2)),
        (ALPN::H2H1, ALPN::H1, Some(ALPN::H1)),
        (ALPN::H1, ALPN::H2H1, Some(ALPN::H1)),
        (ALPN::H2, ALPN::H2H1, Some(ALPN::H2)),
    ];
    for (ours, theirs, chosen) in table {
        let mut settings = TlsSettings::intermediate(&pair.cert, &pair.key).unwrap();
        settings.set_alpn(ours.clone());
        let server = Server::new(settings).await;
        let mut peer = peer(&server);
        peer.options.alpn = theirs.clone();
        let (client, accepted) = server.agree(&trusting(&authority), &peer).await;
        assert_eq!(client.selected_alpn_proto(), chosen, "{ours} {theirs}");
        assert_eq!(accepted.selected_alpn_proto(), chosen, "{ours} {theirs}");
    }
    let server = Server::with(&pair).await;
    let (client, _) = server.agree(&trusting(&authority), &peer(&server)).await;
    assert_eq!(client.selected_alpn_proto(), None);
}

#[tokio::test]
async fn a_peer_known_for_http1_is_offered_nothing_else() {
    let authority = Authority::new();
    let pair = authority.ordinary();
    let mut settings = TlsSettings::intermediate(&pair.cert, &pair.key).unwrap();
    settings.enable_h2();
    let server = Server::new(settings).await;
    let mut peer = peer(&server);
    peer.options.alpn = ALPN::H2H1;
    let connector = trusting(&authority);
    let (client, _) = server.agree(&connector, &peer).await;
    assert_eq!(client.selected_alpn_proto(), Some(ALPN::H2));
    connector.prefer_h1(&peer);
    let (client, _) = server.agree(&connector, &peer).await;
    assert_eq!(client.selected_alpn_proto(), Some(ALPN::H1));
}

/// The error of a connection that must not come about.
async fn refused(server: &Server, connector: &TransportConnector, peer: &HttpPeer) -> Box<Error> {
    let (client, _) = server.meet(connector, peer).await;
    let e = client.unwrap_err();
    assert_eq!(e.esource(), &ErrorSource::Upstream);
    let text = e.to_string();
    let address = server.address().to_string();
    assert!(text.contains(&address), "which peer? {text}");
    e
}

#[track_caller]
pub(super) fn says(e: &Error, etype: &ErrorType, part: &str) {
    assert_eq!(e.root_etype(), etype, "{e}");
    let text = e.to_string();
    assert!(text.contains(part), "not {part:?}: {text}");
}

#[tokio::test]
async fn certificates_that_are_refused_and_the_switches() {
    let authority = Authority::new();
    let trusting = trusting(&authority);

    let expired = Leaf {
        years: (2019, 2021),
        ..Leaf::default()
    };
    let server = Server::with(&authority.issue("expired", &expired)).await;
    let e = refused(&server, &trusting, &peer(&server)).await;
    says(&e, &InvalidCert, "has expired");
    let mut unchecked = peer(&server);
    unchecked.options.verify_hostname = false;
    let e = refused(&server, &trusting, &unchecked).await;
    says(&e, &InvalidCert, "has expired");
    unchecked.options.verify_cert = false;
    server.agree(&trusting, &unchecked).await;

    let other = Leaf {
        names: &["other.example"],
        ..Leaf::default()
    };
    let server = Server::with(&authority.issue("other", &other)).await;
    let e = refused(&server, &trusting, &peer(&server)).await;
    says(&e, &InvalidCert, "is for another name");
    let mut alternative = peer(&server);
    alternative.options.alternative_cn = Some("third.example".into());
    let e = refused(&server, &trusting, &alternative).await;
    says(&e, &InvalidCert, "is for another name");
    alternative.options.alternative_cn = Some("other.example".into());
    server.agree(&trusting, &alternative).await;
    let mut unchecked = peer(&server);
    unchecked.options.verify_hostname = false;
    server.agree(&trusting, &unchecked).await;

    let server = Server::with(&authority.ordinary()).await;
    let stranger = super::trusting(&Authority::new());
    let e = refused(&server, &stranger, &peer(&server)).await;
    says(&e, &InvalidCert, "unknown CA");
    // The peer's own authority goes before the connector's.
    let mut own = peer(&server);
    own.options.ca = Some(backend::ca(&authority));
    server.agree(&stranger, &own).await;
    own.options.ca = Some(backend::ca(&Authority::new()));
    let e = refused(&server, &trusting, &own).await;
    says(&e, &InvalidCert, "unknown CA");
    let system = TransportConnector::new(None);
    let e = refused(&server, &system, &peer(&server)).await;
    says(&e, &InvalidCert, "unknown CA");
}

#[tokio::test]
async fn an_authority_that_serves_with_its_own_certificate_is_told_so() {
    let authority = Authority::new();
    let own = authority.own();
    if cfg!(feature = "boringssl") {
        // The library does not serve with one at all.
        assert!(TlsSettings::intermediate(&own.cert, &own.key).is_err());
        return;
    }
    let server = Server::with(&own).await;
    let e = refused(&server, &trusting(&authority), &peer(&server)).await;
    // Some versions of OpenSSL let it pass, up to the name.
    let whys = if cfg!(feature = "rustls") {
        &["is a CA's own, which is not for a server"][..]
    } else {
        &["is not for this purpose", "is for another name"]
    };
    let text = e.to_string();
    let why = whys.iter().find(|why| text.contains(**why));
    says(&e, &InvalidCert, why.unwrap_or(&whys[0]));
}

#[tokio::test]
async fn a_peer_without_a_name_is_checked_by_its_address() {
    let authority = Authority::new();
    let server = Server::with(&authority.ordinary()).await;
    let nameless = HttpPeer::new(server.address(), true, String::new());
    let (client, accepted) = server.agree(&trusting(&authority), &nameless).await;
    assert_eq!(backend::server_name(accepted.get_ssl().unwrap()), None);
    for stream in [client, accepted] {
        assert_eq!(stream.get_ssl_digest().unwrap().server_name(), None);
    }
    let named_only = Leaf {
        names: &["name.example"],
        ..Leaf::default()
    };
    let server = Server::with(&authority.issue("named", &named_only)).await;
    let nameless = HttpPeer::new(server.address(), true, String::new());
    let e = refused(&server, &trusting(&authority), &nameless).await;
    says(&e, &InvalidCert, "is for another name");
}

/// A certificate for either is good, and one for neither is not.
#[tokio::test]
async fn an_address_or_another_name() {
    let authority = Authority::new();
    let connector = trusting(&authority);
    for sni in ["127.0.0.1", ""] {
        for (names, good) in [
            (&["127.0.0.1"][..], true),
            (&["other.example"], true),
            (&["127.0.0.1", "other.example"], true),
            (&["name.example", "127.0.0.2"], false),
        ] {
            let leaf = Leaf {
                names,
                ..Leaf::default()
            };
            let server = Server::with(&authority.issue("either", &leaf)).await;
            let mut peer = HttpPeer::new(server.address(), true, sni.into());
            peer.options.alternative_cn = Some("other.example".into());
            if good {
                drop(server.agree(&connector, &peer).await)
            } else {
                let e = refused(&server, &connector, &peer).await;
                says(&e, &InvalidCert, "is for another name");
            }
        }
    }
    // What else is wrong with it counts.
    let expired = Leaf {
        names: &["127.0.0.1"],
        years: (2019, 2021),
        ..Leaf::default()
    };
    let server = Server::with(&authority.issue("expired", &expired)).await;
    let mut peer = HttpPeer::new(server.address(), true, "127.0.0.1".into());
    peer.options.alternative_cn = Some("other.example".into());
    let e = refused(&server, &connector, &peer).await;
    says(&e, &InvalidCert, "has expired");
}

#[tokio::test]
async fn what_is_no_tls_server() {
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let peer = HttpPeer::new(socket.local_addr().unwrap(), true, "name.example".into());
    let connector = TransportConnector::new(None);
    let plain = async {
        let (mut tcp, _) = socket.accept().await.unwrap();
        tcp.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            .await
            .unwrap();
        let _ = tcp.read(&mut [0; 4096]).await;
        tcp
    };
    let (client, _tcp) = tokio::join!(connector.new_stream(&peer), plain);
    says(&client.unwrap_err(), &TLSHandshakeFailure, "not TLS");

    let closing = async {
        let (mut tcp, _) = socket.accept().await.unwrap();
        let _ = tcp.read(&mut [0; 4096]).await;
    };
    let (client, ()) = tokio::join!(connector.new_stream(&peer), closing);
    says(
        &client.unwrap_err(),
        &TLSHandshakeFailure,
        "closed the connection during the handshake",
    );
}

#[tokio::test]
async fn a_silent_server_is_given_up() {
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut peer = HttpPeer::new(socket.local_addr().unwrap(), true, "name.example".into());
    let connector = TransportConnector::new(None);
    let (short, long) = (
        Some(Duration::from_millis(50)),
        Some(Duration::from_secs(60)),
    );
    for (connect, handshake) in [(short, None), (long, short)] {
        peer.options.connection_timeout = connect;
        peer.options.tls_handshake_timeout = handshake;
        let e = connector.new_stream(&peer).await.unwrap_err();
        says(&e, &TLSHandshakeTimedout, "longer than 50ms");
        assert_eq!(e.esource(), &ErrorSource::Upstream);
    }
}

#[tokio::test]
async fn files_that_cannot_be_used() {
    let authority = Authority::new();
    let server = Server::with(&authority.ordinary()).await;
    let connector = TransportConnector::new(Some(ConnectorOptions {
        ca_file: Some(authority.path("missing.pem")),
        ..ConnectorOptions::new(8)
    }));
    let e = refused(&server, &connector, &peer(&server)).await;
    let text = e.to_string();
    assert!(text.contains("missing.pem"), "{text}");
    // What does not need the file works.
    let mut own = peer(&server);
    own.options.ca = Some(backend::ca(&authority));
    server.agree(&connector, &own).await;

    let connector = TransportConnector::new(Some(ConnectorOptions {
        cert_key_file: Some((authority.path("missing.pem"), authority.path("missing.key"))),
        ..options(&authority)
    }));
    refused(&server, &connector, &peer(&server)).await;
}

#[tokio::test]
async fn groups_are_chosen_by_name() {
    let authority = Authority::new();
    let server = Server::with(&authority.ordinary()).await;
    let connector = trusting(&authority);
    let mut peer = peer(&server);
    peer.options.curves = Some("P-384:X25519".into());
    server.agree(&connector, &peer).await;
    peer.options.curves = Some("no-such-group".into());
    let e = connector.new_stream(&peer).await.unwrap_err();
    let text = e.to_string();
    assert!(text.contains("no-such-group"), "{text}");
}

#[tokio::test]
async fn certificates_of_clients() {
    let authority = Authority::new();
    let clients = Authority::new();
    let pair = authority.ordinary();
    let mut settings = TlsSettings::intermediate(&pair.cert, &pair.key).unwrap();
    backend::require_client(&mut settings, &clients);
    let server = Server::new(settings).await;
    let client_pair = |authority: &Authority| {
        authority.issue(
            "client",
            &Leaf {
                names: &["client.example"],
                organization: Some("Clients"),
                serial: 0x77,
                ..Leaf::default()
            },
        )
    };
    let plain = peer(&server);

    // One in the connector's options.
    let pair = client_pair(&clients);
    let showing = TransportConnector::new(Some(ConnectorOptions {
        cert_key_file: Some((pair.cert.clone(), pair.key.clone())),
        ..options(&authority)
    }));
    let (_client, accepted) = server.agree(&showing, &plain).await;
    let digest = accepted.get_ssl_digest().unwrap();
    assert_eq!(digest.organization.as_deref(), Some("Clients"));
    assert_eq!(digest.serial_number.as_deref(), Some("77"));
    assert_eq!(digest.cert_digest.len(), 32);

    // One of the peer's.
    let connector = trusting(&authority);
    let mut mutual = plain.clone();
    mutual.client_cert_key = Some(Arc::new(backend::cert_key(&pair)));
    server.agree(&connector, &mutual).await;

    // None, and one that is not trusted: in TLS 1.3 the client learns of it with its first read.
    let strange = client_pair(&authority);
    let mut strangers = plain.clone();
    strangers.client_cert_key = Some(Arc::new(backend::cert_key(&strange)));
    for (peer, why) in [
        (&plain, "showed no certificate"),
        (&strangers, "unknown CA"),
    ] {
        let (client, accepted) = server.meet(&connector, peer).await;
        let e = accepted.unwrap_err();
        says(&e, &InvalidCert, why);
        assert_eq!(e.esource(), &ErrorSource::Downstream);
        if let Ok(mut client) = client {
            assert!(client.read(&mut [0]).await.is_err());
        }
    }
}

#[tokio::test]
async fn idle_connections_are_kept_and_moved() {
    let authority = Authority::new();
    let server = Server::with(&authority.ordinary()).await;
    let connector = Arc::new(trusting(&authority));
    let peer = peer(&server);
    // The tickets of TLS 1.3 come after the handshake, and are not data.
    let (client, mut accepted) = server.agree(&connector, &peer).await;
    let id = client.id();
    connector.release_stream(client, peer.reuse_hash(), None);
    for _ in 0..3 {
        let (mut client, reused) = connector.get_stream(&peer).await.unwrap();
        assert!(reused);
        assert_eq!(client.id(), id);
        client.write_all(b"a").await.unwrap();
        client.flush().await.unwrap();
        accepted.read_exact(&mut [0]).await.unwrap();
        accepted.write_all(b"b").await.unwrap();
        accepted.flush().await.unwrap();
        client.read_exact(&mut [0]).await.unwrap();
        connector.release_stream(client, peer.reuse_hash(), None);
    }
    assert_eq!(connector.unexpected_data_connection_count(), 0);
    // Data that nobody asked for is.
    accepted.write_all(b"x").await.unwrap();
    accepted.flush().await.unwrap();
    while let Some(client) = connector.reused_stream(&peer).await {
        connector.release_stream(client, peer.reuse_hash(), None);
        tokio::task::yield_now().await;
    }
    assert_eq!(connector.unexpected_data_connection_count(), 1);
}

#[tokio::test]
async fn a_connection_made_on_another_thread() {
    let authority = Authority::new();
    let server = Server::with(&authority.ordinary()).await;
    let connector = TransportConnector::new(Some(ConnectorOptions {
        offload_threadpool: Some((1, 1)),
        ..options(&authority)
    }));
    let (mut client, mut accepted) = server.agree(&connector, &peer(&server)).await;
    client.write_all(b"a").await.unwrap();
    client.flush().await.unwrap();
    let mut got = [0];
    accepted.read_exact(&mut got).await.unwrap();
    assert_eq!(&got, b"a");
}

#[tokio::test]
async fn a_hook_looks_at_the_session() {
    let authority = Authority::new();
    let server = Server::with(&authority.ordinary()).await;
    let mut peer = peer(&server);
    peer.options.upstream_tls_handshake_complete_hook =
        Some(Arc::new(|_session| Some(Arc::new(7_u32))));
    let (client, _accepted) = server.agree(&trusting(&authority), &peer).await;
    let digest = client.get_ssl_digest().unwrap();
    assert_eq!(digest.extension.get(), Some(&7_u32));
}
