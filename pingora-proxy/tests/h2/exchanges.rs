//! Requests and responses, as a client of the h2 crate and the raw one see them.

use super::common::*;
use super::raw::*;
use super::{h2_proxy, h2_proxy_of};
use bytes::Bytes;
use h2::client::SendRequest;
use http::{HeaderMap, Request, Response};
use std::path::Path;
use tokio::net::UnixStream;

/// A client, whose connection runs beside the test.
async fn client(path: &Path) -> SendRequest<Bytes> {
    let stream = UnixStream::connect(path).await.unwrap();
    let (client, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(async { drop(connection.await) });
    client.ready().await.unwrap()
}

fn request_to(method: &str, path: &str) -> Request<()> {
    Request::builder()
        .method(method)
        .uri(format!("http://origin.test{path}"))
        .body(())
        .unwrap()
}

/// The body, and the trailers.
async fn read(response: Response<h2::RecvStream>) -> (Vec<u8>, Option<HeaderMap>) {
    let mut body = response.into_body();
    let mut whole = Vec::new();
    while let Some(piece) = body.data().await {
        let piece = piece.unwrap();
        body.flow_control().release_capacity(piece.len()).unwrap();
        whole.extend(piece);
    }
    (whole, body.trailers().await.unwrap())
}

#[tokio::test]
async fn a_get() {
    let origin = Origin::scripted(|mut wire, _| {
        while wire.has_more() {
            let request = wire.read_message();
            assert!(
                request.head.starts_with("GET /a?b HTTP/1.1\r\n"),
                "{}",
                request.head
            );
            assert_eq!(request.field("Host"), Some("origin.test"));
            wire.send(
                "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: keep-alive, x-hop\r\nX-Hop: 1\r\n\
                 Keep-Alive: timeout=5\r\nX-Kept: 1\r\n\r\nhello",
            );
        }
    });
    let proxy = h2_proxy(&origin);
    let mut client = client(&proxy.path()).await;
    for _ in 0..3 {
        let (response, _) = client
            .send_request(request_to("GET", "/a?b"), true)
            .unwrap();
        let response = response.await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["x-kept"], "1");
        assert!(response.headers().contains_key("date"));
        for gone in ["connection", "keep-alive", "x-hop", "transfer-encoding"] {
            assert!(!response.headers().contains_key(gone), "{gone}");
        }
        assert_eq!(read(response).await.0, b"hello");
    }
    assert_eq!(origin.accepted(), 1, "the connection to the origin is kept");
}

#[tokio::test]
async fn http1_is_served_at_the_same_port() {
    let origin = Origin::answering("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    let proxy = h2_proxy(&origin);
    tokio::task::spawn_blocking(move || {
        for request in [
            "GET / HTTP/1.0\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        ] {
            let mut wire = proxy.connect();
            wire.send(request);
            assert_eq!(wire.read_response().text(), "ok");
        }
        // Byte by byte, and one that is not the preface after all.
        let mut wire = proxy.connect();
        let at: Vec<usize> = (1..20).collect();
        wire.send_split(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", &at);
        assert_eq!(wire.read_response().status(), 200);
        let mut wire = proxy.connect();
        wire.send("PRI /a HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(wire.read_response().status(), 200);
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn a_preface_in_pieces() {
    let origin = Origin::answering("HTTP/1.1 204 No Content\r\n\r\n");
    let proxy = h2_proxy(&origin);
    tokio::task::spawn_blocking(move || {
        let mut raw = Raw::over(proxy.connect());
        let mut begin = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        begin.extend(frame(SETTINGS, 0, 0, &[]));
        begin.extend(frame(
            HEADERS,
            END_HEADERS | END_STREAM,
            1,
            &head("GET", &[]),
        ));
        let at: Vec<usize> = (1..begin.len()).collect();
        raw.wire.send_split(&begin, &at);
        assert!(raw.read_until(HEADERS, 1).ends_stream());
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn bodies_and_trailers_both_ways() {
    let origin = Origin::scripted(|mut wire, _| {
        while wire.has_more() {
            let request = wire.read_message();
            let response = format!(
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n",
                request.body.len()
            );
            wire.send(response);
            wire.send(&request.body);
            let trailers = request.trailers.replace("asked", "answered");
            wire.send(format!("\r\n0\r\n{trailers}\r\n"));
        }
    });
    let proxy = h2_proxy(&origin);
    let mut client = client(&proxy.path()).await;
    for size in [1, 16_383, 16_384, 65_535, 65_536, 1_000_000, 8 << 20] {
        let (response, mut body) = client.send_request(request_to("POST", "/"), false).unwrap();
        let sent: Bytes = (0..size).map(|n| (n % 251) as u8).collect();
        body.send_data(sent.clone(), false).unwrap();
        let mut trailers = HeaderMap::new();
        trailers.insert("x-asked", "yes".parse().unwrap());
        body.send_trailers(trailers).unwrap();
        let (received, trailers) = read(response.await.unwrap()).await;
        assert!(received == sent, "{size}");
        assert_eq!(trailers.unwrap()["x-answered"], "yes", "{size}");
    }
}

#[tokio::test]
async fn responses_without_a_body() {
    let cases = [
        (
            "HEAD",
            "HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n",
            Some("500"),
        ),
        ("GET", "HTTP/1.1 204 No Content\r\n\r\n", None),
        (
            "GET",
            "HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\n\r\n",
            Some("7"),
        ),
        (
            "GET",
            "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
            Some("0"),
        ),
    ];
    for (method, answer, length) in cases {
        let origin = Origin::answering(answer);
        let proxy = h2_proxy(&origin);
        let mut client = client(&proxy.path()).await;
        let (response, _) = client.send_request(request_to(method, "/"), true).unwrap();
        let response = response.await.unwrap();
        let told = response
            .headers()
            .get("content-length")
            .map(|v| v.to_str().unwrap());
        assert_eq!(told, length, "{answer}");
        assert_eq!(read(response).await.0, b"", "{answer}");
    }
}

#[test]
fn informational_responses_pass() {
    let origin = Origin::answering(
        "HTTP/1.1 103 Early Hints\r\nContent-Length: 0\r\nLink: </a>\r\n\r\n\
         HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    );
    let proxy = h2_proxy(&origin);
    let mut raw = Raw::new(&proxy);
    raw.request(1, "GET", &[], true);
    let hints = raw.read_until(HEADERS, 1);
    assert!(!hints.ends_stream());
    // Content-Length by its place in the static table (RFC 7541 appendix A): a length would make it malformed.
    assert!(!hints.payload.iter().any(|byte| matches!(byte, 0x5c | 0x0f)));
    let last = raw.read_until(HEADERS, 1);
    assert!(last.ends_stream() || raw.read_until(DATA, 1).ends_stream());
}

#[test]
fn an_early_answer_is_whole_and_ends_the_request() {
    let origin = Origin::scripted(|mut wire, _| {
        wire.read_head();
        wire.send(
            "HTTP/1.1 413 Content Too Large\r\nContent-Length: 4\r\nConnection: close\r\n\r\nlong",
        );
    });
    let proxy = h2_proxy(&origin);
    let mut raw = Raw::new(&proxy);
    raw.request(1, "POST", &[], false);
    raw.send(DATA, 0, 1, b"begin");
    raw.read_until(HEADERS, 1);
    let mut body: Vec<u8> = Vec::new();
    loop {
        let data = raw.read_until(DATA, 1);
        body.extend(&data.payload);
        if data.ends_stream() {
            break;
        }
    }
    assert_eq!(body, b"long");
    assert_eq!(raw.read_reset(1), NO_ERROR);
    raw.send(PING, 0, 0, &[1; 8]);
    raw.read_until(PING, 0);
}

#[test]
fn an_origin_that_fails_after_its_head_resets_the_stream() {
    for answer in [
        "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\npart",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\npart\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\npart\r\nX",
    ] {
        let origin = Origin::scripted(move |mut wire, _| {
            wire.read_head();
            wire.send(answer);
        });
        let proxy = h2_proxy(&origin);
        let mut raw = Raw::new(&proxy);
        raw.request(1, "GET", &[], true);
        let mut has_head = false;
        loop {
            let frame = raw.read();
            has_head |= (frame.kind, frame.id) == (HEADERS, 1);
            if (frame.kind, frame.id) == (RST_STREAM, 1) {
                assert_eq!(frame.code(), INTERNAL_ERROR);
                assert!(has_head, "nothing but the reset came");
                break;
            }
            assert!(
                !frame.ends_stream() || frame.kind != DATA,
                "it looks complete"
            );
        }
        raw.send(PING, 0, 0, &[1; 8]);
        raw.read_until(PING, 0);
    }
}

#[test]
fn an_origin_that_fails_before_its_head_is_a_502() {
    let origin = Origin::scripted(|mut wire, _| {
        wire.read_head();
        wire.send("nonsense\r\n\r\n");
    });
    let proxy = h2_proxy(&origin);
    let mut raw = Raw::new(&proxy);
    raw.request(1, "GET", &[], true);
    let head = raw.read_until(HEADERS, 1);
    assert!(
        head.payload.windows(3).any(|w| w == b"502") || head.payload.len() > 1,
        "{head:?}"
    );
    assert!(head.ends_stream() || raw.read_until(DATA, 1).ends_stream());
}

#[test]
fn a_client_that_gives_up_frees_the_origin() {
    let (told, gone) = std::sync::mpsc::channel();
    let origin = Origin::scripted(move |mut wire, _| {
        wire.read_head();
        told.send("asked").unwrap();
        wire.read_to_end();
        told.send("gone").unwrap();
    });
    let proxy = h2_proxy(&origin);
    let mut raw = Raw::new(&proxy);
    raw.request(1, "GET", &[], true);
    assert_eq!(gone.recv_timeout(PATIENCE).unwrap(), "asked");
    raw.send(RST_STREAM, 0, 1, &CANCEL.to_be_bytes());
    assert_eq!(gone.recv_timeout(PATIENCE).unwrap(), "gone");
    raw.request(3, "POST", &[], false);
    raw.send(DATA, 0, 3, b"begin");
    assert_eq!(gone.recv_timeout(PATIENCE).unwrap(), "asked");
    raw.send(RST_STREAM, 0, 3, &CANCEL.to_be_bytes());
    assert_eq!(gone.recv_timeout(PATIENCE).unwrap(), "gone");
}

#[test]
fn an_upload_goes_no_faster_than_the_origin_takes_it() {
    let (go, held) = std::sync::mpsc::channel::<()>();
    let held = std::sync::Mutex::new(held);
    let origin = Origin::scripted(move |mut wire, _| {
        wire.read_head();
        held.lock().unwrap().recv().unwrap();
        wire.read_until("0\r\n\r\n");
        wire.send("HTTP/1.1 204 No Content\r\n\r\n");
    });
    let proxy = h2_proxy(&origin);
    let mut raw = Raw::new(&proxy);
    raw.request(1, "POST", &[], false);
    // As much as the window lets, which is not given back while the origin takes nothing.
    let (mut connection, mut stream) = (65_535_i64, 256 * 1024_i64);
    let mut sent = 0;
    let piece = vec![b'x'; 16_384];
    let mut silence = 0;
    let mut asked = false;
    while silence < 3 {
        while connection >= 16_384 && stream >= 16_384 {
            raw.send(DATA, 0, 1, &piece);
            sent += piece.len();
            connection -= 16_384;
            stream -= 16_384;
        }
        if !asked {
            raw.send(PING, 0, 0, &[1; 8]);
            asked = true;
        }
        let frame = raw.read();
        match frame.kind {
            WINDOW_UPDATE => {
                let more = i64::from(u32::from_be_bytes(frame.payload.try_into().unwrap()));
                match frame.id {
                    0 => connection += more,
                    _ => stream += more,
                }
                silence = 0;
            }
            PING => {
                silence += 1;
                asked = false;
            }
            _ => {}
        }
    }
    assert!(
        sent < 4 << 20,
        "{sent} bytes were taken for an origin that takes none"
    );
    go.send(()).unwrap();
    raw.send(DATA, END_STREAM, 1, &[]);
    raw.read_until(HEADERS, 1);
}

struct Panics;

#[async_trait::async_trait]
impl pingora_proxy::ProxyHttp for Panics {
    type CTX = ();

    fn new_ctx(&self) {}

    async fn upstream_peer(
        &self,
        session: &mut pingora_proxy::Session,
        _: &mut (),
    ) -> pingora_core::Result<Box<pingora_core::upstreams::peer::HttpPeer>> {
        if session.req_header().headers.contains_key("panic") {
            panic!("as the test asks");
        }
        pingora_error::Error::e_explain(pingora_error::ErrorType::HTTPStatus(418), "no origin")
    }
}

#[test]
fn a_panic_ends_its_stream_alone() {
    let proxy = h2_proxy_of(Panics);
    let mut raw = Raw::new(&proxy);
    raw.request(1, "GET", &[("panic", "1")], true);
    let answer = raw.read_until(HEADERS, 1);
    // `:status: 500` stands in the static table (RFC 7541 appendix A).
    assert_eq!(answer.payload[0], 0x80 | 14, "{answer:?}");
    raw.assert_alive(3);
}
