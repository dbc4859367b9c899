//! Counts of requests that one worker writes, and whoever asks reads.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

/// The requests of one worker to one server. Only that worker writes it, with plain loads and stores.
#[derive(Debug)]
// Counts of two workers never share a line of the cache.
#[repr(align(64))]
pub(super) struct Counts {
    pub(super) worker: u64,
    open: AtomicU32,
    total: AtomicU64,
    failed: AtomicU64,
}

impl Counts {
    pub(super) fn of(worker: u64) -> Self {
        Self {
            worker,
            open: AtomicU32::new(0),
            total: AtomicU64::new(0),
            failed: AtomicU64::new(0),
        }
    }

    #[inline]
    pub(super) fn open(&self) -> u32 {
        self.open.load(Relaxed)
    }

    pub(super) fn total(&self) -> u64 {
        self.total.load(Relaxed)
    }

    pub(super) fn failed(&self) -> u64 {
        self.failed.load(Relaxed)
    }

    /// Counts a request that begins.
    #[inline]
    pub(super) fn begin(&self) {
        self.open.store(self.open().saturating_add(1), Relaxed);
        self.total.store(self.total().wrapping_add(1), Relaxed);
    }

    /// Counts a request off.
    #[inline]
    pub(super) fn end(&self) {
        self.open.store(self.open().saturating_sub(1), Relaxed);
    }

    /// Counts a failure.
    pub(super) fn fail(&self) {
        self.failed.store(self.failed().wrapping_add(1), Relaxed);
    }
}
