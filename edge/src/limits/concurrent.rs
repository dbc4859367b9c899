//! Requests at a time by key, over all workers.
//!
//! # How exact it is
//!
//! There are never more than the limit at a time. A worker keeps a few places of requests that have ended for the next
//! ones; all workers together keep at most an eighth of a key's limit. So a request may be refused while seven eighths are
//! in use. A limit of less than 8 keeps none: it is exact, and each request writes twice what workers share.

use std::hash::{BuildHasher, RandomState};

use super::local::Local;
use super::shards::{Entry, Shards};

/// The time for which places are kept, in nanoseconds.
const KEPT: u64 = 10_000_000_000;
/// The part of a limit that may be kept.
const PART: u32 = 8;
/// The places that a worker keeps of a key, at most.
const MOST: u32 = 64;

/// A limit of requests at a time, shared by workers.
pub(crate) struct Concurrent {
    /// Tells it from every other one.
    pub(crate) id: u64,
    /// Tells what it is for: the same in two plans when nothing about it changed.
    pub(crate) key: String,
    max: u32,
    hasher: RandomState,
    shared: Shards<Shared>,
}

/// The places of a key.
#[derive(Default)]
struct Shared {
    /// Those that workers have, in use or kept.
    taken: u32,
    /// Those of them that may be kept.
    kept: u32,
}

impl Entry for Shared {
    fn weight(&self) -> u128 {
        self.taken.into()
    }
}

/// A worker's own of a limit.
#[derive(Default)]
pub(crate) struct LocalConcurrent {
    keys: Local<Known>,
}

#[derive(Default)]
struct Known {
    used: u32,
    idle: u32,
    /// The number of places that may be idle.
    may_keep: u32,
}

impl Concurrent {
    /// Makes a limit of `max` requests at a time for each key.
    pub(crate) fn new(id: u64, key: String, max: u32) -> Self {
        Self {
            id,
            key,
            max,
            hasher: RandomState::new(),
            shared: Shards::new(),
        }
    }

    /// Returns how keys are hashed: in a way that nobody outside can foresee.
    pub(crate) fn hasher(&self) -> impl std::hash::Hasher {
        self.hasher.build_hasher()
    }

    /// Gives places back that a worker has no memory of any more.
    pub(crate) fn give_back(&self, key: u64) {
        self.shared
            .with(key, |shared| shared.taken = shared.taken.saturating_sub(1));
        self.shared.tidy(key);
    }
}

impl LocalConcurrent {
    /// Takes a place for a request of a key; `false` when there is none.
    #[inline]
    pub(crate) fn enter(&mut self, limit: &Concurrent, key: u64, now: u64) -> bool {
        if let Some(known) = self.keys.find(key) {
            if known.idle > 0 {
                known.idle -= 1;
                known.used += 1;
                return true;
            }
        }
        self.ask(limit, key, now)
    }

    #[cold]
    fn ask(&mut self, limit: &Concurrent, key: u64, now: u64) -> bool {
        let known = self.keys.entry(key, now, KEPT, |old, known| {
            if known.used > 0 {
                return false;
            }
            known.return_to(limit, old);
            true
        });
        let entered = limit.shared.with(key, |shared| {
            if shared.taken >= limit.max {
                return false;
            }
            shared.taken += 1;
            let room = (limit.max / PART).saturating_sub(shared.kept);
            let more = room.min((known.may_keep + 1).min(MOST - known.may_keep.min(MOST)));
            shared.kept += more;
            known.may_keep += more;
            true
        });
        known.used += u32::from(entered);
        entered
    }

    /// Leaves the place of a request that has ended.
    #[inline]
    pub(crate) fn leave(&mut self, limit: &Concurrent, key: u64) {
        match self.keys.find(key) {
            Some(known) if known.used > 0 => {
                known.used -= 1;
                if known.idle < known.may_keep {
                    known.idle += 1;
                } else {
                    limit.give_back(key);
                }
            }
            _ => limit.give_back(key),
        }
    }
}

impl Known {
    /// Gives back what is kept.
    fn return_to(&mut self, limit: &Concurrent, key: u64) {
        limit.shared.with(key, |shared| {
            shared.taken = shared.taken.saturating_sub(self.idle);
            shared.kept = shared.kept.saturating_sub(self.may_keep);
        });
        limit.shared.tidy(key);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn never_more_than_the_limit_and_none_is_refused_below_seven_eighths(
            max in 1u32..200,
            workers in 1usize..5,
            // A worker, one of a few keys, and whether a request begins.
            steps in prop::collection::vec((0usize..5, 0u64..3, prop::bool::weighted(0.6)), 1..600),
        ) {
            let limit = Concurrent::new(1, String::new(), max);
            let mut locals: Vec<_> = (0..workers).map(|_| LocalConcurrent::default()).collect();
            let mut open: Vec<(usize, u64)> = Vec::new();
            for (n, (worker, key, begins)) in steps.into_iter().enumerate() {
                let worker = worker % workers;
                if begins {
                    let before = open.iter().filter(|(_, of)| *of == key).count() as u32;
                    if locals[worker].enter(&limit, key, n as u64) {
                        prop_assert!(before < max);
                        open.push((worker, key));
                    } else {
                        prop_assert!(before >= max - max / PART, "{} of {}", before, max);
                    }
                } else if !open.is_empty() {
                    let (worker, key) = open.swap_remove(n % open.len());
                    locals[worker].leave(&limit, key);
                }
            }
            for (worker, key) in open {
                locals[worker].leave(&limit, key);
            }
            // Long after, other keys have them give back all that they keep.
            for (at, local) in locals.iter_mut().enumerate() {
                for n in 0..10 {
                    let other = 100 + n + at as u64 * 100;
                    prop_assert!(local.enter(&limit, other, KEPT * 2 * (n + 1)));
                    local.leave(&limit, other);
                }
            }
            for key in 0..3 {
                let (taken, kept) = limit.shared.with(key, |shared| (shared.taken, shared.kept));
                prop_assert_eq!((taken, kept), (0, 0));
            }
        }
    }

    #[test]
    fn threads_never_have_more_than_the_limit_together() {
        let limit = &Concurrent::new(1, String::new(), 20);
        let open = &AtomicU32::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(move || {
                    let (mut local, mut mine) = (LocalConcurrent::default(), 0);
                    for n in 0..20_000u64 {
                        if n % 7 < 4 && local.enter(limit, 7, n) {
                            mine += 1;
                            assert!(open.fetch_add(1, Ordering::SeqCst) < 20);
                        } else if mine > 0 {
                            mine -= 1;
                            open.fetch_sub(1, Ordering::SeqCst);
                            local.leave(limit, 7);
                        }
                    }
                });
            }
        });
    }
}
