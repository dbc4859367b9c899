//! The idle connections of all workers, for one that may make no new connection.
//!
//! It locks the buckets of others, which make requests wait for moments; that happens only where a limit of connections is
//! reached.

use std::ops::DerefMut;

// The models in `loom/` are made of this very file.
#[cfg(loom)]
use loom::sync::atomic::{AtomicUsize, Ordering};
#[cfg(not(loom))]
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::time::Instant;

use super::bucket::{Bucket, Entry};
use super::{Idle, IdlePool};
use crate::connectors::permit::{Closing, IdleConnections};

impl<T: Idle> IdlePool<T> {
    /// A connection that was put here under `key` by another worker and is still quiet: the oldest one, which is registered
    /// with this worker.
    pub(crate) fn take_elsewhere(&self, key: u64) -> Option<T> {
        loop {
            let entry = self.take_oldest(Some(key), T::can_move)?;
            if let Some(conn) = self.usable(entry).and_then(T::adopt) {
                return Some(conn);
            }
        }
    }

    /// Takes the oldest one that is `wanted`, of one key or of all, from all workers and the shared bucket.
    fn take_oldest(&self, of: Option<u64>, wanted: impl Fn(&T) -> bool) -> Option<Entry<T>> {
        // One that was found may be gone when it is taken.
        loop {
            let own = self.buckets.iter().filter_map(|own| {
                let age = age(&own.len, || own.bucket.lock(), of, &wanted)?;
                Some((age, Some(own)))
            });
            let shared = age(&self.shared_len, || self.shared.lock(), of, &wanted);
            let all = own.chain(shared.map(|age| (age, None)));
            let (_, oldest) = all.min_by_key(|(age, _)| *age)?;
            let taken = match oldest {
                Some(own) => take(&own.len, own.bucket.lock(), of, &wanted),
                None => take(&self.shared_len, self.shared.lock(), of, &wanted),
            };
            if taken.is_some() {
                return taken;
            }
        }
    }
}

/// Returns what orders the oldest entry that is wanted among those of other buckets: the one whose time is over soonest is
/// the oldest, where they have one.
fn age<T, G: DerefMut<Target = Bucket<T>>>(
    len: &AtomicUsize,
    lock: impl FnOnce() -> G,
    of: Option<u64>,
    wanted: impl Fn(&T) -> bool,
) -> Option<(bool, Option<Instant>)> {
    if len.load(Ordering::Relaxed) == 0 {
        return None;
    }
    let (_, expires) = lock().oldest(of, wanted)?;
    Some((expires.is_none(), expires))
}

fn take<T, G: DerefMut<Target = Bucket<T>>>(
    len: &AtomicUsize,
    mut bucket: G,
    of: Option<u64>,
    wanted: impl Fn(&T) -> bool,
) -> Option<Entry<T>> {
    let (place, _) = bucket.oldest(of, wanted)?;
    let entry = bucket.remove(place)?;
    len.store(bucket.len(), Ordering::Relaxed);
    Some(entry)
}

impl<T: Idle> IdleConnections for IdlePool<T> {
    fn close_oldest(&self, limit: u64) -> Option<Closing> {
        let entry = self.take_oldest(None, |conn| conn.limit_key() == Some(limit))?;
        Some(entry.conn.close())
    }
}
