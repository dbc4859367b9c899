//! Which peers may use connections that were made for others.

use super::clients::says;
use super::*;
use crate::connectors::http;
use crate::protocols::http::client::HttpSession;
use crate::protocols::ALPN;
use crate::upstreams::peer::{BasicPeer, Peer};
use pingora_error::ErrorType::InvalidCert;

/// The server as a peer that is trusted for this authority's sake.
fn tenant(server: &Server, authority: &Authority) -> HttpPeer {
    let mut peer = peer(server);
    peer.options.ca = Some(backend::ca(authority));
    peer
}

#[tokio::test]
async fn a_connection_is_kept_for_those_who_trust_the_same() {
    let authority = Authority::new();
    let server = Server::with(&authority.ordinary()).await;
    let connector = TransportConnector::new(None);
    let a = tenant(&server, &authority);
    let (client, _accepted) = server.agree(&connector, &a).await;
    connector.release_stream(client, a.reuse_hash(), None);

    for other in [tenant(&server, &Authority::new()), peer(&server)] {
        assert!(connector.reused_stream(&other).await.is_none());
        let (client, _) = server.meet(&connector, &other).await;
        says(&client.unwrap_err(), &InvalidCert, "unknown CA");
    }
    // The same certificates in another list.
    let again = tenant(&server, &authority);
    assert!(connector.reused_stream(&again).await.is_some());
}

#[tokio::test]
async fn so_is_one_of_a_basic_peer() {
    let authority = Authority::new();
    let server = Server::with(&authority.ordinary()).await;
    let connector = trusting(&authority);
    let mut named = BasicPeer::new(&server.address().to_string());
    named.sni = "name.example".into();
    let (client, _accepted) = tokio::join!(connector.new_stream(&named), server.accept());
    connector.release_stream(client.unwrap(), named.reuse_hash(), None);
    let mut other = named.clone();
    other.sni = "other.example".into();
    assert!(connector.reused_stream(&other).await.is_none());
    assert!(connector.reused_stream(&named).await.is_some());
}

#[tokio::test]
async fn so_are_those_of_http2_while_they_are_in_use_and_later() {
    let authority = Authority::new();
    let pair = authority.ordinary();
    let mut settings = TlsSettings::intermediate(&pair.cert, &pair.key).unwrap();
    settings.set_alpn(ALPN::H2);
    let server = Arc::new(Server::new(settings).await);
    let serving = server.clone();
    tokio::spawn(async move {
        loop {
            let Ok(stream) = serving.accept().await else {
                continue;
            };
            tokio::spawn(async move {
                let Ok(mut connection) = h2::server::handshake(stream).await else {
                    return;
                };
                while let Some(Ok(_)) = connection.accept().await {}
            });
        }
    });
    let tenant = |authority: &Authority| {
        let mut peer = tenant(&server, authority);
        peer.options.alpn = ALPN::H2;
        peer.options.max_h2_streams = 10;
        peer
    };
    let connector = http::Connector::new(None);
    let (a, b) = (tenant(&authority), tenant(&Authority::new()));
    let (session, reused) = connector.get_http_session(&a).await.unwrap();
    assert!(matches!(session, HttpSession::H2(_)) && !reused);
    let e = connector.get_http_session(&b).await.err().unwrap();
    says(&e, &InvalidCert, "unknown CA");
    let (second, reused) = connector.get_http_session(&a).await.unwrap();
    assert!(reused, "it is in use, with room");

    for session in [session, second] {
        connector.release_http_session(session, &a, None).await;
    }
    let e = connector.get_http_session(&b).await.err().unwrap();
    says(&e, &InvalidCert, "unknown CA");
    let (_, reused) = connector.get_http_session(&a).await.unwrap();
    assert!(reused, "it is idle");
}
