//! Requests and responses, translated and passed on.

use super::common::h2_origin::*;
use super::common::*;
use bytes::Bytes;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use hyper::header::HeaderMap;
use hyper::Response as HyperResponse;

#[test]
fn a_get_is_translated_and_its_answer_comes_back() {
    let origin = H2Origin::hyper(|request| async move {
        assert_eq!(request.version(), hyper::Version::HTTP_2);
        assert_eq!(request.uri().to_string(), "http://origin.test/a?b=c");
        assert_eq!(request.headers()["x-mine"], "kept");
        assert_eq!(request.headers().len(), 1, "{:?}", request.headers());
        assert!(hyper::body::Body::is_end_stream(request.body()));
        HyperResponse::builder()
            .header("x-yours", "kept too")
            .header("content-length", "5")
            .body(whole("hello"))
            .unwrap()
    });
    let proxy = h2_proxy(&origin.path());
    let mut client = proxy.connect();
    for _ in 0..3 {
        client.send("GET /a?b=c HTTP/1.1\r\nHost: origin.test\r\nX-Mine: kept\r\n");
        client.send("Connection: keep-alive, x-gone\r\nX-Gone: 1\r\nKeep-Alive: 5\r\n");
        client.send("Proxy-Connection: keep-alive\r\nTE: gzip\r\nUpgrade: h2c\r\n\r\n");
        let response = client.read_response();
        assert_eq!((response.status(), response.text()), (200, "hello"));
        assert_eq!(response.field("X-Yours"), Some("kept too"));
    }
    assert_eq!(origin.accepted(), 1);
}

#[test]
fn te_trailers_is_the_one_field_of_the_connection_that_passes() {
    let origin = H2Origin::hyper(|request| async move {
        let te = request.headers().get("te").cloned();
        let te = te.map_or(String::new(), |te| te.to_str().unwrap().to_string());
        HyperResponse::new(whole(te))
    });
    let proxy = h2_proxy(&origin.path());
    let mut client = proxy.connect();
    for (fields, expected) in [
        ("TE: gzip, trailers\r\nConnection: te", "trailers"),
        ("TE: trailers", ""),
        (
            "TE: trailers\r\nContent-Type: application/grpc+proto",
            "trailers",
        ),
    ] {
        client.send(format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n"));
        assert_eq!(client.read_response().text(), expected, "{fields}");
    }
}

#[test]
fn targets_of_every_form_arrive() {
    let origin = H2Origin::streams(|request, mut respond, _| async move {
        let (method, uri) = (request.method().clone(), request.uri().clone());
        let mut stream = respond.send_response(status(200), false).unwrap();
        stream
            .send_data(Bytes::from(format!("{method} {uri}")), true)
            .unwrap();
    });
    let proxy = h2_proxy(&origin.path());
    for (request, expected) in [
        (
            "OPTIONS * HTTP/1.1\r\nHost: a.test",
            "OPTIONS http://a.test*",
        ),
        (
            "GET http://b.test/x HTTP/1.1\r\nHost: a.test",
            "GET http://b.test/x",
        ),
        (
            "GET /%20?q HTTP/1.1\r\nHost: a.test:81",
            "GET http://a.test:81/%20?q",
        ),
        ("GET /old HTTP/1.0", "GET /old"),
    ] {
        let mut client = proxy.connect();
        client.send(format!("{request}\r\n\r\n"));
        let text = client.read_response().text().to_string();
        assert!(
            text == expected || text == expected.replace('*', "/*"),
            "{text}"
        );
    }
}

#[test]
fn answers_without_a_body_end_with_their_head() {
    let origin = H2Origin::streams(|request, mut respond, _| async move {
        let code = request.uri().path()[1..].parse().unwrap();
        let response = HyperResponse::builder().status(code);
        let response = match code {
            204 => response,
            _ => response.header("content-length", "5"),
        };
        respond
            .send_response(response.body(()).unwrap(), true)
            .unwrap();
    });
    let proxy = h2_proxy(&origin.path());
    let mut client = proxy.connect();
    for code in [204, 304] {
        client.send(format!("GET /{code} HTTP/1.1\r\nHost: a\r\n\r\n"));
        let response = client.read_response();
        assert_eq!(response.status(), code);
        assert_eq!(response.field("Transfer-Encoding"), None);
    }
    client.send("HEAD /200 HTTP/1.1\r\nHost: a\r\n\r\n");
    let response = client.read_response_to_head();
    assert_eq!(response.field("Content-Length"), Some("5"));
    client.send("GET /204 HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.read_response().status(), 204);
    assert_eq!(origin.accepted(), 1);
}

#[test]
fn trailers_pass_both_ways() {
    let origin = H2Origin::hyper(|request| async move {
        let body = request.into_body().collect().await.unwrap();
        let trailers = body.trailers().cloned().unwrap();
        assert_eq!(trailers["x-sum"], "7");
        let mut back = HeaderMap::new();
        back.insert("x-back", trailers["x-sum"].clone());
        let frames = [Ok(Frame::data(body.to_bytes())), Ok(Frame::trailers(back))];
        HyperResponse::new(StreamBody::new(futures::stream::iter(frames)).boxed())
    });
    let proxy = h2_proxy(&origin.path());
    let mut client = proxy.connect();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
    client.send("5\r\nhello\r\n0\r\nX-Sum: 7\r\n\r\n");
    let response = client.read_response();
    assert_eq!(response.text(), "hello");
    assert_eq!(response.trailers, "x-back: 7\r\n");
}

#[test]
fn informational_responses_pass() {
    let origin = H2Origin::streams(|request, mut respond, _| async move {
        let mut body = request.into_body();
        respond.send_informational(status(100)).unwrap();
        let mut received = Vec::new();
        while let Some(data) = body.data().await {
            received.extend_from_slice(&data.unwrap());
        }
        respond.send_informational(status(103)).unwrap();
        let mut stream = respond.send_response(status(200), false).unwrap();
        stream.send_data(received.into(), true).unwrap();
    });
    let proxy = h2_proxy(&origin.path());
    let mut client = proxy.connect();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n");
    assert!(client.read_head().starts_with("HTTP/1.1 100 "));
    client.send("hello");
    assert!(client.read_head().starts_with("HTTP/1.1 103 "));
    assert_eq!(client.read_response().text(), "hello");
}

#[test]
fn a_websocket_is_refused_by_an_origin_that_takes_no_extended_connect() {
    let origin = H2Origin::hyper(|_| async { HyperResponse::new(whole("a page")) });
    let proxy = h2_proxy(&origin.path());
    let mut client = proxy.connect();
    client.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n");
    client.send("Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n");
    assert_eq!(client.read_response().status(), 501);
    // Its SETTINGS say so.
    assert_eq!(origin.accepted(), 1);
}

#[test]
fn a_tunnel_leads_through_a_stream() {
    let origin = H2Origin::streams(|request, mut respond, _| async move {
        assert_eq!(request.method(), "CONNECT");
        assert_eq!(request.uri().to_string(), "b.test:443");
        let mut body = request.into_body();
        let mut stream = respond.send_response(status(200), false).unwrap();
        stream.send_data("hello".into(), false).unwrap();
        let mut received = Vec::new();
        while let Some(data) = body.data().await {
            received.extend_from_slice(&data.unwrap());
        }
        stream.send_data(received.into(), true).unwrap();
    });
    let mut setup = Setup::default();
    setup.options.allow_connect_method_proxying = true;
    let peer = h2_peer(&origin.path());
    let proxy = Proxy::start_with(setup, Forward { peer });
    let mut client = proxy.connect();
    client.send("CONNECT b.test:443 HTTP/1.1\r\nHost: b.test:443\r\n\r\n");
    let head = client.read_head();
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    assert_eq!(client.read_exact(5), b"hello");
    client.send("ping");
    client.finish_sending();
    assert_eq!(client.read_to_end(), b"ping");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_of_all_sizes_pass_both_ways_at_once() {
    let origin = H2Origin::hyper(|request| async move {
        let length = request.headers().get("content-length").cloned();
        let mut response = HyperResponse::new(request.into_body().boxed());
        if let Some(length) = length {
            response.headers_mut().insert("content-length", length);
        }
        response
    });
    let proxy = h2_proxy(&origin.path());
    let mut client = HyperClient::connect(&proxy.path()).await;
    for size in [0, 1, 1000, 65_536, 3 << 20] {
        for chunked in [false, true] {
            let content: Bytes = (0..size).map(|i| (i / 7 % 251) as u8).collect();
            let mut post = request("POST", "/", content.clone());
            if chunked {
                let pieces: Vec<_> = (0..size)
                    .step_by(50_000)
                    .map(|at| content.slice(at..size.min(at + 50_000)))
                    .map(|piece| Ok(Frame::data(piece)))
                    .collect();
                *post.body_mut() = StreamBody::new(futures::stream::iter(pieces)).boxed();
            }
            let response = client.send(post).await.unwrap();
            assert_eq!(response.status(), 200);
            let got = response.into_body().collect().await.unwrap().to_bytes();
            assert!(got == content, "{size} bytes, {} came", got.len());
        }
    }
    assert_eq!(origin.accepted(), 1);
}
