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
use std::sync::atomic::AtomicI64;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{watch, Notify, Semaphore};

use super::attempt::{aside, Attempt, Outcome};
use super::order::Failure;
use super::permission::Asker;
use super::places::{lock_of, Places, LOCK as PLACES_LOCK};
use super::schedule::{renewal, Course};
use super::storage::{Locked, Reserved, Storage};
use super::{lock, now};
use crate::plan::acme::OnDemandRules;
use crate::tls::backend::identity::Identity;

/// Names that handshakes wait for.
const UNDER_WAY: usize = 128;
/// Questions for a permission at a time.
const ASKS: usize = 16;
/// Orders at a time.
const ORDERS: usize = 8;
/// Names whose failure is remembered.
const REMEMBERED: usize = 10_000;
/// The time between two looks at a lock that another process holds.
const PAUSE: Duration = Duration::from_millis(200);
/// The same for the lock of places, which is held for a moment.
const PLACES_PAUSE: Duration = Duration::from_millis(20);

/// The names that handshakes wait for, and those that they are refused for.
#[derive(Default)]
pub(super) struct Demands {
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

impl Demands {
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
    asker: Asker,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            asks: Arc::new(Semaphore::new(ASKS)),
            orders: Arc::new(Semaphore::new(ORDERS)),
            full_until: Arc::default(),
            asker: Asker::default(),
        }
    }
}

impl Limits {
    /// Has the storage and the authorities of the system be looked at again.
    pub(super) fn forgive(&mut self) {
        // What is under way keeps the old ones.
        self.full_until = Arc::default();
        self.asker = Asker::default();
    }
}

impl Attempt {
    /// Has the certificate of a name on demand: from the storage, or by an order if the rule allows it.
    pub(super) async fn on_demand(
        &self,
        rules: &OnDemandRules,
        limits: &Limits,
    ) -> Result<Outcome, Failure> {
        if let Some(found) = self.stored().await? {
            return Ok(found);
        }
        if let Some(url) = &rules.ask {
            let _one = limits.asks.acquire().await;
            limits.asker.ask(url, &self.host).await?;
        }
        let _one = limits.orders.acquire().await;
        let _held = self.hold(&lock_of(&self.host), PAUSE).await?;
        if let Some(found) = self.stored().await? {
            return Ok(found);
        }
        let place = self.place(rules, limits).await?;
        let mut outcome = self.order().await?;
        if let Outcome::Have {
            unsaved: Some(unsaved),
            ..
        } = &mut outcome
        {
            unsaved.place = place;
        }
        Ok(outcome)
    }

    /// Returns the certificate in the storage: a valid one, or a newer one than that which is to be renewed.
    async fn stored(&self) -> Result<Option<Outcome>, Failure> {
        let (storage, host) = (self.storage.clone(), self.host.clone());
        let known = self.automatic.known(&host, &storage);
        let renew_before = self.acme.renew_before;
        aside(move || {
            storage.prepare().map_err(Failure::storage)?;
            Ok(stored(&storage, &host, known.as_deref(), renew_before))
        })
        .await?
    }

    /// Reserves a place for a new name; one that is known has its place.
    async fn place(
        &self,
        rules: &OnDemandRules,
        limits: &Limits,
    ) -> Result<Option<Reserved>, Failure> {
        let storage = self.storage.clone();
        if self.automatic.known(&self.host, &storage).is_some() {
            return Ok(None);
        }
        let places = Places {
            acme: self.acme.clone(),
            storage,
            most: rules.max_names,
            full_until: limits.full_until.clone(),
        };
        if places.are_known_to_be_full(now()) {
            return Err(places.full());
        }
        let held = self.hold(PLACES_LOCK, PLACES_PAUSE).await?;
        let name = self.host.clone();
        aside(move || {
            let place = places.reserve(&name, now());
            drop(held);
            place
        })
        .await?
        .map(Some)
    }

    /// Waits for a lock; its holder ends in time.
    async fn hold(&self, name: &str, pause: Duration) -> Result<Locked, Failure> {
        loop {
            if let Some(held) = self.storage.lock(name).map_err(Failure::storage)? {
                return Ok(held);
            }
            tokio::time::sleep(pause).await;
        }
    }
}

fn stored(
    storage: &Storage,
    host: &str,
    known: Option<&Identity>,
    renew_before: Option<Duration>,
) -> Option<Outcome> {
    let found = match storage.certificate(host) {
        Ok(found) => found.filter(|found| found.is_for(host))?,
        Err(e) => {
            log::warn!("the certificate for {host} cannot be used: {e}");
            return None;
        }
    };
    let until = match known {
        Some(known) if known.is_same(&found) => return None,
        Some(_) => renewal(found.validity(), renew_before, 0),
        None => found.validity().1,
    };
    (until > now()).then(|| Outcome::Have {
        identity: Arc::new(found),
        issued: false,
        unsaved: None,
    })
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
        let demand = Demands::default();
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
        let demand = Demands::default();
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
        let demand = Demands::default();
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
}
