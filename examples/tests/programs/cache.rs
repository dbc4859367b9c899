//! The caching proxy.

use super::tools::*;
use std::io::Write;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::Arc;
use tempfile::TempDir;

/// A caching proxy before an origin that answers each request with its number, counted from 1, and with the fields that
/// the test gives it.
struct Cached {
    proxy: Program,
    requests: Arc<AtomicUsize>,
    /// Has the origin hang up instead.
    away: Arc<AtomicBool>,
    _origin: Origin,
    _dir: TempDir,
}

impl Cached {
    fn start(fields: &'static str, args: &[&str]) -> Self {
        let (requests, away) = (Arc::<AtomicUsize>::default(), Arc::<AtomicBool>::default());
        let origin = Origin::start({
            let (requests, away) = (requests.clone(), away.clone());
            move |mut stream, _| {
                if away.load(Ordering::SeqCst) {
                    return;
                }
                let body = (requests.fetch_add(1, Ordering::SeqCst) + 1).to_string();
                let _ = write!(
                    stream,
                    "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n{fields}\r\n{body}",
                    body.len()
                );
            }
        });
        let dir = TempDir::new().unwrap();
        let address = origin.address();
        let args = [&["--upstream", &address], args].concat();
        let binary = env!("CARGO_BIN_EXE_cache");
        Cached {
            proxy: Program::start(binary, &dir.path().join("s"), &args),
            requests,
            away,
            _origin: origin,
            _dir: dir,
        }
    }

    /// Asks, and returns the head in lower case and the body.
    #[track_caller]
    fn ask(&self, method: &str, fields: &str) -> (String, String) {
        let answer = self.proxy.ask(method, "/a", fields, "");
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.to_ascii_lowercase(), body.to_owned())
    }

    #[track_caller]
    fn body(&self) -> String {
        self.ask("GET", "").1
    }

    fn asked(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }
}

const FRESH: &str = "Cache-Control: max-age=3600\r\nAge: 100\r\n";
const STALE: &str = "Cache-Control: max-age=60\r\nAge: 61\r\n";

#[test]
fn a_fresh_response_is_asked_for_once() {
    let cached = Cached::start(FRESH, &[]);
    let (head, body) = cached.ask("GET", "");
    assert_eq!(body, "1");
    assert!(
        head.contains("\r\ncache-status: pingora; fwd=miss; stored"),
        "{head}"
    );
    let (head, body) = cached.ask("GET", "");
    assert_eq!(body, "1");
    assert!(head.contains("\r\ncache-status: pingora; hit"), "{head}");
    let age = head.split("\r\nage: ").nth(1).unwrap();
    let age: u32 = age.split("\r\n").next().unwrap().parse().unwrap();
    assert!((100..200).contains(&age), "{head}");
    let (head, body) = cached.ask("HEAD", "");
    assert!(head.contains("\r\ncontent-length: 1"), "{head}");
    assert_eq!(body, "");
    assert_eq!(cached.asked(), 1);

    let (_, body) = cached.ask("GET", "Cache-Control: no-cache\r\n");
    assert_eq!(body, "2");
    assert_eq!(cached.body(), "2");
}

#[test]
fn nobody_but_its_owner_gets_what_is_private() {
    let cached = Cached::start("Cache-Control: private, max-age=60\r\n", &[]);
    assert_eq!(cached.body(), "1");
    assert_eq!(cached.body(), "2");
    let cached = Cached::start(FRESH, &[]);
    assert_eq!(cached.ask("GET", "Authorization: x\r\n").1, "1");
    assert_eq!(cached.body(), "2");
    let cached = Cached::start("Cache-Control: max-age=60\r\nSet-Cookie: a=b\r\n", &[]);
    assert_eq!(cached.body(), "1");
    assert_eq!(cached.body(), "2");
}

#[test]
fn a_purge_removes_what_is_stored() {
    let cached = Cached::start(FRESH, &[]);
    assert_eq!(status(&cached.proxy.ask("PURGE", "/a", "", "")), "404");
    assert_eq!(cached.body(), "1");
    assert_eq!(status(&cached.proxy.ask("PURGE", "/a", "", "")), "200");
    assert_eq!(cached.body(), "2");
    assert_eq!(cached.body(), "2");
    let soft = cached.proxy.ask("PURGE", "/a", "X-Purge: soft\r\n", "");
    assert_eq!(status(&soft), "200");
    assert_eq!(cached.body(), "3");
}

#[test]
fn an_unsafe_request_makes_the_stored_response_invalid() {
    let cached = Cached::start(FRESH, &[]);
    assert_eq!(cached.body(), "1");
    assert_eq!(cached.ask("POST", "").1, "2");
    assert_eq!(cached.body(), "3");
    assert_eq!(cached.body(), "3");
}

#[test]
fn a_client_may_ask_the_cache_alone() {
    let cached = Cached::start(FRESH, &[]);
    let only = "Cache-Control: only-if-cached\r\n";
    assert!(cached.ask("GET", only).0.starts_with("http/1.1 504 "));
    assert_eq!(cached.asked(), 0);
    assert_eq!(cached.body(), "1");
    assert_eq!(cached.ask("GET", only).1, "1");
}

#[test]
fn a_stale_response_answers_in_place_of_an_error_if_it_may() {
    let generous = Cached::start(STALE, &["--stale-if-error", "3600"]);
    let strict = Cached::start(STALE, &[]);
    for (cached, expected) in [(&generous, "http/1.1 200 "), (&strict, "http/1.1 502 ")] {
        assert_eq!(cached.body(), "1");
        assert_eq!(cached.body(), "2");
        cached.away.store(true, Ordering::SeqCst);
        let (head, body) = cached.ask("GET", "");
        assert!(head.starts_with(expected), "{head}");
        if cached.asked() == 2 && expected.contains("200") {
            assert_eq!(body, "2");
            assert!(head.contains("detail=stale"), "{head}");
        }
    }
}

#[test]
fn a_stale_response_answers_while_a_new_one_is_fetched() {
    let cached = Cached::start(STALE, &["--stale-while-revalidate", "3600"]);
    assert_eq!(cached.body(), "1");
    assert_eq!(cached.body(), "1");
    eventually("the origin is asked behind the client's back", || {
        cached.asked() >= 2
    });
    eventually("the new one answers", || cached.body() != "1");
}
