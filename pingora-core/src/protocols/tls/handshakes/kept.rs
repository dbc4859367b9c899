//! Peers that may use connections that were made for others.

use std::any::Any;
use std::sync::atomic::{AtomicBool, Ordering};

use pingora_error::ErrorType::InvalidCert;
use pingora_http::RequestHeader;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::runtime::{Builder, Runtime};

use super::clients::says;
use super::*;
use crate::connectors::{http, ConnectPermit};
use crate::protocols::http::client::HttpSession;
use crate::protocols::ALPN;
use crate::upstreams::peer::{BasicPeer, Peer};

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

/// Answers every request on every connection, in HTTP/1.1 or HTTP/2.
async fn answering(authority: &Authority, alpn: ALPN) -> Arc<Server> {
    let pair = authority.ordinary();
    let mut settings = TlsSettings::intermediate(&pair.cert, &pair.key).unwrap();
    settings.set_alpn(alpn.clone());
    let server = Arc::new(Server::new(settings).await);
    let serving = server.clone();
    tokio::spawn(async move {
        loop {
            let Ok(stream) = serving.accept().await else {
                continue;
            };
            match alpn {
                ALPN::H2 => tokio::spawn(answer_h2(stream)),
                _ => tokio::spawn(answer_h1(stream)),
            };
        }
    });
    server
}

async fn answer_h1(stream: Stream) {
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    while stream.read_line(&mut line).await.is_ok_and(|n| n > 0) {
        if line == "\r\n" {
            let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
            stream.write_all(answer).await.unwrap();
            stream.flush().await.unwrap();
        }
        line.clear();
    }
}

async fn answer_h2(stream: Stream) {
    let Ok(mut connection) = h2::server::handshake(stream).await else {
        return;
    };
    while let Some(Ok((_, mut respond))) = connection.accept().await {
        let response = ::http::Response::new(());
        respond.send_response(response, true).unwrap();
    }
}

async fn exchange(session: &mut HttpSession) {
    let mut request = RequestHeader::build("GET", b"/", None).unwrap();
    request.insert_header("Host", "name.example").unwrap();
    let request = Box::new(request);
    session.write_request_header(request).await.unwrap();
    session.finish_request_body().await.unwrap();
    session.read_response_header().await.unwrap();
    while session.read_response_body().await.unwrap().is_some() {}
}

#[tokio::test]
async fn so_are_http_sessions_while_they_are_in_use_and_later() {
    for alpn in [ALPN::H1, ALPN::H2] {
        let authority = Authority::new();
        let server = answering(&authority, alpn.clone()).await;
        let tenant = |authority: &Authority| {
            let mut peer = tenant(&server, authority);
            peer.options.alpn = alpn.clone();
            peer.options.max_h2_streams = 10;
            peer
        };
        let connector = http::Connector::new(None);
        let (a, b) = (tenant(&authority), tenant(&Authority::new()));
        let (mut session, reused) = connector.get_http_session(&a).await.unwrap();
        assert!(!reused);
        let e = connector.get_http_session(&b).await.err().unwrap();
        says(&e, &InvalidCert, "unknown CA");
        if alpn == ALPN::H2 {
            let (mut second, reused) = connector.get_http_session(&a).await.unwrap();
            assert!(reused, "it is in use, with room");
            exchange(&mut second).await;
            connector.release_http_session(second, &a, None).await;
        }
        exchange(&mut session).await;
        connector.release_http_session(session, &a, None).await;

        let e = connector.get_http_session(&b).await.err().unwrap();
        says(&e, &InvalidCert, "unknown CA");
        let (_, reused) = connector.get_http_session(&a).await.unwrap();
        assert!(reused, "it is idle");
    }
}

/// At most one connection, ever.
#[derive(Debug, Default)]
struct One(AtomicBool);

impl ConnectPermit for One {
    fn acquire(&self) -> Option<Box<dyn Any + Send + Sync>> {
        let taken = self.0.swap(true, Ordering::SeqCst);
        (!taken).then(|| Box::new(()) as _)
    }

    fn key(&self) -> u64 {
        u64::MAX
    }
}

fn worker() -> Runtime {
    let mut builder = Builder::new_multi_thread();
    builder.worker_threads(1).enable_all().build().unwrap()
}

#[test]
fn where_no_new_one_may_be_so_is_one_of_http1_that_another_worker_has() {
    let (origin, workers) = (worker(), [worker(), worker()]);
    let authority = Authority::new();
    let server = origin.block_on(answering(&authority, ALPN::H1));
    let connector = Arc::new(http::Connector::new(Some(options(&authority))));
    let mut peer = peer(&server);
    peer.options.alpn = ALPN::H2H1;
    peer.options.connect_permit = Some(Arc::new(One::default()));
    let reused = [0, 1, 0, 1].map(|at: usize| {
        let (connector, peer) = (connector.clone(), peer.clone());
        let asking = workers[at].spawn(async move {
            let (mut session, reused) = connector.get_http_session(&peer).await.unwrap();
            exchange(&mut session).await;
            connector.release_http_session(session, &peer, None).await;
            reused
        });
        workers[at].block_on(asking).unwrap()
    });
    assert_eq!(reused, [false, true, true, true]);
}
