//! Idle connections, kept until somebody wants to go where they lead.
//!
//! ```text
//!              put                    own bucket full                 full
//! connection ------> the worker's own ---------------> the shared -------> in place of the worker's oldest, which is closed
//!                        | ^                              |
//!     take, newest first | | put again                    | take, when the own bucket has none:
//!                        v |                              v registered anew with this worker
//!                     in use <----------------------------+
//! ```
//!
//! A worker uses its own bucket and no other, so its lock is free and its cache line at hand; the shared
//! bucket is asked only when a new connection is the alternative, and those of other workers when a limit allows no
//! new one ([`elsewhere`]). Nothing watches an idle connection:
//! it is polled when it is taken, which costs no system call, and once a second by a task of its
//! worker, which drops those that ended, received something nobody asked for, or are too old.

mod bucket;
mod elsewhere;

use std::ops::DerefMut;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

// The model in `loom/` is made of this very file.
#[cfg(loom)]
use loom::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
#[cfg(not(loom))]
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use parking_lot::Mutex;
use spin::mutex::SpinMutex;
use spin::Yield;
use tokio::runtime::Handle;
use tokio::time::Instant;

use super::permit::{self, Closing};
use super::PoolCallback;
use crate::worker::{self, PerWorker};
use bucket::{Bucket, Entry};

pub(in crate::connectors) use bucket::KeyHasher;

/// The interval at which a worker looks after its idle connections.
const SWEEP_PERIOD: Duration = Duration::from_secs(1);
/// The number of looks in a row that find none, after which it stops.
const EMPTY_SWEEPS: u32 = 60;

/// A connection that may lie idle in a [`IdlePool`].
pub(crate) trait Idle: Send + Sized + 'static {
    /// Pending while the connection is quiet; ready once it is of no use any more, and why.
    fn poll_idle(&mut self, cx: &mut Context<'_>) -> Poll<Ended>;

    /// True if [`adopt`](Idle::adopt) can work.
    fn can_move(&self) -> bool;

    /// Registers the connection with the reactor of the calling worker; `None`, and closed, when that fails.
    fn adopt(self) -> Option<Self>;

    /// The key of the limit of which it holds a place.
    fn limit_key(&self) -> Option<u64>;

    /// Closes it, to make room for another one.
    fn close(self) -> Closing {
        drop(self);
        Closing(None)
    }
}

/// Why an idle connection is of no use any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// It was closed, or broke.
    Closed,
    /// It received data that nobody asked for.
    UnexpectedData,
}

/// Idle connections by key, kept per worker.
pub(crate) struct IdlePool<T> {
    /// The number of connections to keep; an even share of it per worker.
    limit: usize,
    buckets: PerWorker<Own<T>>,
    /// The number of workers that have put something in their bucket so far.
    workers: AtomicUsize,
    /// The connections that were too many for the bucket of a worker.
    shared: Mutex<Bucket<T>>,
    shared_len: AtomicUsize,
    on_reuse: Option<PoolCallback>,
    unexpected_data: Arc<AtomicU64>,
}

/// The bucket of one worker.
struct Own<T> {
    /// Nobody waits for it but where tasks move between threads, and then for moments: a lock that is given back by a
    /// plain write, since nobody has to be woken.
    bucket: SpinMutex<Bucket<T>, Yield>,
    /// The length of the bucket, to be read by others.
    len: AtomicUsize,
}

impl<T> Default for Own<T> {
    fn default() -> Self {
        Own {
            bucket: SpinMutex::new(Bucket::default()),
            len: AtomicUsize::new(0),
        }
    }
}

impl<T: Idle> IdlePool<T> {
    /// A pool of at most `limit` connections, none if zero; `on_reuse` is told how long a connection was idle
    /// when it is taken.
    pub(crate) fn new(limit: usize, on_reuse: Option<PoolCallback>) -> Arc<Self> {
        let pool = Arc::new(IdlePool {
            limit,
            buckets: PerWorker::new(),
            workers: AtomicUsize::new(0),
            shared: Mutex::default(),
            shared_len: AtomicUsize::new(0),
            on_reuse,
            unexpected_data: Arc::default(),
        });
        let weak: Weak<Self> = Arc::downgrade(&pool);
        permit::register(weak);
        pool
    }

    /// Returns the number of connections that were dropped because they received data while idle.
    pub(crate) fn unexpected_data(&self) -> &Arc<AtomicU64> {
        &self.unexpected_data
    }

    /// A connection that was put here under `key` and is still quiet: the latest of this worker, else one
    /// of the shared bucket.
    pub(crate) fn take(&self, key: u64) -> Option<T> {
        self.take_own(key).or_else(|| self.take_shared(key))
    }

    fn take_own(&self, key: u64) -> Option<T> {
        let own = self.buckets.here()?;
        loop {
            // Looked at without the lock: a connection that is dropped may call back into its user.
            let entry = {
                let mut bucket = own.bucket.lock();
                let entry = bucket.pop(key)?;
                own.len.store(bucket.len(), Ordering::Relaxed);
                entry
            };
            if let Some(conn) = self.usable(entry) {
                return Some(conn);
            }
        }
    }

    fn take_shared(&self, key: u64) -> Option<T> {
        while self.shared_len.load(Ordering::Relaxed) > 0 {
            let entry = {
                let mut bucket = self.shared.lock();
                let entry = bucket.pop(key)?;
                self.shared_len.store(bucket.len(), Ordering::Relaxed);
                entry
            };
            if let Some(conn) = self.usable(entry).and_then(T::adopt) {
                return Some(conn);
            }
        }
        None
    }

    /// Returns whether somebody wants to be told how long connections were idle.
    pub(crate) fn tells_reuse(&self) -> bool {
        self.on_reuse.is_some()
    }

    /// Tells that a connection that was idle for so long is used again.
    pub(crate) fn tell_reuse(&self, idle: Duration) {
        if let Some(on_reuse) = &self.on_reuse {
            on_reuse(idle);
        }
    }

    fn usable(&self, mut entry: Entry<T>) -> Option<T> {
        if entry.expires.is_some_and(|at| at <= Instant::now()) || self.has_ended(&mut entry.conn) {
            return None;
        }
        if let Some(since) = entry.since {
            self.tell_reuse(since.elapsed());
        }
        Some(entry.conn)
    }

    fn has_ended(&self, conn: &mut T) -> bool {
        match conn.poll_idle(&mut Context::from_waker(Waker::noop())) {
            Poll::Pending => false,
            Poll::Ready(ended) => {
                if ended == Ended::UnexpectedData {
                    self.unexpected_data.fetch_add(1, Ordering::Relaxed);
                }
                log::debug!("an idle connection is dropped: {ended:?}");
                true
            }
        }
    }

    /// Keeps `conn` under `key`, for at most `idle_timeout`; the worker's oldest one gives way to it when there is no room. What
    /// the worker has no room for and cannot move to another one is given back.
    pub(crate) fn put(
        self: &Arc<Self>,
        key: u64,
        conn: T,
        idle_timeout: Option<Duration>,
    ) -> Option<T> {
        if self.limit == 0 || idle_timeout.is_some_and(|t| t.is_zero()) {
            return None;
        }
        let clock = idle_timeout.is_some() || self.on_reuse.is_some();
        let now = clock.then(Instant::now);
        let entry = Entry {
            conn,
            since: self.on_reuse.as_ref().and(now),
            // A time too far away to be told is never.
            expires: now.zip(idle_timeout).and_then(|(n, t)| n.checked_add(t)),
            number: 0,
        };

        let index = worker::current();
        let own = self.buckets.get_or_init(index, || {
            self.workers.fetch_add(1, Ordering::Relaxed);
            Own::default()
        });
        let (surplus, unswept) = {
            let mut bucket = own.bucket.lock();
            if bucket.len() < self.share() {
                bucket.push(key, entry);
                own.len.store(bucket.len(), Ordering::Relaxed);
                (None, !std::mem::replace(&mut bucket.swept, true))
            } else {
                (Some(entry), false)
            }
        };
        if unswept {
            self.start_sweeping(index);
        }
        let entry = surplus?;
        if !entry.conn.can_move() {
            return Some(entry.conn);
        }
        if let Some(entry) = self.put_shared(key, entry) {
            Self::put_for_oldest(own, key, entry);
        }
        None
    }

    /// Returns the number of connections that a worker may keep for itself: the more workers, the fewer each.
    fn share(&self) -> usize {
        (self.limit / self.workers.load(Ordering::Relaxed).max(1)).max(1)
    }

    /// Keeps a connection in the shared bucket, or returns it when there is no room.
    fn put_shared(&self, key: u64, entry: Entry<T>) -> Option<Entry<T>> {
        let own: usize = self
            .buckets
            .iter()
            .map(|own| own.len.load(Ordering::Relaxed))
            .sum();
        let mut bucket = self.shared.lock();
        if own + bucket.len() < self.limit {
            bucket.push(key, entry);
            self.shared_len.store(bucket.len(), Ordering::Relaxed);
            return None;
        }
        Some(entry)
    }

    /// Keeps a connection in place of the worker's oldest one, which may lead where nobody goes any more.
    fn put_for_oldest(own: &Own<T>, key: u64, entry: Entry<T>) {
        let mut bucket = own.bucket.lock();
        let oldest = bucket.oldest(None, |_| true);
        let dropped = match oldest.and_then(|(place, _)| bucket.remove(place)) {
            Some(oldest) => {
                bucket.push(key, entry);
                oldest
            }
            None => entry,
        };
        // Without the lock: a connection that is dropped may call back into its user.
        drop(bucket);
        drop(dropped);
    }

    /// Starts the task that looks after the bucket `index`, if there is a runtime to run it.
    fn start_sweeping(self: &Arc<Self>, index: usize) {
        let sweeper = Sweeper {
            pool: Arc::downgrade(self),
            index,
            done: false,
        };
        if Handle::try_current().is_ok() {
            worker::spawn_housekeeping(sweeper.run());
        }
    }

    /// Drops what is of no use any more from the bucket `index` and the shared one; returns whether anything is
    /// left in them. With `last`, a bucket that is empty is from then on taken for unswept.
    fn sweep(&self, index: usize, last: bool) -> bool {
        let Some(own) = self.buckets.get(index) else {
            return false;
        };
        self.sweep_bucket(|| own.bucket.lock(), &own.len);
        if self.shared_len.load(Ordering::Relaxed) > 0 {
            self.sweep_bucket(|| self.shared.lock(), &self.shared_len);
        }
        let mut bucket = own.bucket.lock();
        let left = bucket.len() > 0 || self.shared_len.load(Ordering::Relaxed) > 0;
        bucket.swept = left || !last;
        left
    }

    fn sweep_bucket<G: DerefMut<Target = Bucket<T>>>(
        &self,
        lock: impl Fn() -> G,
        len: &AtomicUsize,
    ) {
        let now = Instant::now();
        // All are there while they are looked at: another worker may be looking for one that it can have.
        let mut bucket = lock();
        let ended = bucket.take_ended(|entry| {
            entry.expires.is_some_and(|at| at <= now) || self.has_ended(&mut entry.conn)
        });
        len.store(bucket.len(), Ordering::Relaxed);
        drop(bucket);
        // Not before: a connection that is dropped may call back into its user.
        drop(ended);
    }
}

/// Looks after the bucket of one worker until nothing is left on it.
struct Sweeper<T: Idle> {
    pool: Weak<IdlePool<T>>,
    index: usize,
    /// True if the bucket was found empty, and says so itself.
    done: bool,
}

impl<T: Idle> Sweeper<T> {
    async fn run(mut self) {
        // A bucket whose connections are all in use is empty for a moment: that is no reason to end.
        let mut empty = 0;
        while !self.done {
            tokio::time::sleep(SWEEP_PERIOD).await;
            let Some(pool) = self.pool.upgrade() else {
                return;
            };
            let last = empty >= EMPTY_SWEEPS;
            match pool.sweep(self.index, last) {
                true => empty = 0,
                false => empty += 1,
            }
            self.done = last && empty > 0;
        }
    }
}

impl<T: Idle> Drop for Sweeper<T> {
    /// The runtime may be absent, or end before the bucket is empty: the next connection starts another.
    fn drop(&mut self) {
        if self.done {
            return;
        }
        let pool = self.pool.upgrade();
        if let Some(own) = pool.as_ref().and_then(|p| p.buckets.get(self.index)) {
            own.bucket.lock().swept = false;
        }
    }
}

#[cfg(all(test, loom))]
mod models;
#[cfg(all(test, not(loom)))]
mod tests;
