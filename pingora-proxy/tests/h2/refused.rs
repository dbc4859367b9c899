//! What an application is told of requests that are refused, and what it may answer. Both versions of HTTP come to one
//! port.

use super::common::*;
use super::h2_proxy_of;
use super::raw::*;
use async_trait::async_trait;
use bytes::Bytes;
use pingora_core::protocols::http::RefusedRequest;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_core::{Error, ErrorType, Result};
use pingora_http::ResponseHeader;
use pingora_proxy::{ProxyHttp, Session};
use std::sync::{Arc, Mutex};

#[derive(Clone, Copy, PartialEq)]
enum Wish {
    Nothing,
    Teapot,
    Page,
    Silence,
    Panic,
}

struct Watcher {
    wish: Wish,
    seen: Arc<Mutex<Vec<String>>>,
}

#[async_trait]
impl ProxyHttp for Watcher {
    type CTX = ();

    fn new_ctx(&self) {
        panic!("no other phase sees it");
    }

    fn request_refused(&self, refused: &mut RefusedRequest<'_>) {
        assert!(refused.digest().is_some());
        let method = refused.request().map_or("none", |r| r.method.as_str());
        let line = String::from_utf8_lossy(refused.received());
        let line = line.lines().next().unwrap_or_default().to_string();
        let version = if refused.is_http2() { 2 } else { 1 };
        let status = refused.status().unwrap_or(0);
        let seen = format!("{version} {status} {method} {line:?} {}", refused.error());
        self.seen.lock().unwrap().push(seen);
        match self.wish {
            Wish::Nothing => {}
            Wish::Teapot => {
                refused.set_status(418);
                // Nothing of the kind ends an exchange.
                refused.set_status(103);
            }
            Wish::Page => {
                let mut head = ResponseHeader::build(422, None).unwrap();
                head.insert_header("X-Why", "own").unwrap();
                refused.set_response(head, Bytes::from_static(b"an own page"));
            }
            Wish::Silence => refused.set_silent(),
            Wish::Panic => panic!("a test wants it"),
        }
    }

    async fn upstream_peer(&self, _: &mut Session, _: &mut ()) -> Result<Box<HttpPeer>> {
        Error::e_explain(ErrorType::InternalError, "nothing goes upstream")
    }
}

fn watched(wish: Wish) -> (Proxy, Arc<Mutex<Vec<String>>>) {
    let seen = Arc::default();
    let app = Watcher {
        wish,
        seen: Arc::clone(&seen),
    };
    (h2_proxy_of(app), seen)
}

#[test]
fn an_application_sees_why_a_request_is_refused() {
    let long = format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "a".repeat(70_000));
    let cases = [
        (
            "GET / HTTP/1.1\r\nHost: a\r\nX Y: 1\r\n\r\n",
            400,
            "none",
            "malformed field name",
        ),
        (
            "GET / HTTP/1.1\nHost: a\r\n\r\n",
            400,
            "none",
            "does not end in CR LF",
        ),
        ("GET / HTTP/1.1\r\n\r\n", 400, "GET", "Host"),
        ("GET / HTTP/3.0\r\nHost: a\r\n\r\n", 505, "none", "version"),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: x\r\n\r\n",
            501,
            "none",
            "coding",
        ),
        (
            "CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n",
            405,
            "CONNECT",
            "CONNECT",
        ),
        (long.as_str(), 414, "none", "too long"),
    ];
    let (proxy, seen) = watched(Wish::Nothing);
    for (request, status, method, why) in cases {
        let mut client = proxy.connect();
        client.send_if_taken(request).unwrap_or_default();
        assert_eq!(client.read_response().status(), status, "{why}");
        let seen = std::mem::take(&mut *seen.lock().unwrap());
        let line: String = request.lines().next().unwrap().chars().take(10).collect();
        let [seen] = &seen[..] else {
            panic!("{why}: {seen:?}");
        };
        let expected = format!("1 {status} {method} \"{line}");
        assert!(seen.starts_with(&expected) && seen.contains(why), "{seen}");
    }
    let mut raw = Raw::new(&proxy);
    raw.request(1, "GET", &[("host", "other.test")], true);
    assert_eq!(raw.read_reset(1), PROTOCOL_ERROR);
    let seen = std::mem::take(&mut *seen.lock().unwrap());
    assert!(seen[0].starts_with("2 0 GET \"\" "), "{seen:?}");
    assert!(seen[0].contains("contradicting authority"), "{seen:?}");
}

#[test]
fn a_client_that_leaves_is_not_refused() {
    let (proxy, seen) = watched(Wish::Nothing);
    let mut client = proxy.connect();
    client.send("GET / HTTP/1.1\r\nHost");
    client.finish_sending();
    client.expect_end();
    assert!(seen.lock().unwrap().is_empty());
}

#[test]
fn an_application_chooses_the_answer() {
    for (wish, starts, ends) in [
        (Wish::Nothing, "HTTP/1.1 400 ", "\r\n\r\n"),
        (Wish::Teapot, "HTTP/1.1 418 ", "\r\n\r\n"),
        (Wish::Page, "HTTP/1.1 422 ", "\r\n\r\nan own page"),
        (Wish::Silence, "", ""),
        (Wish::Panic, "HTTP/1.1 400 ", "\r\n\r\n"),
    ] {
        let (proxy, _) = watched(wish);
        let mut client = proxy.connect();
        client.send("GET / HTTP/1.1\r\n\r\n");
        let got = String::from_utf8(client.read_to_end()).unwrap();
        assert!(got.starts_with(starts) && got.ends_with(ends), "{got}");
        assert_eq!(got.is_empty(), wish == Wish::Silence);
        assert_eq!(got.contains("\r\nX-Why: own\r\n"), wish == Wish::Page);

        let mut raw = Raw::new(&proxy);
        raw.request(1, "GET", &[("host", "other.test")], true);
        match wish {
            Wish::Nothing | Wish::Silence | Wish::Panic => {
                assert_eq!(raw.read_reset(1), PROTOCOL_ERROR);
            }
            Wish::Teapot => {
                let head = raw.read_until(HEADERS, 1);
                assert_ne!(head.flags & END_STREAM, 0, "{head:?}");
            }
            Wish::Page => {
                raw.read_until(HEADERS, 1);
                let page = raw.read_until(DATA, 1);
                assert_eq!(page.payload, b"an own page");
            }
        }
        // The connection goes on.
        raw.request(3, "GET", &[("host", "other.test")], true);
        match wish {
            Wish::Teapot | Wish::Page => drop(raw.read_until(HEADERS, 3)),
            _ => assert_eq!(raw.read_reset(3), PROTOCOL_ERROR),
        }
    }
}
