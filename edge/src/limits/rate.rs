//! Rates of requests by key, over all workers.
//!
//! # How exact it is
//!
//! Each key has one bucket that all workers share (GCRA, [`gcra`](super::gcra)). A worker that has a request of a key takes
//! it from the bucket, and with it a *lease* of further ones, which it gives out without asking. A lease is at most an
//! eighth of what the bucket holds; all leases of a key together are at most an eighth of its burst; and a lease ends
//! after [`LEASE`]. What was used of it is then taken from the bucket, and what was not is free again. So, for each key:
//!
//! - **Never too many.** In any time `t`, at most `burst + rate * t` requests pass, whatever workers they are of. What is
//!   leased is kept free in the bucket until it was used or has ended.
//! - **Seldom too few.** A request is refused though it should pass only while fewer than `1 + burst / 4` requests are left:
//!   an eighth of the burst may be leased to other workers, and another eighth may have been used so late that the bucket,
//!   which was full, was not filled for it. It evens out: over a long time, the rate passes.
//! - A burst of less than 16 has leases of nothing: it is exact, and each request that passes writes what workers share.
//! - Those that are refused write nothing: a worker knows until when.
//!
//! At most 65,536 keys are remembered. With more at a time, those are forgotten first whose buckets are fullest among a few.

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::Arc;

use super::gcra::{seconds, Bucket, Quota};
use super::local::Local;
use super::shards::{Entry, Shards};

/// The time for which a worker may give out what it has leased, in nanoseconds.
const LEASE: u64 = 10_000_000_000;
/// The time after its end in which a worker that was held up may still note what it gave out.
const GRACE: u64 = 500_000_000;
/// Leases are this part of what there is.
const PART: u32 = 8;
/// Nothing is leased of a burst that is smaller: a lease of one request saves nothing.
const SMALL: u32 = 2 * PART;
/// The size of a first lease; each one that was used up is followed by one twice as large.
const FIRST: u32 = 8;

/// A rate limit, shared by workers.
pub(crate) struct Limiter {
    /// Tells it from every other one.
    pub(crate) id: u64,
    /// Tells what it is for: the same in two plans when nothing about it changed.
    pub(crate) key: String,
    quota: Quota,
    hasher: RandomState,
    shared: Shards<Shared>,
}

/// The state of a key, shared by workers.
#[derive(Default)]
struct Shared {
    bucket: Bucket,
    /// The sum of the leases.
    held: u32,
    leases: Vec<Arc<Lease>>,
}

/// Requests that a worker may give out by itself.
struct Lease {
    size: u32,
    until: u64,
    /// The number that it gave out. Only that worker writes it, and others read it when the lease has ended.
    used: AtomicU32,
}

impl Entry for Shared {
    fn weight(&self) -> u128 {
        self.bucket.filled_at()
    }
}

/// A worker's own of a limiter.
#[derive(Default)]
pub(crate) struct LocalRates {
    keys: Local<Known>,
}

/// The knowledge that a worker has of a key.
#[derive(Default)]
struct Known {
    lease: Option<Arc<Lease>>,
    /// The rest of the lease.
    left: u32,
    /// The size of the last lease.
    size: u32,
    /// Until when all are refused.
    refused_until: u64,
    /// The rest in the bucket for everybody when it was asked last.
    others: u32,
}

/// The judgement of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It passes, and about so many more would.
    Passes(u32),
    /// It is refused, and one would pass in so many nanoseconds.
    Refused(u64),
}

impl Verdict {
    /// Returns the seconds after which to try again, rounded up.
    pub(crate) fn retry_after(wait: u64) -> u64 {
        seconds(wait).max(1)
    }
}

impl Limiter {
    /// Makes a limiter of full buckets.
    pub(crate) fn new(id: u64, key: String, quota: Quota) -> Self {
        Self {
            id,
            key,
            quota,
            hasher: RandomState::new(),
            shared: Shards::new(),
        }
    }

    /// Returns the seconds in which an empty bucket fills.
    pub(crate) fn window(&self) -> u64 {
        self.quota.window()
    }

    /// Returns how keys are hashed: in a way that nobody outside can foresee.
    pub(crate) fn hasher(&self) -> impl std::hash::Hasher {
        self.hasher.build_hasher()
    }
}

impl LocalRates {
    /// Judges a request of a key at `now`, and counts it if it passes.
    #[inline]
    pub(crate) fn judge(&mut self, limiter: &Limiter, key: u64, now: u64) -> Verdict {
        if let Some(known) = self.keys.find(key) {
            if now < known.refused_until {
                return Verdict::Refused(known.refused_until - now);
            }
            if let Some(lease) = known.lease.as_deref().filter(|_| known.left > 0) {
                if now < lease.until {
                    known.left -= 1;
                    lease.used.store(lease.size - known.left, Ordering::Relaxed);
                    return Verdict::Passes(known.others.saturating_add(known.left));
                }
            }
        }
        self.ask(limiter, key, now)
    }

    /// Asks the bucket that workers share.
    #[cold]
    fn ask(&mut self, limiter: &Limiter, key: u64, now: u64) -> Verdict {
        let known = self.keys.entry(key, now, LEASE, |_, _| true);
        let own = known.lease.take();
        known.size = match &own {
            Some(lease) if known.left == 0 && now < lease.until => known.size.saturating_mul(2),
            _ => FIRST,
        };
        known.left = 0;
        let quota = &limiter.quota;
        let answer = limiter.shared.with(key, |shared| {
            shared.settle(quota, now, own.as_ref());
            shared.take(quota, now, known.size)
        });
        match answer {
            Ok((left, lease)) => {
                known.size = lease.as_ref().map_or(FIRST, |lease| lease.size);
                known.left = lease.as_ref().map_or(0, |lease| lease.size);
                known.others = left;
                known.lease = lease;
                Verdict::Passes(left.saturating_add(known.left))
            }
            Err(wait) => {
                known.refused_until = now.saturating_add(wait);
                Verdict::Refused(wait)
            }
        }
    }
}

impl Shared {
    /// Takes from the bucket what was used of leases that have ended, and of a worker's own.
    fn settle(&mut self, quota: &Quota, now: u64, own: Option<&Arc<Lease>>) {
        let Self {
            bucket,
            held,
            leases,
        } = self;
        leases.retain(|lease| {
            let ended = now >= lease.until.saturating_add(GRACE)
                || own.is_some_and(|own| Arc::ptr_eq(own, lease));
            if ended {
                bucket.take(quota, now, lease.used.load(Ordering::Relaxed));
                *held = held.saturating_sub(lease.size);
            }
            !ended
        });
    }

    /// Takes a request, and a lease of about so many more. Returns what is left for others, or the time to wait.
    fn take(
        &mut self,
        quota: &Quota,
        now: u64,
        size: u32,
    ) -> Result<(u32, Option<Arc<Lease>>), u64> {
        let free = self.bucket.level(quota, now).saturating_sub(self.held);
        if free == 0 {
            return Err(self.bucket.wait(quota, now, self.held + 1).max(1));
        }
        self.bucket.take(quota, now, 1);
        let left = free - 1;
        let room = match quota.burst() {
            ..SMALL => 0,
            burst => (burst / PART).saturating_sub(self.held),
        };
        let size = size.min(left / PART).min(room);
        if size == 0 {
            return Ok((left, None));
        }
        let lease = Arc::new(Lease {
            size,
            until: now.saturating_add(LEASE),
            used: AtomicU32::new(0),
        });
        self.held += size;
        self.leases.push(lease.clone());
        Ok((left - size, Some(lease)))
    }
}

#[cfg(test)]
#[path = "rate_tests.rs"]
mod tests;
