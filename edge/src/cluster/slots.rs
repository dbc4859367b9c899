//! The servers that one worker knows, and its requests to them.
//!
//! A request remembers the number of its slot, and a slot stays while it has a request: so each request is counted off
//! where it was counted, whatever a reload has made of its cluster.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;

use super::counts::Counts;
use super::endpoint::Endpoint;

/// The slots of one worker.
#[derive(Debug)]
pub(crate) struct Slots {
    /// The number of the worker, from 1 on.
    worker: u64,
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

impl Default for Slots {
    fn default() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self {
            worker: NEXT.fetch_add(1, Ordering::Relaxed),
            all: Vec::new(),
            free: Vec::new(),
            known: HashMap::new(),
        }
    }
}

impl Slots {
    /// Returns the slot of a server, for a cluster that [leaves](Self::leave) it later.
    pub(super) fn join(&mut self, endpoint: &Arc<Endpoint>) -> usize {
        let place = Arc::as_ptr(endpoint).addr();
        let index = match self.known.get(&place) {
            Some(index) => *index,
            None => {
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

    /// Counts a request.
    #[inline]
    pub(super) fn begin(&mut self, index: usize) {
        if let Some(slot) = self.get(index) {
            slot.counts.begin();
        }
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
