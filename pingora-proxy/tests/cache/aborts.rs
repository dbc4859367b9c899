//! Requests that end before their time, and what others get then.

use crate::common::*;
use crate::fixture::*;
use crate::plain::{plain, Fails};
use pingora_cache::{CachePhase, NoCacheReason};
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier};

const FRESH: &str = "Cache-Control: max-age=60\r\n";

/// An origin that sends the rest of its first response when it is told to.
pub(crate) fn in_halves() -> (Counting, Arc<Barrier>) {
    let rest = Arc::new(Barrier::new(2));
    let origin = Counting::scripted({
        let rest = rest.clone();
        move |wire, _, number| {
            let whole = ok(FRESH, "the whole");
            let (first, second) = whole.split_at(whole.len() - 4);
            wire.send(first);
            if number == 0 {
                rest.wait();
            }
            // The proxy may have given up.
            let _ = wire.send_if_taken(second);
        }
    });
    (origin, rest)
}

fn begin(proxy: &Proxy) -> Wire {
    let mut client = proxy.connect();
    client.send("GET /a HTTP/1.1\r\nHost: a\r\n\r\n");
    client.read_until("the w");
    client
}

#[test]
fn a_fill_that_others_may_be_reading_goes_on_when_its_client_leaves() {
    let (origin, rest) = in_halves();
    let app = Caching::to(&origin.origin);
    let (storage, log) = (app.storage, app.seen());
    let proxy = Proxy::start(app);
    drop(begin(&proxy));
    let mut other = begin(&proxy);
    rest.wait();
    assert_eq!(other.read_exact(4), b"hole");
    eventually("the response is stored", || {
        stored(storage, &key("/a")).is_some_and(|(_, body)| body == "the whole")
    });
    let seen = log.wait_for(1);
    assert!(
        seen.iter().any(|seen| seen.phase == CachePhase::Miss),
        "{seen:?}"
    );
    assert_eq!(get(&mut proxy.connect(), "/a", "").text(), "the whole");
    assert_eq!(origin.count(), 1);
}

#[test]
fn a_fill_that_nobody_else_can_read_ends_with_its_client() {
    let (origin, rest) = in_halves();
    let mut app = Caching::to(&origin.origin);
    app.storage = plain(Fails::Never);
    let (storage, log) = (app.storage, app.seen());
    let proxy = Proxy::start(app);
    drop(begin(&proxy));
    let phase = log.last(1).phase;
    assert_eq!(phase, CachePhase::Disabled(NoCacheReason::InternalError));
    assert!(stored(storage, &key("/a")).is_none());
    rest.wait();
    assert_eq!(get(&mut proxy.connect(), "/a", "").text(), "the whole");
}

#[test]
fn those_behind_a_writer_that_ends_early_take_its_place() {
    let (origin, rest) = in_halves();
    let mut app = Caching::to(&origin.origin);
    let storage = plain(Fails::Never);
    app.storage = storage;
    let log = app.seen();
    let proxy = Proxy::start(app);
    let first = begin(&proxy);
    let mut others: Vec<_> = (0..5).map(|_| proxy.connect()).collect();
    for other in &mut others {
        other.send("GET /a HTTP/1.1\r\nHost: a\r\n\r\n");
    }
    drop(first);
    log.wait_for(1);
    rest.wait();
    for other in &mut others {
        assert_eq!(other.read_response().text(), "the whole");
    }
    log.wait_for(6);
    assert_eq!(storage.most_fills.load(Ordering::SeqCst), 1);
    assert_eq!(origin.count(), 2);
}

/// Has a callback do something before its own work.
type Before = fn(&mut Caching, Box<dyn Fn() + Send + Sync>);

#[test]
fn a_callback_that_panics_gives_the_lock_back() {
    // How often the origin is asked. A body is stored before its filter sees it, the rest of it perhaps too.
    let callbacks: [(Before, RangeInclusive<usize>); 3] = [
        (
            |app, first| {
                let decides =
                    std::mem::replace(&mut app.cacheable, Box::new(|_, _| unreachable!()));
                app.cacheable = Box::new(move |session, response| {
                    first();
                    decides(session, response)
                });
            },
            2..=2,
        ),
        (
            |app, first| {
                app.response_filter = Box::new(move |_| {
                    first();
                    Ok(())
                });
            },
            2..=2,
        ),
        (
            |app, first| {
                app.body_filter = Box::new(move |_, _| {
                    first();
                    Ok(None)
                });
            },
            1..=2,
        ),
    ];
    for (before, fills) in callbacks {
        let answers = Arc::new(Barrier::new(2));
        let origin = Counting::scripted({
            let answers = answers.clone();
            move |wire, _, number| {
                if number == 0 {
                    answers.wait();
                }
                wire.send_if_taken(ok(FRESH, "hello")).unwrap_or_default();
            }
        });
        let mut app = Caching::to(&origin.origin);
        app.storage = plain(Fails::Never);
        let panicked = AtomicBool::new(false);
        before(
            &mut app,
            Box::new(move || assert!(panicked.swap(true, Ordering::SeqCst), "a test's panic")),
        );
        let (storage, log) = (app.storage, app.seen());
        let proxy = Proxy::start(app);
        let mut clients: Vec<_> = (0..6).map(|_| proxy.connect()).collect();
        for client in &mut clients {
            client.send("GET /a HTTP/1.1\r\nHost: a\r\n\r\n");
            // The first one makes the request for all.
            eventually("the origin is asked", || origin.count() == 1);
        }
        answers.wait();
        let mut others = clients.split_off(1);
        assert!(!String::from_utf8_lossy(&clients[0].read_to_end()).contains("hello"));
        for other in &mut others {
            assert_eq!(other.read_response().text(), "hello");
        }
        log.wait_for(5);
        let asked = origin.count();
        assert!(
            fills.contains(&asked),
            "one of the others took its place: {asked}"
        );
        assert_eq!(stored(storage, &key("/a")).unwrap().1, "hello");
    }
}

#[test]
fn a_filter_that_fails_gives_the_lock_back() {
    let origin = Counting::answering(|_, _| ok(FRESH, "hello"));
    let mut app = Caching::to(&origin.origin);
    let failed = AtomicBool::new(false);
    app.body_filter = Box::new(move |_, _| {
        if failed.swap(true, Ordering::SeqCst) {
            return Ok(None);
        }
        pingora_core::Error::e_explain(pingora_core::ErrorType::InternalError, "a test")
    });
    app.storage = plain(Fails::Never);
    let log = app.seen();
    let proxy = Proxy::start(app);
    let mut client = proxy.connect();
    client.send("GET /a HTTP/1.1\r\nHost: a\r\n\r\n");
    client.read_to_end();
    log.wait_for(1);
    assert_eq!(get(&mut proxy.connect(), "/a", "").text(), "hello");
}

#[test]
fn a_client_that_takes_nothing_does_not_hold_the_fill_back() {
    const SIZE: usize = 4 << 20;
    let origin = Counting::answering(|_, _| ok(FRESH, &"x".repeat(SIZE)));
    let app = Caching::to(&origin.origin);
    let storage = app.storage;
    let proxy = Proxy::start(app);
    let mut slow = proxy.connect();
    slow.send("GET /a HTTP/1.1\r\nHost: a\r\n\r\n");
    slow.read_head();
    eventually("the response is stored", || {
        stored_now(storage, "/a").is_some_and(|body| body.len() == SIZE)
    });
    assert_eq!(get(&mut proxy.connect(), "/a", "").body.len(), SIZE);
    assert_eq!(slow.read_exact(SIZE), vec![b'x'; SIZE]);
    assert_eq!(origin.count(), 1);
}

/// What is stored as whole: what is being written is not waited for.
pub(crate) fn stored_now(
    storage: &'static (dyn pingora_cache::Storage + Sync),
    path: &str,
) -> Option<Vec<u8>> {
    use futures::FutureExt;
    let span = pingora_cache::trace::Span::inactive();
    let key = key(path);
    let (_, mut hit) = storage
        .lookup(&key, &span.handle())
        .now_or_never()?
        .unwrap()?;
    let mut body = Vec::new();
    while let Some(piece) = hit.read_body().now_or_never()?.unwrap() {
        body.extend(piece);
    }
    Some(body)
}

#[test]
fn a_response_that_its_storage_takes_no_longer_reaches_the_client_whole() {
    let pieces: Vec<String> = (0..200).map(|n| format!("{n:01000}")).collect();
    let whole = pieces.concat();
    let origin = Counting::scripted(move |wire, _, _| {
        wire.send(format!(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n{FRESH}\r\n"
        ));
        for piece in &pieces {
            wire.send(format!("{:x}\r\n{piece}\r\n", piece.len()));
        }
        wire.send("0\r\n\r\n");
    });
    let mut app = Caching::to(&origin.origin);
    app.max_file_size = Some(50_000);
    let (storage, log) = (app.storage, app.seen());
    let proxy = Proxy::start(app);
    assert_eq!(get(&mut proxy.connect(), "/a", "").text(), whole);
    let phase = log.last(1).phase;
    assert_eq!(phase, CachePhase::Disabled(NoCacheReason::ResponseTooLarge));
    assert!(stored_now(storage, "/a").is_none());
}

#[test]
fn a_range_is_cut_from_what_is_read_back_from_the_storage() {
    let origin = Counting::answering(|_, _| ok(FRESH, &"0123456789".repeat(10_000)));
    let app = Caching::to(&origin.origin);
    let log = app.seen();
    let proxy = Proxy::start(app);
    let mut client = proxy.connect();
    for _ in 0..2 {
        let response = get(&mut client, "/a", "Range: bytes=99995-\r\n");
        assert_eq!((response.status(), response.text()), (206, "56789"));
    }
    assert_eq!(log.last(2).phase, CachePhase::Hit);
}

#[test]
fn a_try_that_failed_leaves_nothing_to_the_next_one() {
    let origin = Counting::scripted(|wire, request, number| {
        if number == 1 {
            // The connection was kept, and nothing comes: the request is sent again over another one.
            wire.finish_sending();
            return;
        }
        assert!(!request.head.contains("Range"), "{}", request.head);
        wire.send(ok(FRESH, "0123456789"));
    });
    let app = Caching::to(&origin.origin);
    let (storage, log) = (app.storage, app.seen());
    let proxy = Proxy::start(app);
    let mut client = proxy.connect();
    assert_eq!(get(&mut client, "/a", "").text(), "0123456789");
    let response = get(&mut client, "/b", "Range: bytes=1-2\r\n");
    assert_eq!((response.status(), response.text()), (206, "12"));
    assert_eq!(log.last(2).phase, CachePhase::Miss);
    assert_eq!(stored(storage, &key("/b")).unwrap().1, "0123456789");
}
