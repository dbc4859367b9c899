//! The retries that a worker may add to its requests.

use super::clock;

/// A retry. Requests add shares of one, in ten-thousandths.
const RETRY: u64 = 10_000;
/// The retries that there are in any case, so that rare requests have theirs.
const SPARE: u64 = 10 * RETRY;
/// The time in milliseconds after which requests begin to count for no retry any more: a server that hangs fails those of
/// some seconds at once.
const WINDOW: u64 = 5_000;

/// The shares that requests have added and retries have not taken. Requests of long ago allow none: if all servers fail after an hour
/// of good answers, there is no storm of retries.
#[derive(Clone, Debug)]
pub(super) struct Budget {
    saved: u64,
    /// The shares added in this window, and in the one before.
    added: [u64; 2],
    /// When this window began.
    since: u64,
}

impl Budget {
    pub(super) fn new() -> Self {
        Self {
            saved: SPARE,
            added: [0; 2],
            since: 0,
        }
    }

    /// Adds the share of a request.
    pub(super) fn add(&mut self, share: u32) {
        let now = clock::now();
        let passed = now.saturating_sub(self.since);
        if passed >= WINDOW {
            let [last, _] = self.added;
            let before = if passed < 2 * WINDOW { last } else { 0 };
            (self.added, self.since) = ([0, before], now);
        }
        let [this, before] = &mut self.added;
        *this += u64::from(share);
        self.saved = (self.saved + u64::from(share)).min(SPARE + *this + *before);
    }

    /// Takes a retry, if there is one.
    pub(super) fn take(&mut self) -> bool {
        match self.saved.checked_sub(RETRY) {
            Some(rest) => {
                self.saved = rest;
                true
            }
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn left(budget: &Budget) -> usize {
        let mut budget = budget.clone();
        std::iter::from_fn(|| budget.take().then_some(())).count()
    }

    #[test]
    fn requests_of_the_last_seconds_allow_retries() {
        let _stopped = clock::told::stop();
        let mut budget = Budget::new();
        assert_eq!(left(&budget), 10);
        for requests in [100, 200] {
            (0..requests).for_each(|_| budget.add(2_000));
            clock::told::pass(Duration::from_secs(5));
        }
        // All that may hang at a server that has failed have their other try.
        assert_eq!(left(&budget), 10 + 20 + 40);
        budget.add(2_000);
        assert_eq!(left(&budget), 10 + 40);
        clock::told::pass(Duration::from_secs(10));
        budget.add(2_000);
        assert_eq!(left(&budget), 10);
    }

    #[test]
    fn retries_are_a_share_of_requests() {
        let _stopped = clock::told::stop();
        let mut budget = Budget::new();
        let mut taken = 0;
        for _ in 0..1_000 {
            budget.add(2_000);
            taken += usize::from(budget.take());
        }
        assert_eq!(taken, 10 + 200);
        budget.add(0);
        assert!(!budget.take());
    }
}
