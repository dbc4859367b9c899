//! The health of a server, by what becomes of requests.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// When a server counts as down, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Health {
    /// The failures after which a server is left alone, no two of them further apart than `fail_timeout`; 0 for never.
    pub max_fails: u32,
    /// The time for which it is left alone.
    pub fail_timeout: Duration,
}

/// nginx's: a single failure, and 10 s.
impl Default for Health {
    fn default() -> Self {
        Health {
            max_fails: 1,
            fail_timeout: Duration::from_secs(10),
        }
    }
}

/// Failures of one server. Workers share it; while all is well they only read it.
#[derive(Debug, Default)]
pub struct State {
    /// Failures since the last answer.
    fails: AtomicU32,
    /// When `fail_timeout` after the last failure is over, or after the last try since.
    retry_at: AtomicU64,
}

impl State {
    /// Whether a request may be sent to the server at the time `now`, in milliseconds. Of a server that is down, one
    /// request after each pause learns that it may.
    #[inline]
    pub fn may_try(&self, health: &Health, now: impl Fn() -> u64) -> bool {
        let fails = self.fails.load(Relaxed);
        fails == 0 || self.may_try_failed(health, fails, now())
    }

    #[cold]
    fn may_try_failed(&self, health: &Health, fails: u32, now: u64) -> bool {
        if health.max_fails == 0 || fails < health.max_fails {
            return true;
        }
        let retry_at = self.retry_at.load(Relaxed);
        let next = now.saturating_add(millis(health.fail_timeout));
        retry_at <= now
            && self
                .retry_at
                .compare_exchange(retry_at, next, Relaxed, Relaxed)
                .is_ok()
    }

    /// Tells whether the server is left alone, but for a request now and then.
    pub fn is_down(&self, health: &Health) -> bool {
        health.max_fails > 0 && self.fails.load(Relaxed) >= health.max_fails
    }

    /// Notes a failure; returns whether the server is down from now on, and was not before.
    pub fn failed(&self, health: &Health, now: u64) -> bool {
        let pause = millis(health.fail_timeout);
        let apart = self.retry_at.swap(now.saturating_add(pause), Relaxed) <= now;
        let before = self.fails.load(Relaxed);
        if apart && before < health.max_fails {
            // The last one is too long ago to count.
            self.fails.store(1, Relaxed);
            return health.max_fails == 1;
        }
        // Two workers may count one failure less or more: it takes a server out a little later or earlier.
        self.fails.store(before.saturating_add(1), Relaxed);
        health.max_fails > 0 && before + 1 == health.max_fails
    }

    /// Notes an answer.
    #[inline]
    pub fn answered(&self) {
        if self.fails.load(Relaxed) != 0 {
            self.fails.store(0, Relaxed);
        }
    }
}

pub(super) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
