//! The state of a server at one of its addresses.
//!
//! Workers share it, and read one word of it for each request; while all is well nobody writes that. It stays over a
//! reload as long as the server does.
//!
//! ```text
//!             failures, or a breaker                      a failed try
//!   free ---------------------------> EJECTED | OPEN <------------------+
//!    ^                                      | after the pause: one try  |
//!    +----------- an answer ----------------+---------------------------+
//!
//!   DOWN: an active check failed.  DRAINED: somebody said so.  SLOW: it came up, and its share grows.
//! ```

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use super::clock::{millis, now};
use super::connections::Connections;
use super::counts::Counts;
use super::places::Places;
use super::queue::Queue;
use super::random::Random;
use crate::config::model::{Initially, PassiveHealth};
use crate::config::values::{Address, StatusRange};
use crate::observe::{EndpointCounts, Series};

/// An active check says that it is down.
pub(super) const DOWN: u32 = 1;
/// It is to get no further request.
pub(super) const DRAINED: u32 = 2;
/// It has failed too many requests.
pub(super) const EJECTED: u32 = 4;
/// Its circuit breaker is open.
pub(super) const OPEN: u32 = 8;
/// It came up a short while ago.
pub(super) const SLOW: u32 = 16;

/// When a server is left alone, and how it comes back.
#[derive(Clone, Debug)]
pub(super) struct Rules {
    max_fails: u32,
    window: u64,
    eject_for: u64,
    pub(super) statuses: Vec<StatusRange>,
    /// The time for which a breaker stays open; 0 where there is none.
    pub(super) open_for: u64,
    /// The time in which the share grows; 0 for at once.
    pub(super) slow_start: u64,
    /// True if servers are checked.
    checked: bool,
    /// True if they are down until they were.
    initially_down: bool,
}

impl Rules {
    pub(super) fn of(plan: &crate::plan::Cluster) -> Self {
        let passive = plan.passive_health.as_ref();
        let ten = Duration::from_secs(10);
        let time = |of: fn(&PassiveHealth) -> Duration| millis(passive.map_or(ten, of));
        let breaker = plan.circuit_breaker.as_ref();
        Self {
            max_fails: passive.map_or(1, |passive| passive.max_fails),
            window: time(|passive| passive.window),
            eject_for: time(|passive| passive.eject_for),
            statuses: passive.map_or_else(Vec::new, |passive| passive.statuses.clone()),
            open_for: breaker.map_or(0, |breaker| millis(breaker.open_for)),
            slow_start: plan.slow_start.map_or(0, millis),
            checked: plan.health.is_some(),
            initially_down: plan
                .health
                .as_ref()
                .is_some_and(|health| health.initially == Initially::Down),
        }
    }
}

/// A server at one of its addresses.
#[derive(Debug, Default)]
pub(crate) struct Endpoint {
    flags: AtomicU32,
    /// When it is tried again, while it is ejected or its breaker is open.
    until: AtomicU64,
    /// The times that it was left alone.
    turns: AtomicU32,
    /// When it came up.
    up_since: AtomicU64,
    /// The failures of this window, and its beginning.
    fails: AtomicU32,
    window_from: AtomicU64,
    /// The reason for its state.
    why: Mutex<String>,
    /// The counts of the workers that have sent requests to it.
    counts: Mutex<Vec<Arc<Counts>>>,
    /// Counts for metrics.
    series: Series<EndpointCounts>,
    /// The requests that it may have at a time.
    places: Places,
    /// The connections that are open to it, if they were ever limited.
    connections: OnceLock<Arc<Connections>>,
    /// The requests that wait for it and for others of its cluster.
    queue: Arc<Queue>,
}

/// The treatment of a server that is not free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It takes the request.
    Take,
    /// It takes the request if no other can.
    Spare,
    /// It takes none.
    Never,
}

impl Endpoint {
    /// A server that `joins` others takes its share step by step, where that is told.
    pub(super) fn new(rules: &Rules, joins: bool, queue: &Arc<Queue>) -> Self {
        let new = Self {
            queue: queue.clone(),
            ..Self::default()
        };
        if rules.initially_down {
            new.set(DOWN);
            new.say("it was not checked yet".to_owned());
        }
        if joins {
            new.came_up(rules);
        }
        new
    }

    /// Tells whether there is nothing to think about.
    #[inline]
    pub(super) fn is_free(&self) -> bool {
        self.flags.load(Relaxed) == 0
    }

    /// Returns what is counted for metrics.
    pub(super) fn series(&self) -> &Series<EndpointCounts> {
        &self.series
    }

    pub(super) fn flags(&self) -> u32 {
        self.flags.load(Relaxed)
    }

    pub(super) fn set(&self, flag: u32) {
        self.flags.fetch_or(flag, Relaxed);
        self.queue.call();
    }

    pub(super) fn clear(&self, flag: u32) {
        if self.flags() & flag != 0 {
            self.flags.fetch_and(!flag, Relaxed);
            self.queue.call();
        }
    }

    /// Tells whether another request may go to it at some time soon.
    pub(super) fn may_serve(&self) -> bool {
        self.flags() & (DOWN | DRAINED | OPEN) == 0
    }

    /// Tells whether a request may go to it now or after a pause.
    pub(super) fn may_be_tried(&self) -> bool {
        self.flags() & (DOWN | DRAINED) == 0
    }

    /// Sets the requests that it may have at a time.
    pub(super) fn limit(&self, max: Option<u32>) {
        self.places.set_max(max, &self.counts);
    }

    /// Returns the connections to it, which is at this address. From now on they are told to those who wait.
    pub(super) fn connections(&self, address: &Address) -> &Arc<Connections> {
        self.connections
            .get_or_init(|| Connections::of(address, &self.queue))
    }

    /// Returns the connections to it, if they were ever limited.
    pub(super) fn known_connections(&self) -> Option<&Arc<Connections>> {
        self.connections.get()
    }

    /// Takes a place for a request of the worker whose counts are `own`; `false` when there is none.
    pub(super) fn take_place(&self, own: &Counts) -> bool {
        self.places.take(own, &self.counts)
    }

    /// Leaves the place of a request, to one that waits if any does.
    pub(super) fn leave_place(&self, own: &Counts) {
        self.places.leave(own);
        self.queue.call();
        // Its connection is idle now, which may be room for others.
        if let Some(connections) = self.connections.get() {
            connections.call_others();
        }
    }

    /// Puts a place back that was taken to look at the server.
    pub(super) fn put_back_place(&self, own: &Counts) {
        self.places.leave(own);
    }

    pub(super) fn has_room(&self) -> bool {
        let connections = self.connections.get();
        self.has_place() && connections.is_none_or(|all| all.has_room())
    }

    /// Tells whether it may have one more request, if there is a connection for it.
    pub(super) fn has_place(&self) -> bool {
        self.places.has_room(&self.counts)
    }

    /// Judges a server that is not free. Of one that is left alone, one request after each pause learns that it may try.
    #[cold]
    pub(super) fn verdict(&self, rules: &Rules, random: &mut Random) -> Verdict {
        let flags = self.flags();
        if flags & (DOWN | DRAINED) != 0 {
            return Verdict::Never;
        }
        if flags & (EJECTED | OPEN) != 0 {
            let (until, now) = (self.until.load(Relaxed), now());
            let pause = if flags & OPEN != 0 {
                rules.open_for
            } else {
                rules.eject_for
            };
            let next = now.saturating_add(pause);
            let exchange = || self.until.compare_exchange(until, next, Relaxed, Relaxed);
            if until <= now && exchange().is_ok() {
                return Verdict::Take;
            }
            return if flags & OPEN != 0 {
                Verdict::Never
            } else {
                Verdict::Spare
            };
        }
        if flags & SLOW != 0 && !self.is_taken_slowly(rules, random) {
            return Verdict::Spare;
        }
        Verdict::Take
    }

    /// Takes requests with a probability that grows from a tenth.
    fn is_taken_slowly(&self, rules: &Rules, random: &mut Random) -> bool {
        let elapsed = now().saturating_sub(self.up_since.load(Relaxed));
        if elapsed >= rules.slow_start {
            self.clear(SLOW);
            return true;
        }
        random.below(rules.slow_start) < elapsed.max(rules.slow_start / 10)
    }

    /// Returns the part of its share that it takes, in percent.
    pub(super) fn warmth(&self, rules: &Rules) -> u32 {
        if self.flags() & SLOW == 0 || rules.slow_start == 0 {
            return 100;
        }
        let elapsed = now().saturating_sub(self.up_since.load(Relaxed));
        let part = elapsed.saturating_mul(100) / rules.slow_start;
        part.clamp(10, 100) as u32
    }

    /// Begins its slow start.
    pub(super) fn came_up(&self, rules: &Rules) {
        if rules.slow_start > 0 {
            self.up_since.store(now(), Relaxed);
            self.set(SLOW);
        }
    }

    /// Returns the number of times that it has been left alone, by which a try is known to have begun since the last one.
    #[inline]
    pub(super) fn turn(&self) -> u32 {
        self.turns.load(Relaxed)
    }

    /// Notes a failure of a try that began in this turn; returns the time for which it is left alone if that begins now.
    pub(super) fn failed(&self, rules: &Rules, turn: u32, why: &str) -> Option<Duration> {
        let (now, flags) = (now(), self.flags());
        if flags & (EJECTED | OPEN) != 0 {
            if turn != self.turn() {
                return None;
            }
            // A try has failed: the pause begins anew.
            let pause = if flags & OPEN != 0 {
                rules.open_for
            } else {
                rules.eject_for
            };
            self.until.store(now.saturating_add(pause), Relaxed);
            return None;
        }
        if rules.max_fails == 0 {
            return None;
        }
        let from = self.window_from.load(Relaxed);
        if from == 0 || now.saturating_sub(from) > rules.window {
            self.window_from.store(now, Relaxed);
            self.fails.store(0, Relaxed);
        }
        // Two workers that begin a window at once may lose one failure: it goes out a little later.
        let fails = self.fails.fetch_add(1, Relaxed).saturating_add(1);
        if fails < rules.max_fails {
            return None;
        }
        self.leave_alone(EJECTED, rules.eject_for, why.to_owned())
    }

    /// Leaves it alone for a while; returns for how long, unless it was already.
    pub(super) fn leave_alone(&self, flag: u32, pause: u64, why: String) -> Option<Duration> {
        self.until.store(now().saturating_add(pause), Relaxed);
        self.turns.fetch_add(1, Relaxed);
        if self.flags.fetch_or(flag, Relaxed) & flag != 0 {
            return None;
        }
        self.queue.call();
        self.say(why);
        Some(Duration::from_millis(pause))
    }

    /// Notes an answer that is no failure, to a try that began in this turn; returns true if that brings it back. An answer to
    /// a request from before it was left alone says nothing about it now.
    #[inline]
    pub(super) fn answered(&self, rules: &Rules, turn: u32) -> bool {
        self.flags() & (EJECTED | OPEN) != 0 && turn == self.turn() && self.brought_back(rules)
    }

    #[cold]
    fn brought_back(&self, rules: &Rules) -> bool {
        self.fails.store(0, Relaxed);
        self.window_from.store(0, Relaxed);
        self.clear(EJECTED | OPEN);
        self.came_up(rules);
        true
    }

    /// Drops what rules that are no longer there have set.
    pub(super) fn adapt(&self, rules: &Rules) {
        if rules.max_fails == 0 {
            self.clear(EJECTED);
        }
        if rules.open_for == 0 {
            self.clear(OPEN);
        }
        if rules.slow_start == 0 {
            self.clear(SLOW);
        }
        if !rules.checked {
            self.clear(DOWN);
        }
    }

    /// Has it begin as it was in another cluster: drained, or down where it is checked.
    pub(super) fn hold(&self, rules: &Rules, flags: u32, why: String) {
        if flags & DRAINED != 0 {
            self.set(DRAINED);
        }
        if flags & DOWN != 0 && rules.checked {
            self.went_down(why);
        }
    }

    /// Takes it for down, as checks say.
    pub(super) fn went_down(&self, why: String) {
        self.say(why);
        self.set(DOWN);
    }

    /// Takes it for up, as checks say. What requests have said before counts no more.
    pub(super) fn is_well(&self, rules: &Rules) {
        self.clear(DOWN);
        self.brought_back(rules);
    }

    /// Remembers why it is as it is.
    pub(super) fn say(&self, why: String) {
        *self.why.lock().unwrap_or_else(PoisonError::into_inner) = why;
    }

    pub(super) fn why(&self) -> String {
        let why = self.why.lock().unwrap_or_else(PoisonError::into_inner);
        why.clone()
    }

    /// Returns the time until it is tried again; zero when that is over.
    pub(super) fn tried_in(&self) -> Duration {
        Duration::from_millis(self.until.load(Relaxed).saturating_sub(now()))
    }

    /// Returns the counts of a worker, which stay the same for as long as the server does.
    pub(super) fn counts_of(&self, worker: u64) -> Arc<Counts> {
        let mut all = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = all.iter().find(|counts| counts.worker == worker) {
            return own.clone();
        }
        let own = Arc::new(Counts::of(worker));
        all.push(own.clone());
        own
    }

    /// Returns the counts of all workers, in the order of their numbers.
    pub(super) fn counts(&self) -> Vec<Arc<Counts>> {
        let all = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all = all.clone();
        all.sort_by_key(|counts| counts.worker);
        all
    }
}
