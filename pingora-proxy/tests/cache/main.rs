//! What a proxy that caches answers, asks its origin, and stores.

#![allow(clippy::unwrap_used)]

#[path = "../common/mod.rs"]
mod common;

mod aborts;
mod custom;
mod fills;
mod fixture;
mod hits;
mod lookups;
mod panics;
mod partial;
mod plain;
mod purges;
mod revalidation;
mod soak;
mod stale;
mod unread;

use fixture::{key, mem_cache, meta, store, stored};

#[test]
fn what_is_stored_by_hand_is_found() {
    let storage = mem_cache();
    assert!(stored(storage, &key("/a")).is_none());
    store(storage, &key("/a"), &meta(60, "200\r\nETag: \"1\""), "body");
    let (meta, body) = stored(storage, &key("/a")).unwrap();
    assert_eq!(meta.headers()["etag"], "\"1\"");
    assert_eq!(body, "body");
}
