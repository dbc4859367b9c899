//! Exchanges that leave HTTP where a side speaks a protocol of the user's own.

use super::common::custom::{custom_peer, read_frame, write_frame};
use super::common::*;
use super::pairs::{for_client, Speaks};
use pingora_core::upstreams::peer::{H1UpgradePolicy, HttpPeer};
use tempfile::TempDir;
use tokio::net::{UnixListener, UnixStream};

async fn send(to: &mut UnixStream, kind: u8, payload: &str) {
    write_frame(to, kind, payload.as_bytes()).await.unwrap();
}

async fn expect(from: &mut UnixStream, kind: u8, payload: &str) {
    let (got, text) = read_frame(from).await.unwrap();
    assert_eq!((got as char, &text[..]), (kind as char, payload.as_bytes()));
}

/// One that is asked for other protocols than WebSocket, too.
fn any_protocol(mut peer: HttpPeer) -> Forward {
    peer.options.http_upstream_request_policy.h1_upgrade = H1UpgradePolicy::Preserve;
    Forward { peer }
}

/// Asks to leave HTTP, and sends the end of the request.
async fn ask(proxy: &Proxy) -> UnixStream {
    let mut client = UnixStream::connect(proxy.path()).await.unwrap();
    let head = "GET /tunnel\nhost: origin.test\nconnection: upgrade\nupgrade: raw\n";
    send(&mut client, b'H', head).await;
    send(&mut client, b'E', "").await;
    client
}

/// Talks through the tunnel, and ends it.
async fn talk(mut client: UnixStream) {
    let (kind, head) = read_frame(&mut client).await.unwrap();
    let head = String::from_utf8(head.to_vec()).unwrap();
    assert!(kind == b'H' && head.starts_with("101\n"), "{head}");
    assert!(head.to_ascii_lowercase().contains("upgrade: raw"), "{head}");
    expect(&mut client, b'D', "hi").await;
    for (said, answer) in [("ping", "pong"), ("more", "more")] {
        send(&mut client, b'D', said).await;
        expect(&mut client, b'D', answer).await;
    }
    // The origin ends its direction after the client has.
    send(&mut client, b'E', "").await;
    expect(&mut client, b'E', "").await;
}

const ANSWER: &str =
    "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: raw\r\n\r\nhi";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_custom_client_leaves_http_with_an_origin_of_http1() {
    for speaks in [Speaks::Custom, Speaks::CustomTasks] {
        let origin = Origin::scripted(|mut wire, _| {
            let head = wire.read_head();
            assert!(head.to_ascii_lowercase().contains("upgrade: raw"), "{head}");
            wire.send(ANSWER);
            assert_eq!(wire.read_exact(4), b"ping");
            wire.send("pong");
            assert_eq!(wire.read_exact(4), b"more");
            wire.send("more");
            wire.expect_end();
        });
        let app = any_protocol(forward_to(origin.path()).peer);
        let proxy = Proxy::start_with(for_client(speaks), app);
        talk(ask(&proxy).await).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_custom_client_leaves_http_with_a_custom_origin() {
    for speaks in [Speaks::Custom, Speaks::CustomTasks] {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("origin");
        let listener = UnixListener::bind(&path).unwrap();
        let app = any_protocol(custom_peer(&path));
        let proxy = Proxy::start_with(for_client(speaks), app);
        let client = ask(&proxy).await;
        let answers = tokio::spawn(async move {
            let mut origin = listener.accept().await.unwrap().0;
            let (kind, head) = read_frame(&mut origin).await.unwrap();
            let head = String::from_utf8(head.to_vec()).unwrap();
            assert!(kind == b'H' && head.contains("upgrade: raw"), "{head}");
            let answer = "101\nconnection: upgrade\nupgrade: raw\n";
            send(&mut origin, b'H', answer).await;
            send(&mut origin, b'D', "hi").await;
            for (said, answer) in [("ping", "pong"), ("more", "more")] {
                expect(&mut origin, b'D', said).await;
                send(&mut origin, b'D', answer).await;
            }
            expect(&mut origin, b'E', "").await;
            send(&mut origin, b'E', "").await;
            // Nothing may follow on this connection.
            assert!(read_frame(&mut origin).await.is_none());
        });
        talk(client).await;
        answers.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_of_http1_leaves_http_with_a_custom_origin() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("origin");
    let listener = UnixListener::bind(&path).unwrap();
    let app = any_protocol(custom_peer(&path));
    let proxy = Proxy::start_with(for_client(Speaks::H1), app);
    let mut client = proxy.connect();
    client.send(
        "GET /tunnel HTTP/1.1\r\nHost: origin.test\r\nConnection: upgrade\r\nUpgrade: raw\r\n\r\n",
    );
    let mut origin = listener.accept().await.unwrap().0;
    assert_eq!(read_frame(&mut origin).await.unwrap().0, b'H');
    let answer = "101\nconnection: upgrade\nupgrade: raw\n";
    send(&mut origin, b'H', answer).await;
    send(&mut origin, b'D', "hi").await;
    assert!(client.read_head().starts_with("HTTP/1.1 101"));
    assert_eq!(client.read_exact(2), b"hi");
    client.send("ping");
    expect(&mut origin, b'D', "ping").await;
    send(&mut origin, b'E', "").await;
    client.expect_end();
}
