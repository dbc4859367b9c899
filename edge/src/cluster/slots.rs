//! The servers that one worker knows, and its requests to them.
//!
//! A request remembers the number of its slot, and a slot stays while it has a request: so each request is counted off
//! where it was counted, whatever a reload has made of its cluster.
//!
//! A runtime that moves tasks between threads (`work_stealing`) has requests end where others begin. There a request also
//! carries its [`Home`], by which it is counted off from any thread.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;

use tokio::runtime::{Handle, RuntimeFlavor};

use super::counts::Counts;
use super::endpoint::Endpoint;

/// The slots of one worker.
#[derive(Debug)]
pub(crate) struct Slots {
    /// The number of the worker, from 1 on.
    worker: u64,
    /// True if requests may end on other threads.
    moving: bool,
    all: Vec<Option<Slot>>,
    /// The slots that are free.
    free: Vec<usize>,
    /// The slots of servers, by their places in memory, which the slots keep.
    known: HashMap<usize, usize>,
}

#[derive(Debug)]
pub(super) struct Slot {
    pub(super) endpoint: Arc<Endpoint>,
    pub(super) counts: Arc<Counts>,
    /// The number of clusters that it belongs to.
    members: u32,
}

/// Where a request is counted that may end on another thread.
#[derive(Debug)]
pub(super) struct Home {
    worker: u64,
    endpoint: Arc<Endpoint>,
    counts: Arc<Counts>,
}

impl Home {
    pub(super) fn endpoint(&self) -> &Arc<Endpoint> {
        &self.endpoint
    }

    /// Counts the request off, on a thread other than that of its worker.
    pub(super) fn end(&self, held: bool) {
        self.counts.end_elsewhere();
        if held {
            self.endpoint.leave_place(&self.counts);
        }
    }
}

impl Default for Slots {
    /// Makes those of a worker that runs on the runtime of the caller.
    fn default() -> Self {
        let runtime = Handle::try_current();
        Self::new(runtime.is_ok_and(|it| it.runtime_flavor() != RuntimeFlavor::CurrentThread))
    }
}

impl Slots {
    pub(super) fn new(moving: bool) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self {
            worker: NEXT.fetch_add(1, Ordering::Relaxed),
            moving,
            all: Vec::new(),
            free: Vec::new(),
            known: HashMap::new(),
        }
    }

    /// Tells whether requests may end on other threads than those that they began on.
    pub(crate) fn is_moving(&self) -> bool {
        self.moving
    }

    /// Returns the slot of a server, for a cluster that [leaves](Self::leave) it later.
    pub(super) fn join(&mut self, endpoint: &Arc<Endpoint>) -> usize {
        let place = Arc::as_ptr(endpoint).addr();
        let index = match self.known.get(&place) {
            Some(index) => *index,
            None => {
                if self.moving {
                    // Those whose last request has ended elsewhere.
                    (0..self.all.len()).for_each(|index| self.tidy(index));
                }
                let index = self.free.pop().unwrap_or(self.all.len());
                if index == self.all.len() {
                    self.all.push(None);
                }
                self.known.insert(place, index);
                self.all[index] = Some(Slot {
                    endpoint: endpoint.clone(),
                    counts: endpoint.counts_of(self.worker),
                    members: 0,
                });
                index
            }
        };
        if let Some(slot) = &mut self.all[index] {
            slot.members += 1;
        }
        index
    }

    pub(super) fn leave(&mut self, index: usize) {
        if let Some(Some(slot)) = self.all.get_mut(index) {
            slot.members = slot.members.saturating_sub(1);
        }
        self.tidy(index);
    }

    /// Returns a slot that a cluster has joined or that has a request.
    #[inline]
    pub(super) fn get(&self, index: usize) -> Option<&Slot> {
        self.all.get(index)?.as_ref()
    }

    /// Counts a request; returns where, if it may end on another thread.
    #[inline]
    pub(super) fn begin(&mut self, index: usize) -> Option<Box<Home>> {
        let slot = self.get(index)?;
        slot.counts.begin();
        self.moving.then(|| {
            Box::new(Home {
                worker: self.worker,
                endpoint: slot.endpoint.clone(),
                counts: slot.counts.clone(),
            })
        })
    }

    /// Tells whether a request is counted here.
    #[inline]
    pub(super) fn has(&self, home: Option<&Home>) -> bool {
        home.is_none_or(|home| home.worker == self.worker)
    }

    /// Counts a request off, and leaves the place that it held if it did.
    #[inline]
    pub(super) fn end(&mut self, index: usize, held: bool) {
        let Some(slot) = self.get(index) else { return };
        slot.counts.end();
        if held {
            slot.endpoint.leave_place(&slot.counts);
        }
        if slot.members == 0 {
            self.tidy(index);
        }
    }

    /// Frees a slot that nothing needs.
    #[cold]
    fn tidy(&mut self, index: usize) {
        let Some(place) = self.all.get_mut(index) else {
            return;
        };
        let unused = |slot: &mut Slot| slot.members == 0 && slot.counts.open() == 0;
        if let Some(slot) = place.take_if(unused) {
            self.known.remove(&Arc::as_ptr(&slot.endpoint).addr());
            self.free.push(index);
        }
    }
}
