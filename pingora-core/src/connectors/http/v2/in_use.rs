//! Connections with streams in use and room for more.

use std::collections::HashMap;
use std::hash::BuildHasherDefault;
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::runtime::Handle;

use super::ConnectionRef;
use crate::connectors::pool::KeyHasher;
use crate::protocols::http::v2::client::Http2Session;
use crate::protocols::UniqueIDType;
use crate::worker::{self, PerWorker};

/// The interval at which a worker looks after its connections.
const SWEEP_PERIOD: Duration = Duration::from_secs(1);

/// Connections with streams in use and room for more, kept per worker: each thread sees its own alone.
pub struct InUsePool {
    workers: Arc<PerWorker<Mutex<Listed>>>,
}

/// The connections of one worker.
#[derive(Default)]
struct Listed {
    keys: HashMap<u64, Vec<ConnectionRef>, BuildHasherDefault<KeyHasher>>,
    /// True if a task looks after them.
    swept: bool,
}

impl InUsePool {
    pub(super) fn new() -> Self {
        InUsePool {
            workers: Arc::new(PerWorker::new()),
        }
    }

    /// Takes a connection of this worker out, the latest that was put under the key and can make a further stream.
    pub fn get(&self, reuse_hash: u64) -> Option<ConnectionRef> {
        let mut dead = Vec::new();
        let mut listed = self.workers.here()?.lock();
        let list = listed.keys.get_mut(&reuse_hash)?;
        while let Some(conn) = list.pop() {
            conn.set_listed(None);
            if conn.more_streams_allowed() {
                return Some(conn);
            }
            dead.push(conn);
        }
        // Those are dropped without the lock.
        drop(listed);
        None
    }

    /// Puts a connection among those of this worker.
    pub fn insert(&self, reuse_hash: u64, conn: ConnectionRef) {
        let index = worker::current();
        let slot = self.workers.get_or_init(index, Mutex::default);
        conn.set_listed(Some(index));
        let mut listed = slot.lock();
        listed.keys.entry(reuse_hash).or_default().push(conn);
        let unswept = !std::mem::replace(&mut listed.swept, true);
        drop(listed);
        if unswept && Handle::try_current().is_ok() {
            let sweeper = Sweeper {
                workers: Arc::downgrade(&self.workers),
                index,
            };
            worker::spawn_housekeeping(sweeper.run());
        }
    }

    /// Takes the connection `id` of this worker out.
    pub fn release(&self, reuse_hash: u64, id: UniqueIDType) -> Option<ConnectionRef> {
        self.take(worker::current(), reuse_hash, |conn| conn.id() == id)
    }

    /// Takes a connection out, of whichever worker it is.
    pub(super) fn remove(&self, reuse_hash: u64, conn: &ConnectionRef) {
        if let Some(worker) = conn.listed() {
            self.take(worker, reuse_hash, |other| other.is_same(conn));
        }
    }

    fn take(
        &self,
        worker: usize,
        reuse_hash: u64,
        is_it: impl Fn(&ConnectionRef) -> bool,
    ) -> Option<ConnectionRef> {
        let mut listed = self.workers.get(worker)?.lock();
        let list = listed.keys.get_mut(&reuse_hash)?;
        let at = list.iter().position(is_it)?;
        let conn = list.swap_remove(at);
        conn.set_listed(None);
        Some(conn)
    }

    /// A stream on a connection of this worker that is `fit`. One that has no room left is taken out.
    pub(super) fn stream(
        &self,
        reuse_hash: u64,
        fit: impl Fn(&ConnectionRef) -> bool,
    ) -> Option<Http2Session> {
        let mut useless = Vec::new();
        let mut listed = self.workers.here()?.lock();
        let list = listed.keys.get_mut(&reuse_hash)?;
        let mut found = None;
        while let Some(conn) = list.last() {
            let stream = match fit(conn) {
                true => conn.try_stream().ok().flatten(),
                false => None,
            };
            let full = stream.is_none() || !conn.more_streams_allowed();
            if let Some(conn) = full.then(|| list.pop()).flatten() {
                conn.set_listed(None);
                useless.push(conn);
            }
            if stream.is_some() {
                found = stream;
                break;
            }
        }
        drop(listed);
        found
    }
}

/// Drops connections that ended while nobody asked for them, or whose sessions were dropped and not released.
struct Sweeper {
    workers: Weak<PerWorker<Mutex<Listed>>>,
    index: usize,
}

impl Sweeper {
    async fn run(self) {
        // A connection is idle for a moment between two requests, when it is not listed; so one that
        // is listed and idle twice was forgotten.
        let mut idle_before: Vec<ConnectionRef> = Vec::new();
        loop {
            tokio::time::sleep(SWEEP_PERIOD).await;
            let mut dropped = Vec::new();
            let mut idle = Vec::new();
            let Some(workers) = self.workers.upgrade() else {
                return;
            };
            let Some(slot) = workers.get(self.index) else {
                return;
            };
            let mut listed = slot.lock();
            listed.keys.retain(|_, list| {
                list.retain(|conn| {
                    let forgotten = conn.is_idle() && idle_before.iter().any(|c| c.is_same(conn));
                    if forgotten || conn.is_closed() {
                        conn.set_listed(None);
                        dropped.push(conn.clone());
                        return false;
                    }
                    if conn.is_idle() {
                        idle.push(conn.clone());
                    }
                    true
                });
                !list.is_empty()
            });
            listed.swept = !listed.keys.is_empty();
            let done = !listed.swept;
            drop(listed);
            drop(dropped);
            if done {
                return;
            }
            idle_before = idle;
        }
    }
}

impl Drop for Sweeper {
    /// The runtime may end before there is nothing left: the next connection starts another.
    fn drop(&mut self) {
        let workers = self.workers.upgrade();
        if let Some(slot) = workers.as_ref().and_then(|w| w.get(self.index)) {
            let mut listed = slot.lock();
            // A sweeper that has found nothing has said so, and another one may run already.
            if !listed.keys.is_empty() {
                listed.swept = false;
            }
        }
    }
}
