//! What goes wrong on either side, and what the other side then sees.

use super::common::*;
use async_trait::async_trait;
use bytes::Bytes;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_core::{Error, ErrorType, Result};
use pingora_http::ResponseHeader;
use pingora_proxy::{FailToProxy, ProxyHttp, Session};
use std::time::Duration;

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const HELLO: &str = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";

#[test]
fn an_origin_that_cannot_be_reached_is_a_502() {
    let origin = Origin::answering(HELLO);
    let proxy = Proxy::start(forward_to(origin.path().with_file_name("nobody")));
    let mut client = proxy.connect();
    client.send(GET);
    assert_eq!(client.read_response().status(), 502);
}

#[test]
fn an_origin_that_breaks_off_before_its_head_is_out_is_a_502() {
    for said in [
        "",
        "H",
        "HTTP/1.1 200 OK\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n",
    ] {
        let origin = Origin::scripted(move |mut wire, _| {
            wire.read_message();
            wire.send(said);
        });
        let proxy = Proxy::to(&origin);
        let mut client = proxy.connect();
        client.send(GET);
        assert_eq!(client.read_response().status(), 502, "{said:?}");
        assert_eq!(origin.accepted(), 1, "{said:?}");
    }
}

#[test]
fn an_origin_that_answers_garbage_is_a_502() {
    for said in [
        "garbage\r\n\r\n",
        "HTTP/1.1 abc\r\n\r\n",
        "\x16\x03\x01\x02\0\r\n\r\n",
    ] {
        let origin = Origin::scripted(move |mut wire, _| {
            wire.read_message();
            wire.send(said);
            wire.expect_end();
        });
        let proxy = Proxy::to(&origin);
        let mut client = proxy.connect();
        client.send(GET);
        assert_eq!(client.read_response().status(), 502, "{said:?}");
    }
}

#[test]
fn a_body_that_is_cut_short_is_not_passed_on_as_whole() {
    let framings = [
        ("Content-Length: 10", "hello"),
        ("Transfer-Encoding: chunked", "5\r\nhello\r\n"),
        ("Transfer-Encoding: chunked", "9\r\nhello"),
    ];
    for (framing, body) in framings {
        let origin = Origin::scripted(move |mut wire, _| {
            wire.read_message();
            wire.send(format!("HTTP/1.1 200 OK\r\n{framing}\r\n\r\n{body}"));
        });
        let proxy = Proxy::to(&origin);
        let mut client = proxy.connect();
        client.send(GET);
        let head = client.read_head();
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        let rest = client.read_to_end();
        let text = String::from_utf8_lossy(&rest);
        assert!(!text.ends_with("0\r\n\r\n"), "{framing}: {text:?}");
        assert!(!head.contains("Content-Length: 5"), "{head}");
    }
}

#[test]
fn a_client_that_goes_away_ends_the_request_upstream() {
    let (tell, came) = std::sync::mpsc::channel();
    let origin = Origin::scripted(move |mut wire, _| {
        wire.read_head();
        assert_eq!(wire.read_exact(4), b"half");
        tell.send(()).unwrap();
        wire.expect_end();
    });
    let proxy = Proxy::to(&origin);
    let mut client = proxy.connect();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 8\r\n\r\nhalf");
    came.recv_timeout(PATIENCE)
        .expect("the request is upstream");
    drop(client);
}

#[test]
fn a_worker_serves_others_after_each_failure() {
    let origin = Origin::scripted(|mut wire, number| {
        wire.read_head();
        if number % 2 == 1 {
            wire.send(HELLO);
        }
    });
    let proxy = Proxy::to(&origin);
    for _ in 0..5 {
        for status in [502, 200] {
            let mut client = proxy.connect();
            client.send(GET);
            assert_eq!(client.read_response().status(), status);
        }
    }
}

#[test]
fn a_malformed_request_is_a_400_and_the_end() {
    let origin = Origin::answering(HELLO);
    let proxy = Proxy::to(&origin);
    for request in ["garbage\r\n\r\n", "GET / HTTP/1.1\r\nno colon\r\n\r\n"] {
        let mut client = proxy.connect();
        client.send(request);
        assert_eq!(client.read_response().status(), 400, "{request:?}");
        client.expect_end();
    }
    assert_eq!(origin.accepted(), 0);
}

#[test]
fn connect_is_not_allowed_unless_asked_for() {
    let origin = Origin::answering(HELLO);
    let proxy = Proxy::to(&origin);
    let mut client = proxy.connect();
    client.send("CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n");
    let answer = client.read_response();
    assert_eq!((answer.status(), answer.field("allow")), (405, Some("")));
    client.expect_end();
}

#[test]
fn a_silent_origin_is_given_up_after_the_read_timeout() {
    let origin = Origin::scripted(|mut wire, _| {
        wire.read_message();
        wire.expect_end();
    });
    let mut app = forward_to(origin.path());
    app.peer.options.read_timeout = Some(Duration::from_millis(50));
    let proxy = Proxy::start(app);
    let mut client = proxy.connect();
    client.send(GET);
    let status = client.read_response().status();
    assert!(matches!(status, 502 | 504), "{status}");
}

#[test]
fn a_body_within_the_replay_buffer_is_sent_again_to_the_next_peer() {
    let sizes = [(1, 200), (60 * 1024, 200), (200 * 1024, 502)];
    for (size, status) in sizes {
        let dying = Origin::scripted(move |mut wire, _| {
            wire.read_head();
            wire.read_exact(size);
        });
        let origin = Origin::scripted(move |mut wire, _| {
            assert_eq!(wire.read_message().body.len(), size);
            wire.send(HELLO);
        });
        let app = Twice([
            forward_to(dying.path()).peer,
            forward_to(origin.path()).peer,
        ]);
        let proxy = Proxy::start(app);
        let mut client = proxy.connect();
        client.send(format!(
            "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: {size}\r\n\r\n"
        ));
        client.send("b".repeat(size));
        assert_eq!(client.read_response().status(), status, "{size} bytes");
        assert_eq!(
            origin.accepted(),
            usize::from(status == 200),
            "{size} bytes"
        );
    }
}

/// Tries a second peer after the first, whatever went wrong there, if the body can be replayed.
struct Twice([HttpPeer; 2]);

#[async_trait]
impl ProxyHttp for Twice {
    type CTX = usize;

    fn new_ctx(&self) -> usize {
        0
    }

    async fn upstream_peer(&self, _: &mut Session, tries: &mut usize) -> Result<Box<HttpPeer>> {
        *tries += 1;
        Ok(Box::new(self.0[*tries - 1].clone()))
    }

    fn error_while_proxy(
        &self,
        _: &HttpPeer,
        session: &mut Session,
        mut e: Box<Error>,
        tries: &mut usize,
        _: bool,
    ) -> Box<Error> {
        e.set_retry(*tries < 2 && !session.as_ref().retry_buffer_truncated());
        e
    }
}

#[test]
fn tries_end_at_the_configured_number() {
    // No retry is one try.
    for (configured, tries) in [(0, 1), (1, 1), (3, 3)] {
        let origin = Origin::scripted(|mut wire, _| drop(wire.read_message()));
        let mut setup = Setup::default();
        setup.conf.max_retries = configured;
        let proxy = Proxy::start_with(setup, Stubborn(forward_to(origin.path()).peer));
        let mut client = proxy.connect();
        client.send(GET);
        assert_eq!(client.read_response().status(), 502);
        assert_eq!(origin.accepted(), tries);
    }
}

/// Never gives up by itself.
struct Stubborn(HttpPeer);

#[async_trait]
impl ProxyHttp for Stubborn {
    type CTX = ();

    fn new_ctx(&self) {}

    async fn upstream_peer(&self, _: &mut Session, _: &mut ()) -> Result<Box<HttpPeer>> {
        Ok(Box::new(self.0.clone()))
    }

    fn error_while_proxy(
        &self,
        _: &HttpPeer,
        _: &mut Session,
        mut e: Box<Error>,
        _: &mut (),
        _: bool,
    ) -> Box<Error> {
        e.set_retry(true);
        e
    }
}

#[test]
fn an_error_is_answered_as_the_proxy_wishes() {
    let proxy = Proxy::start(OwnErrorPage);
    let mut client = proxy.connect();
    client.send(GET);
    let response = client.read_response();
    assert_eq!(
        (response.status(), response.text()),
        (503, "come back later")
    );
}

struct OwnErrorPage;

#[async_trait]
impl ProxyHttp for OwnErrorPage {
    type CTX = ();

    fn new_ctx(&self) {}

    async fn upstream_peer(&self, _: &mut Session, _: &mut ()) -> Result<Box<HttpPeer>> {
        Error::e_explain(ErrorType::InternalError, "no peer today")
    }

    async fn fail_to_proxy(&self, session: &mut Session, e: &Error, _: &mut ()) -> FailToProxy {
        assert_eq!(e.etype(), &ErrorType::InternalError);
        let page = Bytes::from_static(b"come back later");
        let mut head = ResponseHeader::build(503, None).unwrap();
        head.insert_header("Content-Length", page.len()).unwrap();
        session
            .write_response_header(Box::new(head), false)
            .await
            .unwrap();
        session.write_response_body(Some(page), true).await.unwrap();
        FailToProxy {
            error_code: 503,
            can_reuse_downstream: false,
        }
    }
}

#[test]
fn statuses_follow_the_kind_and_the_source_of_an_error() {
    for (kind, status) in [
        (ErrorType::HTTPStatus(404), 404),
        (ErrorType::HTTPStatus(451), 451),
        (ErrorType::InternalError, 500),
    ] {
        let proxy = Proxy::start(NoPeer(kind.clone()));
        let mut client = proxy.connect();
        client.send(GET);
        assert_eq!(client.read_response().status(), status, "{kind:?}");
    }
}

struct NoPeer(ErrorType);

#[async_trait]
impl ProxyHttp for NoPeer {
    type CTX = ();

    fn new_ctx(&self) {}

    async fn upstream_peer(&self, _: &mut Session, _: &mut ()) -> Result<Box<HttpPeer>> {
        Error::e_explain(self.0.clone(), "no peer")
    }
}
