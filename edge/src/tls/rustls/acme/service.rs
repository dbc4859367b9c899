//! The task that orders and renews.

use std::collections::HashMap;
use std::sync::atomic::Ordering as Memory;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use pingora_core::server::ShutdownWatch;
use pingora_core::services::background::BackgroundService;
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::MissedTickBehavior;

use super::account::{same, Accounts};
use super::attempt::{Attempt, Outcome};
use super::order::Failure;
use super::schedule::{renewal, suggested, Course};
use super::storage::Storage;
use super::{lock, now, Automatic, FAILED, ISSUED};
use crate::calendar::Utc;
use crate::config::section::Scalar;
use crate::live::{Live, Running};
use crate::plan::acme::Acme;

/// The time between two looks at what is due.
const PERIOD: Duration = Duration::from_secs(1);
/// Tries at a time.
const AT_A_TIME: usize = 8;
/// The seconds after which to look again at what another process works on.
const BUSY: i64 = 2;

/// The service that has certificates, and renews them.
pub(crate) struct Ordering(pub(crate) Arc<Live>);

#[async_trait]
impl BackgroundService for Ordering {
    async fn start(&self, mut shutdown: ShutdownWatch) {
        let mut work = Work::default();
        let mut looks = tokio::time::interval(PERIOD);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !*shutdown.borrow() {
            tokio::select! {
                // An error means that nobody is left to say so.
                changed = shutdown.changed() => if changed.is_err() { return },
                _ = looks.tick() => work.look(&self.0.current()),
                Some(ended) = work.tries.join_next_with_id() => work.ended(ended),
            }
        }
    }
}

/// The tries under way, and what they are for.
#[derive(Default)]
struct Work {
    tries: JoinSet<Outcome>,
    under_way: HashMap<Id, (String, Arc<Now>)>,
    now: Option<Arc<Now>>,
    accounts: Arc<Accounts>,
}

/// What is wanted now.
struct Now {
    generation: u64,
    acme: Arc<Acme>,
    storage: Storage,
    automatic: Arc<Automatic>,
}

impl Work {
    /// Begins what is due.
    fn look(&mut self, running: &Running) {
        let Some(acme) = &running.plan.acme else {
            self.now = None;
            return;
        };
        let current = match &self.now {
            Some(now) if now.generation == running.generation => now.clone(),
            before => {
                let now = Arc::new(Now {
                    generation: running.generation,
                    acme: Arc::new((**acme).clone()),
                    storage: Storage::of(acme),
                    automatic: running.certificates.automatic(),
                });
                now.automatic.retain(acme);
                let other = before
                    .as_ref()
                    .is_some_and(|before| !same(&before.acme, acme));
                if other {
                    // Other settings may mend what has failed.
                    lock(&now.automatic.courses).clear();
                    for host in &acme.hosts {
                        now.storage.write_course(host, &Course::default());
                    }
                }
                now.begin(!other);
                self.now = Some(now.clone());
                now
            }
        };
        let time = now();
        for host in &current.acme.hosts {
            if self.tries.len() >= AT_A_TIME {
                return;
            }
            let course = lock(&current.automatic.courses).get(host).cloned();
            let due = course.filter(|course| course.next <= time || course.look <= time);
            let busy = || self.under_way.values().any(|(other, _)| other == host);
            if let Some(course) = due.filter(|_| !busy()) {
                self.begin(host, &current, course);
            }
        }
    }

    fn begin(&mut self, host: &str, now: &Arc<Now>, course: Course) {
        let attempt = Attempt {
            automatic: now.automatic.clone(),
            accounts: self.accounts.clone(),
            acme: now.acme.clone(),
            storage: now.storage.clone(),
            host: host.to_owned(),
            course,
        };
        let is_due = attempt.course.next <= self::now();
        let tried = if is_due {
            self.tries.spawn(attempt.run())
        } else {
            self.tries.spawn(attempt.ask())
        };
        let id = tried.id();
        self.under_way.insert(id, (host.to_owned(), now.clone()));
    }

    /// Takes note of the end of a try.
    fn ended(&mut self, ended: Result<(Id, Outcome), JoinError>) {
        let (id, outcome) = match ended {
            Ok(ended) => ended,
            Err(e) => (e.id(), Outcome::Failed(Failure::here(e.to_string()))),
        };
        if let Some((host, now)) = self.under_way.remove(&id) {
            now.ended(&host, outcome);
        }
    }
}

impl Now {
    /// Begins the courses of hosts that have none yet; `stored`: where those of the storage were left.
    fn begin(&self, stored: bool) {
        for host in &self.acme.hosts {
            if lock(&self.automatic.courses).contains_key(host) {
                continue;
            }
            let kept = stored.then(|| self.storage.course(host)).flatten();
            let known = self.automatic.known(host, &self.storage);
            let course = kept.unwrap_or_else(|| Course {
                next: known.map_or(0, |known| self.renewal(known.validity())),
                ..Course::default()
            });
            lock(&self.automatic.courses).insert(host.clone(), course);
        }
    }

    /// Takes note of when the authority wants a renewal.
    fn suggested(&self, host: &str, course: &mut Course, window: Option<(i64, i64)>) {
        let known = self.automatic.known(host, &self.storage);
        let Some((window, known)) = window.zip(known) else {
            return;
        };
        // After a failure the next try has its time.
        if course.failures > 0 {
            return;
        }
        let mut at = suggested(window, known.validity(), known.number());
        if self.acme.renew_before.is_some() {
            at = at.min(self.renewal(known.validity()));
        }
        if at.abs_diff(course.next) > 3600 {
            let day = Utc::at(at).date();
            log::info!("the authority wants the certificate for {host} to be renewed on {day}");
        }
        course.next = at;
    }

    fn renewal(&self, validity: (i64, i64)) -> i64 {
        renewal(validity, self.acme.renew_before, random())
    }

    fn ended(&self, host: &str, outcome: Outcome) {
        let course = lock(&self.automatic.courses).get(host).cloned();
        // A reload may have taken the host away.
        let Some(mut course) = course else { return };
        match outcome {
            Outcome::Busy => course.next = now() + BUSY,
            Outcome::Wait(other) => course = other,
            Outcome::Window { window, again } => {
                course.look = now() + i64::try_from(again.as_secs()).unwrap_or(0);
                self.suggested(host, &mut course, window);
            }
            Outcome::Failed(failure) => {
                FAILED.fetch_add(1, Memory::Relaxed);
                course.failed(now(), failure.error, failure.fault, random());
                self.storage.write_course(host, &course);
                let error = course.error.as_deref().unwrap_or_default();
                let wait = u64::try_from(course.next - now()).unwrap_or(0);
                let wait = Duration::from_secs(wait.max(1)).show();
                log::warn!("no certificate for {host}, next try in {wait}: {error}");
            }
            Outcome::Have {
                identity,
                issued,
                unsaved,
            } => {
                let (_, end) = identity.validity();
                course.succeeded(self.renewal(identity.validity()));
                self.automatic.keep(host, identity, &self.storage);
                self.storage.write_course(host, &course);
                let (end, from) = (Utc::at(end).date(), if issued { "issued" } else { "found" });
                log::info!("a certificate for {host} was {from}, valid until {end}");
                if issued {
                    ISSUED.fetch_add(1, Memory::Relaxed);
                }
                if let Some(e) = unsaved {
                    log::error!("the certificate for {host} is lost with this process: {e}");
                    course.error = Some(format!("not kept for another start: {e}"));
                }
            }
        }
        lock(&self.automatic.courses).insert(host.to_owned(), course);
    }
}

fn random() -> u32 {
    let mut bytes = [0; 4];
    // Without random numbers all come at the same time, which is no harm.
    let _ = getrandom::fill(&mut bytes);
    u32::from_ne_bytes(bytes)
}
