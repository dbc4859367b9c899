use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use http::header::ETAG;
use pingora_cache::trace::Span;
use pingora_http::ResponseHeader;

use super::*;
use crate::cache::Key;

fn store(limit: usize) -> &'static Store {
    Box::leak(Box::new(Store::new(limit)))
}

fn key(url: &str, rest: &str) -> CacheKey {
    Key::new(url.as_bytes(), rest.as_bytes()).to_cache_key()
}

fn meta(tag: &'static str) -> CacheMeta {
    let mut header = ResponseHeader::build(200, None).unwrap();
    header.insert_header(ETAG, tag).unwrap();
    let now = SystemTime::now();
    CacheMeta::new(now + Duration::from_secs(60), now, 5, 6, header)
}

/// Nothing in the storage waits but a reader of a fill.
fn now<T>(future: impl std::future::Future<Output = T>) -> T {
    future.now_or_never().expect("it is ready")
}

fn begin(store: &'static Store, key: &CacheKey) -> MissHandler {
    let trace = Span::inactive().handle();
    now(store.get_miss_handler(key, &meta("\"t\""), &trace)).unwrap()
}

fn write(writer: &mut MissHandler, data: &str, end: bool) {
    now(writer.write_body(Bytes::copy_from_slice(data.as_bytes()), end)).unwrap();
}

fn fill(store: &'static Store, key: &CacheKey, body: &str) {
    let mut writer = begin(store, key);
    write(&mut writer, body, true);
    now(writer.finish()).unwrap();
}

fn look(store: &'static Store, key: &CacheKey) -> Option<(CacheMeta, HitHandler)> {
    now(store.lookup(key, &Span::inactive().handle())).unwrap()
}

fn read(hit: &mut HitHandler) -> String {
    let mut body = Vec::new();
    while let Some(chunk) = now(hit.read_body()).unwrap() {
        body.extend_from_slice(&chunk);
    }
    String::from_utf8(body).unwrap()
}

fn body(store: &'static Store, key: &CacheKey) -> Option<String> {
    look(store, key).map(|(_, mut hit)| read(&mut hit))
}

/// Makes of what was found what a 304 does.
fn renewed(found: &CacheMeta) -> CacheMeta {
    let header = meta("\"n\"").response_header_copy();
    let until = SystemTime::now() + Duration::from_secs(60);
    CacheMeta::new(until, found.created(), 5, 6, header)
}

fn update(store: &'static Store, key: &CacheKey, found: &CacheMeta) -> bool {
    let trace = Span::inactive().handle();
    now(store.update_meta(key, &renewed(found), &trace)).unwrap()
}

#[test]
fn what_is_stored_is_found_under_its_key_and_variant_alone() {
    let store = store(1 << 20);
    let mut variant = key("a/x", "1");
    fill(store, &variant, "plain");
    variant.set_variance_key([7; 16]);
    fill(store, &variant, "variant");
    let (found, mut hit) = look(store, &key("a/x", "1")).unwrap();
    assert_eq!(read(&mut hit), "plain");
    assert_eq!(found.headers()[ETAG], "\"t\"");
    assert_eq!(
        (
            found.stale_while_revalidate_sec(),
            found.stale_if_error_sec()
        ),
        (5, 6)
    );
    assert_eq!(body(store, &variant).unwrap(), "variant");
    variant.set_variance_key([8; 16]);
    assert!(look(store, &variant).is_none());
    assert!(look(store, &key("a/x", "2")).is_none());
    assert!(look(store, &key("a/x?", "1")).is_none());
    assert_eq!(store.figures().entries, 2);
    // The same key takes the place of what is there.
    fill(store, &key("a/x", "1"), "new");
    assert_eq!(body(store, &key("a/x", "1")).unwrap(), "new");
    assert_eq!(store.figures().entries, 2);
}

#[test]
fn keys_whose_hashes_are_equal_are_two() {
    let store = store(1 << 20);
    let [mut one, mut other] = [key("a/x", "1"), key("a/y", "1")];
    one.set_primary_bin_override([1; 16]);
    other.set_primary_bin_override([1; 16]);
    fill(store, &one, "one");
    assert!(look(store, &other).is_none());
    fill(store, &other, "other");
    assert_eq!(body(store, &one).unwrap(), "one");
    assert_eq!(store.purge_url(u64::from_be_bytes([1; 8]), b"a/x"), 1);
    assert_eq!(body(store, &other).unwrap(), "other");
}

#[test]
fn a_fill_is_read_as_it_comes() {
    let store = store(1 << 20);
    let key = key("a/x", "");
    let mut writer = begin(store, &key);
    let (_, mut early) = look(store, &key).unwrap();
    assert!(early.read_body().now_or_never().is_none());
    write(&mut writer, "one ", false);
    let tag = writer.streaming_write_tag().unwrap().to_owned();
    let trace = Span::inactive().handle();
    let own = now(store.lookup_streaming_write(&key, Some(&tag), &trace));
    let (_, mut own) = own.unwrap().unwrap();
    let other = now(store.lookup_streaming_write(&key, Some(b"12345678"), &trace));
    assert!(other.unwrap().is_none());
    write(&mut writer, "two", true);
    assert_eq!(read(&mut early), "one two");
    assert!(!own.can_seek());
    now(writer.finish()).unwrap();
    assert_eq!(read(&mut own), "one two");
    let (_, mut whole) = look(store, &key).unwrap();
    assert!(whole.can_seek());
    assert_eq!(read(&mut whole), "one two");
}

#[test]
fn a_fill_that_was_given_up_is_no_whole_body() {
    let store = store(1 << 20);
    let key = key("a/x", "");
    let mut writer = begin(store, &key);
    write(&mut writer, "half", false);
    let (_, mut hit) = look(store, &key).unwrap();
    drop(writer);
    assert_eq!(now(hit.read_body()).unwrap().unwrap(), "half");
    assert!(now(hit.read_body()).is_err());
    assert!(look(store, &key).is_none());
    let figures = store.figures();
    assert_eq!((figures.bytes, figures.entries), (0, 0));
}

#[test]
fn a_purge_finds_what_is_being_stored() {
    let store = store(1 << 20);
    let (x, other) = (key("a/x", ""), key("a/xy", ""));
    fill(store, &x, "old");
    fill(store, &key("a/x", "2"), "old");
    fill(store, &other, "stays");
    let mut writer = begin(store, &x);
    let url = entry::url_of(&x.primary_bin());
    assert_eq!(store.purge_url(url, b"a/x"), 2);
    assert!(look(store, &x).is_none());
    write(&mut writer, "from before", true);
    now(writer.finish()).unwrap();
    assert!(look(store, &x).is_none());
    assert_eq!(store.figures().entries, 1);
    assert_eq!(store.purge_prefix(b"a/y"), 0);
    assert_eq!(store.purge_prefix(b"a/x"), 1);
    assert_eq!(store.figures().bytes, 0);
}

#[test]
fn what_was_not_used_makes_room() {
    let store = store(64 * (10_000 + 1024));
    let body = "x".repeat(10_000);
    let name = |n: usize| key(&format!("a/{n}"), "");
    for n in 0..400 {
        fill(store, &name(n), &body);
        // Used as often as anything comes.
        look(store, &name(0)).unwrap();
        let figures = store.figures();
        assert!(figures.bytes <= figures.limit, "{figures:?}");
    }
    let figures = store.figures();
    assert!(figures.entries > 50, "{figures:?}");
    assert_eq!(figures.entries as u64 + figures.evictions, 400);
    store.set_limit(30_000);
    assert!(store.figures().bytes <= 30_000);
    store.set_limit(0);
    assert_eq!((store.figures().bytes, store.figures().entries), (0, 0));
}

#[test]
fn what_comes_at_once_is_bounded_too() {
    let store = store(4 * 1024);
    let mut writer = begin(store, &key("a/x", ""));
    write(&mut writer, &"x".repeat(2000), false);
    let more = Bytes::from(vec![0; 4000]);
    assert!(now(writer.write_body(more, false)).is_err());
    drop(writer);
    assert_eq!(store.figures().bytes, 0);
}

#[test]
fn parts_of_a_body_are_read() {
    let store = store(1 << 24);
    let key = key("a/x", "");
    let mut writer = begin(store, &key);
    let all: String = (0..40_000).map(|n| format!("{n:06} ")).collect();
    for piece in all.as_bytes().chunks(1000) {
        write(&mut writer, std::str::from_utf8(piece).unwrap(), false);
    }
    write(&mut writer, "", true);
    now(writer.finish()).unwrap();
    let (_, mut hit) = look(store, &key).unwrap();
    assert_eq!(read(&mut hit), all);
    for (start, end) in [(0, 1), (1, 70_000), (65_535, 65_537), (131_072, 140_000)] {
        hit.seek(start, Some(end)).unwrap();
        assert_eq!(read(&mut hit), all[start..end], "{start} {end}");
    }
    hit.seek(279_990, None).unwrap();
    assert_eq!(read(&mut hit), all[279_990..]);
    assert!(hit.seek(all.len(), None).is_err());
    assert!(hit.seek(5, Some(4)).is_err());
}

#[test]
fn parts_of_a_small_body_are_read_one_after_the_other() {
    let store = store(1 << 20);
    let key = key("a/x", "");
    fill(store, &key, "0123456789");
    // The first is read from the storage, the others from what the worker keeps of it.
    for _ in 0..3 {
        let (_, mut hit) = look(store, &key).unwrap();
        assert!(hit.can_seek_multipart());
        for (start, end) in [(0, 2), (4, 6), (0, 10), (9, 10)] {
            hit.seek_multipart(start, Some(end)).unwrap();
            assert_eq!(read(&mut hit), "0123456789"[start..end], "{start} {end}");
        }
    }
}

#[test]
fn a_header_is_brought_up_to_date_and_expired() {
    let store = store(1 << 20);
    let key = key("a/x", "");
    let trace = Span::inactive().handle();
    assert!(!now(store.update_meta(&key, &meta("\"n\""), &trace)).unwrap());
    fill(store, &key, "body");
    assert!(update(store, &key, &look(store, &key).unwrap().0));
    let (found, mut hit) = look(store, &key).unwrap();
    assert_eq!(found.headers()[ETAG], "\"n\"");
    assert_eq!(read(&mut hit), "body");
    let compact = key.to_compact();
    let target = PurgeTarget::Active(&compact);
    let expired = now(store.expire(target, &trace)).unwrap();
    assert_eq!(expired, PurgeOutcome::Expired);
    let later = SystemTime::now() + Duration::from_secs(1);
    assert!(!look(store, &key).unwrap().0.is_fresh(later));
    let purged = now(store.purge(target, PurgeType::Invalidation, &trace)).unwrap();
    assert_eq!(purged, PurgeOutcome::Purged(None));
    let again = now(store.purge(target, PurgeType::Invalidation, &trace)).unwrap();
    assert_eq!(again, PurgeOutcome::NotFound);
}

/// Two variants are one when the response says so, which does not ask for the lock of the first one.
#[test]
fn a_body_keeps_the_header_that_it_came_with() {
    let store = store(1 << 20);
    let key = key("a/x", "");
    fill(store, &key, "one");
    let (asked, _) = look(store, &key).unwrap();
    fill(store, &key, "other");
    assert!(!update(store, &key, &asked));
    let (found, mut hit) = look(store, &key).unwrap();
    assert_eq!(
        (&found.headers()[ETAG], &*read(&mut hit)),
        (&"\"t\"".parse().unwrap(), "other")
    );
}

#[test]
fn a_header_that_grows_is_counted() {
    let store = store(1 << 20);
    let key = key("a/x", "");
    fill(store, &key, "body");
    let before = store.figures().bytes;
    let mut longer = renewed(&look(store, &key).unwrap().0);
    let value = "x".repeat(10_000);
    longer
        .response_header_mut()
        .insert_header("x-long", value)
        .unwrap();
    let trace = Span::inactive().handle();
    assert!(now(store.update_meta(&key, &longer, &trace)).unwrap());
    let grown = store.figures().bytes;
    assert!(grown > before + 10_000, "{before} {grown}");
    assert!(update(store, &key, &look(store, &key).unwrap().0));
    assert_eq!(store.figures().bytes, before);
    // It makes room as anything else does.
    store.set_limit(before);
    now(store.update_meta(&key, &longer, &trace)).unwrap();
    assert_eq!((store.figures().bytes, store.figures().entries), (0, 0));
}

#[test]
fn one_url_has_so_many_responses_and_no_more() {
    let store = store(1 << 24);
    let one = |n: usize| key("a/x", &n.to_string());
    fill(store, &one(0), "first");
    for n in 1..1000 {
        fill(store, &one(n), "");
        // What is asked for stays.
        look(store, &one(0)).unwrap();
    }
    let figures = store.figures();
    assert_eq!(figures.entries, 256);
    assert_eq!(body(store, &one(0)).as_deref(), Some("first"));
    assert!(look(store, &one(999)).is_some());
    assert!(look(store, &one(500)).is_none());
    assert_eq!(store.purge_prefix(b"a/"), 256);
    assert_eq!((store.figures().bytes, store.figures().entries), (0, 0));
    // What makes room is still found in the queue, in which the rest is forgotten.
    for n in 0..1000 {
        fill(store, &one(n), "");
    }
    store.set_limit(0);
    assert_eq!((store.figures().bytes, store.figures().entries), (0, 0));
}

#[test]
fn a_validation_makes_a_response_young_and_not_new() {
    let store = store(1 << 20);
    let key = key("a/x", "");
    fill(store, &key, "body");
    let made = look(store, &key).unwrap().0.created();
    let mut confirmed = renewed(&look(store, &key).unwrap().0);
    let later = made + Duration::from_secs(9);
    confirmed.set_epoch_override(later);
    let trace = Span::inactive().handle();
    assert!(now(store.update_meta(&key, &confirmed, &trace)).unwrap());
    // Twice, as a worker keeps what it finds again.
    for _ in 0..3 {
        let (found, _) = look(store, &key).unwrap();
        assert_eq!((found.created(), found.epoch()), (made, later));
    }
}

#[test]
fn what_was_asked_for_before_a_purge_is_not_stored() {
    let store = store(1 << 20);
    let (own, other) = (key("a/x", "1"), key("a/y", "1"));
    let hash = |key: &CacheKey| entry::url_of(&key.primary_bin());
    let asked = |key: &CacheKey| Asked(store.epoch(hash(key)));
    let end = |key: &CacheKey, asked: Asked| {
        let mut meta = meta("\"t\"");
        meta.extensions_mut().insert(asked);
        let trace = Span::inactive().handle();
        let mut writer = now(store.get_miss_handler(key, &meta, &trace)).unwrap();
        write(&mut writer, "old", true);
        now(writer.finish()).unwrap();
        body(store, key).is_some()
    };
    let purges: [&dyn Fn() -> usize; 3] = [
        &|| store.purge_url(hash(&own), b"a/x"),
        &|| store.purge_prefix(b"a/x"),
        &|| store.purge_prefix(b""),
    ];
    for (n, purge) in purges.into_iter().enumerate() {
        let before = (asked(&own), asked(&other));
        purge();
        assert!(!end(&own, before.0), "{n}");
        assert_eq!(end(&other, before.1), n < 2, "{n}");
        assert!(end(&own, asked(&own)));
    }
    // Another URL that shares its place says nothing, until too many were purged to be remembered.
    let before = asked(&own);
    store.purge_prefix(b"b/");
    assert!(end(&own, before));
    store.purge_prefix(b"a/x");
    let before = asked(&own);
    for _ in 0..2000 {
        store.purge_prefix(b"b/");
    }
    assert!(!end(&own, before));
}

/// A worker keeps small entries that it finds again and again, and must not answer by them once they are gone.
#[test]
fn what_a_worker_keeps_is_no_longer_found_once_it_is_changed() {
    let store = store(1 << 20);
    let (one, url) = (key("a/x", "1"), b"a/x");
    let again = |body_now: Option<&str>| {
        for _ in 0..4 {
            assert_eq!(body(store, &one).as_deref(), body_now);
        }
    };
    again(None);
    fill(store, &one, "first");
    again(Some("first"));
    fill(store, &one, "second");
    again(Some("second"));
    assert_eq!(store.purge_url(entry::url_of(&one.primary_bin()), url), 1);
    again(None);
    fill(store, &one, "third");
    again(Some("third"));
    // Of another key in the same slot, and of another variant.
    let mut variant = one.clone();
    variant.set_variance_key([7; 16]);
    assert_eq!(body(store, &variant), None);
    assert_eq!(body(self::store(1 << 20), &one), None);
    again(Some("third"));
    assert!(update(store, &one, &look(store, &one).unwrap().0));
    let (found, _) = look(store, &one).unwrap();
    assert_eq!(found.headers()[ETAG], "\"n\"");
    let writer = begin(store, &one);
    let (_, hit) = look(store, &one).unwrap();
    assert!(!hit.should_count_access(), "the fill is what is found");
    drop((writer, hit));
    again(Some("third"));
    assert_eq!(store.purge_prefix(b"a/"), 1);
    again(None);
    fill(store, &one, "fourth");
    again(Some("fourth"));
    store.set_limit(0);
    again(None);
}
