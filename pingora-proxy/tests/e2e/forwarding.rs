//! Requests and responses of every framing, passed on.

use super::common::*;
use bytes::Bytes;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;

const HELLO: &str = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";

#[test]
fn a_get_is_forwarded_and_its_answer_comes_back() {
    let origin = Origin::scripted(|mut wire, _| {
        let request = wire.read_message();
        assert!(
            request.head.starts_with("GET /a?b=c HTTP/1.1\r\n"),
            "{}",
            request.head
        );
        assert_eq!(request.field("Host"), Some("origin.test"));
        assert_eq!(request.field("X-Mine"), Some("kept"));
        wire.send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-Yours: kept too\r\n\r\nhello");
    });
    let proxy = Proxy::to(&origin);
    let mut client = proxy.connect();
    client.send("GET /a?b=c HTTP/1.1\r\nHost: origin.test\r\nX-Mine: kept\r\n\r\n");
    let response = client.read_response();
    assert_eq!((response.status(), response.text()), (200, "hello"));
    assert_eq!(response.field("X-Yours"), Some("kept too"));
}

#[test]
fn a_head_is_forwarded_and_its_answer_has_no_body() {
    let origin = Origin::scripted(|mut wire, _| {
        assert!(wire.read_head().starts_with("HEAD / HTTP/1.1\r\n"));
        wire.send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n");
        assert!(wire.read_head().starts_with("GET /next HTTP/1.1\r\n"));
        wire.send(HELLO);
    });
    let proxy = Proxy::to(&origin);
    let mut client = proxy.connect();
    client.send("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n");
    let response = client.read_response_to_head();
    assert_eq!(
        (response.status(), response.field("Content-Length")),
        (200, Some("5"))
    );
    // Both connections are good for the next request: no body was waited for.
    client.send("GET /next HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.read_response().text(), "hello");
}

#[test]
fn answers_that_cannot_have_a_body_end_with_their_head() {
    for answer in [
        "HTTP/1.1 204 No Content",
        "HTTP/1.1 304 Not Modified\r\nContent-Length: 5",
    ] {
        let origin = Origin::scripted(move |mut wire, _| {
            wire.read_message();
            wire.send(format!("{answer}\r\n\r\n"));
            wire.read_message();
            wire.send(HELLO);
        });
        let proxy = Proxy::to(&origin);
        let mut client = proxy.connect();
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        let response = client.read_response();
        assert!(
            response.head.starts_with(&answer[..12]),
            "{}",
            response.head
        );
        assert_eq!(response.field("Transfer-Encoding"), None);
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(client.read_response().text(), "hello");
    }
}

#[test]
fn a_body_with_a_length_keeps_its_length() {
    let origin = Origin::scripted(|mut wire, _| {
        let request = wire.read_message();
        assert_eq!(request.field("Content-Length"), Some("9"));
        assert_eq!(request.text(), "some body");
        wire.send(HELLO);
    });
    let proxy = Proxy::to(&origin);
    let mut client = proxy.connect();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nsome body");
    assert_eq!(client.read_response().status(), 200);
}

#[test]
fn a_chunked_body_stays_chunked() {
    let origin = Origin::scripted(|mut wire, _| {
        let request = wire.read_message();
        assert_eq!(request.field("Transfer-Encoding"), Some("chunked"));
        assert_eq!(request.text(), "some body");
        wire.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        wire.send("3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n");
    });
    let proxy = Proxy::to(&origin);
    let mut client = proxy.connect();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
    client.send("5\r\nsome \r\n4\r\nbody\r\n0\r\n\r\n");
    let response = client.read_response();
    assert_eq!(response.field("Transfer-Encoding"), Some("chunked"));
    assert_eq!(response.text(), "abcde");
}

#[test]
fn heads_and_bodies_may_arrive_in_any_pieces() {
    let origin = Origin::scripted(|mut wire, _| {
        while wire.has_more() {
            let request = wire.read_message();
            assert_eq!(request.text(), "some body");
            let answer =
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
            let at: Vec<_> = (1..answer.len()).collect();
            wire.send_split(answer, &at);
        }
    });
    let proxy = Proxy::to(&origin);
    let mut client = proxy.connect();
    let request = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n\
        5\r\nsome \r\n4\r\nbody\r\n0\r\n\r\n";
    for at in 1..request.len() {
        client.send_split(request, &[at]);
        assert_eq!(client.read_response().text(), "abc", "split at {at}");
    }
}

#[test]
fn a_body_that_ends_with_the_connection_reaches_its_end() {
    let origin = Origin::scripted(|mut wire, _| {
        wire.read_message();
        wire.send("HTTP/1.1 200 OK\r\n\r\nhello");
    });
    let proxy = Proxy::to(&origin);
    let mut client = proxy.connect();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.read_response().text(), "hello");
}

#[test]
fn trailers_of_a_chunked_answer_are_passed_on() {
    let origin = Origin::answering(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n\
         5\r\nhello\r\n0\r\nX-Sum: 42\r\n\r\n",
    );
    let proxy = Proxy::to(&origin);
    let mut client = proxy.connect();
    client.send("GET / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\n\r\n");
    let response = client.read_response();
    assert_eq!(response.text(), "hello");
    assert_eq!(response.trailers.to_ascii_lowercase(), "x-sum: 42\r\n");
}

#[test]
fn trailers_of_a_chunked_request_are_passed_on() {
    let origin = Origin::scripted(|mut wire, _| {
        let request = wire.read_message();
        assert_eq!(request.text(), "hello");
        assert_eq!(request.trailers.to_ascii_lowercase(), "x-sum: 42\r\n");
        wire.send(HELLO);
    });
    let proxy = Proxy::to(&origin);
    let mut client = proxy.connect();
    client
        .send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n");
    client.send("5\r\nhello\r\n0\r\nX-Sum: 42\r\n\r\n");
    assert_eq!(client.read_response().text(), "hello");
}

#[test]
fn trailers_that_belong_into_the_head_are_not_passed_on() {
    const TRAILERS: &str =
        "0\r\nContent-Length: 5\r\nHost: b\r\nTransfer-Encoding: chunked\r\nCookie: a=b\r\n\
         Set-Cookie: a=b\r\nX-Sum: 42\r\nX-Forwarded-For: 127.0.0.9\r\n\r\n";
    let sorted = |trailers: &str| {
        let trailers = trailers.to_ascii_lowercase();
        let mut lines: Vec<_> = trailers.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    let origin = Origin::scripted(move |mut wire, _| {
        let request = wire.read_message();
        assert_eq!(sorted(&request.trailers), ["set-cookie: a=b", "x-sum: 42"]);
        wire.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n");
        wire.send(TRAILERS);
    });
    let proxy = Proxy::to(&origin);
    let mut client = proxy.connect();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n");
    client.send(TRAILERS);
    let response = client.read_response();
    assert_eq!(response.text(), "hello");
    // What a response says late is its application's matter, as long as it is not how it is read.
    let passed = [
        "cookie: a=b",
        "set-cookie: a=b",
        "x-forwarded-for: 127.0.0.9",
        "x-sum: 42",
    ];
    assert_eq!(sorted(&response.trailers), passed);
}

#[test]
fn fields_of_one_connection_are_not_passed_on() {
    let origin = Origin::scripted(|mut wire, _| {
        let request = wire.read_message();
        for name in ["Keep-Alive", "Proxy-Connection", "X-Hop", "TE", "Upgrade"] {
            assert_eq!(request.field(name), None, "{}", request.head);
        }
        assert_eq!(request.field("X-End"), Some("to end"));
        wire.send(HELLO);
    });
    let proxy = Proxy::to(&origin);
    let mut client = proxy.connect();
    client.send(
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, X-Hop\r\nX-Hop: 1\r\n\
         Keep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\nTE: gzip\r\nX-End: to end\r\n\r\n",
    );
    assert_eq!(client.read_response().status(), 200);
}

#[test]
fn the_body_is_sent_when_the_origin_asks_for_it() {
    let origin = Origin::scripted(|mut wire, _| {
        let head = wire.read_head();
        assert!(
            head.to_ascii_lowercase().contains("expect: 100-continue"),
            "{head}"
        );
        wire.send("HTTP/1.1 100 Continue\r\n\r\n");
        assert_eq!(wire.read_exact(4), b"body");
        wire.send(HELLO);
    });
    let proxy = Proxy::to(&origin);
    let mut client = proxy.connect();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n");
    assert!(client.read_head().starts_with("HTTP/1.1 100 "));
    client.send("body");
    assert_eq!(client.read_response().text(), "hello");
}

#[test]
fn a_refusal_comes_instead_of_100_continue() {
    let origin = Origin::scripted(|mut wire, _| {
        wire.read_head();
        wire.send("HTTP/1.1 417 Expectation Failed\r\nContent-Length: 0\r\n\r\n");
    });
    let proxy = Proxy::to(&origin);
    let mut client = proxy.connect();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n");
    assert_eq!(client.read_response().status(), 417);
}

#[test]
fn interim_answers_are_passed_on() {
    let origin = Origin::scripted(|mut wire, _| {
        wire.read_message();
        wire.send("HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n");
        wire.send(HELLO);
    });
    let proxy = Proxy::to(&origin);
    let mut client = proxy.connect();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let hints = client.read_head();
    assert!(hints.starts_with("HTTP/1.1 103 "), "{hints}");
    assert!(hints.contains("</a.css>"), "{hints}");
    assert_eq!(client.read_response().text(), "hello");
}

#[test]
fn an_answer_overtakes_the_request_body() {
    let origin = Origin::scripted(|mut wire, _| {
        wire.read_head();
        assert_eq!(wire.read_exact(4), b"half");
        wire.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nearly\r\n");
        assert_eq!(wire.read_exact(4), b"rest");
        wire.send("4\r\nlate\r\n0\r\n\r\n");
    });
    let proxy = Proxy::to(&origin);
    let mut client = proxy.connect();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 8\r\n\r\nhalf");
    client.read_until("\r\n\r\n5\r\nearly\r\n");
    client.send("rest");
    client.read_until("4\r\nlate\r\n0\r\n\r\n");
}

#[test]
fn a_client_of_1_0_gets_an_answer_it_can_read() {
    let origin = Origin::answering(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    );
    let proxy = Proxy::to(&origin);
    let mut client = proxy.connect();
    client.send("GET / HTTP/1.0\r\n\r\n");
    let head = client.read_head();
    assert!(
        !head.to_ascii_lowercase().contains("transfer-encoding"),
        "{head}"
    );
    assert_eq!(client.read_to_end(), b"hello");
}

#[test]
fn an_origin_of_1_0_is_understood() {
    let origin = Origin::scripted(|mut wire, _| {
        wire.read_message();
        wire.send("HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\nhello");
    });
    let proxy = Proxy::to(&origin);
    let mut client = proxy.connect();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.read_response().text(), "hello");
}

/// Bytes whose place shows, so that none can be lost or doubled unseen.
fn pattern(size: usize) -> Bytes {
    (0..size).map(|i| (i / 251 + i) as u8).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_bodies_pass_unchanged_both_ways_at_once() {
    let origin =
        HyperOrigin::start(|request| async { hyper::Response::new(request.into_body().boxed()) });
    let proxy = Proxy::start(forward_to(origin.path()));
    let mut client = HyperClient::connect(&proxy.path()).await;
    let body = pattern(8 << 20);
    for chunked in [false, true] {
        let mut request = request("POST", "/", body.clone());
        if chunked {
            let pieces: Vec<_> = body
                .chunks(70_001)
                .map(|p| Ok(Frame::data(Bytes::copy_from_slice(p))))
                .collect();
            *request.body_mut() = StreamBody::new(futures::stream::iter(pieces)).boxed();
        }
        let exchange = async {
            let response = client.send(request).await.unwrap();
            assert_eq!(response.status(), 200);
            response.into_body().collect().await.unwrap().to_bytes()
        };
        let echoed = tokio::time::timeout(PATIENCE, exchange)
            .await
            .expect("both ways move");
        assert!(
            echoed == body,
            "chunked: {chunked}, {} bytes came back",
            echoed.len()
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_connections_at_once_get_their_own_answers() {
    let origin = HyperOrigin::start(|request| async move {
        hyper::Response::new(whole(request.uri().path().to_string()))
    });
    let mut setup = Setup::default();
    setup.conf.threads = 2;
    let proxy = Proxy::start_with(setup, forward_to(origin.path()));
    let clients = (0..32).map(|c| {
        let path = proxy.path();
        tokio::spawn(async move {
            let mut client = HyperClient::connect(&path).await;
            for r in 0..32 {
                let path = format!("/{c}/{r}");
                let response = client.send(request("GET", &path, "")).await.unwrap();
                let body = response.into_body().collect().await.unwrap().to_bytes();
                assert_eq!(body, path);
            }
        })
    });
    for client in clients.collect::<Vec<_>>() {
        client.await.unwrap();
    }
}
