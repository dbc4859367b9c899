//! Responses that nobody needs to their end.

use crate::common::h2_origin::{h2_peer, status, H2Origin};
use crate::common::*;
use crate::fixture::*;
use crate::plain::{plain, Fails};
use bytes::Bytes;
use pingora_cache::{CachePhase, NoCacheReason, RespCacheable};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;

const FRESH: &str = "Cache-Control: max-age=60\r\n";

/// What clients can ask for that needs no more of the body than its first ten bytes.
const ASKS: [(&str, &str, u16); 4] = [
    ("HEAD", "", 200),
    ("GET", "If-None-Match: \"x\"\r\n", 304),
    ("GET", "Range: bytes=2000000-\r\n", 416),
    ("GET", "Range: bytes=2-5\r\n", 206),
];

const BEGINNING: &str = "0123456789";

/// An origin that sends the beginning of a long body and then waits for the end of the connection.
fn stalling() -> Origin {
    Origin::scripted(|mut wire, _| {
        if !wire.has_more() {
            return;
        }
        wire.read_message();
        wire.send(format!(
            "HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\nETag: \"x\"\r\n{FRESH}\r\n{BEGINNING}"
        ));
        wire.expect_end();
    })
}

fn uncacheable(app: &mut Caching) {
    app.cacheable = Box::new(|_, _| Ok(RespCacheable::Uncacheable(NoCacheReason::OriginNotCache)));
}

#[test]
fn a_response_that_is_not_stored_is_read_no_further_than_its_client_needs() {
    let origin = stalling();
    let mut app = Caching::to(&origin);
    uncacheable(&mut app);
    let log = app.seen();
    let proxy = Proxy::start(app);
    let mut client = proxy.connect();
    for (n, (method, fields, status)) in ASKS.into_iter().enumerate() {
        let response = ask(&mut client, method, "/a", fields);
        assert_eq!(response.status(), status, "{method} {fields}");
        let body = if status == 206 { "2345" } else { "" };
        assert_eq!(response.text(), body, "{method} {fields}");
        let seen = log.last(n + 1);
        assert_eq!(seen.error, None, "{method} {fields}");
        assert_eq!(origin.accepted(), n + 1);
    }
}

#[test]
fn so_it_is_with_a_response_that_is_stored_no_longer() {
    for (method, fields, status) in ASKS {
        let origin = stalling();
        let mut app = Caching::to(&origin);
        app.storage = plain(Fails::Write);
        let log = app.seen();
        let proxy = Proxy::start(app);
        let response = ask(&mut proxy.connect(), method, "/a", fields);
        assert_eq!(response.status(), status, "{method} {fields}");
        let seen = log.last(1);
        let failed = CachePhase::Disabled(NoCacheReason::StorageError);
        assert_eq!((seen.phase, seen.error), (failed, None));
    }
}

#[test]
fn a_stream_of_which_nobody_needs_the_rest_is_reset() {
    let resets = Arc::new(AtomicUsize::new(0));
    let origin = H2Origin::streams({
        let resets = resets.clone();
        move |_, mut respond, _| {
            let resets = resets.clone();
            async move {
                let mut head = status(200);
                let fields = head.headers_mut();
                fields.insert("content-length", "1000000".parse().unwrap());
                fields.insert("etag", "\"x\"".parse().unwrap());
                let mut body = respond.send_response(head, false).unwrap();
                body.send_data(Bytes::from_static(BEGINNING.as_bytes()), false)
                    .unwrap();
                let reason = std::future::poll_fn(|cx| body.poll_reset(cx)).await;
                assert_eq!(reason.unwrap(), h2::Reason::CANCEL);
                resets.fetch_add(1, Ordering::SeqCst);
            }
        }
    });
    let unused = Origin::answering("");
    let mut app = Caching::to(&unused);
    app.peer = h2_peer(&origin.path());
    uncacheable(&mut app);
    let proxy = Proxy::start(app);
    let mut client = proxy.connect();
    for (n, (method, fields, status)) in ASKS.into_iter().enumerate() {
        let response = ask(&mut client, method, "/a", fields);
        assert_eq!(response.status(), status, "{method} {fields}");
        eventually("the stream is reset", || {
            resets.load(Ordering::SeqCst) == n + 1
        });
    }
    assert_eq!(origin.accepted(), 1);
}

#[test]
fn a_little_rest_is_read_to_keep_the_connection() {
    let origin = Counting::answering(|_, _| ok(FRESH, "hello"));
    let mut app = Caching::to(&origin.origin);
    uncacheable(&mut app);
    let proxy = Proxy::start(app);
    let mut client = proxy.connect();
    for _ in 0..3 {
        assert_eq!(ask(&mut client, "HEAD", "/a", "").status(), 200);
    }
    assert_eq!((origin.count(), origin.origin.accepted()), (3, 1));
}
