//! The arithmetic of a rate: the generic cell rate algorithm, which is a leaky bucket that counts no drops.
//!
//! It keeps one number of a key, the time at which its bucket would be full again (the "theoretical arrival time"). Times
//! are in units of a nanosecond by the number of requests of the rate: one request is worth the rate's time in
//! nanoseconds, and there is no rounding.

use std::time::Duration;

/// A rate and its burst.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Quota {
    /// Requests in a time.
    count: u128,
    /// That time in nanoseconds, which one request is worth.
    worth: u128,
    /// Requests that may come at once.
    burst: u32,
}

/// The bucket of a key. A new one is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Bucket(u128);

impl Quota {
    /// Makes one of `count` requests, at least 1, in a `period`.
    pub(crate) fn new(count: u32, period: Duration, burst: u32) -> Self {
        Self {
            count: count.max(1).into(),
            worth: period.as_nanos().max(1),
            burst: burst.max(1),
        }
    }

    /// Returns the number of requests that may come at once.
    pub(crate) fn burst(&self) -> u32 {
        self.burst
    }

    /// Returns the seconds in which an empty bucket fills, rounded up.
    pub(crate) fn window(&self) -> u64 {
        let filled = self.worth * u128::from(self.burst) / self.count;
        seconds(u64::try_from(filled).unwrap_or(u64::MAX))
    }
}

/// Rounds nanoseconds up to seconds.
pub(crate) fn seconds(nanoseconds: u64) -> u64 {
    nanoseconds.div_ceil(1_000_000_000)
}

impl Bucket {
    /// Returns the number of requests in it at `now`.
    pub(super) fn level(self, quota: &Quota, now: u64) -> u32 {
        let missing = self.0.saturating_sub(u128::from(now) * quota.count);
        let whole = u128::from(quota.burst) * quota.worth;
        // At most `burst`.
        (whole.saturating_sub(missing) / quota.worth) as u32
    }

    /// Takes requests out of it. It may owe some then.
    pub(super) fn take(&mut self, quota: &Quota, now: u64, requests: u32) {
        let start = self.0.max(u128::from(now) * quota.count);
        self.0 = start + u128::from(requests) * quota.worth;
    }

    /// Returns the nanoseconds from `now` until there are so many requests in it, at most `burst`.
    pub(super) fn wait(self, quota: &Quota, now: u64, requests: u32) -> u64 {
        let free = u128::from(quota.burst - requests.min(quota.burst)) * quota.worth;
        let at = self.0.saturating_sub(free);
        let wait = at.saturating_sub(u128::from(now) * quota.count);
        u64::try_from(wait.div_ceil(quota.count)).unwrap_or(u64::MAX)
    }

    /// Returns the time at which it will be full, in the units of its quota.
    pub(super) fn filled_at(self) -> u128 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Requests in fractions that are never rounded, added up one by one.
    struct Model {
        quota: Quota,
        /// By `worth`.
        level: u128,
        at: u64,
    }

    impl Model {
        fn at(&mut self, now: u64) {
            let full = u128::from(self.quota.burst) * self.quota.worth;
            let more = u128::from(now - self.at) * self.quota.count;
            self.level = (self.level + more).min(full);
            self.at = now;
        }
    }

    proptest! {
        #[test]
        fn a_bucket_is_filled_by_the_rate_and_emptied_by_requests(
            count in 1u32..2000,
            period in 1u64..100_000_000_000,
            burst in 1u32..500,
            steps in prop::collection::vec((0u64..2_000_000_000, 1u32..5), 1..200),
        ) {
            let quota = Quota::new(count, Duration::from_nanos(period), burst);
            let mut bucket = Bucket::default();
            let full = u128::from(burst) * quota.worth;
            let mut model = Model { quota, level: full, at: 0 };
            let mut now = 0;
            for (later, requests) in steps {
                now += later;
                model.at(now);
                prop_assert_eq!(u128::from(bucket.level(&quota, now)), model.level / quota.worth);
                let filled = bucket.filled_at() <= u128::from(now) * quota.count;
                prop_assert_eq!(filled, model.level == full);
                let wait = bucket.wait(&quota, now, requests);
                let enough = requests.min(burst);
                prop_assert!(bucket.level(&quota, now + wait) >= enough);
                prop_assert!(wait == 0 || bucket.level(&quota, now + wait - 1) < enough);
                if bucket.level(&quota, now) >= requests {
                    bucket.take(&quota, now, requests);
                    model.level -= u128::from(requests) * quota.worth;
                }
            }
        }

        #[test]
        fn no_window_passes_more_than_burst_and_rate(
            count in 1u32..50,
            burst in 1u32..50,
            steps in prop::collection::vec(0u64..300_000_000, 2..150),
        ) {
            let quota = Quota::new(count, Duration::from_secs(1), burst);
            let (mut bucket, mut now, mut passed) = (Bucket::default(), 0, Vec::new());
            for later in steps {
                now += later;
                if bucket.level(&quota, now) >= 1 {
                    bucket.take(&quota, now, 1);
                    passed.push(now);
                }
            }
            for (first, from) in passed.iter().enumerate() {
                for (last, to) in passed.iter().enumerate().skip(first) {
                    let most = u128::from(burst)
                        + u128::from(to - from) * u128::from(count) / 1_000_000_000;
                    prop_assert!((last - first + 1) as u128 <= most);
                }
            }
        }
    }
}
