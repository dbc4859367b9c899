//! A series: the same counters in the memory of each thread that counts.
//!
//! ```text
//! Series (shared) --- blocks: [ Arc<Block of thread 1>, Arc<Block of thread 2> ], sum of ended threads
//!    |                              ^                         ^
//!  slot, id                         |                         |
//!    +--> thread 1: OWN[slot] ------+      thread 2: OWN[slot]+
//! ```
//!
//! A thread finds its block by the slot of the series, which later series take over; the id tells them apart. To count is
//! a load and a store in memory of the thread alone. Who reads adds the blocks up.

use std::cell::RefCell;
use std::fmt;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::LocalKey;

use super::cell::Merge;
use super::thread;

/// A block of counters, and where threads keep theirs. The macro of [`counts`](super::counts) makes one.
pub trait Counts: Merge + Default + Send + Sync + 'static {
    /// The blocks of the calling thread, by the slots of their series.
    fn own() -> &'static LocalKey<RefCell<Vec<Option<Own<Self>>>>>;

    /// The slots of all series of these counters.
    fn slots() -> &'static Slots;
}

/// The slots that series have taken.
#[derive(Debug)]
pub struct Slots(Mutex<(usize, Vec<usize>)>);

impl Slots {
    /// Begins with none.
    pub(super) const fn new() -> Self {
        Self(Mutex::new((0, Vec::new())))
    }

    fn take(&self) -> usize {
        let (next, free) = &mut *lock(&self.0);
        free.pop().unwrap_or_else(|| {
            *next += 1;
            *next - 1
        })
    }

    fn give_back(&self, slot: usize) {
        lock(&self.0).1.push(slot);
    }
}

/// The block of one thread.
#[derive(Debug)]
pub struct Own<C: Counts> {
    id: u64,
    block: Arc<C>,
    series: Weak<Mutex<Blocks<C>>>,
}

impl<C: Counts> Drop for Own<C> {
    /// Leaves the sum with the series, if there still is one.
    fn drop(&mut self) {
        let Some(series) = self.series.upgrade() else {
            return;
        };
        let mut blocks = lock(&series);
        blocks.ended.merge(&self.block);
        let own = &self.block;
        blocks.own.retain(|(block, _)| !Arc::ptr_eq(block, own));
    }
}

/// The counts of all threads.
#[derive(Debug, Default)]
struct Blocks<C> {
    /// Those of threads, with the numbers that the system has for them.
    own: Vec<(Arc<C>, Option<u32>)>,
    /// The sum of those whose threads have ended.
    ended: C,
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The same counters in each thread that counts.
pub struct Series<C: Counts> {
    handle: Handle<C>,
    blocks: Arc<Mutex<Blocks<C>>>,
}

impl<C: Counts> Default for Series<C> {
    fn default() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self {
            handle: Handle {
                slot: C::slots().take(),
                id: NEXT.fetch_add(1, Ordering::Relaxed),
                counts: PhantomData,
            },
            blocks: Arc::default(),
        }
    }
}

impl<C: Counts> Drop for Series<C> {
    fn drop(&mut self) {
        C::slots().give_back(self.handle.slot);
    }
}

impl<C: Counts> fmt::Debug for Series<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Series").finish_non_exhaustive()
    }
}

impl<C: Counts> Series<C> {
    /// Lends the counters of the calling thread. `count` must not ask for those of another series.
    #[inline]
    pub fn with(&self, count: impl Fn(&C)) {
        if !self.handle.with(&count) {
            self.add_own();
            self.handle.with(&count);
        }
    }

    /// Lends the counters of the calling thread, and returns what a request keeps to count on, until its end.
    #[inline]
    pub fn begin(&self, count: impl Fn(&C)) -> Handle<C> {
        self.with(count);
        self.handle
    }

    #[cold]
    fn add_own(&self) {
        let Handle { slot, id, .. } = self.handle;
        let block = Arc::<C>::default();
        lock(&self.blocks).own.push((block.clone(), thread::id()));
        let own = Own {
            id,
            block,
            series: Arc::downgrade(&self.blocks),
        };
        // A thread that ends counts no more; the block goes with `own`.
        let _ = C::own().try_with(|all| {
            if let Ok(mut all) = all.try_borrow_mut() {
                if all.len() <= slot {
                    all.resize_with(slot + 1, || None);
                }
                all[slot] = Some(own);
            }
        });
    }

    /// Returns the sum over all threads.
    pub fn sum(&self) -> C {
        let (sum, blocks) = (C::default(), lock(&self.blocks));
        sum.merge(&blocks.ended);
        for (block, _) in &blocks.own {
            sum.merge(block);
        }
        sum
    }

    /// Returns the counts of each thread that is left, and the number that the system has for it.
    pub fn threads(&self) -> Vec<(Option<u32>, C)> {
        let blocks = lock(&self.blocks);
        let copy = |(block, thread): &(Arc<C>, _)| {
            let copy = C::default();
            copy.merge(block);
            (*thread, copy)
        };
        blocks.own.iter().map(copy).collect()
    }
}

/// The counters of a series in the thread that began to count there. It costs nothing to copy, and counts nothing
/// once the series is gone.
pub struct Handle<C> {
    slot: usize,
    /// 0 for none.
    id: u64,
    counts: PhantomData<fn(C)>,
}

impl<C> Clone for Handle<C> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<C> Copy for Handle<C> {}

impl<C> Default for Handle<C> {
    fn default() -> Self {
        Self {
            slot: 0,
            id: 0,
            counts: PhantomData,
        }
    }
}

impl<C> fmt::Debug for Handle<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Handle").field(&self.id).finish()
    }
}

impl<C: Counts> Handle<C> {
    /// Lends the counters, and tells whether there were any. `count` must not ask for those of another series.
    #[inline]
    pub fn with(&self, count: impl FnOnce(&C)) -> bool {
        let found = C::own().try_with(|all| {
            let all = all.try_borrow().ok()?;
            let own = all.get(self.slot)?.as_ref()?;
            (own.id == self.id).then(|| count(&own.block))
        });
        matches!(found, Ok(Some(())))
    }

    /// Tells whether it is of no series.
    #[inline]
    pub fn is_none(&self) -> bool {
        self.id == 0
    }
}

#[cfg(test)]
mod tests {
    #![allow(unreachable_pub, reason = "the macro is for public counters")]

    use super::super::cell::Cell;
    use super::super::counts::{counts, RouteCounts};
    use super::*;

    counts! {
        /// Counters whose slots no other test takes.
        pub struct Lonely {
            retries: Cell,
        }
    }

    #[test]
    fn the_sum_is_that_of_all_threads_those_that_ended_too() {
        let series = Series::<RouteCounts>::default();
        series.with(|m| m.retries.add(1));
        std::thread::scope(|threads| {
            let count = || (0..100).for_each(|_| series.with(|m| m.retries.add(1)));
            let three: Vec<_> = (0..3).map(|_| threads.spawn(count)).collect();
            // A scope waits for what threads do, and a join for what they leave behind at their end as well.
            three.into_iter().for_each(|thread| thread.join().unwrap());
        });
        assert_eq!(series.sum().retries.get(), 301);
        let left = series.threads();
        assert_eq!(left.len(), 1);
        assert_eq!(left[0].1.retries.get(), 1);
    }

    #[test]
    fn a_slot_that_is_taken_over_counts_for_its_new_series_alone() {
        let old = Series::<Lonely>::default();
        let handle = old.begin(|m| m.retries.add(5));
        let slot = handle.slot;
        drop(old);
        let new = Series::<Lonely>::default();
        assert_eq!(new.handle.slot, slot);
        handle.with(|m| m.retries.add(7));
        new.with(|m| m.retries.add(1));
        assert!(!handle.with(|m| m.retries.add(7)));
        assert_eq!(new.sum().retries.get(), 1);
    }

    #[test]
    fn what_one_thread_begins_another_one_may_end() {
        let series = Series::<RouteCounts>::default();
        series.with(|m| m.open.add(2));
        std::thread::scope(|threads| {
            threads.spawn(|| series.with(|m| m.open.sub(2)));
        });
        assert_eq!(series.sum().open.get(), 0);
    }
}
