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
use super::on_demand::Limits;
use super::order::Failure;
use super::schedule::{renewal, suggested, Course, Fault};
use super::storage::Storage;
use super::unsaved::Unsaved;
use super::{lock, now, Automatic, DENIED, FAILED, ISSUED};
use crate::calendar::Utc;
use crate::config::section::Scalar;
use crate::live::Live;
use crate::plan::acme::Acme;

/// The time between two looks at what is due.
const PERIOD: Duration = Duration::from_secs(1);
/// Tries at a time.
const AT_A_TIME: usize = 8;
/// The seconds after which to look again at what another process works on.
const BUSY: i64 = 2;
/// The seconds after which what the storage did not take is written again.
const SAVE_AGAIN: i64 = 10;
/// The seconds by which a clock goes back when all waits begin anew: more than a clock that is kept is corrected by.
const SET_BACK: i64 = 3600;

/// The service that has certificates, and renews them.
pub(crate) struct Ordering(pub(crate) Arc<Live>);

#[async_trait]
impl BackgroundService for Ordering {
    async fn start(&self, mut shutdown: ShutdownWatch) {
        let mut work = Work::default();
        // It outlives reloads.
        let automatic = self.0.current().certificates.automatic();
        let mut looks = tokio::time::interval(PERIOD);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !*shutdown.borrow() {
            let mut ended = None;
            tokio::select! {
                // An error means that nobody is left to say so.
                changed = shutdown.changed() => if changed.is_err() { break },
                _ = looks.tick() => {}
                () = automatic.on_demand.wakes() => {}
                Some(one) = work.tries.join_next_with_id() => ended = Some(one),
            }
            // First, so that the end of a try is judged by the rules of now.
            let running = self.0.current();
            work.follow(running.generation, running.plan.acme.as_deref(), &automatic);
            if let Some(ended) = ended {
                work.ended(ended);
            }
            work.look();
        }
        automatic.on_demand.close();
    }
}

/// The tries under way, and what they are for.
#[derive(Default)]
struct Work {
    tries: JoinSet<Outcome>,
    under_way: HashMap<Id, Try>,
    now: Option<Arc<Now>>,
    accounts: Arc<Accounts>,
    limits: Limits,
    /// The time at which what the storage did not take is written again.
    next_save: i64,
    /// The time of the last look.
    last_look: i64,
}

/// A try under way.
struct Try {
    host: String,
    now: Arc<Now>,
    on_demand: bool,
}

/// The settings of now.
struct Now {
    generation: u64,
    acme: Arc<Acme>,
    storage: Storage,
    automatic: Arc<Automatic>,
}

impl Work {
    /// Takes the settings of the generation that runs, if they are others than before.
    fn follow(&mut self, generation: u64, acme: Option<&Acme>, automatic: &Arc<Automatic>) {
        let Some(acme) = acme else {
            self.now = None;
            let demand = &automatic.on_demand;
            demand.wanted().iter().for_each(|name| demand.end(name));
            return;
        };
        let before = self.now.take();
        let before = match before {
            Some(now) if now.generation == generation => {
                self.now = Some(now);
                return;
            }
            before => before,
        };
        let now = Now {
            generation,
            acme: Arc::new(acme.clone()),
            storage: Storage::of(acme),
            automatic: automatic.clone(),
        };
        automatic.retain(acme);
        let rules = before.as_ref().map(|before| &before.acme.on_demand);
        if rules.is_some_and(|rules| *rules != acme.on_demand) {
            // Other rules may allow what was refused.
            automatic.on_demand.forgive_all();
            self.limits.forgive();
        }
        let other = before.is_some_and(|before| !same(&before.acme, acme));
        if other {
            // Other settings may mend what has failed.
            lock(&automatic.courses).clear();
            automatic.on_demand.forgive_all();
            self.limits.forgive();
            for host in &acme.hosts {
                now.storage.write_course(host, &Course::default());
            }
        }
        now.begin(!other);
        self.now = Some(Arc::new(now));
    }

    /// Begins what is due.
    fn look(&mut self) {
        let Some(current) = self.now.clone() else {
            return;
        };
        let time = now();
        self.follow_clock(&current, time);
        self.save(&current, time);
        let hosts = self.under_way.values().filter(|one| !one.on_demand);
        let mut under_way = hosts.count();
        for host in &current.acme.hosts {
            if under_way >= AT_A_TIME {
                break;
            }
            let course = lock(&current.automatic.courses).get(host).cloned();
            let due = course.filter(|course| course.next <= time || course.look <= time);
            if let Some(course) = due.filter(|_| !self.is_busy(host)) {
                under_way += 1;
                self.begin(host, &current, course, false);
            }
        }
        self.look_on_demand(&current, time);
    }

    /// Forgets all waits if the clock was set back: they would last until it is as far as it was.
    fn follow_clock(&mut self, current: &Now, time: i64) {
        let before = std::mem::replace(&mut self.last_look, time);
        if time.saturating_add(SET_BACK) > before {
            return;
        }
        log::warn!("the clock was set back: tries for certificates that wait begin anew");
        lock(&current.automatic.courses).clear();
        current.automatic.on_demand.forgive_all();
        self.limits.forgive();
        self.next_save = 0;
        current.begin(true);
    }

    /// Writes again what the storage did not take.
    fn save(&mut self, current: &Now, time: i64) {
        if time < self.next_save {
            return;
        }
        self.next_save = time + SAVE_AGAIN;
        let (accounts, storage) = (self.accounts.clone(), current.storage.clone());
        tokio::spawn(async move { accounts.save(&storage).await });
        if current.automatic.has_unsaved() {
            let automatic = current.automatic.clone();
            tokio::task::spawn_blocking(move || automatic.save());
        }
    }

    /// Begins what is wanted or due of names on demand.
    fn look_on_demand(&mut self, current: &Arc<Now>, time: i64) {
        let (automatic, rules) = (&current.automatic, &current.acme.on_demand);
        // First: a certificate that is over leaves the tries that have failed to who asks for its name now.
        if rules.is_some() {
            for (name, course) in automatic.demanded_and_due(time) {
                if !self.is_busy(&name) {
                    self.begin(&name, current, course, true);
                }
            }
        }
        for name in automatic.on_demand.wanted() {
            // What is under way ends the wait too.
            if self.is_busy(&name) {
                continue;
            }
            let course = automatic.on_demand.course(&name).unwrap_or_default();
            let allowed = rules.as_ref().is_some_and(|rules| rules.may_have(&name));
            if allowed && course.next <= time {
                self.begin(&name, current, course, true);
            } else {
                automatic.on_demand.end(&name);
            }
        }
    }

    fn is_busy(&self, host: &str) -> bool {
        self.under_way.values().any(|other| other.host == host)
    }

    fn begin(&mut self, host: &str, now: &Arc<Now>, course: Course, on_demand: bool) {
        let attempt = Attempt {
            automatic: now.automatic.clone(),
            accounts: self.accounts.clone(),
            acme: now.acme.clone(),
            storage: now.storage.clone(),
            host: host.to_owned(),
            course,
            limits: on_demand.then(|| self.limits.clone()),
        };
        let is_due = attempt.course.next <= self::now();
        let tried = if is_due {
            self.tries.spawn(attempt.run())
        } else {
            self.tries.spawn(attempt.ask())
        };
        let id = tried.id();
        let begun = Try {
            host: host.to_owned(),
            now: now.clone(),
            on_demand,
        };
        self.under_way.insert(id, begun);
    }

    /// Takes note of the end of a try.
    fn ended(&mut self, ended: Result<(Id, Outcome), JoinError>) {
        let (id, outcome) = match ended {
            Ok(ended) => ended,
            Err(e) => (e.id(), Outcome::Failed(Failure::here(e.to_string()))),
        };
        let Some(Try { host, now: of, .. }) = self.under_way.remove(&id) else {
            return;
        };
        let current = self.now.as_ref().filter(|now| same(&now.acme, &of.acme));
        match current {
            Some(now) => now.ended(&host, outcome),
            // It says nothing of another authority, or of another storage.
            None => of.ended_in_vain(&host, &outcome),
        }
        // At last: whoever waits looks for the certificate then.
        of.automatic.on_demand.end(&host);
    }
}

impl Now {
    /// Begins the courses of hosts that have none yet; `stored`: where those of the storage were left.
    fn begin(&self, stored: bool) {
        let demanded = self.automatic.demanded_names();
        for host in self.acme.hosts.iter().chain(&demanded) {
            if lock(&self.automatic.courses).contains_key(host) {
                continue;
            }
            let kept = stored.then(|| self.storage.course(host, now())).flatten();
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
        at = at.max(course.earliest);
        if at.abs_diff(course.next) > 3600 {
            let day = Utc::at(at).date();
            log::info!("the authority wants the certificate for {host} to be renewed on {day}");
        }
        course.next = at;
    }

    fn renewal(&self, validity: (i64, i64)) -> i64 {
        renewal(validity, self.acme.renew_before, random())
    }

    /// Takes note of the end of a try. What the name is may have changed since its beginning.
    fn ended(&self, host: &str, outcome: Outcome) {
        let rules = self.acme.on_demand.as_ref();
        if self.acme.hosts.iter().any(|own| own == host) {
            let course = lock(&self.automatic.courses).get(host).cloned();
            let mut course = course.unwrap_or_default();
            self.note(host, &mut course, outcome, None);
            lock(&self.automatic.courses).insert(host.to_owned(), course);
        } else if let Some(rules) = rules.filter(|rules| rules.may_have(host)) {
            self.ended_on_demand(host, outcome, rules.max_names);
        } else {
            self.ended_in_vain(host, &outcome);
        }
    }

    /// Takes note of the end of a try for a name on demand, of which there may be `most`.
    fn ended_on_demand(&self, name: &str, outcome: Outcome, most: usize) {
        let demand = &self.automatic.on_demand;
        let course = lock(&self.automatic.courses).get(name).cloned();
        let mut course = course.or_else(|| demand.course(name)).unwrap_or_default();
        self.note(name, &mut course, outcome, Some(most));
        lock(&self.automatic.courses).insert(name.to_owned(), course);
        if self.automatic.is_valid(name) {
            demand.forgive(name);
        } else {
            // Handshakes ask for one that is over, and are not to order anew each time.
            self.automatic.forget_demanded(name, now());
        }
    }

    /// Takes note of the end of a try for a name that may not have a certificate any more, or by other settings.
    fn ended_in_vain(&self, host: &str, outcome: &Outcome) {
        if let Outcome::Have { issued: true, .. } = outcome {
            ISSUED.fetch_add(1, Memory::Relaxed);
            log::info!("a certificate for {host} was issued, but is not used: the configuration has changed");
        }
    }

    /// Takes note of the end of a try; of certificates on demand, there may be `most`.
    fn note(&self, host: &str, course: &mut Course, outcome: Outcome, most: Option<usize>) {
        let write = |course: &Course| {
            // Names on demand could fill the disk.
            if most.is_none() {
                self.storage.write_course(host, course);
            }
        };
        match outcome {
            Outcome::Busy => course.next = now() + BUSY,
            Outcome::Wait(other) => *course = other,
            Outcome::Window { window, again } => {
                course.look = now() + i64::try_from(again.as_secs()).unwrap_or(0);
                self.suggested(host, course, window);
            }
            Outcome::Failed(failure) => {
                let denied = failure.fault == Fault::Denied;
                if denied { &DENIED } else { &FAILED }.fetch_add(1, Memory::Relaxed);
                course.failed(now(), failure.error, failure.fault, random());
                write(course);
                let error = course.error.as_deref().unwrap_or_default();
                let wait = u64::try_from(course.next - now()).unwrap_or(0);
                let wait = Duration::from_secs(wait.max(1)).show();
                // Anybody can have names be refused, as often as he likes.
                let level = if denied {
                    log::Level::Debug
                } else {
                    log::Level::Warn
                };
                log::log!(
                    level,
                    "no certificate for {host}, next try in {wait}: {error}"
                );
            }
            Outcome::Have {
                identity,
                issued,
                unsaved,
            } => {
                let validity = identity.validity();
                course.succeeded(self.renewal(validity));
                if issued {
                    course.issued(now(), validity.1);
                }
                self.automatic.keep(host, identity, &self.storage, most);
                write(course);
                let end = Utc::at(validity.1).date();
                let from = if issued { "issued" } else { "found" };
                log::info!("a certificate for {host} was {from}, valid until {end}");
                if issued {
                    ISSUED.fetch_add(1, Memory::Relaxed);
                }
                if let Some(Unsaved { error: e, .. }) = &unsaved {
                    log::error!("the certificate for {host} is lost with this process: {e}");
                    course.error = Some(format!("not kept for another start: {e}"));
                }
                self.automatic.note_saved(host, unsaved);
            }
        }
    }
}

fn random() -> u32 {
    let mut bytes = [0; 4];
    // Without random numbers all come at the same time, which is no harm.
    let _ = getrandom::fill(&mut bytes);
    u32::from_ne_bytes(bytes)
}

#[cfg(test)]
mod tests;
