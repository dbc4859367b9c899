//! The entries that a worker reads again and again: it finds them without the lock of their shard, and counts nothing.
//!
//! A shard has a version, which every change under its lock raises. What was found at a version is true as long as the
//! version is the same. A worker keeps an entry when it finds it twice at one version, so that shards that change all the
//! time cost nothing here.

use std::cell::RefCell;
use std::sync::Arc;

use pingora_cache::key::HashBinary;
use pingora_cache::CacheKey;

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
    entry: Option<Arc<Entry>>,
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
    f: impl FnOnce(&Entry) -> T,
) -> Option<T> {
    HOT.with_borrow(|slots| {
        let slot = &slots[index(hash)];
        let entry = slot.entry.as_ref()?;
        let same = slot.shard == address(shard) && slot.version == shard.version();
        (same && entry.name.is_of(hash, key)).then(|| f(entry))
    })
}

/// Notes that an entry was found at a version of its shard, and keeps it if it was found there before.
pub(super) fn note(shard: &'static Shard, version: u64, hash: &HashBinary, entry: &Arc<Entry>) {
    HOT.with_borrow_mut(|slots| {
        let slot = &mut slots[index(hash)];
        let found = (address(shard), version, entry.id);
        if (slot.shard, slot.version, slot.id) == found {
            slot.entry = Some(entry.clone());
        } else {
            (slot.shard, slot.version, slot.id) = found;
            slot.entry = None;
        }
    });
}

fn address(shard: &'static Shard) -> usize {
    std::ptr::from_ref(shard).addr()
}
