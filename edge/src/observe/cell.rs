//! Counters that one thread writes and every thread reads.

use std::sync::atomic::{AtomicU64, Ordering};

/// A counter of one thread. It wraps around, so that what one thread adds and another one takes away cancels out in
/// their sum.
#[derive(Debug, Default)]
pub struct Cell(AtomicU64);

impl Cell {
    /// Adds. Only the thread that owns the counter may: it is a load and a store, without a lock on the bus.
    #[inline]
    pub fn add(&self, n: u64) {
        let now = self.0.load(Ordering::Relaxed);
        self.0.store(now.wrapping_add(n), Ordering::Relaxed);
    }

    /// Takes away, as [`add`](Self::add) adds.
    #[inline]
    pub fn sub(&self, n: u64) {
        self.add(n.wrapping_neg());
    }

    /// Returns the count.
    #[inline]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Counters that can be added up.
pub trait Merge {
    /// Adds the counts of `other`, whose thread may go on counting.
    fn merge(&self, other: &Self);
}

impl Merge for Cell {
    fn merge(&self, other: &Self) {
        self.add(other.get());
    }
}

impl<T: Merge, const N: usize> Merge for [T; N] {
    fn merge(&self, other: &Self) {
        for (own, other) in self.iter().zip(other) {
            own.merge(other);
        }
    }
}
