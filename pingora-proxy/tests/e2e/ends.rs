//! Where an exchange ends for the client: what it may send then, and what it learns.

use super::common::*;
use async_trait::async_trait;
use bytes::Bytes;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_core::{Error, ErrorType, Result};
use pingora_http::ResponseHeader;
use pingora_proxy::{ProxyHttp, Session};
use std::path::PathBuf;
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const HELLO: &str = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";

/// Both values of `work_stealing`, at a TCP port too.
fn setups() -> [Setup; 2] {
    [false, true].map(|work_stealing| {
        let mut setup = Setup {
            tcp: true,
            ..Setup::default()
        };
        setup.conf.work_stealing = work_stealing;
        setup
    })
}

/// Answers a request for `/held` when the test says so, and others at once.
fn holding() -> (Origin, mpsc::Receiver<()>, mpsc::Sender<()>) {
    let (came, comes) = mpsc::channel();
    let (go, goes) = mpsc::channel::<()>();
    let (came, goes) = (Mutex::new(came), Mutex::new(goes));
    let origin = Origin::scripted(move |mut wire, _| {
        while wire.has_more() {
            let head = wire.read_message().head;
            if head.starts_with("GET /held ") {
                came.lock().unwrap().send(()).unwrap();
                goes.lock().unwrap().recv().unwrap();
            }
            wire.send(HELLO);
        }
    });
    (origin, comes, go)
}

#[test]
fn a_client_that_has_said_all_gets_its_answer() {
    for setup in setups() {
        let (origin, comes, go) = holding();
        let proxy = Proxy::start_with(setup, forward_to(origin.path()));
        for client in [&mut proxy.connect(), &mut proxy.connect_tcp()] {
            client.send("GET /held HTTP/1.1\r\nHost: a\r\n\r\n");
            client.finish_sending();
            comes.recv_timeout(PATIENCE).unwrap();
            // What the proxy learned of the one it knows once it has served others.
            for _ in 0..3 {
                let mut other = proxy.connect();
                other.send(GET);
                assert_eq!(other.read_response().text(), "hello");
            }
            go.send(()).unwrap();
            let response = client.read_response();
            assert_eq!(response.text(), "hello");
            assert_eq!(response.field("Connection"), Some("close"));
            client.expect_end();
        }
    }
}

#[test]
fn a_client_that_is_gone_frees_the_upstream() {
    use std::io::Write;
    for work_stealing in [false, true] {
        for half in [false, true] {
            let (gone, told) = mpsc::channel();
            let gone = Mutex::new(gone);
            let origin = Origin::scripted(move |mut wire, _| {
                wire.read_message();
                gone.lock().unwrap().send("asked").unwrap();
                wire.expect_end();
                gone.lock().unwrap().send("ended").unwrap();
            });
            let mut setup = Setup {
                tcp: true,
                ..Setup::default()
            };
            setup.conf.work_stealing = work_stealing;
            let proxy = Proxy::start_with(setup, forward_to(origin.path()));
            // A Unix socket that is closed shows that it is.
            let mut client = proxy.connect();
            client.send(GET);
            assert_eq!(told.recv_timeout(PATIENCE), Ok("asked"));
            if half {
                client.finish_sending();
            }
            drop(client);
            assert_eq!(told.recv_timeout(PATIENCE), Ok("ended"));
            // A TCP connection shows it by a reset.
            let mut client = std::net::TcpStream::connect(proxy.tcp()).unwrap();
            client.write_all(GET.as_bytes()).unwrap();
            assert_eq!(told.recv_timeout(PATIENCE), Ok("asked"));
            if half {
                client.shutdown(std::net::Shutdown::Write).unwrap();
            }
            reset_on_close(&client);
            drop(client);
            assert_eq!(told.recv_timeout(PATIENCE), Ok("ended"));
        }
    }
}

#[test]
fn a_client_that_leaves_while_it_is_answered_frees_the_upstream() {
    let origin = Origin::scripted(|mut wire, _| {
        wire.read_message();
        wire.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        // A client that has closed is found by writing to it.
        while wire.send_if_taken("4\r\npart\r\n").is_ok() {
            std::thread::sleep(Duration::from_millis(1));
        }
    });
    let proxy = Proxy::start_with(
        Setup {
            tcp: true,
            ..Setup::default()
        },
        forward_to(origin.path()),
    );
    let mut client = proxy.connect_tcp();
    client.send(GET);
    client.read_until("part");
    client.finish_sending();
    drop(client);
}

#[test]
fn a_request_that_comes_early_is_answered_or_told_that_it_is_not() {
    let origin = Origin::answering(HELLO);
    let proxy = Proxy::to(&origin);
    let mut client = proxy.connect();
    client.send(GET.repeat(4));
    let response = client.read_response();
    assert_eq!(response.text(), "hello");
    assert_eq!(response.field("Connection"), Some("close"));
    client.expect_end();
}

#[test]
fn a_request_that_comes_during_an_answer_is_served() {
    for setup in setups() {
        let (go, goes) = mpsc::channel::<()>();
        let goes = Mutex::new(goes);
        let origin = Origin::scripted(move |mut wire, _| {
            wire.read_message();
            wire.send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhe");
            goes.lock().unwrap().recv().unwrap();
            wire.send("llo");
            while wire.has_more() {
                wire.read_message();
                wire.send(HELLO);
            }
        });
        let proxy = Proxy::start_with(setup, forward_to(origin.path()));
        let mut client = proxy.connect();
        client.send(GET);
        let head = client.read_head();
        assert!(!head.contains("Connection"), "{head}");
        // The next request is sent when the proxy has seen the first part of it.
        client.send_split(b"GET ", &[]);
        client.send("/ HTTP/1.1\r\nHost: a\r\n\r\n");
        go.send(()).unwrap();
        assert_eq!(client.read_exact(5), b"hello");
        assert_eq!(client.read_response().text(), "hello");
    }
}

#[test]
fn an_answer_to_an_upload_that_goes_on_says_what_becomes_of_the_connection() {
    let late = "Transfer-Encoding: chunked\r\n\r\n3\r\none\r\n";
    for (upload, rest, close) in [
        (late, "3\r\ntwo\r\n0\r\n\r\n", true),
        ("Content-Length: 9999999\r\n\r\none", "two", true),
        ("Content-Length: 6\r\n\r\none", "two", false),
    ] {
        for _ in 0..20 {
            let origin = Origin::scripted(|mut wire, _| {
                while wire.has_more() {
                    wire.read_head();
                    wire.send(HELLO);
                    if !wire.read_to_end().is_empty() {
                        break;
                    }
                }
            });
            let proxy = Proxy::to(&origin);
            let mut client = proxy.connect();
            client.send(format!("POST / HTTP/1.1\r\nHost: a\r\n{upload}"));
            let response = client.read_response();
            assert_eq!(response.text(), "hello");
            assert_eq!(
                response.field("Connection"),
                close.then_some("close"),
                "{upload}"
            );
            drop(client.send_if_taken(rest));
            if close {
                client.finish_sending();
                client.expect_end();
            } else {
                client.send(GET);
                assert_eq!(client.read_response().text(), "hello");
            }
        }
    }
}

/// Sends requests to the second upstream when the first one fails.
struct Twice {
    upstreams: [PathBuf; 2],
    /// Whether a 503 is such a failure, too.
    by_status: bool,
}

#[async_trait]
impl ProxyHttp for Twice {
    type CTX = usize;

    fn new_ctx(&self) -> usize {
        0
    }

    async fn upstream_peer(&self, _: &mut Session, tries: &mut usize) -> Result<Box<HttpPeer>> {
        *tries += 1;
        let path = self.upstreams[*tries - 1].to_string_lossy();
        Ok(Box::new(HttpPeer::new_uds(&path, false, String::new())?))
    }

    async fn response_filter(
        &self,
        _: &mut Session,
        response: &mut ResponseHeader,
        _: &mut usize,
    ) -> Result<()> {
        if self.by_status && response.status == 503 {
            let mut e = Error::explain(ErrorType::HTTPStatus(503), "try again");
            e.set_retry(true);
            return Err(e);
        }
        Ok(())
    }

    fn error_while_proxy(
        &self,
        _: &HttpPeer,
        _: &mut Session,
        mut e: Box<Error>,
        tries: &mut usize,
        _: bool,
    ) -> Box<Error> {
        e.set_retry(*tries < 2);
        e
    }
}

#[test]
fn a_retry_has_the_trailers_of_the_request() {
    let dying = Origin::scripted(|mut wire, _| {
        assert_eq!(wire.read_message().trailers, "x-sum: 5\r\n");
    });
    let origin = Origin::scripted(|mut wire, _| {
        let request = wire.read_message();
        assert_eq!(request.text(), "hello");
        assert_eq!(request.trailers, "x-sum: 5\r\n");
        wire.send(HELLO);
    });
    let proxy = Proxy::start(Twice {
        upstreams: [dying.path(), origin.path()],
        by_status: false,
    });
    let mut client = proxy.connect();
    client.send(
        "PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n\
         5\r\nhello\r\n0\r\nX-Sum: 5\r\n\r\n",
    );
    assert_eq!(client.read_response().text(), "hello");
    assert_eq!((dying.accepted(), origin.accepted()), (1, 1));
}

#[test]
fn half_a_request_is_not_tried_again_as_a_whole_one() {
    let first = Origin::scripted(|mut wire, _| {
        wire.read_head();
        wire.read_to_end();
    });
    let second = Origin::scripted(|mut wire, _| {
        wire.read_to_end();
    });
    let proxy = Proxy::start(Twice {
        upstreams: [first.path(), second.path()],
        by_status: false,
    });
    let mut client = proxy.connect();
    client.send("PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n");
    eventually("the request is under way", || first.accepted() == 1);
    drop(client);
    drop(proxy);
    assert_eq!(second.accepted(), 0);
}

#[test]
fn a_response_that_nobody_wants_leaves_its_connection_if_it_is_short() {
    let chunked = "Transfer-Encoding: chunked\r\n\r\n4\r\nbusy\r\n0\r\n\r\n".to_string();
    let length = |n: usize| format!("Content-Length: {n}\r\n\r\n{}", "x".repeat(n));
    for (rest, kept) in [
        (length(0), true),
        (length(10), true),
        (length(20_000), true),
        (chunked, true),
        (length(2_000_000), false),
        (length(5).replace("xx", ""), false),
        (format!("Connection: close\r\n{}", length(4)), false),
    ] {
        let busy = Origin::scripted({
            let rest = rest.clone();
            move |mut wire, _| {
                while wire.has_more() {
                    wire.read_message();
                    let response = format!("HTTP/1.1 503 Service Unavailable\r\n{rest}");
                    drop(wire.send_if_taken(response));
                }
            }
        });
        let origin = Origin::answering(HELLO);
        let proxy = Proxy::start(Twice {
            upstreams: [busy.path(), origin.path()],
            by_status: true,
        });
        let mut client = proxy.connect();
        for _ in 0..3 {
            client.send(GET);
            assert_eq!(client.read_response().text(), "hello");
        }
        let made = if kept { 1 } else { 3 };
        assert_eq!(busy.accepted(), made, "{}", &rest[..rest.len().min(60)]);
    }
}

/// Gives an answer without a body one.
#[derive(Clone)]
struct Filling {
    peer: HttpPeer,
    /// What the filter of the body was told: a piece or none, and whether it was the end.
    seen: Arc<Mutex<Vec<(bool, bool)>>>,
    delay: Option<Duration>,
}

#[async_trait]
impl ProxyHttp for Filling {
    type CTX = ();

    fn new_ctx(&self) {}

    async fn upstream_peer(&self, _: &mut Session, _: &mut ()) -> Result<Box<HttpPeer>> {
        Ok(Box::new(self.peer.clone()))
    }

    async fn response_filter(
        &self,
        _: &mut Session,
        response: &mut ResponseHeader,
        _: &mut (),
    ) -> Result<()> {
        response.set_status(200)?;
        response.remove_header("Transfer-Encoding");
        response.insert_header("Content-Length", "6")
    }

    fn response_body_filter(
        &self,
        _: &mut Session,
        body: &mut Option<Bytes>,
        end: bool,
        _: &mut (),
    ) -> Result<Option<Duration>> {
        self.seen.lock().unwrap().push((body.is_some(), end));
        if end {
            *body = Some(Bytes::from_static(b"filled"));
        }
        Ok(self.delay)
    }
}

#[test]
fn the_end_of_an_answer_without_a_body_is_announced() {
    let empty = [
        "204 No Content\r\n",
        "304 Not Modified\r\n",
        "200 OK\r\nContent-Length: 0\r\n",
    ];
    for delay in [None, Some(Duration::ZERO), Some(Duration::from_millis(1))] {
        for head in empty {
            let origin = Origin::answering(format!("HTTP/1.1 {head}\r\n"));
            let filling = Filling {
                peer: forward_to(origin.path()).peer,
                seen: Arc::default(),
                delay,
            };
            let proxy = Proxy::start(filling.clone());
            let mut client = proxy.connect();
            for _ in 0..2 {
                client.send(GET);
                let response = client.read_response();
                assert_eq!((response.status(), response.text()), (200, "filled"));
            }
            client.send("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n");
            assert_eq!(client.read_response_to_head().status(), 200);
            client.send(GET);
            assert_eq!(client.read_response().text(), "filled");
            assert_eq!(*filling.seen.lock().unwrap(), [(false, true); 4], "{head}");
            assert_eq!(origin.accepted(), 1);
        }
    }
}

/// Has the origin asked for the whole, and answers HEAD with the head of it.
struct WholeForHead(HttpPeer);

#[async_trait]
impl ProxyHttp for WholeForHead {
    type CTX = ();

    fn new_ctx(&self) {}

    async fn upstream_peer(&self, _: &mut Session, _: &mut ()) -> Result<Box<HttpPeer>> {
        Ok(Box::new(self.0.clone()))
    }

    async fn upstream_request_filter(
        &self,
        _: &mut Session,
        request: &mut pingora_http::RequestHeader,
        _: &mut (),
    ) -> Result<()> {
        request.set_method(http::Method::GET);
        Ok(())
    }
}

#[test]
fn an_origin_that_fails_after_the_answer_is_nothing_to_the_client() {
    let origin = Origin::scripted(|mut wire, number| {
        wire.read_message();
        match number {
            0 => wire.send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhe"),
            _ => wire.send(HELLO),
        }
        // With bytes unread the end would be another one.
        wire.finish_sending();
    });
    let proxy = Proxy::start(WholeForHead(forward_to(origin.path()).peer));
    let mut client = proxy.connect();
    for _ in 0..2 {
        client.send("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(client.read_response_to_head().status(), 200);
    }
    assert_eq!(origin.accepted(), 2);
}
