//! What is stale is served when the upstream fails, within the time for that.

use crate::common::*;
use crate::fixture::*;
use pingora_cache::{CacheMeta, CachePhase, NoCacheReason};
use pingora_core::upstreams::peer::HttpPeer;
use pingora_http::ResponseHeader;
use std::time::{Duration, SystemTime};

/// Stale for five seconds, and usable on errors for so many.
fn stale(stale_if_error: u32) -> CacheMeta {
    let now = SystemTime::now();
    let mut header = ResponseHeader::build(200, None).unwrap();
    header.insert_header("Content-Length", "3").unwrap();
    CacheMeta::new(now - Duration::from_secs(5), now, 0, stale_if_error, header)
}

fn failing(answer: &'static str) -> Counting {
    Counting::answering(move |_, _| answer.to_string())
}

const FAILS: &str = "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 4\r\n\r\nfail";

#[test]
fn a_5xx_within_the_time_is_not_shown() {
    let origin = failing(FAILS);
    let app = Caching::to(&origin.origin);
    let (storage, log) = (app.storage, app.seen());
    store(storage, &key("/a"), &stale(60), "old");
    let proxy = Proxy::start(app);
    let mut client = proxy.connect();
    for _ in 0..2 {
        let response = get(&mut client, "/a", "");
        assert_eq!((response.status(), response.text()), (200, "old"));
    }
    for seen in log.wait_for(2) {
        assert_eq!((seen.phase, seen.error), (CachePhase::Stale, None));
    }
    assert_eq!(origin.count(), 2);
}

#[test]
fn a_5xx_after_the_time_is() {
    let origin = failing(FAILS);
    let app = Caching::to(&origin.origin);
    let log = app.seen();
    store(app.storage, &key("/a"), &stale(1), "old");
    let proxy = Proxy::start(app);
    let response = get(&mut proxy.connect(), "/a", "");
    assert_eq!((response.status(), response.text()), (503, "fail"));
    let phase = log.last(1).phase;
    assert_eq!(phase, CachePhase::Disabled(NoCacheReason::OriginNotCache));
}

#[test]
fn an_application_may_show_a_5xx_all_the_same() {
    let origin = failing(FAILS);
    let mut app = Caching::to(&origin.origin);
    app.serve_stale = Box::new(|_| false);
    store(app.storage, &key("/a"), &stale(60), "old");
    let proxy = Proxy::start(app);
    assert_eq!(get(&mut proxy.connect(), "/a", "").status(), 503);
}

#[test]
fn an_origin_that_cannot_be_reached_is_not_missed() {
    let origin = failing(FAILS);
    let mut app = Caching::to(&origin.origin);
    app.peer = HttpPeer::new_uds("/nonexistent/origin", false, String::new()).unwrap();
    let log = app.seen();
    store(app.storage, &key("/a"), &stale(60), "old");
    let proxy = Proxy::start(app);
    let mut client = proxy.connect();
    for _ in 0..2 {
        assert_eq!(get(&mut client, "/a", "").text(), "old");
    }
    for seen in log.wait_for(2) {
        assert_eq!((seen.phase, seen.error), (CachePhase::Stale, None));
    }
    // Nothing of that one is stored.
    assert_eq!(get(&mut client, "/b", "").status(), 502);
    let phase = log.last(3).phase;
    assert_eq!(phase, CachePhase::Disabled(NoCacheReason::UpstreamError));
}

#[test]
fn an_origin_that_closes_before_its_header_is_not_missed() {
    let origin = Origin::scripted(|mut wire, _| {
        if wire.has_more() {
            wire.read_message();
        }
    });
    let app = Caching::to(&origin);
    let log = app.seen();
    store(app.storage, &key("/a"), &stale(60), "old");
    let proxy = Proxy::start(app);
    assert_eq!(get(&mut proxy.connect(), "/a", "").text(), "old");
    assert_eq!(log.last(1).phase, CachePhase::Stale);
}

#[test]
fn an_error_after_the_header_is_shown() {
    let origin = Origin::scripted(|mut wire, _| {
        wire.read_message();
        wire.send("HTTP/1.1 200 OK\r\nContent-Length: 9\r\nCache-Control: max-age=60\r\n\r\nhalf");
    });
    let app = Caching::to(&origin);
    let (storage, log) = (app.storage, app.seen());
    store(storage, &key("/a"), &stale(60), "old");
    let proxy = Proxy::start(app);
    let mut client = proxy.connect();
    client.send("GET /a HTTP/1.1\r\nHost: a\r\n\r\n");
    let got = String::from_utf8(client.read_to_end()).unwrap();
    assert!(!got.contains("old"), "{got}");
    let phase = log.last(1).phase;
    assert_eq!(phase, CachePhase::Disabled(NoCacheReason::UpstreamError));
    assert_eq!(stored(storage, &key("/a")).unwrap().1, "old");
}
