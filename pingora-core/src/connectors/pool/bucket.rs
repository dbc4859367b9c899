//! Idle connections by key, the latest of a key first.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use tokio::time::Instant;

/// A connection that lies idle.
pub(super) struct Entry<T> {
    pub(super) conn: T,
    /// Since when, if anybody wants to know.
    pub(super) since: Option<Instant>,
    /// When it is too old.
    pub(super) expires: Option<Instant>,
    /// Its number among those that were put into its bucket.
    pub(super) number: u64,
}

/// Keys are hashes already.
#[derive(Default)]
pub(in crate::connectors) struct KeyHasher(u64);

impl Hasher for KeyHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, key: u64) {
        // A user's key may be a small number; the table looks at the upper bits too.
        self.0 = key.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

type Keys<T> = HashMap<u64, Vec<Entry<T>>, BuildHasherDefault<KeyHasher>>;

/// See the module.
pub(super) struct Bucket<T> {
    keys: Keys<T>,
    len: usize,
    /// The number of those that were put here so far.
    pushed: u64,
    /// True if a task looks after it.
    pub(super) swept: bool,
}

impl<T> Default for Bucket<T> {
    fn default() -> Self {
        Bucket {
            keys: Keys::default(),
            len: 0,
            pushed: 0,
            swept: false,
        }
    }
}

impl<T> Bucket<T> {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// The list of a key stays when it is empty: the connection that was taken usually comes back.
    pub(super) fn pop(&mut self, key: u64) -> Option<Entry<T>> {
        let entry = self.keys.get_mut(&key)?.pop()?;
        self.len -= 1;
        Some(entry)
    }

    /// Returns the place and the end of the oldest entry that is `wanted`, of one key or of all: of those of each key the
    /// first, and of these the one whose time is over soonest, or which came first.
    pub(super) fn oldest(
        &self,
        of: Option<u64>,
        wanted: impl Fn(&T) -> bool,
    ) -> Option<((u64, usize), Option<Instant>)> {
        let first = |key: u64, entries: &[Entry<T>]| {
            let at = entries.iter().position(|entry| wanted(&entry.conn))?;
            let Entry {
                expires, number, ..
            } = entries[at];
            Some(((key, at), (expires.is_none(), expires, number)))
        };
        let (place, (_, expires, _)) = match of {
            Some(key) => first(key, self.keys.get(&key)?)?,
            None => {
                let firsts = self.keys.iter();
                let firsts = firsts.filter_map(|(key, entries)| first(*key, entries));
                firsts.min_by_key(|(_, age)| *age)?
            }
        };
        Some((place, expires))
    }

    /// Takes the entry at a place that [`oldest`](Bucket::oldest) has told.
    pub(super) fn remove(&mut self, (key, at): (u64, usize)) -> Option<Entry<T>> {
        let entries = self.keys.get_mut(&key)?;
        let entry = (at < entries.len()).then(|| entries.remove(at))?;
        self.len -= 1;
        Some(entry)
    }

    pub(super) fn push(&mut self, key: u64, mut entry: Entry<T>) {
        self.pushed += 1;
        entry.number = self.pushed;
        self.keys.entry(key).or_default().push(entry);
        self.len += 1;
    }

    /// Takes the entries of which `ended` says so, and forgets keys without any.
    pub(super) fn take_ended(
        &mut self,
        mut ended: impl FnMut(&mut Entry<T>) -> bool,
    ) -> Vec<Entry<T>> {
        let mut taken = Vec::new();
        self.keys.retain(|_, entries| {
            if let Some(first) = entries.iter_mut().position(&mut ended) {
                let mut rest = entries.split_off(first).into_iter();
                taken.extend(rest.next());
                for mut entry in rest {
                    match ended(&mut entry) {
                        true => taken.push(entry),
                        false => entries.push(entry),
                    }
                }
            }
            !entries.is_empty()
        });
        self.len -= taken.len();
        taken
    }
}
