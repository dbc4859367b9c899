//! How long an upstream may take.

use super::common::*;
use async_trait::async_trait;
use pingora_core::server::configuration::ServerConf;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_core::{Error, Result};
use pingora_http::RequestHeader;
use pingora_proxy::{ProxyHttp, Session};
use std::time::Duration;

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const HELLO: &str = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
const SHORT: Duration = Duration::from_millis(50);
/// Enough for an answer to come first on any machine, where one comes.
const AMPLE: Duration = Duration::from_secs(2);

/// Sends `piece` again and again, until nobody takes it.
fn drip(wire: &mut Wire, piece: &str) {
    while wire.send_if_taken(piece).is_ok() {
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn with_each(work: impl Fn(Setup)) {
    for work_stealing in [false, true] {
        let setup = Setup::default();
        work(Setup {
            conf: ServerConf {
                work_stealing,
                ..setup.conf
            },
            ..setup
        });
    }
}

#[test]
fn a_head_that_comes_byte_by_byte_is_given_up() {
    with_each(|setup| {
        let origin = Origin::scripted(|mut wire, _| {
            wire.read_message();
            wire.send("HTTP/1.1 200 OK\r\nX: ");
            drip(&mut wire, "x");
        });
        let mut app = forward_to(origin.path());
        app.peer.options.read_timeout = Some(PATIENCE);
        app.peer.options.response_header_timeout = Some(SHORT);
        let proxy = Proxy::start_with(setup, app);
        let mut client = proxy.connect();
        client.send(GET);
        assert_eq!(client.read_response().status(), 504);
    });
}

/// Gives a response to `/silent` little time.
struct Hasty(HttpPeer);

#[async_trait]
impl ProxyHttp for Hasty {
    type CTX = ();

    fn new_ctx(&self) {}

    async fn upstream_peer(&self, session: &mut Session, _: &mut ()) -> Result<Box<HttpPeer>> {
        let mut peer = self.0.clone();
        peer.options.read_timeout = Some(PATIENCE);
        let silent = session.req_header().uri.path() == "/silent";
        peer.options.response_header_timeout = Some(if silent { SHORT } else { PATIENCE });
        Ok(Box::new(peer))
    }
}

#[test]
fn a_silent_origin_is_given_up_on_a_kept_connection_too() {
    with_each(|setup| {
        let origin = Origin::scripted(|mut wire, _| {
            for _ in 0..3 {
                wire.read_message();
                wire.send(HELLO);
            }
            wire.read_message();
            wire.expect_end();
        });
        let proxy = Proxy::start_with(setup, Hasty(forward_to(origin.path()).peer));
        let mut client = proxy.connect();
        for _ in 0..3 {
            client.send(GET);
            assert_eq!(client.read_response().status(), 200);
        }
        client.send("GET /silent HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(client.read_response().status(), 504);
        assert_eq!(origin.accepted(), 1);
    });
}

#[test]
fn a_body_has_the_time_of_a_read_after_its_head() {
    let origin = Origin::scripted(|mut wire, _| {
        wire.read_message();
        wire.send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel");
        std::thread::sleep(AMPLE + SHORT);
        wire.send("lo");
    });
    let mut app = forward_to(origin.path());
    app.peer.options.response_header_timeout = Some(AMPLE);
    let proxy = Proxy::start(app);
    let mut client = proxy.connect();
    client.send(GET);
    assert_eq!(client.read_response().text(), "hello");
}

#[test]
fn an_origin_is_not_blamed_for_a_client_that_takes_its_time() {
    let origin = Origin::scripted(|mut wire, _| {
        wire.read_message();
        wire.send(HELLO);
    });
    let mut app = forward_to(origin.path());
    app.peer.options.response_header_timeout = Some(AMPLE);
    app.peer.options.read_timeout = Some(AMPLE);
    let proxy = Proxy::start(app);
    let mut client = proxy.connect();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nha");
    eventually("the request is upstream", || origin.accepted() == 1);
    std::thread::sleep(AMPLE + SHORT);
    client.send("lf");
    assert_eq!(client.read_response().status(), 200);
}

struct Limited(HttpPeer);

#[async_trait]
impl ProxyHttp for Limited {
    type CTX = ();

    fn new_ctx(&self) {}

    async fn request_filter(&self, session: &mut Session, _: &mut ()) -> Result<bool> {
        let limit = match session.req_header().uri.path() {
            "/silent" => SHORT,
            _ => AMPLE,
        };
        session.set_upstream_time_limit(Some(limit));
        Ok(false)
    }

    async fn upstream_peer(&self, _: &mut Session, _: &mut ()) -> Result<Box<HttpPeer>> {
        Ok(Box::new(self.0.clone()))
    }

    async fn upstream_request_filter(
        &self,
        session: &mut Session,
        _: &mut RequestHeader,
        _: &mut (),
    ) -> Result<()> {
        assert!(session.req_header().uri.path() == "/silent" || !session.is_upstream_time_over());
        Ok(())
    }

    fn error_while_proxy(
        &self,
        _: &HttpPeer,
        session: &mut Session,
        e: Box<Error>,
        _: &mut (),
        _: bool,
    ) -> Box<Error> {
        assert!(session.is_upstream_time_over());
        e
    }
}

#[test]
fn a_request_as_a_whole_has_a_limit() {
    with_each(|setup| {
        let origin = Origin::scripted(|mut wire, number| {
            wire.read_message();
            match number {
                0 => wire.expect_end(),
                _ => {
                    wire.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
                    drip(&mut wire, "1\r\nx\r\n");
                }
            }
        });
        let proxy = Proxy::start_with(setup, Limited(forward_to(origin.path()).peer));
        let mut client = proxy.connect();
        client.send("GET /silent HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(client.read_response().status(), 504);
        client.expect_end();
        let mut client = proxy.connect();
        client.send(GET);
        let cut = client.read_to_end();
        let cut = String::from_utf8_lossy(&cut);
        assert!(cut.starts_with("HTTP/1.1 200 "), "{cut}");
        assert!(!cut.ends_with("0\r\n\r\n"), "{cut}");
    });
}

#[test]
fn the_limit_of_a_request_is_not_that_of_the_tunnel_it_becomes() {
    with_each(|setup| {
        let origin = Origin::scripted(|mut wire, _| {
            wire.read_message();
            wire.send(
                "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
            );
            assert_eq!(wire.read_exact(4), b"ping");
            wire.send("pong");
        });
        let proxy = Proxy::start_with(setup, Limited(forward_to(origin.path()).peer));
        let mut client = proxy.connect();
        client.send(
            "GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        );
        let head = client.read_head();
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        std::thread::sleep(AMPLE + SHORT);
        client.send("ping");
        assert_eq!(client.read_exact(4), b"pong");
    });
}
