//! Names that have a certificate when a client first asks for them.
//!
//! ```text
//! handshake of a name -> certificate is there ------------------------------------> shown
//!                     `-> refused a while ago, or too many names are under way ---> alert
//!                     `-> wanted: one try for all that ask for the name, which wait
//!                            disk -> rule of the file -> room -> order
//! ```
//!
//! Whoever sends handshakes with names of his choice costs one question for each name and [`LONGEST`](super::schedule)
//! time, [`ASKS`] at a time, and fills a map of [`REMEMBERED`] names at the most.

use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, Ordering as Memory};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{watch, Notify, Semaphore};

use super::attempt::{Attempt, Outcome};
use super::order::Failure;
use super::schedule::{renewal, Course};
use super::storage::Locked;
use super::{lock, now, permission};
use crate::plan::acme::OnDemand as Rules;

/// Names that handshakes wait for.
const UNDER_WAY: usize = 128;
/// Questions for a permission at a time.
const ASKS: usize = 16;
/// Orders at a time.
const ORDERS: usize = 8;
/// Names whose failure is remembered.
const REMEMBERED: usize = 10_000;
/// The number of locks that names share: a file for each name would fill a disk.
const LOCKS: u64 = 64;
/// The time between two looks at a lock that another process holds.
const PAUSE: Duration = Duration::from_millis(200);
/// The seconds after which the storage is looked at again when it was full.
const FULL: i64 = 60;

/// The names that handshakes wait for, and those that they are refused for.
#[derive(Default)]
pub(super) struct OnDemand {
    state: Mutex<State>,
    wakes: Notify,
}

#[derive(Default)]
struct State {
    /// The names that are under way. To drop a sender ends the wait.
    waits: HashMap<String, watch::Sender<()>>,
    /// Those of them that no try was begun for.
    wanted: Vec<String>,
    /// The tries that failed, of names without a certificate.
    failed: HashMap<String, Course>,
    /// True when nobody tries any more.
    is_closed: bool,
}

impl OnDemand {
    /// Returns the end of the try for a name; `None` when there is nothing to wait for. `has` tells whether there is a
    /// certificate, which may have come since the caller looked.
    pub(super) fn wait(
        &self,
        name: &str,
        now: i64,
        has: impl FnOnce() -> bool,
    ) -> Option<watch::Receiver<()>> {
        let mut state = lock(&self.state);
        if let Some(sender) = state.waits.get(name) {
            return Some(sender.subscribe());
        }
        let waits = |course: &Course| course.next > now;
        if state.is_closed
            || state.waits.len() >= UNDER_WAY
            || state.failed.get(name).is_some_and(waits)
            || has()
        {
            return None;
        }
        let (sender, receiver) = watch::channel(());
        state.waits.insert(name.to_owned(), sender);
        state.wanted.push(name.to_owned());
        drop(state);
        self.wakes.notify_one();
        Some(receiver)
    }

    /// Waits until a name is wanted.
    pub(super) async fn wakes(&self) {
        self.wakes.notified().await;
    }

    /// Takes the names that no try was begun for.
    pub(super) fn wanted(&self) -> Vec<String> {
        std::mem::take(&mut lock(&self.state).wanted)
    }

    /// Ends the wait for a name.
    pub(super) fn end(&self, name: &str) {
        lock(&self.state).waits.remove(name);
    }

    /// Ends all waits, now and from now on.
    pub(super) fn close(&self) {
        let mut state = lock(&self.state);
        state.is_closed = true;
        state.waits.clear();
        state.wanted.clear();
    }

    /// Returns the tries for a name that failed.
    pub(super) fn course(&self, name: &str) -> Option<Course> {
        lock(&self.state).failed.get(name).cloned()
    }

    /// Remembers that tries for a name have failed.
    pub(super) fn remember(&self, name: &str, course: Course, now: i64) {
        let failed = &mut lock(&self.state).failed;
        if failed.len() >= REMEMBERED && !failed.contains_key(name) {
            failed.retain(|_, course| course.next > now);
            // Still full: the one that may be tried soonest makes room.
            if failed.len() >= REMEMBERED {
                let soonest = failed.iter().min_by_key(|(_, course)| course.next);
                if let Some(name) = soonest.map(|(name, _)| name.clone()) {
                    failed.remove(&name);
                }
            }
        }
        failed.insert(name.to_owned(), course);
    }

    /// Forgets that tries for a name have failed.
    pub(super) fn forgive(&self, name: &str) {
        lock(&self.state).failed.remove(name);
    }

    /// Forgets all tries that have failed.
    pub(super) fn forgive_all(&self) {
        lock(&self.state).failed.clear();
    }
}

/// The limits of all tries on demand.
#[derive(Clone)]
pub(super) struct Limits {
    asks: Arc<Semaphore>,
    orders: Arc<Semaphore>,
    full_until: Arc<AtomicI64>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            asks: Arc::new(Semaphore::new(ASKS)),
            orders: Arc::new(Semaphore::new(ORDERS)),
            full_until: Arc::default(),
        }
    }
}

impl Limits {
    /// Has the storage be looked at again.
    pub(super) fn forgive(&self) {
        self.full_until.store(0, Memory::Relaxed);
    }
}

impl Attempt {
    /// Has the certificate of a name on demand: from the storage, or by an order if the rule allows it.
    pub(super) async fn on_demand(
        &self,
        rules: &Rules,
        limits: &Limits,
    ) -> Result<Outcome, Failure> {
        self.storage.prepare().map_err(Failure::here)?;
        if let Some(found) = self.stored() {
            return Ok(found);
        }
        if let Some(url) = &rules.ask {
            let _one = limits.asks.acquire().await;
            permission::ask(url, &self.host).await?;
        }
        let _one = limits.orders.acquire().await;
        self.room(rules, limits)?;
        let _held = self.hold().await?;
        if let Some(found) = self.stored() {
            return Ok(found);
        }
        self.order().await
    }

    /// Returns the certificate in the storage: a valid one, or a newer one than that which is to be renewed.
    fn stored(&self) -> Option<Outcome> {
        let (storage, host) = (&self.storage, &self.host);
        let found = match storage.certificate(host) {
            Ok(found) => found.filter(|found| found.is_for(host))?,
            Err(e) => {
                log::warn!("the certificate for {host} cannot be used: {e}");
                return None;
            }
        };
        let until = match self.automatic.known(host, storage) {
            Some(known) if known.is_same(&found) => return None,
            Some(_) => renewal(found.validity(), self.acme.renew_before, 0),
            None => found.validity().1,
        };
        (until > now()).then(|| Outcome::Have {
            identity: Arc::new(found),
            issued: false,
            unsaved: None,
        })
    }

    /// Fails when there is no room for the certificate of a new name.
    fn room(&self, rules: &Rules, limits: &Limits) -> Result<(), Failure> {
        let (storage, most) = (&self.storage, rules.max_names);
        if self.automatic.known(&self.host, storage).is_some() {
            return Ok(());
        }
        let full = || {
            let why = format!("there are {most} certificates on demand, as `max_names` has it");
            Failure::denied(why)
        };
        let time = now();
        if limits.full_until.load(Memory::Relaxed) > time {
            return Err(full());
        }
        let names = || {
            let names = storage.certified(&self.acme.hosts);
            names.map_err(Failure::here)
        };
        let all = names()?;
        if all.len() < most {
            return Ok(());
        }
        // Those that nobody has asked for until their end make room.
        for name in &all {
            storage.remove_expired(name, time);
        }
        if names()?.len() < most {
            return Ok(());
        }
        limits.full_until.store(time + FULL, Memory::Relaxed);
        log::warn!("no new name has a certificate on demand: `max_names` is {most}");
        Err(full())
    }

    /// Waits for the lock of a name; its holder ends in time.
    async fn hold(&self) -> Result<Locked, Failure> {
        let name = format!(".on-demand-{}", slot(&self.host));
        loop {
            if let Some(held) = self.storage.lock(&name).map_err(Failure::here)? {
                return Ok(held);
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// Returns the lock of a name, which is the same in all processes (FNV-1a).
fn slot(name: &str) -> u64 {
    let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash: u64, b| {
        (hash ^ u64::from(b)).wrapping_mul(0x100_0000_01b3)
    });
    hash % LOCKS
}

#[cfg(test)]
mod tests {
    use super::*;

    fn until(next: i64) -> Course {
        Course {
            next,
            ..Course::default()
        }
    }

    #[test]
    fn all_that_ask_for_a_name_wait_for_one_try() {
        let demand = OnDemand::default();
        let first = demand.wait("a.test", 0, || false).unwrap();
        let second = demand.wait("a.test", 0, || false).unwrap();
        assert_eq!(demand.wanted(), ["a.test"]);
        assert!(demand.wanted().is_empty());
        assert!(first.has_changed().is_ok() && second.has_changed().is_ok());
        demand.end("a.test");
        assert!(first.has_changed().is_err() && second.has_changed().is_err());
    }

    #[test]
    fn nothing_is_begun_for_a_name_that_has_one_or_has_failed() {
        let demand = OnDemand::default();
        assert!(demand.wait("a.test", 0, || true).is_none());
        demand.remember("a.test", until(10), 0);
        assert!(demand.wait("a.test", 9, || false).is_none());
        assert!(demand.wanted().is_empty());
        assert!(demand.wait("a.test", 10, || false).is_some());
        demand.close();
        assert!(demand.wait("b.test", 10, || false).is_none());
    }

    #[test]
    fn a_flood_of_names_is_bounded() {
        let demand = OnDemand::default();
        let begun = (0..2 * UNDER_WAY).filter(|n| {
            let name = format!("{n}.test");
            demand.wait(&name, 0, || false).is_some()
        });
        assert_eq!(begun.count(), UNDER_WAY);
        for n in 0..REMEMBERED as i64 + 5 {
            demand.remember(&format!("{n}.test"), until(100 + n), 50);
        }
        let failed = || lock(&demand.state).failed.len();
        assert_eq!(failed(), REMEMBERED);
        assert!(
            demand.course("0.test").is_none(),
            "the soonest ones make room"
        );
        demand.remember("a.test", until(i64::MAX), 200);
        assert_eq!(failed(), REMEMBERED - 95, "and those whose time is over");
    }

    #[test]
    fn locks_are_few() {
        let slots: std::collections::HashSet<_> =
            (0..10_000).map(|n| slot(&format!("{n}.a.test"))).collect();
        assert_eq!(slots.len() as u64, LOCKS);
    }
}
