//! What is stored of an upstream's response, and what is not.

use crate::common::*;
use crate::fixture::*;
use crate::plain::{plain, Fails};
use bytes::BytesMut;
use pingora_cache::predictor::Predictor;
use pingora_cache::{CachePhase, NoCacheReason, RespCacheable};
use std::sync::atomic::Ordering;

const FRESH: &str = "Cache-Control: max-age=60\r\n";

fn chunked(fields: &str, chunks: &[&str], trailers: &str) -> String {
    let mut response = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n{fields}\r\n");
    for chunk in chunks {
        response += &format!("{:x}\r\n{chunk}\r\n", chunk.len());
    }
    response + "0\r\n" + trailers + "\r\n"
}

pub(crate) fn predictor() -> &'static Predictor<1> {
    Box::leak(Box::new(Predictor::new(16, None)))
}

#[test]
fn a_miss_is_stored_and_then_found() {
    let origin = Counting::answering(|_, _| ok(FRESH, "hello"));
    let mut app = Caching::to(&origin.origin);
    let storage = plain(Fails::Never);
    app.storage = storage;
    let log = app.seen();
    let proxy = Proxy::start(app);
    let mut client = proxy.connect();
    for _ in 0..2 {
        assert_eq!(get(&mut client, "/a", "").text(), "hello");
    }
    let seen = log.wait_for(2);
    assert_eq!(seen[0].phase, CachePhase::Miss);
    assert_eq!(seen[1].phase, CachePhase::Hit);
    assert_eq!(origin.count(), 1);
    assert_eq!(storage.fills.load(Ordering::SeqCst), 0);
}

#[test]
fn what_is_stored_keeps_no_buffer_that_it_was_received_in() {
    let origin = Counting::answering(|_, _| ok(FRESH, "small"));
    let mut app = Caching::to(&origin.origin);
    let storage = plain(Fails::Never);
    app.storage = storage;
    let log = app.seen();
    let proxy = Proxy::start(app);
    assert_eq!(get(&mut proxy.connect(), "/a", "").text(), "small");
    log.wait_for(1);
    let pieces = std::mem::take(&mut *storage.pieces.lock().unwrap());
    let kept: usize = pieces
        .into_iter()
        .map(|piece| BytesMut::from(piece).capacity())
        .sum();
    assert_eq!(kept, "small".len());
}

#[test]
fn a_client_that_asks_for_the_head_fills_with_the_body() {
    let origin = Counting::answering(|_, _| ok(FRESH, "hello"));
    let app = Caching::to(&origin.origin);
    let (storage, log) = (app.storage, app.seen());
    let proxy = Proxy::start(app);
    let mut client = proxy.connect();
    let response = ask(&mut client, "HEAD", "/a", "");
    assert_eq!(response.field("content-length"), Some("5"));
    log.wait_for(1);
    assert_eq!(stored(storage, &key("/a")).unwrap().1, "hello");
    assert!(origin.requests()[0].starts_with("GET /a "));
    assert_eq!(get(&mut client, "/a", "").text(), "hello");
    assert_eq!(origin.count(), 1);
}

#[test]
fn a_range_of_a_miss_is_cut_from_the_whole() {
    let origin = Counting::answering(|_, _| ok(FRESH, "0123456789"));
    let app = Caching::to(&origin.origin);
    let (storage, log) = (app.storage, app.seen());
    let proxy = Proxy::start(app);
    let mut client = proxy.connect();
    let response = get(&mut client, "/a", "Range: bytes=2-4\r\n");
    assert_eq!((response.status(), response.text()), (206, "234"));
    assert_eq!(response.field("content-range"), Some("bytes 2-4/10"));
    let response = get(&mut client, "/b", "Range: bytes=20-\r\n");
    assert_eq!((response.status(), response.text()), (416, ""));
    log.wait_for(2);
    for path in ["/a", "/b"] {
        let (meta, body) = stored(storage, &key(path)).unwrap();
        assert_eq!(
            (meta.response_header().status.as_u16(), &*body),
            (200, "0123456789")
        );
    }
    assert!(origin.requests().iter().all(|head| !head.contains("ange")));
}

#[test]
fn several_ranges_of_a_miss_are_cut_from_the_whole() {
    let origin = Counting::answering(|_, _| ok(FRESH, "0123456789"));
    let proxy = Proxy::start(Caching::to(&origin.origin));
    let response = get(&mut proxy.connect(), "/a", "Range: bytes=0-1,8-9\r\n");
    assert_eq!(response.status(), 206);
    for part in ["bytes 0-1/10\r\n\r\n01\r\n", "bytes 8-9/10\r\n\r\n89\r\n"] {
        assert!(response.text().contains(part), "{}", response.text());
    }
}

#[test]
fn ranges_that_are_to_be_ignored_are() {
    let origin = Counting::answering(|_, _| ok(FRESH, "0123456789"));
    let mut app = Caching::to(&origin.origin);
    app.set = Box::new(|session| session.ignore_downstream_range = true);
    let proxy = Proxy::start(app);
    let response = get(&mut proxy.connect(), "/a", "Range: bytes=2-4\r\n");
    assert_eq!((response.status(), response.text()), (200, "0123456789"));
}

#[test]
fn a_client_that_has_a_missed_response_already_gets_a_304() {
    let fields = format!("{FRESH}ETag: \"x\"\r\n");
    let origin = Counting::answering(move |_, _| ok(&fields, "hello"));
    let app = Caching::to(&origin.origin);
    let (storage, log) = (app.storage, app.seen());
    let proxy = Proxy::start(app);
    let mut client = proxy.connect();
    let response = get(&mut client, "/a", "If-None-Match: \"x\"\r\n");
    assert_eq!(
        (response.status(), response.field("etag")),
        (304, Some("\"x\""))
    );
    log.wait_for(1);
    assert_eq!(stored(storage, &key("/a")).unwrap().1, "hello");
    assert!(!origin.requests()[0]
        .to_lowercase()
        .contains("if-none-match"));
    assert_eq!(get(&mut client, "/a", "").text(), "hello");
}

#[test]
fn a_response_that_says_it_is_too_large_is_not_stored() {
    let origin = Counting::answering(|_, _| ok(FRESH, "123456"));
    let mut app = Caching::to(&origin.origin);
    app.max_file_size = Some(5);
    app.predictor = Some(predictor());
    let (storage, log) = (app.storage, app.seen());
    let proxy = Proxy::start(app);
    let mut client = proxy.connect();
    for _ in 0..2 {
        assert_eq!(get(&mut client, "/a", "").text(), "123456");
    }
    let too_large = CachePhase::Disabled(NoCacheReason::ResponseTooLarge);
    assert!(log.wait_for(2).iter().all(|seen| seen.phase == too_large));
    assert!(stored(storage, &key("/a")).is_none());
}

#[test]
fn a_response_that_becomes_too_large_is_not_stored_until_it_is_seen_to_be_smaller() {
    let origin = Counting::answering(|_, number| match number {
        0 => chunked(FRESH, &["1234", "5678"], ""),
        _ => chunked(FRESH, &["1234"], ""),
    });
    let mut app = Caching::to(&origin.origin);
    app.storage = plain(Fails::Never);
    app.max_file_size = Some(5);
    app.predictor = Some(predictor());
    let (storage, log) = (app.storage, app.seen());
    let proxy = Proxy::start(app);
    let mut client = proxy.connect();
    assert_eq!(get(&mut client, "/a", "").text(), "12345678");
    for _ in 0..2 {
        assert_eq!(get(&mut client, "/a", "").text(), "1234");
    }
    let phases: Vec<_> = log.wait_for(3).iter().map(|seen| seen.phase).collect();
    assert_eq!(
        phases,
        [
            CachePhase::Disabled(NoCacheReason::ResponseTooLarge),
            CachePhase::Disabled(NoCacheReason::PredictedResponseTooLarge),
            CachePhase::Miss,
        ]
    );
    assert_eq!(stored(storage, &key("/a")).unwrap().1, "1234");
}

#[test]
fn a_bypassed_response_that_may_be_stored_is() {
    let origin = Counting::answering(|_, number| match number {
        0 => ok("Cache-Control: no-store\r\n", "0"),
        n => ok(FRESH, &n.to_string()),
    });
    let mut app = Caching::to(&origin.origin);
    app.predictor = Some(predictor());
    let log = app.seen();
    let proxy = Proxy::start(app);
    let mut client = proxy.connect();
    for body in ["0", "1", "1"] {
        assert_eq!(get(&mut client, "/a", "").text(), body);
    }
    let phases: Vec<_> = log.wait_for(3).iter().map(|seen| seen.phase).collect();
    assert_eq!(
        phases,
        [
            CachePhase::Disabled(NoCacheReason::OriginNotCache),
            CachePhase::Miss,
            CachePhase::Hit,
        ]
    );
}

#[test]
fn a_bypassed_response_that_is_not_the_whole_is_not_stored() {
    let origin = Counting::answering(|request, number| {
        match number {
        0 | 2 | 4 => ok("Cache-Control: no-store\r\n", "0"),
        _ if request.head.starts_with("HEAD") => {
            format!("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n{FRESH}\r\n")
        }
        _ if request.head.contains("Range") => format!(
            "HTTP/1.1 206 Partial Content\r\nContent-Length: 1\r\nContent-Range: bytes 0-0/5\r\n{FRESH}\r\nh"
        ),
        _ => format!("HTTP/1.1 304 Not Modified\r\n{FRESH}\r\n"),
    }
    });
    let mut app = Caching::to(&origin.origin);
    app.predictor = Some(predictor());
    let (storage, log) = (app.storage, app.seen());
    let proxy = Proxy::start(app);
    let mut client = proxy.connect();
    get(&mut client, "/head", "");
    assert_eq!(ask(&mut client, "HEAD", "/head", "").status(), 200);
    get(&mut client, "/range", "");
    assert_eq!(
        get(&mut client, "/range", "Range: bytes=0-0\r\n").status(),
        206
    );
    get(&mut client, "/condition", "");
    assert_eq!(
        get(&mut client, "/condition", "If-None-Match: \"x\"\r\n").status(),
        304
    );
    let seen = log.wait_for(6);
    for n in [1, 3, 5] {
        assert_eq!(
            seen[n].phase,
            CachePhase::Disabled(NoCacheReason::Deferred),
            "{n}"
        );
    }
    for path in ["/head", "/range", "/condition"] {
        assert!(stored(storage, &key(path)).is_none(), "{path}");
    }
}

#[test]
fn a_body_that_is_cut_short_is_not_stored() {
    let short = [
        format!("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n{FRESH}\r\nhalf"),
        format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n{FRESH}\r\n4\r\nhalf\r\n"),
    ];
    for short in short {
        let origin = Origin::scripted(move |mut wire, number| {
            wire.read_message();
            match number {
                0 => wire.send(&short),
                _ => wire.send(ok(FRESH, "the whole")),
            }
        });
        let mut app = Caching::to(&origin);
        app.storage = plain(Fails::Never);
        let (storage, log) = (app.storage, app.seen());
        let proxy = Proxy::start(app);
        let mut client = proxy.connect();
        client.send("GET /a HTTP/1.1\r\nHost: a\r\n\r\n");
        client.read_to_end();
        let seen = log.last(1);
        assert_eq!(
            seen.phase,
            CachePhase::Disabled(NoCacheReason::UpstreamError)
        );
        assert!(stored(storage, &key("/a")).is_none());
        // The lock is free.
        assert_eq!(get(&mut proxy.connect(), "/a", "").text(), "the whole");
        log.wait_for(2);
        assert_eq!(stored(storage, &key("/a")).unwrap().1, "the whole");
    }
}

#[test]
fn trailers_are_not_stored() {
    let origin = Counting::answering(|_, _| {
        chunked(
            &format!("{FRESH}Trailer: X-Sum\r\n"),
            &["hello"],
            "X-Sum: 1\r\n",
        )
    });
    let app = Caching::to(&origin.origin);
    let (storage, log) = (app.storage, app.seen());
    let proxy = Proxy::start(app);
    let mut client = proxy.connect();
    for _ in 0..2 {
        assert_eq!(get(&mut client, "/a", "").text(), "hello");
    }
    assert_eq!(log.last(2).phase, CachePhase::Hit);
    assert_eq!(stored(storage, &key("/a")).unwrap().1, "hello");
}

#[test]
fn a_storage_that_fails_costs_the_client_nothing() {
    for fails in [Fails::Begin, Fails::Write, Fails::Finish] {
        let origin = Counting::answering(|_, _| ok(FRESH, "hello"));
        let mut app = Caching::to(&origin.origin);
        app.storage = plain(fails);
        let log = app.seen();
        let proxy = Proxy::start(app);
        let mut client = proxy.connect();
        for _ in 0..2 {
            assert_eq!(get(&mut client, "/a", "").text(), "hello", "{fails:?}");
        }
        let failed = CachePhase::Disabled(NoCacheReason::StorageError);
        for seen in log.wait_for(2) {
            assert_eq!((seen.phase, seen.error), (failed, None), "{fails:?}");
        }
    }
}

#[test]
fn responses_that_are_for_one_client_only_are_not_stored() {
    let origin = Counting::answering(|request, number| {
        let fields = match &request.head {
            head if head.contains("/cookie") => "Set-Cookie: a=b\r\n",
            head if head.contains("/any") => "Vary: *\r\n",
            _ => "",
        };
        ok(&format!("{FRESH}{fields}"), &number.to_string())
    });
    let mut app = Caching::to(&origin.origin);
    let decide = std::mem::replace(&mut app.cacheable, Box::new(|_, _| unreachable!()));
    app.cacheable = Box::new(move |session, response| {
        let any = response.headers.get("vary").is_some_and(|vary| vary == "*");
        if any || response.headers.contains_key("set-cookie") {
            return Ok(RespCacheable::Uncacheable(NoCacheReason::OriginNotCache));
        }
        decide(session, response)
    });
    let log = app.seen();
    let proxy = Proxy::start(app);
    let mut client = proxy.connect();
    let mut bodies = Vec::new();
    for (path, fields) in [
        ("/cookie", ""),
        ("/any", ""),
        ("/secret", "Authorization: x\r\n"),
    ] {
        for _ in 0..2 {
            bodies.push(get(&mut client, path, fields).text().to_string());
        }
    }
    assert_eq!(bodies, ["0", "1", "2", "3", "4", "5"]);
    for seen in log.wait_for(6) {
        let not = CachePhase::Disabled(NoCacheReason::OriginNotCache);
        assert_eq!(seen.phase, not, "{}", seen.path);
    }
}

#[test]
fn each_variant_is_served_to_those_that_ask_for_it() {
    let origin = Counting::answering(|request, _| {
        let language = request.field("x-language").unwrap_or("none").to_string();
        ok(&format!("{FRESH}Vary: X-Language\r\n"), &language)
    });
    let mut app = Caching::to(&origin.origin);
    app.storage = plain(Fails::Never);
    let log = app.seen();
    let proxy = Proxy::start(app);
    let mut client = proxy.connect();
    for language in ["de", "en", "fr", "fr", "en", "de"] {
        let field = format!("X-Language: {language}\r\n");
        assert_eq!(get(&mut client, "/a", &field).text(), language);
    }
    assert_eq!(origin.count(), 3);
    let hits = |seen: &Seen| seen.phase == CachePhase::Hit;
    assert!(log.wait_for(6)[3..].iter().all(hits));
}

#[test]
fn a_304_that_nobody_asked_for_turns_the_cache_off() {
    let origin = Counting::answering(|_, _| format!("HTTP/1.1 304 Not Modified\r\n{FRESH}\r\n"));
    let app = Caching::to(&origin.origin);
    let (storage, log) = (app.storage, app.seen());
    let proxy = Proxy::start(app);
    assert_eq!(get(&mut proxy.connect(), "/a", "").status(), 304);
    let phase = log.last(1).phase;
    assert_eq!(
        phase,
        CachePhase::Disabled(NoCacheReason::Custom("304 on miss"))
    );
    assert!(stored(storage, &key("/a")).is_none());
}

#[test]
fn an_empty_response_is_stored() {
    let origin = Counting::answering(|_, _| format!("HTTP/1.1 204 No Content\r\n{FRESH}\r\n"));
    let log;
    let proxy = {
        let app = Caching::to(&origin.origin);
        log = app.seen();
        Proxy::start(app)
    };
    let mut client = proxy.connect();
    for _ in 0..2 {
        assert_eq!(get(&mut client, "/a", "").status(), 204);
    }
    assert_eq!(log.last(2).phase, CachePhase::Hit);
    assert_eq!(origin.count(), 1);
}

#[test]
fn a_reason_that_only_the_cache_may_have_does_no_harm() {
    let origin = Counting::answering(|_, _| ok(FRESH, "hello"));
    let mut app = Caching::to(&origin.origin);
    app.cacheable = Box::new(|_, _| Ok(RespCacheable::Uncacheable(NoCacheReason::CacheLockGiveUp)));
    let log = app.seen();
    let proxy = Proxy::start(app);
    assert_eq!(get(&mut proxy.connect(), "/a", "").text(), "hello");
    let phase = log.last(1).phase;
    assert_eq!(phase, CachePhase::Disabled(NoCacheReason::OriginNotCache));
}

#[test]
fn a_filter_that_fails_turns_the_cache_off() {
    let origin = Counting::answering(|_, _| ok(FRESH, "hello"));
    let mut app = Caching::to(&origin.origin);
    app.cacheable = Box::new(|_, _| {
        pingora_core::Error::e_explain(pingora_core::ErrorType::InternalError, "a test")
    });
    let log = app.seen();
    let proxy = Proxy::start(app);
    assert_eq!(get(&mut proxy.connect(), "/a", "").text(), "hello");
    let phase = log.last(1).phase;
    assert_eq!(phase, CachePhase::Disabled(NoCacheReason::InternalError));
}
