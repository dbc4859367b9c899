//! Streams of which the end comes late, in a frame of its own, or not at all.

use super::common::h2_origin::*;
use super::common::*;
use bytes::Bytes;
use h2::Reason;
use pingora_core::apps::HttpServerOptions;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;
use tokio::net::UnixStream;
use tokio::sync::Notify;

const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const CANCEL: u32 = 8;

/// How a stream goes on after its content.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Late {
    End,
    Trailers,
    Reset(u32),
    Never,
}

/// A whole answer, but for its end: the method that it is for, its head, and its body.
type Answer = (&'static str, &'static [u8], &'static [u8]);

const LENGTH_2: &[u8] = b"\x88\x0f\x0d\x012";

const ANSWERS: [Answer; 5] = [
    ("GET", LENGTH_2, b"ok"),
    ("GET", b"\x88\x0f\x0d\x010", b""),
    ("GET", b"\x8b", b""),
    ("GET", b"\x89", b""),
    ("HEAD", LENGTH_2, b""),
];

/// Answers each request, and goes on with its stream only when the next request is there.
async fn late(stream: UnixStream, answer: Answer, late: Late, settings: &[u8], resets: &Resets) {
    let mut frames = Frames::begin(stream).await;
    frames.send(SETTINGS, 0, 0, settings).await;
    let mut last = None;
    while let Some((kind, _, id, payload)) = frames.next().await {
        if kind == RST_STREAM {
            let code = u32::from_be_bytes(payload.try_into().unwrap());
            assert_eq!(code, CANCEL);
            resets.fetch_add(1, Ordering::SeqCst);
        }
        if kind != HEADERS {
            continue;
        }
        if let Some(last) = last.replace(id) {
            match late {
                Late::End => frames.send(DATA, END_STREAM, last, b"").await,
                Late::Trailers => {
                    let flags = END_STREAM | END_HEADERS;
                    frames.send(HEADERS, flags, last, b"\0\x01a\x01b").await;
                }
                Late::Reset(code) => frames.send(RST_STREAM, 0, last, &code.to_be_bytes()).await,
                Late::Never => {}
            }
        }
        frames.send(HEADERS, END_HEADERS, id, answer.1).await;
        if !answer.2.is_empty() {
            frames.send(DATA, 0, id, answer.2).await;
        }
    }
}

type Resets = Arc<AtomicUsize>;

/// An origin, and how many of its streams were reset.
fn origin(answer: Answer, how: Late, settings: &'static [u8]) -> (H2Origin, Resets) {
    let resets = Resets::default();
    let origin = H2Origin::start({
        let resets = resets.clone();
        move |stream, _| {
            let resets = resets.clone();
            async move { late(stream, answer, how, settings, &resets).await }
        }
    });
    (origin, resets)
}

#[track_caller]
fn ask(client: &mut Wire, answer: Answer) {
    client.send(format!("{} / HTTP/1.1\r\nHost: a\r\n\r\n", answer.0));
    let (response, body): (_, &[u8]) = match answer.0 {
        "HEAD" => (client.read_response_to_head(), b""),
        _ => (client.read_response(), answer.2),
    };
    assert_eq!(response.body, body);
    assert_eq!(response.field("Connection"), None);
}

#[test]
fn a_client_does_not_wait_for_the_end_of_a_stream() {
    for work_stealing in [false, true] {
        for answer in ANSWERS {
            for how in [
                Late::End,
                Late::Trailers,
                Late::Reset(0),
                Late::Reset(2),
                Late::Reset(CANCEL),
            ] {
                let (origin, resets) = origin(answer, how, b"");
                let mut setup = Setup::default();
                setup.conf.work_stealing = work_stealing;
                let peer = h2_peer(&origin.path());
                let proxy = Proxy::start_with(setup, Forward { peer });
                let mut client = proxy.connect();
                for _ in 0..5 {
                    ask(&mut client, answer);
                }
                drop(client);
                assert_eq!(origin.accepted(), 1, "{answer:?} {how:?}");
                assert_eq!(resets.load(Ordering::SeqCst), 0, "{answer:?} {how:?}");
            }
        }
    }
}

#[test]
fn one_stream_at_a_time_is_no_obstacle() {
    // By the peer's options, and by the origin's SETTINGS, for which a stream that has not ended has to go.
    for (settings, all_end) in [(&b""[..], true), (b"\0\x03\0\0\0\x01", false)] {
        let (origin, resets) = origin(ANSWERS[0], Late::End, settings);
        let mut peer = h2_peer(&origin.path());
        peer.options.max_h2_streams = 1;
        let proxy = Proxy::start(Forward { peer });
        let mut client = proxy.connect();
        for _ in 0..5 {
            ask(&mut client, ANSWERS[0]);
        }
        assert_eq!(origin.accepted(), 1);
        assert_eq!(resets.load(Ordering::SeqCst) == 0, all_end);
    }
}

#[test]
fn streams_that_never_end_are_given_up() {
    let (origin, resets) = origin(ANSWERS[0], Late::Never, b"");
    let proxy = h2_proxy(&origin.path());
    let mut client = proxy.connect();
    for _ in 0..100 {
        ask(&mut client, ANSWERS[0]);
    }
    assert_eq!(origin.accepted(), 1);
    eventually("some were reset", || resets.load(Ordering::SeqCst) >= 60);
}

/// Asks a proxy to the origin over HTTP/2, and returns what the body ended with after its first piece.
async fn end_of_body(origin: &H2Origin, came: &Notify) -> Option<h2::Error> {
    let mut options = HttpServerOptions::default();
    options.h2c = true;
    let setup = Setup {
        options,
        ..Setup::default()
    };
    let peer = h2_peer(&origin.path());
    let proxy = Proxy::start_with(setup, Forward { peer });
    let stream = UnixStream::connect(proxy.path()).await.unwrap();
    let (mut requests, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    let get = http::Request::get("http://a/").body(()).unwrap();
    let (response, _) = requests.send_request(get, true).unwrap();
    let response = response.await.unwrap();
    assert_eq!(response.status(), 200);
    let mut body = response.into_body();
    let mut end = None;
    while let Some(piece) = body.data().await {
        match piece {
            Ok(data) => {
                body.flow_control().release_capacity(data.len()).unwrap();
                came.notify_one();
            }
            Err(e) => {
                end = Some(e);
                break;
            }
        }
    }
    // It waits for the end of a server that knows nothing of this runtime.
    tokio::task::spawn_blocking(move || drop(proxy))
        .await
        .unwrap();
    end
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reset_means_the_same_on_both_sides() {
    for (said, told) in [
        (Reason::CANCEL, Reason::CANCEL),
        (Reason::ENHANCE_YOUR_CALM, Reason::ENHANCE_YOUR_CALM),
        (Reason::INADEQUATE_SECURITY, Reason::INADEQUATE_SECURITY),
        (Reason::INTERNAL_ERROR, Reason::INTERNAL_ERROR),
        (Reason::NO_ERROR, Reason::INTERNAL_ERROR),
        // It would say that the request was not processed, and the head was there.
        (Reason::REFUSED_STREAM, Reason::INTERNAL_ERROR),
        (Reason::PROTOCOL_ERROR, Reason::INTERNAL_ERROR),
    ] {
        let came = Arc::new(Notify::new());
        let comes = came.clone();
        let origin = H2Origin::start(move |stream, _| {
            let comes = comes.clone();
            async move {
                let mut frames = Frames::begin(stream).await;
                let (_, _, id, _) = frames.next_of(HEADERS).await.unwrap();
                frames.send(HEADERS, END_HEADERS, id, &[0x88]).await;
                frames.send(DATA, 0, id, b"part").await;
                // A reset overtakes what has not been sent.
                comes.notified().await;
                let code = u32::from(said).to_be_bytes();
                frames.send(RST_STREAM, 0, id, &code).await;
                while frames.next().await.is_some() {}
            }
        });
        let end = end_of_body(&origin, &came).await.expect("a reset");
        assert!(end.is_reset() && end.is_remote(), "{end}");
        assert_eq!(end.reason(), Some(told), "{said:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reset_without_an_error_ends_what_is_whole() {
    let origin = H2Origin::start(|stream, _| async move {
        let mut frames = Frames::begin(stream).await;
        let (_, _, id, _) = frames.next_of(HEADERS).await.unwrap();
        frames.send(HEADERS, END_HEADERS, id, LENGTH_2).await;
        frames.send(DATA, 0, id, b"ok").await;
        frames.send(RST_STREAM, 0, id, &[0; 4]).await;
        while frames.next().await.is_some() {}
    });
    assert!(end_of_body(&origin, &Notify::new()).await.is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn trailers_follow_a_content_that_is_whole() {
    // A client of HTTP/2 can take them, and waits.
    let origin = H2Origin::streams(|_, mut respond, _| async move {
        let mut head = status(200);
        let headers = head.headers_mut();
        headers.insert("content-length", http::HeaderValue::from_static("2"));
        let mut stream = respond.send_response(head, false).unwrap();
        stream.send_data(Bytes::from_static(b"ok"), false).unwrap();
        tokio::task::yield_now().await;
        let mut trailers = http::HeaderMap::new();
        trailers.insert("x-sum", http::HeaderValue::from_static("1"));
        stream.send_trailers(trailers).unwrap();
    });
    let mut options = HttpServerOptions::default();
    options.h2c = true;
    let setup = Setup {
        options,
        ..Setup::default()
    };
    let peer = h2_peer(&origin.path());
    let proxy = Proxy::start_with(setup, Forward { peer });
    let stream = UnixStream::connect(proxy.path()).await.unwrap();
    let (mut requests, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    let get = http::Request::get("http://a/").body(()).unwrap();
    let (response, _) = requests.send_request(get, true).unwrap();
    let mut body = response.await.unwrap().into_body();
    while let Some(piece) = body.data().await {
        assert_eq!(piece.unwrap(), "ok");
    }
    let trailers = body.trailers().await.unwrap().expect("trailers");
    assert_eq!(trailers["x-sum"], "1");
    tokio::task::spawn_blocking(move || drop(proxy))
        .await
        .unwrap();
}

#[test]
fn a_reset_of_a_websocket_is_told_to_its_client() {
    use std::io::{ErrorKind, Read, Write};
    let origin = H2Origin::start(|stream, _| async move {
        let mut builder = h2::server::Builder::new();
        let builder = builder.enable_connect_protocol();
        let mut connection = builder.handshake::<_, Bytes>(stream).await.unwrap();
        while let Some(Ok((request, mut respond))) = connection.accept().await {
            tokio::spawn(async move {
                let mut stream = respond.send_response(status(200), false).unwrap();
                let ping = request.into_body().data().await.unwrap().unwrap();
                assert_eq!(ping, "ping");
                stream.send_reset(Reason::CANCEL);
            });
        }
    });
    let setup = Setup {
        tcp: true,
        ..Setup::default()
    };
    let peer = h2_peer(&origin.path());
    let proxy = Proxy::start_with(setup, Forward { peer });
    let mut client = std::net::TcpStream::connect(proxy.tcp()).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    let ask = "GET /chat HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
    client.write_all(ask.as_bytes()).unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        client.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    assert!(head.starts_with(b"HTTP/1.1 101 "));
    client.write_all(b"ping").unwrap();
    let end = client.read(&mut [0; 1]);
    assert_eq!(end.unwrap_err().kind(), ErrorKind::ConnectionReset);
}
