//! A storage in memory, bounded in bytes.
//!
//! ```text
//! shard = hash of the URL  ->  URL -> its entries: one for each route, key and variant
//!                              fills: responses that are being stored, which others read as they come
//!                              queue: entries, oldest first; one that was used goes round once more
//! ```
//!
//! The URL alone chooses the shard, so that a purge finds all that is stored for it under one lock. A hit takes the
//! shard's lock for reading, and writes nothing but the mark that the entry was used, once between two rounds of the
//! queue: a list in order of use would have each hit write. Small bodies are copied, others are chunks that are given out
//! without a copy and counted; headers are kept as they are sent. Small entries that a worker reads again and again it
//! finds without the lock, as long as nothing [changes](hot) in their shard.

mod entry;
mod fill;
mod hit;
mod hot;
mod shard;
#[cfg(test)]
mod tests;

use std::any::Any;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::Arc;
use std::time::SystemTime;

use async_trait::async_trait;
use pingora_cache::key::CacheHashKey;
use pingora_cache::storage::{
    HitHandler, MissHandler, PurgeOutcome, PurgeTarget, PurgeType, Storage,
};
use pingora_cache::trace::SpanHandle;
use pingora_cache::{CacheKey, CacheMeta};
use pingora_core::Result;

pub(super) use entry::END_OF_URL;
use entry::{Entry, Meta, Name};
use fill::{Fill, Writer};
use hit::{Reader, Whole};
use shard::{Found, Shard, Turn};

const SHARDS: usize = 64;
/// Entries in a row that are spared because they were used, before one goes all the same.
const MOST_SPARED: usize = 16 * SHARDS;

/// A storage in memory.
pub struct Store {
    shards: [Shard; SHARDS],
    limit: AtomicUsize,
    /// The bytes of entries and fills.
    bytes: AtomicUsize,
    entries: AtomicUsize,
    evictions: AtomicU64,
    /// The shard that makes room next.
    hand: AtomicUsize,
    next: AtomicU64,
}

/// The [epoch](Store::epoch) in which a response was asked for, in the extensions of its meta.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked(pub(crate) u64);

/// The size of a storage, and what it had to give up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// The bytes that are taken.
    pub bytes: usize,
    /// The bytes that may be taken.
    pub limit: usize,
    /// The responses that are stored.
    pub entries: usize,
    /// The responses that made room for others, since the start.
    pub evictions: u64,
}

impl Store {
    /// Makes a storage of so many bytes.
    pub fn new(limit: usize) -> Self {
        Self {
            shards: [const { Shard::new() }; SHARDS],
            limit: AtomicUsize::new(limit),
            bytes: AtomicUsize::new(0),
            entries: AtomicUsize::new(0),
            evictions: AtomicU64::new(0),
            hand: AtomicUsize::new(0),
            next: AtomicU64::new(1),
        }
    }

    /// Has it take so many bytes at most from now on.
    pub fn set_limit(&self, limit: usize) {
        self.limit.store(limit, Ordering::Relaxed);
        self.make_room();
    }

    /// Returns its size.
    pub fn figures(&self) -> Figures {
        Figures {
            bytes: self.bytes.load(Ordering::Relaxed),
            limit: self.limit.load(Ordering::Relaxed),
            entries: self.entries.load(Ordering::Relaxed),
            evictions: self.evictions.load(Ordering::Relaxed),
        }
    }

    /// Returns the present epoch of a URL. A response that is asked for now, and [stored](Asked) later, is dropped if its URL
    /// is purged in between.
    pub(crate) fn epoch(&self, url: u64) -> u64 {
        self.shard(url).epoch()
    }

    /// Removes everything whose URL has this hash and is `url`, what is being stored too, and returns the number of
    /// responses.
    pub(crate) fn purge_url(&self, hash: u64, url: &[u8]) -> usize {
        let removed = self.shard(hash).remove(hash, |name| name.url() == url);
        self.forget(&removed)
    }

    /// Removes everything whose URL begins with `prefix`, and returns the number of responses. It looks at each entry:
    /// about 100 ns for each, a 64th of them under one lock.
    pub(crate) fn purge_prefix(&self, prefix: &[u8]) -> usize {
        let prefix: Arc<[u8]> = prefix.into();
        let purge = |shard: &Shard| {
            let removed = shard.remove_all(&prefix);
            self.forget(&removed)
        };
        self.shards.iter().map(purge).sum()
    }

    fn shard(&self, url: u64) -> &Shard {
        // The map within takes the low bits.
        &self.shards[(url >> 58) as usize % SHARDS]
    }

    /// Takes bytes for a fill. Entries make room.
    fn reserve(&self, bytes: usize) -> bool {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        if self.make_room() {
            return true;
        }
        self.release(bytes);
        false
    }

    fn release(&self, bytes: usize) {
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Evicts entries until what is left fits; `false` when only fills are left, and are too much. Shards take turns, so
    /// that an entry which was used has until all others had theirs to be used again.
    fn make_room(&self) -> bool {
        let (mut empty, mut spared) = (0, 0);
        while self.bytes.load(Ordering::Relaxed) > self.limit.load(Ordering::Relaxed) {
            if empty == SHARDS {
                return false;
            }
            let turn = self.hand.fetch_add(1, Ordering::Relaxed);
            match self.shards[turn % SHARDS].turn(spared > MOST_SPARED) {
                Turn::Empty => empty += 1,
                Turn::Spared => (empty, spared) = (0, spared + 1),
                Turn::Evicted(entry) => {
                    (empty, spared) = (0, 0);
                    self.evictions.fetch_add(1, Ordering::Relaxed);
                    self.forget(&[entry]);
                }
            }
        }
        true
    }

    /// Counts entries off that were removed from their shard.
    fn forget(&self, removed: &[Arc<Entry>]) -> usize {
        for entry in removed {
            self.release(entry.size);
            self.entries.fetch_sub(1, Ordering::Relaxed);
        }
        removed.len()
    }

    /// Puts an entry in, whose size is reserved, in place of the one of the same name.
    fn insert(&self, entry: Arc<Entry>) {
        self.entries.fetch_add(1, Ordering::Relaxed);
        let url = entry.name.url_hash();
        let replaced = self.shard(url).insert(entry);
        self.forget(replaced.as_slice());
    }

    /// Puts another meta in place of that of an entry, as [`Shard::replace`] does, and counts what it takes more or less.
    fn replace(
        &self,
        url: u64,
        meta: impl Fn(&Entry) -> Option<Result<(Meta, usize)>>,
    ) -> Result<bool> {
        let Some((before, after)) = self.shard(url).replace(url, meta)? else {
            return Ok(false);
        };
        self.bytes.fetch_add(after, Ordering::Relaxed);
        self.release(before);
        self.make_room();
        Ok(true)
    }

    fn unique(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }
}

/// What `pingora-cache` finds: a handler, and a copy of the header.
fn found(found: Option<Found>) -> Result<Option<(CacheMeta, HitHandler)>> {
    Ok(match found {
        Some(Found::Entry(entry)) => {
            let meta = entry.meta.copy()?;
            Some((meta, Box::new(Whole::new(entry))))
        }
        Some(Found::Copy(meta, whole)) => Some((meta, Box::new(whole))),
        Some(Found::Fill(fill)) => Some((entry::copy(&fill.meta), Box::new(Reader::new(&fill)))),
        None => None,
    })
}

#[async_trait]
impl Storage for Store {
    async fn lookup(
        &'static self,
        key: &CacheKey,
        _: &SpanHandle,
    ) -> Result<Option<(CacheMeta, HitHandler)>> {
        let hash = key.primary_bin();
        let shard = self.shard(entry::url_of(&hash));
        found(shard.find(&hash, key, None)?)
    }

    async fn lookup_streaming_write(
        &'static self,
        key: &CacheKey,
        tag: Option<&[u8]>,
        _: &SpanHandle,
    ) -> Result<Option<(CacheMeta, HitHandler)>> {
        let hash = key.primary_bin();
        let shard = self.shard(entry::url_of(&hash));
        found(shard.find(&hash, key, tag)?)
    }

    async fn get_miss_handler(
        &'static self,
        key: &CacheKey,
        meta: &CacheMeta,
        _: &SpanHandle,
    ) -> Result<MissHandler> {
        let fill = Arc::new(Fill::new(self.unique(), Name::of(key), entry::copy(meta)));
        let writer = Writer::new(self, fill.clone())?;
        let asked = meta.extensions().get::<Asked>().map(|asked| asked.0);
        self.shard(fill.name.url_hash()).begin(fill, asked);
        Ok(Box::new(writer))
    }

    async fn purge(
        &'static self,
        target: PurgeTarget<'_>,
        _: PurgeType,
        _: &SpanHandle,
    ) -> Result<PurgeOutcome> {
        let key = target.key();
        let url = entry::url_of(&key.primary);
        let removed = self.shard(url).remove(url, |name| name.is(key));
        Ok(match self.forget(&removed) {
            0 => PurgeOutcome::NotFound,
            _ => PurgeOutcome::Purged(None),
        })
    }

    async fn expire(
        &'static self,
        target: PurgeTarget<'_>,
        _: &SpanHandle,
    ) -> Result<PurgeOutcome> {
        let key = target.key();
        let url = entry::url_of(&key.primary);
        let now = SystemTime::now();
        let expired = self.replace(url, |entry| {
            entry.name.is(key).then(|| {
                let mut meta = entry.meta.copy()?;
                meta.expire_at(now);
                Ok((Meta::of(&meta)?, entry.size))
            })
        })?;
        Ok(if expired {
            PurgeOutcome::Expired
        } else {
            PurgeOutcome::NotFound
        })
    }

    async fn update_meta(
        &'static self,
        key: &CacheKey,
        meta: &CacheMeta,
        _: &SpanHandle,
    ) -> Result<bool> {
        let name = Name::of(key);
        let url = name.url_hash();
        self.replace(url, |entry| {
            // What has taken its place meanwhile was not confirmed: it has another body.
            let same = *entry.name == name && entry.meta.created() == meta.created();
            same.then(|| Ok((Meta::of(meta)?, name.size(meta) + entry.body.size())))
        })
    }

    fn support_streaming_partial_write(&self) -> bool {
        true
    }

    fn as_any(&self) -> &(dyn Any + Send + Sync + 'static) {
        self
    }
}
