//! The entries that a worker reads again and again: it finds them without the lock of their shard, and has copies of its
//! own, whose readers are counted in memory that no other worker writes.
//!
//! A shard has a version, which every change under its lock raises. What was found at a version is true as long as the
//! version is the same. A worker keeps an entry when it finds it twice at one version, so that shards that change all the
//! time cost nothing here.

use std::cell::RefCell;
use std::sync::Arc;

use bytes::Bytes;
use pingora_cache::key::HashBinary;
use pingora_cache::{CacheKey, CacheMeta};
use pingora_core::Result;
use pingora_http::ResponseHeader;

use super::entry::{url_of, Entry};
use super::shard::Shard;

/// Entries that a worker keeps. They are small ones, and are kept until others take their place.
const SLOTS: usize = 64;

/// What was found last of the keys that share a slot.
#[derive(Default)]
struct Slot {
    /// The address of a shard, which lives as long as the program.
    shard: usize,
    version: u64,
    id: u64,
    kept: Option<Kept>,
}

/// A small entry, with a header and a body that no other worker reads.
pub(super) struct Kept {
    pub(super) entry: Arc<Entry>,
    header: ResponseHeader,
    pub(super) body: Bytes,
}

impl Kept {
    fn new(entry: &Arc<Entry>) -> Result<Self> {
        Ok(Self {
            header: entry.meta.header()?,
            body: entry.body.copy(),
            entry: entry.clone(),
        })
    }

    pub(super) fn meta(&self) -> CacheMeta {
        self.entry.meta.with(self.header.clone())
    }
}

thread_local! {
    static HOT: RefCell<[Slot; SLOTS]> = RefCell::new(std::array::from_fn(|_| Slot::default()));
}

fn index(hash: &HashBinary) -> usize {
    // Neither the bits that choose a shard nor those of the map within.
    (url_of(hash) >> 32) as usize % SLOTS
}

/// Reads the entry of a key, if it is one that this worker keeps.
#[inline]
pub(super) fn read<T>(
    shard: &'static Shard,
    hash: &HashBinary,
    key: &CacheKey,
    f: impl FnOnce(&Kept) -> T,
) -> Option<T> {
    HOT.with_borrow(|slots| {
        let slot = &slots[index(hash)];
        let kept = slot.kept.as_ref()?;
        let same = slot.shard == address(shard) && slot.version == shard.version();
        (same && kept.entry.name.is_of(hash, key)).then(|| f(kept))
    })
}

/// Notes that an entry was found at a version of its shard, and keeps it if it was found there before.
pub(super) fn note(shard: &'static Shard, version: u64, hash: &HashBinary, entry: &Arc<Entry>) {
    HOT.with_borrow_mut(|slots| {
        let slot = &mut slots[index(hash)];
        let found = (address(shard), version, entry.id);
        if (slot.shard, slot.version, slot.id) == found {
            // One that cannot be copied is not found here, and read as all others are.
            slot.kept = Kept::new(entry).ok();
        } else {
            (slot.shard, slot.version, slot.id) = found;
            slot.kept = None;
        }
    });
}

fn address(shard: &'static Shard) -> usize {
    std::ptr::from_ref(shard).addr()
}
