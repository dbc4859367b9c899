//! What a 304 does to what is stored, and to the one that asked.

use crate::common::*;
use crate::fills::predictor;
use crate::fixture::*;
use crate::plain::{plain, Fails};
use pingora_cache::{CachePhase, NoCacheReason, RespCacheable};
use std::time::SystemTime;

const STALE: &str =
    "200\r\nContent-Length: 3\r\nETag: \"1\"\r\nLast-Modified: Thu, 01 Jan 2026 00:00:00 GMT";

fn not_modified(fields: &str) -> String {
    format!("HTTP/1.1 304 Not Modified\r\n{fields}\r\n")
}

#[test]
fn a_304_freshens_what_is_stored() {
    for streaming in [false, true] {
        let origin = Counting::answering(|_, _| {
            not_modified("Cache-Control: max-age=60\r\nETag: \"2\"\r\n")
        });
        let mut app = Caching::to(&origin.origin);
        if !streaming {
            app.storage = plain(Fails::Never);
        }
        let (storage, log) = (app.storage, app.seen());
        store(storage, &key("/a"), &meta(-5, STALE), "old");
        let proxy = Proxy::start(app);
        let mut client = proxy.connect();
        for _ in 0..2 {
            let response = get(&mut client, "/a", "");
            assert_eq!((response.status(), response.text()), (200, "old"));
            assert_eq!(response.field("etag"), Some("\"2\""));
        }
        let seen = log.wait_for(2);
        assert_eq!(seen[0].phase, CachePhase::Revalidated);
        assert_eq!(seen[1].phase, CachePhase::Hit);
        let requests = origin.requests();
        assert_eq!(requests.len(), 1);
        let asked = requests[0].to_lowercase();
        assert!(asked.contains("if-none-match: \"1\""), "{asked}");
        assert!(
            asked.contains("if-modified-since: thu, 01 jan 2026"),
            "{asked}"
        );
        let (meta, body) = stored(storage, &key("/a")).unwrap();
        assert!(meta.is_fresh(SystemTime::now()));
        assert_eq!(
            (&meta.headers()["etag"], &*body),
            (&"\"2\"".parse().unwrap(), "old")
        );
        // The connection to the origin is whole.
        assert_eq!(origin.origin.accepted(), 1);
    }
}

#[test]
fn the_preconditions_of_the_client_are_answered_by_what_was_revalidated() {
    let origin = Counting::answering(|_, _| not_modified("Cache-Control: max-age=0\r\n"));
    let app = Caching::to(&origin.origin);
    store(app.storage, &key("/a"), &meta(-5, STALE), "old");
    let proxy = Proxy::start(app);
    let mut client = proxy.connect();
    let status = |client: &mut Wire, fields| get(client, "/a", fields).status();
    assert_eq!(status(&mut client, "If-None-Match: \"1\"\r\n"), 304);
    assert_eq!(status(&mut client, "If-None-Match: \"9\"\r\n"), 200);
    let response = get(&mut client, "/a", "Range: bytes=1-1\r\n");
    assert_eq!((response.status(), response.text()), (206, "l"));
    let asked = |head: &String| head.to_lowercase().contains("if-none-match: \"1\"");
    assert!(origin.requests().iter().all(asked));
}

#[test]
fn a_revalidated_response_that_may_not_be_stored_any_longer_is_served_once_more() {
    let origin = Counting::answering(|_, _| not_modified("Cache-Control: no-store\r\n"));
    let app = Caching::to(&origin.origin);
    let log = app.seen();
    store(app.storage, &key("/a"), &meta(-5, STALE), "old");
    let proxy = Proxy::start(app);
    assert_eq!(get(&mut proxy.connect(), "/a", "").text(), "old");
    let phase = log.last(1).phase;
    let reason = NoCacheReason::OriginNotCache;
    assert_eq!(phase, CachePhase::RevalidatedNoCache(reason));
}

#[test]
fn a_filter_that_fails_at_a_304_does_not_keep_the_stored_response_from_the_client() {
    let origin = Counting::answering(|_, _| not_modified(""));
    let mut app = Caching::to(&origin.origin);
    app.cacheable = Box::new(|_, _| {
        pingora_core::Error::e_explain(pingora_core::ErrorType::InternalError, "a test")
    });
    let log = app.seen();
    store(app.storage, &key("/a"), &meta(-5, STALE), "old");
    let proxy = Proxy::start(app);
    assert_eq!(get(&mut proxy.connect(), "/a", "").text(), "old");
    let phase = log.last(1).phase;
    let reason = NoCacheReason::InternalError;
    assert_eq!(phase, CachePhase::RevalidatedNoCache(reason));
}

#[test]
fn the_variant_that_was_revalidated_stays_that_variant() {
    let fields = "Cache-Control: max-age=0\r\nVary: X-Language\r\nETag: \"1\"\r\n";
    let origin = Counting::answering(move |request, number| match number {
        0 => ok(fields, request.field("x-language").unwrap()),
        1 => not_modified("Cache-Control: max-age=60\r\n"),
        _ => ok(fields, request.field("x-language").unwrap()),
    });
    let mut app = Caching::to(&origin.origin);
    app.storage = plain(Fails::Never);
    let storage = app.storage;
    let proxy = Proxy::start(app);
    let mut client = proxy.connect();
    for language in ["de", "de", "en", "de"] {
        let field = format!("X-Language: {language}\r\n");
        assert_eq!(get(&mut client, "/a", &field).text(), language);
    }
    assert_eq!(origin.count(), 3);
    assert!(stored(storage, &key("/a")).unwrap().0.variance().is_some());
}

#[test]
fn another_response_takes_the_place_of_the_stale_one() {
    let origin = Counting::answering(|_, _| ok("Cache-Control: max-age=60\r\n", "new"));
    let app = Caching::to(&origin.origin);
    let (storage, log) = (app.storage, app.seen());
    store(storage, &key("/a"), &meta(-5, STALE), "old");
    let proxy = Proxy::start(app);
    let mut client = proxy.connect();
    for _ in 0..2 {
        assert_eq!(get(&mut client, "/a", "").text(), "new");
    }
    let seen = log.wait_for(2);
    assert_eq!(seen[0].phase, CachePhase::Expired);
    assert_eq!(seen[1].phase, CachePhase::Hit);
    assert_eq!(stored(storage, &key("/a")).unwrap().1, "new");
}

#[test]
fn a_response_that_may_not_be_stored_leaves_the_stale_one() {
    let origin = Counting::answering(|_, _| ok("Cache-Control: no-store\r\n", "new"));
    let app = Caching::to(&origin.origin);
    let storage = app.storage;
    store(storage, &key("/a"), &meta(-5, STALE), "old");
    let proxy = Proxy::start(app);
    assert_eq!(get(&mut proxy.connect(), "/a", "").text(), "new");
    assert_eq!(stored(storage, &key("/a")).unwrap().1, "old");
}

#[test]
fn what_an_application_forbids_at_a_304_is_asked_of_the_merged_header() {
    let origin = Counting::answering(|_, _| not_modified("Cache-Control: max-age=60\r\n"));
    let mut app = Caching::to(&origin.origin);
    app.cacheable = Box::new(|_, header| {
        assert_eq!(header.status, 200);
        assert_eq!(
            header.headers["last-modified"],
            "Thu, 01 Jan 2026 00:00:00 GMT"
        );
        assert_eq!(header.headers["cache-control"], "max-age=60");
        Ok(RespCacheable::Cacheable(meta(60, STALE)))
    });
    let log = app.seen();
    store(app.storage, &key("/a"), &meta(-5, STALE), "old");
    let proxy = Proxy::start(app);
    assert_eq!(get(&mut proxy.connect(), "/a", "").text(), "old");
    assert_eq!(log.last(1).phase, CachePhase::Revalidated);
}

#[test]
fn what_a_304_confirmed_is_as_old_as_the_304() {
    for (fields, ages) in [("Age: 30\r\n", 30..=50), ("", 0..=20)] {
        let origin = Counting::answering(move |_, _| {
            not_modified(&format!("Cache-Control: max-age=60\r\n{fields}"))
        });
        let app = Caching::to(&origin.origin);
        let old = format!("{STALE}\r\nAge: 1000");
        store(app.storage, &key("/a"), &meta(-5, &old), "old");
        let proxy = Proxy::start(app);
        let mut client = proxy.connect();
        for _ in 0..2 {
            let response = get(&mut client, "/a", "");
            let age: u32 = response.field("age").unwrap().parse().unwrap();
            assert!(ages.contains(&age), "{age} of {fields:?}");
        }
        assert_eq!(origin.count(), 1);
    }
}

#[test]
fn a_304_that_forbids_storing_is_remembered_as_any_other_response() {
    let origin = Counting::answering(|_, n| match n {
        0 => not_modified("Cache-Control: no-store\r\n"),
        _ => ok("Cache-Control: no-store\r\n", "new"),
    });
    let mut app = Caching::to(&origin.origin);
    app.predictor = Some(predictor());
    store(app.storage, &key("/a"), &meta(-5, STALE), "old");
    let proxy = Proxy::start(app);
    let mut client = proxy.connect();
    assert_eq!(get(&mut client, "/a", "").text(), "old");
    assert_eq!(get(&mut client, "/a", "").text(), "new");
    // The next one goes past the cache, and asks for no validation.
    let asked = origin.requests()[1].to_lowercase();
    assert!(!asked.contains("if-none-match"), "{asked}");
}
