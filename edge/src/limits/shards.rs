//! A bounded table that workers share, in parts with a lock each.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::{Mutex, PoisonError};

/// Parts of a table: so many workers can be in it at a time without waiting for each other.
const SHARDS: usize = 64;
/// The keys of a part.
const KEYS: usize = 1024;
/// The entries that are looked at to find one to drop.
const LOOKED_AT: usize = 16;

/// A table of at most 65,536 keys, which are hashes that nobody can foresee.
pub(super) struct Shards<V>(Box<[Mutex<Shard<V>>]>);

struct Shard<V> {
    index: HashMap<u64, usize, BuildHasherDefault<Hashed>>,
    entries: Vec<(u64, V)>,
    /// The entry to look at next when room is needed.
    hand: usize,
}

/// Hashes what is a hash already.
#[derive(Default)]
pub(super) struct Hashed(u64);

impl Hasher for Hashed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for b in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*b);
        }
    }

    fn write_u64(&mut self, key: u64) {
        self.0 = key;
    }
}

/// An entry of a table.
pub(super) trait Entry: Default {
    /// Tells how much would be lost without it: nothing with 0.
    fn weight(&self) -> u128;
}

impl<V: Entry> Shards<V> {
    pub(super) fn new() -> Self {
        let shard = || {
            Mutex::new(Shard {
                index: HashMap::default(),
                entries: Vec::new(),
                hand: 0,
            })
        };
        Self((0..SHARDS).map(|_| shard()).collect())
    }

    /// Lends the entry of a key, a new one if there is none. Where there is no room, an entry with little weight goes.
    pub(super) fn with<T>(&self, key: u64, f: impl FnOnce(&mut V) -> T) -> T {
        // The lower bits choose a bucket of the map.
        let shard = &self.0[(key >> 58) as usize % SHARDS];
        let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
        let index = shard.place(key);
        f(&mut shard.entries[index].1)
    }

    /// Drops the entry of a key if it has no weight.
    pub(super) fn tidy(&self, key: u64) {
        let shard = &self.0[(key >> 58) as usize % SHARDS];
        let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(index) = shard.index.get(&key).copied() {
            if shard.entries[index].1.weight() == 0 {
                shard.remove(index);
            }
        }
    }

    /// Counts the keys.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        let shards = self.0.iter();
        shards
            .map(|shard| shard.lock().unwrap().entries.len())
            .sum()
    }
}

impl<V: Entry> Shard<V> {
    fn place(&mut self, key: u64) -> usize {
        if let Some(index) = self.index.get(&key) {
            return *index;
        }
        if self.entries.len() >= KEYS {
            let least = self.least();
            self.remove(least);
        }
        let index = self.entries.len();
        self.entries.push((key, V::default()));
        self.index.insert(key, index);
        index
    }

    /// Returns the entry of the least weight among the next ones, or the first of them without any.
    fn least(&mut self) -> usize {
        let mut least = (u128::MAX, self.hand % self.entries.len());
        for _ in 0..LOOKED_AT {
            self.hand = (self.hand + 1) % self.entries.len();
            let weight = self.entries[self.hand].1.weight();
            if weight < least.0 {
                least = (weight, self.hand);
            }
            if weight == 0 {
                break;
            }
        }
        least.1
    }

    fn remove(&mut self, index: usize) {
        let (key, _) = self.entries.swap_remove(index);
        self.index.remove(&key);
        if let Some((moved, _)) = self.entries.get(index) {
            self.index.insert(*moved, index);
        }
    }
}
