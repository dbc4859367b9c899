//! What is looked up, and who waits for whom.

use crate::common::*;
use crate::fixture::*;
use async_trait::async_trait;
use pingora_cache::key::HashBinary;
use pingora_cache::lock::{
    CacheKeyLock, CacheKeyLockImpl, CacheLock, LockStatus, Locked, WritePermit,
};
use pingora_cache::predictor::{CacheablePredictor, Predictor};
use pingora_cache::storage::{HitHandler, MissHandler, PurgeOutcome, PurgeTarget, PurgeType};
use pingora_cache::trace::SpanHandle;
use pingora_cache::{
    CacheKey, CacheMeta, CacheOptionOverrides, CachePhase, ForcedFreshness, NoCacheReason, Storage,
    VarianceBuilder,
};
use pingora_core::{Error, ErrorType, Result};
use pingora_proxy::Session;
use std::any::Any;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

fn asked() -> Counting {
    Counting::answering(|_, _| ok("", "origin"))
}

fn disabled(seen: &Seen) -> NoCacheReason {
    match seen.phase {
        CachePhase::Disabled(reason) => reason,
        other => panic!("{other:?}"),
    }
}

#[test]
fn without_a_key_the_request_is_not_cached() {
    let origin = asked();
    let mut app = Caching::to(&origin.origin);
    store(app.storage, &key("/a"), &meta(60, "200"), "stored");
    app.key = Box::new(|_| Err(Error::new(ErrorType::InternalError)));
    let seen = app.seen();
    let proxy = Proxy::start(app);
    assert_eq!(get(&mut proxy.connect(), "/a", "").text(), "origin");
    assert_eq!(disabled(&seen.last(1)), NoCacheReason::InternalError);
}

#[test]
fn what_was_never_cacheable_is_not_looked_up() {
    let origin = asked();
    let predictor: &'static Predictor<1> = Box::leak(Box::new(Predictor::new(10, None)));
    predictor.mark_uncacheable(&key("/a"), NoCacheReason::OriginNotCache);
    let mut app = Caching::to(&origin.origin);
    app.predictor = Some(predictor);
    for path in ["/a", "/b"] {
        store(app.storage, &key(path), &meta(60, "200"), "stored");
    }
    let seen = app.seen();
    let proxy = Proxy::start(app);
    let mut client = proxy.connect();
    assert_eq!(get(&mut client, "/a", "").text(), "origin");
    assert_eq!(get(&mut client, "/b", "").text(), "stored");
    let phases = seen.wait_for(2);
    assert_ne!(phases[0].phase, CachePhase::Hit);
    assert_eq!(phases[1].phase, CachePhase::Hit);
}

/// A storage that fails.
struct Failing;

#[async_trait]
impl Storage for Failing {
    async fn lookup(
        &'static self,
        _: &CacheKey,
        _: &SpanHandle,
    ) -> Result<Option<(CacheMeta, HitHandler)>> {
        Error::e_explain(ErrorType::InternalError, "a lookup that fails")
    }

    async fn get_miss_handler(
        &'static self,
        _: &CacheKey,
        _: &CacheMeta,
        _: &SpanHandle,
    ) -> Result<MissHandler> {
        Error::e_explain(ErrorType::InternalError, "a write that fails")
    }

    async fn purge(
        &'static self,
        _: PurgeTarget<'_>,
        _: PurgeType,
        _: &SpanHandle,
    ) -> Result<PurgeOutcome> {
        Error::e_explain(ErrorType::InternalError, "a purge that fails")
    }

    async fn update_meta(
        &'static self,
        _: &CacheKey,
        _: &CacheMeta,
        _: &SpanHandle,
    ) -> Result<bool> {
        Error::e_explain(ErrorType::InternalError, "an update that fails")
    }

    fn as_any(&self) -> &(dyn Any + Send + Sync + 'static) {
        self
    }
}

#[test]
fn a_failed_lookup_is_a_miss() {
    let origin = asked();
    let mut app = Caching::to(&origin.origin);
    app.storage = &Failing;
    let proxy = Proxy::start(app);
    let mut client = proxy.connect();
    assert_eq!(get(&mut client, "/a", "").text(), "origin");
    assert_eq!(ask(&mut client, "PURGE", "/a", "").status(), 500);
    assert_eq!(origin.count(), 1);
}

fn language(value: &str) -> HashBinary {
    let mut variance = VarianceBuilder::new();
    variance.add_value("accept-language", value);
    variance.finalize().unwrap()
}

/// What is kept of the variant for a language.
fn variant(value: &str) -> CacheMeta {
    let mut meta = meta(60, "200\r\nVary: Accept-Language");
    meta.set_variance(language(value));
    meta
}

#[test]
fn a_variant_is_found_in_its_own_slot() {
    let origin = asked();
    let app = Caching::to(&origin.origin);
    store(app.storage, &key("/a"), &variant("de"), "eins");
    let mut second = key("/a");
    second.set_variance_key(language("en"));
    store(app.storage, &second, &variant("en"), "one");
    let proxy = Proxy::start(app);
    let mut client = proxy.connect();
    for (language, body) in [
        ("de", "eins"),
        ("en", "one"),
        ("fr", "origin"),
        ("de", "eins"),
    ] {
        let fields = format!("Accept-Language: {language}\r\n");
        assert_eq!(get(&mut client, "/a", &fields).text(), body, "{language}");
    }
    assert_eq!(origin.count(), 1);
}

/// The origin does not see the field by which it would choose, and what it answers belongs to no variant.
#[test]
fn a_field_that_connection_names_takes_the_request_past_the_cache() {
    let origin = Counting::answering(|_, _| ok("Vary: Accept-Language\r\n", "default"));
    let app = Caching::to(&origin.origin);
    store(app.storage, &key("/a"), &variant("de"), "eins");
    let seen = app.seen();
    let proxy = Proxy::start(app);
    let mut client = proxy.connect();
    let named = "Accept-Language: en\r\nConnection: Accept-Language\r\n";
    assert_eq!(get(&mut client, "/a", named).text(), "default");
    assert_eq!(
        disabled(&seen.last(1)),
        NoCacheReason::Custom("Connection names a field")
    );
    let en = "Accept-Language: en\r\n";
    assert_eq!(get(&mut client, "/a", en).text(), "default");
    assert_eq!(origin.count(), 2, "nothing was stored for it");
    // One that is not there takes nothing away.
    let absent = "Accept-Language: de\r\nConnection: X-Other\r\n";
    assert_eq!(get(&mut client, "/a", absent).text(), "eins");
}

/// The slot of a variant has another one, which the request did not ask for.
#[test]
fn a_wrong_variant_is_never_served() {
    let origin = asked();
    let app = Caching::to(&origin.origin);
    store(app.storage, &key("/a"), &variant("de"), "eins");
    let mut second = key("/a");
    second.set_variance_key(language("en"));
    store(app.storage, &second, &variant("fr"), "un");
    let proxy = Proxy::start(app);
    let response = get(&mut proxy.connect(), "/a", "Accept-Language: en\r\n");
    assert_eq!(response.text(), "origin");
}

#[test]
fn the_hit_filter_overrules_freshness() {
    type Row = (i64, fn() -> Result<Option<ForcedFreshness>>, &'static str);
    let rows: [Row; 7] = [
        (60, || Ok(None), "stored"),
        (-60, || Ok(None), "origin"),
        (-60, || Ok(Some(ForcedFreshness::ForceFresh)), "stored"),
        (60, || Ok(Some(ForcedFreshness::ForceMiss)), "origin"),
        (60, || Ok(Some(ForcedFreshness::ForceExpired)), "origin"),
        (
            60,
            || {
                Ok(Some(ForcedFreshness::ForceExpiredServeStale {
                    expired_at: None,
                }))
            },
            "origin",
        ),
        (
            60,
            || Error::e_explain(ErrorType::InternalError, "as asked"),
            "origin",
        ),
    ];
    for (row, (fresh, forced, body)) in rows.into_iter().enumerate() {
        let origin = asked();
        let mut app = Caching::to(&origin.origin);
        app.hit_filter = Box::new(move |_, _, _, is_fresh| {
            assert_eq!(is_fresh, fresh > 0);
            forced()
        });
        store(app.storage, &key("/a"), &meta(fresh, "200"), "stored");
        let proxy = Proxy::start(app);
        let response = get(&mut proxy.connect(), "/a", "");
        assert_eq!(response.text(), body, "{row}");
    }
}

/// A lock that tells how often it was asked for.
struct Asked {
    lock: CacheLock,
    asked: AtomicUsize,
}

impl CacheKeyLock for Asked {
    fn lock(&self, key: &CacheKey, stale_writer: bool) -> Locked {
        let locked = self.lock.lock(key, stale_writer);
        self.asked.fetch_add(1, Ordering::SeqCst);
        locked
    }

    fn release(&self, key: &CacheKey, permit: WritePermit, reason: LockStatus) {
        self.lock.release(key, permit, reason);
    }
}

/// A lock on /a that this test holds as its writer.
struct Held {
    lock: &'static Asked,
    permit: Option<WritePermit>,
}

impl Held {
    fn new(age: Duration) -> Self {
        let lock: &'static Asked = Box::leak(Box::new(Asked {
            lock: CacheLock::new(age),
            asked: AtomicUsize::new(0),
        }));
        let Locked::Write(permit) = lock.lock(&key("/a"), false) else {
            panic!("it is new");
        };
        Held {
            lock,
            permit: Some(permit),
        }
    }

    fn lock(&self) -> &'static CacheKeyLockImpl {
        self.lock
    }

    /// Waits until so many requests have asked for it.
    #[track_caller]
    fn wait_for(&self, requests: usize) {
        eventually("requests ask for the lock", || {
            self.lock.asked.load(Ordering::SeqCst) > requests
        });
    }

    fn release(&mut self, status: LockStatus) {
        if let Some(permit) = self.permit.take() {
            self.lock.release(&key("/a"), permit, status);
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.release(LockStatus::Done);
    }
}

const WAITED: &str = "GET /a HTTP/1.1\r\nHost: a\r\n\r\n";

#[test]
fn waiters_are_served_what_the_writer_has_stored() {
    let mut held = Held::new(Duration::from_secs(60));
    let origin = asked();
    let mut app = Caching::to(&origin.origin);
    app.lock = Some(held.lock());
    let (storage, seen) = (app.storage, app.seen());
    let proxy = Proxy::start(app);
    let mut clients: Vec<_> = (0..10).map(|_| proxy.connect()).collect();
    for client in &mut clients {
        client.send(WAITED);
    }
    held.wait_for(10);
    assert!(seen.wait_for(0).is_empty());
    store(storage, &key("/a"), &meta(60, "200"), "stored");
    held.release(LockStatus::Done);
    for client in &mut clients {
        assert_eq!(client.read_response().text(), "stored");
    }
    for seen in seen.wait_for(10) {
        assert_eq!(seen.phase, CachePhase::Hit);
        assert!(seen.lock_duration.is_some());
    }
    assert_eq!(origin.count(), 0);
}

#[test]
fn how_waits_end_without_an_answer() {
    type Row = (
        LockStatus,
        fn() -> Option<CacheOptionOverrides>,
        Option<NoCacheReason>,
    );
    fn no_retries() -> Option<CacheOptionOverrides> {
        let mut overrides = CacheOptionOverrides::default();
        overrides.max_lock_retries = Some(0);
        Some(overrides)
    }
    let rows: [Row; 5] = [
        (
            LockStatus::GiveUp,
            || None,
            Some(NoCacheReason::CacheLockGiveUp),
        ),
        (
            LockStatus::Done,
            no_retries,
            Some(NoCacheReason::CacheLockRetryLimit),
        ),
        (
            LockStatus::TransientError,
            no_retries,
            Some(NoCacheReason::CacheLockRetryLimit),
        ),
        // The one that waited is the writer now.
        (LockStatus::TransientError, || None, None),
        (LockStatus::Done, || None, None),
    ];
    for (row, (status, overrides, reason)) in rows.into_iter().enumerate() {
        let mut held = Held::new(Duration::from_secs(60));
        let origin = asked();
        let mut app = Caching::to(&origin.origin);
        app.lock = Some(held.lock());
        app.overrides = overrides;
        let seen = app.seen();
        let proxy = Proxy::start(app);
        let mut client = proxy.connect();
        client.send(WAITED);
        held.wait_for(1);
        held.release(status);
        assert_eq!(client.read_response().text(), "origin", "{row}");
        if let Some(reason) = reason {
            assert_eq!(disabled(&seen.last(1)), reason, "{row}");
        }
        assert_eq!(origin.count(), 1);
    }
}

#[test]
fn waits_end_by_themselves() {
    fn impatient() -> Option<CacheOptionOverrides> {
        let mut overrides = CacheOptionOverrides::default();
        overrides.wait_timeout = Some(Duration::from_millis(20));
        Some(overrides)
    }
    // The writer never ends.
    let held = Held::new(Duration::from_secs(60));
    let origin = asked();
    let mut app = Caching::to(&origin.origin);
    app.lock = Some(held.lock());
    app.overrides = impatient;
    let seen = app.seen();
    let proxy = Proxy::start(app);
    assert_eq!(get(&mut proxy.connect(), "/a", "").text(), "origin");
    assert_eq!(disabled(&seen.last(1)), NoCacheReason::CacheLockTimeout);
    // Its lock is too old, and another one takes it over.
    let held = Held::new(Duration::from_millis(20));
    let mut app = Caching::to(&origin.origin);
    app.lock = Some(held.lock());
    let proxy = Proxy::start(app);
    assert_eq!(get(&mut proxy.connect(), "/a", "").text(), "origin");
    held.wait_for(2);
}

#[test]
fn a_client_that_leaves_does_not_wait() {
    let held = Held::new(Duration::from_secs(60));
    let origin = asked();
    let mut app = Caching::to(&origin.origin);
    app.lock = Some(held.lock());
    app.set = Box::new(|session: &mut Session| session.set_abort_on_close(true));
    let seen = app.seen();
    let proxy = Proxy::start(app);
    let mut client = proxy.connect();
    client.send(WAITED);
    held.wait_for(1);
    drop(client);
    assert!(seen.last(1).error.is_some());
    assert_eq!(origin.count(), 0);
}

/// Stale for a minute, and good while it is revalidated for so many seconds.
fn stale(swr: u32) -> CacheMeta {
    let meta = meta(-60, "200");
    let header = meta.response_header_copy();
    CacheMeta::new(meta.fresh_until(), meta.created(), swr, 0, header)
}

/// While another request revalidates.
#[test]
fn stale_responses_are_served_in_their_time() {
    let mut held = Held::new(Duration::from_secs(60));
    let origin = asked();
    let mut app = Caching::to(&origin.origin);
    app.lock = Some(held.lock());
    let (storage, seen) = (app.storage, app.seen());
    store(storage, &key("/a"), &stale(1000), "stored");
    let proxy = Proxy::start(app);
    let mut client = proxy.connect();
    assert_eq!(get(&mut client, "/a", "").text(), "stored");
    assert_eq!(seen.last(1).phase, CachePhase::StaleUpdating);
    assert_eq!(origin.count(), 0);
    // When that is over they wait.
    store(storage, &key("/a"), &stale(10), "stored");
    client.send(WAITED);
    held.wait_for(2);
    store(storage, &key("/a"), &meta(60, "200"), "fresh");
    held.release(LockStatus::Done);
    assert_eq!(client.read_response().text(), "fresh");
    assert_eq!(seen.last(2).phase, CachePhase::Hit);
    assert_eq!(origin.count(), 0);
}

#[test]
fn the_writer_serves_stale_and_has_a_subrequest_revalidate() {
    let origin = asked();
    let app = Caching::to(&origin.origin);
    let (storage, seen) = (app.storage, app.seen());
    store(storage, &key("/a"), &stale(1000), "stored");
    let proxy = Proxy::start(app);
    let mut client = proxy.connect();
    for request in 1..=2 {
        assert_eq!(get(&mut client, "/a", "").text(), "stored");
        // The lock is free again after the subrequest, which is logged for itself.
        let requests = seen.wait_for(2 * request);
        let updating = |seen: &&Seen| seen.phase == CachePhase::StaleUpdating;
        assert_eq!(requests.iter().filter(updating).count(), request);
        assert_eq!(origin.count(), request);
    }
}

/// A chain of subrequests would have no end.
#[test]
fn a_subrequest_whose_lock_is_another_keys_revalidates_all_the_same() {
    let origin = asked();
    let mut app = Caching::to(&origin.origin);
    app.key = Box::new(|session| match session.subrequest_ctx {
        Some(_) => Ok(key("/other")),
        None => Ok(key("/a")),
    });
    let (storage, seen) = (app.storage, app.seen());
    for path in ["/a", "/other"] {
        store(storage, &key(path), &stale(1000), "stored");
    }
    let proxy = Proxy::start(app);
    assert_eq!(get(&mut proxy.connect(), "/a", "").text(), "stored");
    let requests = seen.wait_for(2);
    let updating = |seen: &&Seen| seen.phase == CachePhase::StaleUpdating;
    assert_eq!(requests.iter().filter(updating).count(), 1);
    assert_eq!(origin.count(), 1);
}

#[test]
fn the_writer_revalidates_itself_when_stale_may_not_be_served() {
    let origin = asked();
    let mut app = Caching::to(&origin.origin);
    app.serve_stale = Box::new(|_| false);
    store(app.storage, &key("/a"), &stale(1000), "stored");
    let proxy = Proxy::start(app);
    assert_eq!(get(&mut proxy.connect(), "/a", "").text(), "origin");
    assert_eq!(origin.count(), 1);
}

#[test]
fn what_is_revalidated_in_the_background_is_fresh_for_the_next() {
    let unchanged = "HTTP/1.1 304 Not Modified\r\nETag: \"1\"\r\nCache-Control: max-age=60\r\n\r\n";
    let changed = ok("Cache-Control: max-age=60\r\n", "changed");
    for (answer, body) in [(unchanged.to_string(), "stored"), (changed, "changed")] {
        let origin = Counting::answering(move |request, _| {
            assert_eq!(request.field("If-None-Match"), Some("\"1\""));
            assert_eq!(request.field("Range"), None);
            answer.clone()
        });
        let app = Caching::to(&origin.origin);
        let (storage, seen) = (app.storage, app.seen());
        let kept = meta(-60, "200\r\nETag: \"1\"\r\nContent-Length: 6");
        let header = kept.response_header_copy();
        let kept = CacheMeta::new(kept.fresh_until(), kept.created(), 1000, 0, header);
        store(storage, &key("/a"), &kept, "stored");
        let proxy = Proxy::start(app);
        let mut client = proxy.connect();
        let first = get(&mut client, "/a", "Range: bytes=0-1\r\n");
        assert_eq!((first.status(), first.text()), (206, "st"));
        // The client's request and the subrequest.
        seen.wait_for(2);
        assert_eq!(get(&mut client, "/a", "").text(), body);
        assert_eq!(seen.last(3).phase, CachePhase::Hit);
        assert_eq!(origin.count(), 1);
    }
}
