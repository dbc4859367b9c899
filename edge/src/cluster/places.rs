//! The requests that a server may have at a time, over all workers.
//!
//! The limit is cut into places, of which each is with a request, idle at a worker, or free. A request takes an idle place
//! of its own worker and leaves it there, so that workers write nothing that they share while each has places of its own:
//! two locked instructions on a line that no other one has. A worker without one takes a free place, and one of another
//! worker when none is free. So there are never more requests than places, and none is refused while a place is left.

use std::sync::atomic::{AtomicI64, AtomicU32, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError};

use super::counts::Counts;

/// The places of a server without a limit: more than there can be requests.
const UNLIMITED: i64 = 1 << 40;

/// The places of a server.
#[derive(Debug)]
pub(super) struct Places {
    max: AtomicI64,
    /// Those that no worker has. Below 0 after a limit was lowered, until enough requests have ended.
    free: AtomicI64,
}

impl Default for Places {
    fn default() -> Self {
        Self {
            max: AtomicI64::new(UNLIMITED),
            free: AtomicI64::new(UNLIMITED),
        }
    }
}

/// The part of a server that every worker has.
type All = Mutex<Vec<Arc<Counts>>>;

impl Places {
    /// Sets the limit.
    pub(super) fn set_max(&self, max: Option<u32>, all: &All) {
        let max = max.map_or(UNLIMITED, i64::from);
        let before = self.max.swap(max, SeqCst);
        self.free.fetch_add(max - before, SeqCst);
        self.settle(all);
    }

    /// Takes a place for a request of the worker whose counts are `own`; `false` when there is none.
    #[inline]
    pub(super) fn take(&self, own: &Counts, all: &All) -> bool {
        if self.free.load(SeqCst) < 0 {
            self.settle(all);
            if self.free.load(SeqCst) < 0 {
                return false;
            }
        }
        take_one(&own.idle) || self.take_elsewhere(all)
    }

    #[cold]
    fn take_elsewhere(&self, all: &All) -> bool {
        let less = |free: i64| (free > 0).then(|| free - 1);
        if self.free.fetch_update(SeqCst, SeqCst, less).is_ok() {
            return true;
        }
        let all = all.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter().any(|counts| take_one(&counts.idle))
    }

    /// Leaves the place of a request.
    #[inline]
    pub(super) fn leave(&self, own: &Counts) {
        if self.free.load(SeqCst) < 0 {
            self.free.fetch_add(1, SeqCst);
        } else {
            own.idle.fetch_add(1, SeqCst);
        }
    }

    /// Tells whether a place is left.
    pub(super) fn has_room(&self, all: &All) -> bool {
        let free = self.free.load(SeqCst);
        let all = all.lock().unwrap_or_else(PoisonError::into_inner);
        let idle = |sum: i64, counts: &Arc<Counts>| sum + i64::from(counts.idle.load(SeqCst));
        all.iter().fold(free, idle) > 0
    }

    /// Has idle places make up for those that a lower limit took away.
    #[cold]
    fn settle(&self, all: &All) {
        let all = all.lock().unwrap_or_else(PoisonError::into_inner);
        for counts in all.iter() {
            while self.free.load(SeqCst) < 0 && take_one(&counts.idle) {
                self.free.fetch_add(1, SeqCst);
            }
        }
    }
}

fn take_one(idle: &AtomicU32) -> bool {
    let less = |idle: u32| idle.checked_sub(1);
    idle.fetch_update(SeqCst, SeqCst, less).is_ok()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU32;

    use proptest::prelude::*;

    use super::*;

    fn workers(count: u64) -> All {
        Mutex::new(
            (0..count)
                .map(|worker| Arc::new(Counts::of(worker)))
                .collect(),
        )
    }

    fn own(all: &All, worker: usize) -> Arc<Counts> {
        all.lock().unwrap()[worker].clone()
    }

    proptest! {
        #[test]
        fn a_request_is_refused_when_all_places_are_taken_and_only_then(
            max in 1u32..20,
            // A worker, and what it does: begin, end, or a new limit.
            steps in prop::collection::vec((0usize..4, 0u32..20), 1..400),
        ) {
            let (places, all) = (Places::default(), workers(4));
            places.set_max(Some(max), &all);
            let (mut max, mut open) = (max, Vec::new());
            for (worker, what) in steps {
                match what {
                    0 => {
                        max = worker as u32 * 5 + 1;
                        places.set_max(Some(max), &all);
                    }
                    1..12 => {
                        let taken = places.take(&own(&all, worker), &all);
                        prop_assert_eq!(taken, open.len() < max as usize);
                        open.extend(taken.then_some(worker));
                    }
                    _ if open.is_empty() => {}
                    what => {
                        let worker = open.swap_remove(what as usize % open.len());
                        places.leave(&own(&all, worker));
                    }
                }
                prop_assert_eq!(places.has_room(&all), open.len() < max as usize);
            }
            // One that is no longer there leaves none behind.
            places.set_max(None, &all);
            open.into_iter().for_each(|worker| places.leave(&own(&all, worker)));
            places.set_max(Some(3), &all);
            for n in 0..8 {
                prop_assert_eq!(places.take(&own(&all, n % 4), &all), n < 3);
            }
        }
    }

    #[test]
    fn a_worker_alone_writes_nothing_that_others_read() {
        let (places, all) = (Places::default(), workers(2));
        places.set_max(Some(4), &all);
        let own = own(&all, 0);
        for _ in 0..3 {
            assert!(places.take(&own, &all));
            places.leave(&own);
            assert_eq!(places.free.load(SeqCst), 3);
        }
    }

    #[test]
    fn threads_never_have_more_than_the_limit_together() {
        let (places, all) = (&Places::default(), &workers(4));
        places.set_max(Some(5), all);
        let open = &AtomicU32::new(0);
        std::thread::scope(|scope| {
            for worker in 0..4 {
                scope.spawn(move || {
                    let (own, mut mine) = (own(all, worker), 0);
                    for n in 0..20_000 {
                        if n % 7 < 4 && places.take(&own, all) {
                            mine += 1;
                            assert!(open.fetch_add(1, SeqCst) < 5);
                        } else if mine > 0 {
                            mine -= 1;
                            open.fetch_sub(1, SeqCst);
                            places.leave(&own);
                        }
                    }
                    (0..mine).for_each(|_| {
                        open.fetch_sub(1, SeqCst);
                        places.leave(&own);
                    });
                });
            }
        });
        assert!((0..5).all(|_| places.take(&own(all, 0), all)));
        assert!(!places.take(&own(all, 0), all));
    }
}
