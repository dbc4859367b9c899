//! A worker's own table of keys, which forgets those that were not asked for lately.

use std::collections::{HashMap, VecDeque};
use std::hash::BuildHasherDefault;

use super::shards::Hashed;

/// The keys that a worker remembers of one limit.
const KEYS: usize = 16 * 1024;
/// The old entries that are looked at for each new one, so that they go faster than they come.
const SWEPT: usize = 2;

/// The table.
pub(super) struct Local<V> {
    map: HashMap<u64, V, BuildHasherDefault<Hashed>>,
    /// The keys, and when each was put in or was found to be needed still.
    queue: VecDeque<(u64, u64)>,
}

impl<V> Default for Local<V> {
    fn default() -> Self {
        Self {
            map: HashMap::default(),
            queue: VecDeque::new(),
        }
    }
}

impl<V: Default> Local<V> {
    #[inline]
    pub(super) fn find(&mut self, key: u64) -> Option<&mut V> {
        self.map.get_mut(&key)
    }

    /// Returns the entry of a key, a new one if there is none. `forget` says whether an old one may go, and takes back
    /// what it holds; entries go by themselves when they are older than `age`.
    pub(super) fn entry(
        &mut self,
        key: u64,
        now: u64,
        age: u64,
        mut forget: impl FnMut(u64, &mut V) -> bool,
    ) -> &mut V {
        if !self.map.contains_key(&key) {
            for _ in 0..SWEPT {
                let full = self.map.len() >= KEYS;
                let old = |(_, since): &(u64, u64)| now.saturating_sub(*since) >= age;
                let Some((oldest, _)) = self.queue.front().filter(|front| full || old(front))
                else {
                    break;
                };
                let oldest = *oldest;
                self.queue.pop_front();
                let goes = (self.map.get_mut(&oldest)).is_some_and(|entry| forget(oldest, entry));
                if goes {
                    self.map.remove(&oldest);
                } else if self.map.contains_key(&oldest) {
                    self.queue.push_back((oldest, now));
                }
            }
            self.queue.push_back((key, now));
        }
        self.map.entry(key).or_default()
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        assert_eq!(self.map.len(), self.queue.len());
        self.map.len()
    }
}
