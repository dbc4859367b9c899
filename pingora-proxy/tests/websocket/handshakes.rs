//! Handshakes that open no WebSocket.

use super::common::h2_origin::*;
use super::common::*;
use super::peers::*;
use super::{h1_peer, setup};

use pingora_core::upstreams::peer::H1UpgradePolicy;

/// Every connection of an origin that takes no extended CONNECT is asked once at most, and kept.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_origin_of_http2_that_takes_none() {
    let origin = H2Origin::hyper(|request| async move {
        assert_eq!(request.method(), "GET");
        hyper::Response::new(whole("a page"))
    });
    let proxy = Proxy::start_with(
        setup(),
        Forward {
            peer: h2_peer(&origin.path()),
        },
    );
    for route in [Route::h1(proxy.path()), Route::h2(proxy.path())] {
        for _ in 0..3 {
            assert_eq!(route.shake().await.status(), 501);
        }
    }
    let mut client = HyperClient::connect(&proxy.path()).await;
    assert_eq!(
        client.send(request("GET", "/", "")).await.unwrap().status(),
        200
    );
    assert_eq!(origin.accepted(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_whose_policy_lets_none_through() {
    let origin = echo_h2();
    let mut peer = h2_peer(&origin.path());
    peer.options.http_upstream_request_policy.h1_upgrade = H1UpgradePolicy::Deny;
    let proxy = Proxy::start_with(setup(), Forward { peer });
    for route in [Route::h1(proxy.path()), Route::h2(proxy.path())] {
        assert_eq!(route.shake().await.status(), 501);
    }
    assert_eq!(origin.accepted(), 0);
}

/// A connection of which only the beginning is known is not taken for one that takes no WebSocket.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn websockets_share_a_connection_with_requests() {
    let origin = H2Origin::start(|stream, _| async {
        let mut builder = h2::server::Builder::new();
        builder.enable_connect_protocol();
        let mut connection = builder.handshake::<_, bytes::Bytes>(stream).await.unwrap();
        while let Some(Ok((request, mut respond))) = connection.accept().await {
            let status = match request.extensions().get::<h2::ext::Protocol>() {
                Some(_) => 403,
                None => 200,
            };
            let answer = hyper::Response::builder().status(status).body(()).unwrap();
            respond.send_response(answer, true).unwrap();
        }
    });
    let proxy = Proxy::start_with(
        setup(),
        Forward {
            peer: h2_peer(&origin.path()),
        },
    );
    let mut client = HyperClient::connect(&proxy.path()).await;
    for route in [Route::h1(proxy.path()), Route::h2(proxy.path())] {
        for _ in 0..2 {
            assert_eq!(
                client.send(request("GET", "/", "")).await.unwrap().status(),
                200
            );
            assert_eq!(route.shake().await.status(), 403);
        }
    }
    assert_eq!(origin.accepted(), 1);
}

#[test]
fn an_answer_to_another_handshake() {
    for accept in ["", "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"] {
        let origin = Origin::scripted(move |mut wire, _| {
            wire.read_head();
            wire.send("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n");
            wire.send(format!("Upgrade: websocket\r\n{accept}\r\n"));
            wire.expect_end();
        });
        let proxy = Proxy::start_with(
            setup(),
            Forward {
                peer: h1_peer(origin.path()),
            },
        );
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let answer = runtime.block_on(Route::h2(proxy.path()).shake());
        assert_eq!(answer.status(), 502, "{accept}");
        // A client of HTTP/1.1 made the handshake itself, and looks itself.
        let answer = runtime.block_on(Route::h1(proxy.path()).shake());
        assert_eq!(answer.status(), 101, "{accept}");
    }
}
