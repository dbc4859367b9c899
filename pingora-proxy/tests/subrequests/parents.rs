//! Subrequests of requests of HTTP/2, and of a protocol of the tests' own.

use super::bodies::Echo;
use super::common::custom::{bridge_client, read_frame, write_frame};
use super::*;
use bytes::Bytes;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use hyper::client::conn::http2::{handshake, SendRequest};
use hyper::{Request, Response as HyperResponse};
use hyper_util::rt::{TokioExecutor, TokioIo};
use pingora_core::upstreams::peer::H1UpgradePolicy;
use tokio::net::UnixStream;

/// Has a subrequest with the body of the request answer the client.
fn piped<'a>(session: &'a mut Session, seen: &'a Seen) -> BoxFuture<'a, Result<bool>> {
    Box::pin(async {
        let done = pipe(session, "/inner", InputBodyType::SaveBody(100)).await;
        if done.as_ref().is_err_and(|e| !e.from_subreq) {
            seen.add("the client has failed");
        }
        done.map(|_| true).map_err(|e| e.error)
    })
}

fn setup(custom: bool) -> Setup {
    let mut setup = Setup::default();
    setup.options.h2c = true;
    setup.options.force_custom = custom;
    setup
}

/// A client of HTTP/2, with what speaks in frames for it if so.
async fn connect(custom: bool, proxy: &Proxy) -> SendRequest<Stub> {
    if custom {
        return bridge_client(proxy.path()).await;
    }
    let stream = TokioIo::new(UnixStream::connect(proxy.path()).await.unwrap());
    let (requests, connection) = handshake(TokioExecutor::new(), stream).await.unwrap();
    tokio::spawn(async { drop(connection.await) });
    requests
}

fn post(body: Stub) -> Request<Stub> {
    let request = Request::builder().method("POST");
    request.uri("http://a.test/page").body(body).unwrap()
}

/// No field says how long it is, or that there is one.
fn streamed(pieces: &'static [&'static str]) -> Stub {
    let frames = pieces.iter().map(|piece| {
        let piece = Bytes::from_static(piece.as_bytes());
        Ok(Frame::data(piece))
    });
    BodyExt::boxed(StreamBody::new(futures::stream::iter(frames)))
}

async fn text(response: HyperResponse<hyper::body::Incoming>) -> String {
    let body = response.into_body().collect().await.unwrap().to_bytes();
    String::from_utf8(body.to_vec()).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_body_of_a_parent_is_that_of_its_subrequest() {
    for custom in [false, true] {
        for origin in Echo::both() {
            let (app, seen) = app(origin.peer(), piped);
            let proxy = Proxy::start_with(setup(custom), app);
            let mut client = connect(custom, &proxy).await;
            for pieces in [&["bo", "dy"][..], &[]] {
                let response = client.send_request(post(streamed(pieces))).await.unwrap();
                assert_eq!(response.status(), 200, "custom: {custom}");
                let expected = format!("/inner:{}", pieces.concat());
                assert_eq!(text(response).await, expected, "custom: {custom}");
            }
            seen.has("sub /inner 200");
            seen.has("client /page 200");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_is_reset_ends_its_subrequest() {
    let (asked, asks) = std::sync::mpsc::channel();
    let origin = Origin::scripted(move |mut wire, _| {
        wire.read_until("ab\r\n");
        asked.send(()).unwrap();
        wire.expect_end();
    });
    let (app, seen) = app(forward_to(origin.path()).peer, piped);
    let proxy = Proxy::start_with(setup(false), app);
    let mut client = connect(false, &proxy).await;
    // The body goes on for as long as the client is there.
    let first = futures::stream::iter([Ok(Frame::data(Bytes::from_static(b"ab")))]);
    let body = futures::StreamExt::chain(first, futures::stream::pending());
    let response = client.send_request(post(BodyExt::boxed(StreamBody::new(body))));
    let asked = tokio::task::spawn_blocking(move || asks.recv_timeout(PATIENCE).unwrap());
    tokio::select! {
        response = response => panic!("{response:?}"),
        asked = asked => asked.unwrap(),
    }
    // The request was dropped.
    seen.has("the client has failed");
    seen.has("sub /inner 0 failed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_of_http2_makes_one_in_the_background() {
    let origin = Origin::scripted(|mut wire, _| {
        let asked = wire.read_message();
        assert_eq!(asked.field("Host"), Some("a.test"));
        assert!(asked.body.is_empty());
        wire.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    });
    let (app, seen) = app(forward_to(origin.path()).peer, |session, _| {
        let spawner = session.subrequest_spawner.as_ref().unwrap();
        spawner.spawn_background_subrequest(session.as_downstream(), Ctx::builder().build());
        Box::pin(async {
            session.respond_error(404).await?;
            Ok(true)
        })
    });
    let proxy = Proxy::start_with(setup(false), app);
    let mut client = connect(false, &proxy).await;
    let response = client.send_request(post(streamed(&["body"]))).await;
    assert_eq!(response.unwrap().status(), 404);
    seen.has("sub /page 200");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_custom_parent_leaves_http_with_its_subrequest() {
    let origin = Origin::scripted(|mut wire, _| {
        wire.read_head();
        wire.send("HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: raw\r\n\r\n");
        assert_eq!(wire.read_exact(4), b"ping");
        wire.send("pong");
        wire.expect_end();
    });
    let mut peer = forward_to(origin.path()).peer;
    peer.options.http_upstream_request_policy.h1_upgrade = H1UpgradePolicy::Preserve;
    let (app, seen) = app(peer, |session, _| {
        Box::pin(async {
            let done = pipe(session, "/inner", no_body()).await;
            done.map(|_| true).map_err(|e| e.error)
        })
    });
    let proxy = Proxy::start_with(setup(true), app);
    let mut client = UnixStream::connect(proxy.path()).await.unwrap();
    let head = b"GET /page\nhost: a\nconnection: upgrade\nupgrade: raw\n";
    write_frame(&mut client, b'H', head).await.unwrap();
    write_frame(&mut client, b'E', b"").await.unwrap();
    let (_, head) = read_frame(&mut client).await.unwrap();
    assert!(head.starts_with(b"101\n"), "{head:?}");
    write_frame(&mut client, b'D', b"ping").await.unwrap();
    assert_eq!(read_frame(&mut client).await.unwrap().1, "pong");
    write_frame(&mut client, b'E', b"").await.unwrap();
    assert_eq!(read_frame(&mut client).await.unwrap().0, b'E');
    seen.has("client /page 101");
}
