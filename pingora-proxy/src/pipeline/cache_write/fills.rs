//! The fills of this process, for those that read what is being stored.
//!
//! A storage may end a body that was given up as it ends a whole one: the `MemCache` of `pingora-cache` 0.9.1 does. Where the
//! length of the body is not known, its readers ask here. A fill of another process is not known.
//!
//! ```text
//! fill:    begin --> the storage has its entry --> ends_at --> the storage has its end --> drop
//!            |                                                                              ^
//!            +------------------------------ given up --------------------------------------+
//! reader:  cuts --> lookup --> reading --> the end of what the storage has --> is_whole
//! ```
//!
//! Only fills and those that read them come here.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use pingora_cache::key::{CacheHashKey, HashBinary};
use pingora_cache::CacheKey;

/// A key, and when the response was made: more than one fill of a key may run, and an older response be stored.
type Id = (HashBinary, SystemTime);

/// The length of a body, or [`OPEN`].
type Length = Arc<AtomicUsize>;

/// The length of a body whose end has not been stored.
const OPEN: usize = usize::MAX;

struct Shard {
    /// A look at it takes no lock where nothing runs.
    running: AtomicUsize,
    fills: Mutex<BTreeMap<Id, Vec<Length>>>,
}

static SHARDS: [Shard; 64] = [const {
    Shard {
        running: AtomicUsize::new(0),
        fills: Mutex::new(BTreeMap::new()),
    }
}; 64];

/// Counts the fills that were given up.
static CUTS: AtomicUsize = AtomicUsize::new(0);

fn shard(id: &Id) -> &'static Shard {
    &SHARDS[usize::from(id.0[0]) % SHARDS.len()]
}

impl Shard {
    fn fills(&self) -> MutexGuard<'_, BTreeMap<Id, Vec<Length>>> {
        self.fills.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A fill that may be read. It outlives what its storage has of it while it runs.
#[derive(Debug)]
pub(super) struct Fill {
    id: Id,
    length: Length,
}

impl Fill {
    /// Begins a fill, before its storage has anything of it.
    pub(super) fn begin(key: &CacheKey, created: SystemTime) -> Self {
        let id = (key.combined_bin(), created);
        let length = Arc::new(AtomicUsize::new(OPEN));
        let shard = shard(&id);
        shard
            .fills()
            .entry(id)
            .or_default()
            .push(Arc::clone(&length));
        shard.running.fetch_add(1, Ordering::Release);
        Fill { id, length }
    }

    /// Says that the body ends after so many bytes, before its storage is given the last of them.
    pub(super) fn ends_at(&self, length: usize) {
        self.length.store(length, Ordering::Release);
    }
}

impl Drop for Fill {
    fn drop(&mut self) {
        if self.length.load(Ordering::Relaxed) == OPEN {
            // Before it is gone, for those that have missed it.
            CUTS.fetch_add(1, Ordering::Release);
        }
        let shard = shard(&self.id);
        let mut fills = shard.fills();
        if let Some(same) = fills.get_mut(&self.id) {
            same.retain(|length| !Arc::ptr_eq(length, &self.length));
            if same.is_empty() {
                fills.remove(&self.id);
            }
        }
        shard.running.fetch_sub(1, Ordering::Release);
    }
}

/// The fills that a reader may be reading: mostly one.
pub(crate) struct Reading(Vec<Length>);

impl Reading {
    /// Returns whether a body that ends after so many bytes is all of one.
    pub(crate) fn is_whole(&self, read: usize) -> bool {
        self.0
            .iter()
            .any(|length| length.load(Ordering::Acquire) == read)
    }
}

/// Returns how many fills were given up so far.
pub(crate) fn cuts() -> usize {
    CUTS.load(Ordering::Acquire)
}

/// Returns the fills whose response a lookup may have found; `cuts` is what [`cuts`] returned before that. One that was given up
/// since then and is gone may be the one that was found: what was found is whole in no case then.
pub(crate) fn reading(key: &CacheKey, created: SystemTime, cuts: usize) -> Option<Reading> {
    let id = (key.combined_bin(), created);
    let shard = shard(&id);
    if shard.running.load(Ordering::Acquire) > 0 {
        if let Some(same) = shard.fills().get(&id) {
            return Some(Reading(same.clone()));
        }
    }
    (self::cuts() != cuts).then(|| Reading(Vec::new()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn key(name: &'static str) -> CacheKey {
        CacheKey::new(name, "")
    }

    fn known(key: &CacheKey, created: SystemTime) -> Option<Reading> {
        let id = (key.combined_bin(), created);
        let same = shard(&id).fills().get(&id)?.clone();
        Some(Reading(same))
    }

    #[test]
    fn a_reader_learns_the_length_of_what_it_reads() {
        let (key, now) = (key("one"), SystemTime::now());
        let fill = Fill::begin(&key, now);
        let reading = reading(&key, now, cuts()).unwrap();
        assert!(!reading.is_whole(0) && !reading.is_whole(5));
        fill.ends_at(5);
        assert!(reading.is_whole(5) && !reading.is_whole(4));
        drop(fill);
        assert!(reading.is_whole(5));
        assert!(known(&key, now).is_none());
    }

    #[test]
    fn what_was_given_up_is_whole_nowhere() {
        let (key, now) = (key("two"), SystemTime::now());
        let before = cuts();
        let fill = Fill::begin(&key, now);
        let early = reading(&key, now, before).unwrap();
        drop(fill);
        let late = reading(&key, now, before).unwrap();
        assert!(!early.is_whole(0) && !late.is_whole(0));
    }

    #[test]
    fn fills_of_a_key_are_told_apart_by_their_time() {
        let (key, now) = (key("three"), SystemTime::now());
        let later = now + Duration::from_nanos(1);
        let first = Fill::begin(&key, now);
        let second = Fill::begin(&key, later);
        second.ends_at(2);
        assert!(!known(&key, now).unwrap().is_whole(2));
        assert!(known(&key, later).unwrap().is_whole(2));
        assert!(known(&self::key("four"), now).is_none());
        drop(first);
        assert!(known(&key, now).is_none());
        assert!(known(&key, later).unwrap().is_whole(2));
    }

    #[test]
    fn fills_of_the_same_time_are_one_or_the_other() {
        let (key, now) = (key("five"), SystemTime::now());
        let fills = [Fill::begin(&key, now), Fill::begin(&key, now)];
        fills[0].ends_at(1);
        fills[1].ends_at(2);
        let reading = known(&key, now).unwrap();
        assert!(reading.is_whole(1) && reading.is_whole(2) && !reading.is_whole(3));
        let [first, second] = fills;
        drop(first);
        assert!(!known(&key, now).unwrap().is_whole(1));
        drop(second);
        assert!(known(&key, now).is_none());
    }
}
