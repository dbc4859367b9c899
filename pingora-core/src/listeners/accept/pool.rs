//! The workers of a service, how many connections each of them has, and what accepting has cost.

use std::future::Future;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use tokio::runtime::Handle;

use crate::worker::Workers;

/// The workers of a service, and how many connections each of them has.
pub(crate) struct WorkerPool {
    slots: Box<[Slot]>,
    /// True if all slots stand for the same runtime, which spreads its tasks by itself.
    one_runtime: bool,
    turn: AtomicUsize,
    clients_refused: AtomicU64,
}

/// A worker. On cache lines of its own (two, for the line that is fetched along): workers write theirs at the
/// end of each connection.
#[repr(align(128))]
struct Slot {
    handle: Handle,
    live: AtomicUsize,
    counts: Counts,
}

/// The worker that is to have a connection.
#[derive(Clone, Copy, Debug)]
pub(super) enum To {
    /// The worker with the fewest.
    LeastLoaded,
    /// This one.
    Slot(usize),
}

impl WorkerPool {
    pub(crate) fn new(workers: Workers) -> Arc<Self> {
        let handles = workers.handles();
        // Each thread of a work-stealing runtime counts as a worker.
        let threads = match handles {
            [only] => only.metrics().num_workers().max(1),
            _ => 1,
        };
        let of_one = |handle: &Handle| Slot {
            handle: handle.clone(),
            live: AtomicUsize::new(0),
            counts: Counts::default(),
        };
        let slots = handles.iter().cycle().take(handles.len() * threads);
        Arc::new(WorkerPool {
            slots: slots.map(of_one).collect(),
            one_runtime: handles.len() == 1,
            turn: AtomicUsize::new(0),
            clients_refused: AtomicU64::new(0),
        })
    }

    /// Returns how many workers there are.
    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    /// The first slot that has the same reactor.
    pub(super) fn reactor(&self, slot: usize) -> usize {
        if self.one_runtime {
            0
        } else {
            slot
        }
    }

    pub(super) fn handle(&self, slot: usize) -> &Handle {
        &self.slots[slot].handle
    }

    pub(super) fn counts(&self, slot: usize) -> &Counts {
        &self.slots[slot].counts
    }

    fn live(&self, slot: usize) -> usize {
        self.slots[slot].live.load(Ordering::Relaxed)
    }

    /// The worker with the fewest connections; of several, each in its turn.
    fn least_loaded(&self) -> usize {
        let n = self.slots.len();
        let first = self.turn.fetch_add(1, Ordering::Relaxed);
        (0..n)
            .map(|i| first.wrapping_add(i) % n)
            .min_by_key(|&i| self.live(i))
            .unwrap_or(0)
    }

    /// Returns how many connections a worker that may have so many can take.
    pub(super) fn free(&self, slot: usize, limit: usize) -> usize {
        limit.saturating_sub(self.live(slot))
    }

    /// Returns whether a worker that may have so many connections should accept one more: at least an eighth of them
    /// is free, or at least one where no other worker has that much.
    pub(super) fn has_room(&self, slot: usize, limit: usize) -> bool {
        let free = |slot| self.free(slot, limit);
        let enough = |slot| free(slot) >= limit.div_ceil(8);
        enough(slot) || (free(slot) > 0 && !(0..self.len()).any(enough))
    }

    /// Returns how many connections all workers have. Only reads, so that workers which ask at the same moment may each
    /// miss what the others are about to add.
    pub(super) fn all_live(&self) -> usize {
        (0..self.len()).map(|slot| self.live(slot)).sum()
    }

    /// Runs a connection that the acceptor of the worker `by` has accepted on a worker; counts it at its endpoint too.
    pub(super) fn hand_over(
        self: &Arc<Self>,
        to: To,
        by: usize,
        open: &Arc<Open>,
        connection: impl Future<Output = ()> + Send + 'static,
    ) {
        let worker = match to {
            // The runtime spreads it by itself: it counts as its acceptor's.
            To::LeastLoaded if self.one_runtime => by,
            To::LeastLoaded => self.least_loaded(),
            To::Slot(slot) => slot,
        };
        let slot = &self.slots[worker];
        slot.live.fetch_add(1, Ordering::Relaxed);
        open.at(worker).fetch_add(1, Ordering::Relaxed);
        let place = Place(self.clone(), worker, open.clone());
        slot.handle.spawn(async move {
            let _place = place;
            connection.await
        });
    }

    /// Notes that a connection was closed since its client has as many as it may have.
    pub(in crate::listeners) fn client_refused(&self) {
        self.clients_refused.fetch_add(1, Ordering::Relaxed);
    }
}

/// A connection's place at its worker and its endpoint; given up at its end, even by a panic.
struct Place(Arc<WorkerPool>, usize, Arc<Open>);

impl Drop for Place {
    fn drop(&mut self) {
        let Place(pool, worker, open) = self;
        // First: who sees that the worker has one less finds room at the endpoint.
        open.at(*worker).fetch_sub(1, Ordering::Relaxed);
        pool.slots[*worker].live.fetch_sub(1, Ordering::Release);
    }
}

/// The open connections of an endpoint, by worker.
pub(in crate::listeners) struct Open(Box<[OfWorker]>);

/// On cache lines of its own, as a [`Slot`].
#[repr(align(128))]
struct OfWorker(AtomicUsize);

impl Open {
    pub(in crate::listeners) fn new(workers: usize) -> Arc<Self> {
        let none = |_| OfWorker(AtomicUsize::new(0));
        Arc::new(Open((0..workers).map(none).collect()))
    }

    fn at(&self, worker: usize) -> &AtomicUsize {
        &self.0[worker].0
    }

    /// Returns how many there are, as [`WorkerPool::all_live`] does.
    pub(super) fn sum(&self) -> usize {
        let all = self.0.iter();
        all.map(|of| of.0.load(Ordering::Relaxed)).sum()
    }
}

/// The counters of a worker's acceptors.
#[derive(Default)]
pub(super) struct Counts {
    woken: AtomicU64,
    idle: AtomicU64,
    accepted: AtomicU64,
    refused: AtomicU64,
    failed: AtomicU64,
}

impl Counts {
    /// An acceptor was woken, and found so many connections.
    pub(super) fn woken(&self, accepted: usize) {
        self.woken.fetch_add(1, Ordering::Relaxed);
        if accepted == 0 {
            self.idle.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// An acceptor has a connection, which nobody serves yet.
    pub(super) fn accepted(&self) {
        self.accepted.fetch_add(1, Ordering::Relaxed);
    }

    /// An accepted connection is closed at once, since a limit is reached.
    pub(super) fn refused(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    /// The system refused to accept.
    pub(super) fn failed(&self) {
        self.failed.fetch_add(1, Ordering::Relaxed);
    }
}

/// The counts of one worker and its acceptors since the service started.
///
/// With `shared`, the acceptor of one worker accepts what all workers serve. With `work_stealing`, a connection counts as
/// that of the thread that accepted it, wherever it is served.
#[derive(Clone, Copy, Debug, Default)]
pub struct WorkerCounts {
    /// Connections that the worker has at the moment.
    pub open: u64,
    /// The number of times they were woken.
    pub woken: u64,
    /// The number of these at which they found no connection.
    pub idle: u64,
    /// Connections that they accepted.
    pub accepted: u64,
    /// The number of these that were closed at once, since the endpoint or the service had as many as it may have.
    pub refused: u64,
    /// The number of times the system refused to accept.
    pub failed: u64,
}

/// The counts of a service, from when it starts.
#[derive(Clone, Default)]
pub struct AcceptCounts(pub(crate) Arc<OnceLock<Arc<WorkerPool>>>);

impl AcceptCounts {
    /// One entry for each worker; none before the service has started.
    pub fn per_worker(&self) -> Vec<WorkerCounts> {
        let slots = self.0.get().map_or(&[][..], |pool| &pool.slots);
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        slots
            .iter()
            .map(|Slot { counts, live, .. }| WorkerCounts {
                woken: read(&counts.woken),
                idle: read(&counts.idle),
                accepted: read(&counts.accepted),
                refused: read(&counts.refused),
                failed: read(&counts.failed),
                open: live.load(Ordering::Relaxed) as u64,
            })
            .collect()
    }

    /// The number of connections that were closed since their client had as many as it may have
    /// ([`ListenerConfig::max_connections_per_client`](crate::listeners::ListenerConfig::max_connections_per_client)).
    pub fn clients_refused(&self) -> u64 {
        let pool = self.0.get();
        pool.map_or(0, |pool| pool.clients_refused.load(Ordering::Relaxed))
    }
}
