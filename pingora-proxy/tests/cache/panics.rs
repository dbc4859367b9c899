//! A storage that panics. `MemCache` does so when an entry goes while it is written or revalidated.

use crate::common::*;
use crate::fixture::*;
use async_trait::async_trait;
use pingora_cache::storage::{HitHandler, MissHandler, PurgeOutcome, PurgeTarget, PurgeType};
use pingora_cache::trace::SpanHandle;
use pingora_cache::{CacheKey, CacheMeta, CachePhase, MemCache, NoCacheReason, Storage};
use pingora_core::Result;
use std::any::Any;
use std::sync::{Arc, Barrier};

const FRESH: &str = "Cache-Control: max-age=60\r\n";

/// An origin that sends the rest of its first response when it is told to.
fn in_halves(whole: String) -> (Counting, Arc<Barrier>) {
    let rest = Arc::new(Barrier::new(2));
    let origin = Counting::scripted({
        let rest = rest.clone();
        move |wire, _, number| {
            let (first, second) = whole.split_at(whole.find("|").unwrap());
            wire.send(first);
            if number == 0 {
                rest.wait();
            }
            wire.send(&second[1..]);
        }
    });
    (origin, rest)
}

/// A response of known length and one in chunks, with a mark at which the first half ends.
fn halves() -> [String; 2] {
    let chunked = format!(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n{FRESH}\r\n\
         5\r\nthe w\r\n|4\r\nhole\r\n0\r\n\r\n"
    );
    let length = format!("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n{FRESH}\r\nthe w|hole");
    [length, chunked]
}

/// A client that has read the first half.
fn begin(proxy: &Proxy) -> (Wire, String) {
    let mut client = proxy.connect();
    client.send("GET /a HTTP/1.1\r\nHost: a\r\n\r\n");
    let head = client.read_head();
    client.read_until("the w");
    (client, head)
}

fn read_rest((client, head): &mut (Wire, String)) {
    client.read_until("hole");
    if head.to_lowercase().contains("chunked") {
        assert_eq!(client.read_until("0\r\n\r\n"), "\r\n0\r\n\r\n");
    }
}

#[test]
fn a_fill_whose_entry_is_purged_reaches_all_its_clients() {
    for whole in halves() {
        let (origin, rest) = in_halves(whole);
        let app = Caching::to(&origin.origin);
        let (storage, log) = (app.storage, app.seen());
        let proxy = Proxy::start(app);
        let mut writer = begin(&proxy);
        let mut reader = begin(&proxy);
        let purged = ask(&mut proxy.connect(), "PURGE", "/a", "");
        assert_eq!(purged.status(), 200);
        rest.wait();
        for client in [&mut writer, &mut reader] {
            read_rest(client);
        }
        let failed = CachePhase::Disabled(NoCacheReason::StorageError);
        let seen = log.wait_for(3);
        assert!(seen.iter().all(|seen| seen.error.is_none()), "{seen:?}");
        assert_eq!(seen.iter().filter(|seen| seen.phase == failed).count(), 1);
        assert!(stored(storage, &key("/a")).is_none());
        // Both connections go on, and the next one fills.
        for client in [&mut writer.0, &mut reader.0] {
            assert_eq!(get(client, "/a", "").text(), "the whole");
        }
        assert_eq!(origin.count(), 2);
        assert_eq!(stored(storage, &key("/a")).unwrap().1, "the whole");
    }
}

#[test]
fn a_fill_for_nobody_whose_entry_is_purged_gives_all_back() {
    let [whole, _] = halves();
    let (origin, rest) = in_halves(whole);
    let app = Caching::to(&origin.origin);
    let log = app.seen();
    let proxy = Proxy::start(app);
    drop(begin(&proxy));
    assert_eq!(
        ask(&mut proxy.connect(), "PURGE", "/a", "").status(),
        200,
        "the fill goes on"
    );
    rest.wait();
    log.wait_for(2);
    assert_eq!(get(&mut proxy.connect(), "/a", "").text(), "the whole");
}

#[test]
fn an_entry_that_is_purged_while_it_is_revalidated_is_served() {
    let asked = Arc::new(Barrier::new(2));
    let origin = Counting::scripted({
        let asked = asked.clone();
        move |wire, request, number| {
            if number > 0 {
                return wire.send(ok(FRESH, "new"));
            }
            assert!(request.field("if-none-match").is_some());
            // Once when the request is here, and once when the entry is gone.
            asked.wait();
            asked.wait();
            wire.send(format!(
                "HTTP/1.1 304 Not Modified\r\n{FRESH}ETag: \"2\"\r\n\r\n"
            ));
        }
    });
    let app = Caching::to(&origin.origin);
    let (storage, log) = (app.storage, app.seen());
    let stale = meta(-5, "200\r\nContent-Length: 3\r\nETag: \"1\"");
    store(storage, &key("/a"), &stale, "old");
    let proxy = Proxy::start(app);
    let mut client = proxy.connect();
    client.send("GET /a HTTP/1.1\r\nHost: a\r\n\r\n");
    asked.wait();
    let purged = ask(&mut proxy.connect(), "PURGE", "/a", "");
    assert_eq!(purged.status(), 200);
    let mut waits = proxy.connect();
    waits.send("GET /a HTTP/1.1\r\nHost: a\r\n\r\n");
    asked.wait();
    let response = client.read_response();
    assert_eq!((response.status(), response.text()), (200, "old"));
    assert_eq!(response.field("etag"), Some("\"2\""));
    // The lock is free.
    assert_eq!(waits.read_response().text(), "new");
    let seen = log.wait_for(3);
    let kept = CachePhase::RevalidatedNoCache(NoCacheReason::StorageError);
    assert!(seen.iter().any(|seen| seen.phase == kept), "{seen:?}");
    assert!(seen.iter().all(|seen| seen.error.is_none()), "{seen:?}");
    assert_eq!(get(&mut client, "/a", "").text(), "new");
    assert_eq!(origin.count(), 2);
}

/// A storage whose entries are gone at once when their writers begin.
struct Unreadable(&'static MemCache);

#[async_trait]
impl Storage for Unreadable {
    async fn lookup(
        &'static self,
        key: &CacheKey,
        trace: &SpanHandle,
    ) -> Result<Option<(CacheMeta, HitHandler)>> {
        self.0.lookup(key, trace).await
    }

    async fn get_miss_handler(
        &'static self,
        key: &CacheKey,
        meta: &CacheMeta,
        trace: &SpanHandle,
    ) -> Result<MissHandler> {
        let handler = self.0.get_miss_handler(key, meta, trace).await?;
        let entry = pingora_cache::CacheEntryKey::from_entry_id(key.to_compact(), None);
        let gone = PurgeTarget::Exact(&entry);
        self.0.purge(gone, PurgeType::Eviction, trace).await?;
        Ok(handler)
    }

    async fn lookup_streaming_write(
        &'static self,
        key: &CacheKey,
        tag: Option<&[u8]>,
        trace: &SpanHandle,
    ) -> Result<Option<(CacheMeta, HitHandler)>> {
        self.0.lookup_streaming_write(key, tag, trace).await
    }

    async fn purge(
        &'static self,
        target: PurgeTarget<'_>,
        kind: PurgeType,
        trace: &SpanHandle,
    ) -> Result<PurgeOutcome> {
        self.0.purge(target, kind, trace).await
    }

    async fn update_meta(
        &'static self,
        key: &CacheKey,
        meta: &CacheMeta,
        trace: &SpanHandle,
    ) -> Result<bool> {
        self.0.update_meta(key, meta, trace).await
    }

    fn support_streaming_partial_write(&self) -> bool {
        true
    }

    fn as_any(&self) -> &(dyn Any + Send + Sync + 'static) {
        self
    }
}

#[test]
fn an_entry_that_is_evicted_before_its_first_byte_costs_the_client_nothing() {
    let origin = Counting::answering(|_, _| ok(FRESH, "hello"));
    let mut app = Caching::to(&origin.origin);
    app.storage = Box::leak(Box::new(Unreadable(mem_cache())));
    let log = app.seen();
    let proxy = Proxy::start(app);
    let mut client = proxy.connect();
    for _ in 0..2 {
        assert_eq!(get(&mut client, "/a", "").text(), "hello");
    }
    let failed = CachePhase::Disabled(NoCacheReason::StorageError);
    for seen in log.wait_for(2) {
        assert_eq!((seen.phase, seen.error), (failed, None));
    }
}
