//! Counts of requests that one worker writes, and whoever asks reads.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

/// The requests of one worker to one server. Only that worker writes it, with plain loads and stores, but for
/// `idle` and `moved`.
#[derive(Debug)]
// Counts of two workers never share a line of the cache.
#[repr(align(64))]
pub(super) struct Counts {
    pub(super) worker: u64,
    /// The requests that began here and did not end here.
    open: AtomicU32,
    /// Those of them that have ended on other threads.
    moved: AtomicU32,
    /// The places that requests of the worker have left; another worker takes them if it finds none elsewhere.
    pub(super) idle: AtomicU32,
    total: AtomicU64,
    failed: AtomicU64,
    /// The average time to the head of an answer in microseconds, as the bits of a float; 0 while there was none.
    latency: AtomicU64,
    /// When that was noted, in microseconds.
    noted: AtomicU64,
}

/// The time in which the weight of what was noted falls to 1/e, in microseconds.
const DECAY: f64 = 10e6;

impl Counts {
    pub(super) fn of(worker: u64) -> Self {
        Self {
            worker,
            open: AtomicU32::new(0),
            moved: AtomicU32::new(0),
            idle: AtomicU32::new(0),
            total: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            latency: AtomicU64::new(0),
            noted: AtomicU64::new(0),
        }
    }

    #[inline]
    pub(super) fn open(&self) -> u32 {
        let moved = self.moved.load(Relaxed);
        // Another thread may see an end before its beginning.
        let open = self.open.load(Relaxed).wrapping_sub(moved) as i32;
        open.max(0) as u32
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
        let open = self.open.load(Relaxed);
        self.open.store(open.wrapping_add(1), Relaxed);
        self.total.store(self.total().wrapping_add(1), Relaxed);
    }

    /// Counts a request off.
    #[inline]
    pub(super) fn end(&self) {
        let open = self.open.load(Relaxed);
        self.open.store(open.wrapping_sub(1), Relaxed);
    }

    /// Counts a request off on a thread of another worker.
    pub(super) fn end_elsewhere(&self) {
        self.moved.fetch_add(1, Relaxed);
    }

    /// Notes the time that an answer took. One that took longer counts at once, one that was quicker bit by bit.
    pub(super) fn note(&self, took: u64, now: u64) {
        let (took, before) = (took as f64, self.average());
        let new = if took >= before {
            took
        } else {
            let weight = self.age(now);
            before * weight + took * (1.0 - weight)
        };
        self.latency.store(new.to_bits(), Relaxed);
        self.noted.store(now, Relaxed);
    }

    /// Returns the average time to the head of an answer in microseconds; 0 while there was none.
    pub(super) fn average(&self) -> f64 {
        f64::from_bits(self.latency.load(Relaxed))
    }

    /// Returns what is to be expected: what was noted long ago counts less, so that a slow server is tried again.
    pub(super) fn expected(&self, now: u64) -> f64 {
        self.average() * self.age(now)
    }

    fn age(&self, now: u64) -> f64 {
        let age = now.saturating_sub(self.noted.load(Relaxed));
        (-(age as f64) / DECAY).exp()
    }

    /// Counts a failure.
    pub(super) fn fail(&self) {
        self.failed.store(self.failed().wrapping_add(1), Relaxed);
    }
}
