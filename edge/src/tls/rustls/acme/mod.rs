//! Automatic certificates (RFC 8555).
//!
//! [`Automatic`] is what handshakes and requests look at: certificates, and answers to challenges. It outlives reloads. One
//! task of the process ([`Ordering`]) fills it, from the [`storage`] and by [`order`]s; when to try is decided by
//! [`schedule`], which knows neither clock nor disk.
//!
//! ```text
//! storage -> Automatic -> handshake of a host (refused while there is no certificate)
//!    ^           ^   `-> answer to a challenge, of this process or of another one with the same storage
//!    |           |
//!    +-- order --+ <- schedule <- Ordering, once a second
//! ```

mod account;
mod attempt;
mod client;
mod on_demand;
mod order;
mod permission;
mod places;
mod proof;
mod schedule;
mod service;
mod storage;
#[cfg(test)]
mod tests;
mod unsaved;
mod window;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering as Memory};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::SystemTime;

use rustls::sign::CertifiedKey;
use rustls::ServerConfig;
use tokio::sync::{watch, Semaphore};

use super::identity::Identity;
use crate::calendar::unix_seconds;
use crate::plan::acme::Acme;
use crate::plan::Plan;
use crate::tls::{CertificateState, Source};
use on_demand::Demands;
pub(crate) use proof::is_token;
pub(super) use proof::ALPN;
use schedule::Course;
pub(crate) use service::Ordering;
use storage::Storage;
use unsaved::Unsaved;

/// Reads of challenges that may be under way: whoever asks for more gets no answer.
const READS: usize = 16;

/// The certificates that are had by ACME, and the proofs that hosts are ours.
#[derive(Default)]
pub(crate) struct Automatic {
    certificates: RwLock<HashMap<String, Kept>>,
    courses: Mutex<HashMap<String, Course>>,
    /// The answers of HTTP-01, by their tokens.
    tokens: Mutex<HashMap<String, String>>,
    /// The answers of TLS-ALPN-01, by the hosts.
    handshakes: Mutex<HashMap<String, Arc<ServerConfig>>>,
    reads: Reads,
    /// The names that are had on demand.
    on_demand: Demands,
    /// The certificates that the storage did not take, by their hosts.
    unsaved: Mutex<HashMap<String, Unsaved>>,
}

/// The reads of challenges that may still begin.
struct Reads(Arc<Semaphore>);

impl Default for Reads {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(READS)))
    }
}

/// A certificate, and the folder that it is from.
struct Kept {
    identity: Arc<Identity>,
    storage: PathBuf,
    /// True if it is had on demand: then it is renewed only if it is used.
    on_demand: bool,
    /// The time of the last handshake that it was shown in, if it is had on demand.
    used: AtomicI64,
}

/// Certificates that were issued, and tries that failed, since the start.
static ISSUED: AtomicU64 = AtomicU64::new(0);
static FAILED: AtomicU64 = AtomicU64::new(0);
/// Tries for names that the rule of certificates on demand does not allow.
static DENIED: AtomicU64 = AtomicU64::new(0);

/// Returns the number of certificates that were issued to this process, of tries that failed, and of those for names that are
/// not allowed.
pub(crate) fn orders() -> [u64; 3] {
    [&ISSUED, &FAILED, &DENIED].map(|count| count.load(Memory::Relaxed))
}

/// Returns the time, in seconds since the beginning of 1970.
fn now() -> i64 {
    unix_seconds(SystemTime::now())
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Automatic {
    /// Reads the certificates of a plan that are in its storage and not known yet.
    pub(in crate::tls) fn read(&self, plan: &Plan) {
        let Some(acme) = &plan.acme else { return };
        let storage = Storage::of(acme);
        for host in &acme.hosts {
            if self.certificate(host).is_some() {
                continue;
            }
            match storage.certificate(host) {
                Ok(Some(identity)) => self.keep(host, Arc::new(identity), &storage, None),
                Ok(None) => {}
                Err(e) => log::warn!("the certificate for {host} cannot be used: {e}"),
            }
        }
    }

    /// Returns the certificate of a host, to be shown.
    pub(in crate::tls) fn certificate(&self, host: &str) -> Option<Arc<CertifiedKey>> {
        let all = self.certificates.read();
        let all = all.unwrap_or_else(PoisonError::into_inner);
        all.get(host).map(|kept| kept.identity.key.clone())
    }

    /// Tells whether there is a certificate for a name, and it is valid.
    fn is_valid(&self, name: &str) -> bool {
        let all = self.certificates.read();
        let all = all.unwrap_or_else(PoisonError::into_inner);
        let kept = all.get(name);
        kept.is_some_and(|kept| kept.identity.validity().1 >= now())
    }

    /// Returns the certificate of a name on demand, to be shown, if it is valid.
    pub(in crate::tls) fn demanded(&self, name: &str) -> Option<Arc<CertifiedKey>> {
        let all = self.certificates.read();
        let all = all.unwrap_or_else(PoisonError::into_inner);
        let (kept, time) = (all.get(name)?, now());
        if kept.identity.validity().1 < time {
            return None;
        }
        // Once a second at the most: other threads read the line.
        if kept.used.load(Memory::Relaxed) < time {
            kept.used.store(time, Memory::Relaxed);
        }
        Some(kept.identity.key.clone())
    }

    /// Has a certificate be had for a name that has none; returns the end of the try, to be waited for.
    pub(in crate::tls) fn demand(&self, name: &str) -> Option<watch::Receiver<()>> {
        let has = || self.demanded(name).is_some();
        if has() {
            return None;
        }
        self.on_demand.wait(name, now(), has)
    }

    /// Keeps a certificate; of those on demand no more than `most`, if it is such a one.
    fn keep(&self, host: &str, identity: Arc<Identity>, storage: &Storage, most: Option<usize>) {
        let all = self.certificates.write();
        let mut all = all.unwrap_or_else(PoisonError::into_inner);
        let kept = Kept {
            identity,
            storage: storage.folder().to_owned(),
            on_demand: most.is_some(),
            used: AtomicI64::new(now()),
        };
        all.insert(host.to_owned(), kept);
        let demanded = || all.iter().filter(|(_, kept)| kept.on_demand);
        if most.is_some_and(|most| demanded().count() > most) {
            let used = |(_, kept): &(&String, &Kept)| kept.used.load(Memory::Relaxed);
            let oldest = demanded()
                .filter(|(name, _)| *name != host)
                .min_by_key(used);
            if let Some(name) = oldest.map(|(name, _)| name.clone()) {
                all.remove(&name);
                lock(&self.courses).remove(&name);
            }
        }
    }

    /// Returns the names on demand for which something is due, and that were asked for since. Those that are to be renewed
    /// and that nobody has asked for are left to the disk.
    fn demanded_and_due(&self, now: i64) -> Vec<(String, Course)> {
        let (mut due, mut unused) = (Vec::new(), Vec::new());
        {
            let all = self.certificates.read();
            let all = all.unwrap_or_else(PoisonError::into_inner);
            let courses = lock(&self.courses);
            for (name, kept) in all.iter().filter(|(_, kept)| kept.on_demand) {
                let Some(course) = courses.get(name) else {
                    continue;
                };
                let used = kept.used.load(Memory::Relaxed);
                let is_due = |at: i64| at <= now && used >= at;
                let is_over = kept.identity.validity().1 < now;
                if is_due(course.next) || (!is_over && is_due(course.look)) {
                    due.push((name.clone(), course.clone()));
                } else if is_over || (course.next <= now && course.failures == 0) {
                    unused.push(name.clone());
                }
            }
        }
        // Handshakes wait for whoever writes: only where there is something to write.
        for name in unused {
            self.forget_demanded(&name, now);
        }
        due
    }

    /// Forgets the certificate of a name on demand, but not that tries for another one have failed.
    fn forget_demanded(&self, name: &str, now: i64) {
        let all = self.certificates.write();
        all.unwrap_or_else(PoisonError::into_inner).remove(name);
        let course = lock(&self.courses).remove(name);
        if let Some(course) = course.filter(|course| course.failures > 0) {
            self.on_demand.remember(name, course, now);
        }
    }

    /// Returns the names on demand that there is a certificate for.
    pub(in crate::tls) fn demanded_names(&self) -> Vec<String> {
        let all = self.certificates.read();
        let all = all.unwrap_or_else(PoisonError::into_inner);
        let demanded = all.iter().filter(|(_, kept)| kept.on_demand);
        let mut names: Vec<_> = demanded.map(|(name, _)| name.clone()).collect();
        names.sort_unstable();
        names
    }

    /// Tells whether a certificate is one on demand; `None` when there is none.
    fn is_on_demand(&self, host: &str) -> Option<bool> {
        let all = self.certificates.read();
        let all = all.unwrap_or_else(PoisonError::into_inner);
        all.get(host).map(|kept| kept.on_demand)
    }

    /// Returns the certificate of a host that is from this storage.
    fn known(&self, host: &str, storage: &Storage) -> Option<Arc<Identity>> {
        let all = self.certificates.read();
        let all = all.unwrap_or_else(PoisonError::into_inner);
        let kept = all.get(host)?;
        (kept.storage == storage.folder()).then(|| kept.identity.clone())
    }

    /// Forgets the certificates of hosts that have none any more.
    fn retain(&self, acme: &Acme) {
        let all = self.certificates.write();
        let mut all = all.unwrap_or_else(PoisonError::into_inner);
        let mut courses = lock(&self.courses);
        if all.len() + courses.len() > 0 {
            let hosts: std::collections::HashSet<_> = acme.hosts.iter().collect();
            let rules = acme.on_demand.as_ref();
            let demanded = |host: &String| rules.is_some_and(|rules| rules.may_have(host));
            all.retain(|host, kept| {
                kept.on_demand = !hosts.contains(host);
                !kept.on_demand || demanded(host)
            });
            courses.retain(|host, _| all.contains_key(host) || hosts.contains(host));
        }
    }

    /// Returns the state of the certificate of a host of `site`.
    pub(in crate::tls) fn state(&self, site: &str, host: &str) -> CertificateState {
        let all = self.certificates.read();
        let all = all.unwrap_or_else(PoisonError::into_inner);
        let mut state = match all.get(host) {
            Some(kept) => kept.identity.state(site),
            None => CertificateState::missing(site, host),
        };
        state.source = Source::Acme;
        state.file = None;
        if let Some(course) = lock(&self.courses).get(host) {
            state.error.clone_from(&course.error);
            state.next_try = Some(course.next);
        }
        state
    }

    /// Returns the answer to a challenge of HTTP-01: of this process, or of another one with the same storage.
    pub(crate) async fn answer(&self, acme: &Acme, token: &str) -> Option<String> {
        if let Some(text) = lock(&self.tokens).get(token) {
            return Some(text.clone());
        }
        let (storage, token) = (Storage::of(acme), token.to_owned());
        self.read_aside(move || storage.token(&token)).await
    }

    /// Returns the configuration that answers a challenge of TLS-ALPN-01 of this process.
    pub(in crate::tls) fn proof(&self, host: &str) -> Option<Arc<ServerConfig>> {
        lock(&self.handshakes).get(host).cloned()
    }

    /// Returns the one that answers a challenge of another process with the same storage.
    pub(in crate::tls) async fn proof_of_others(
        &self,
        acme: &Acme,
        host: &str,
    ) -> Option<Arc<ServerConfig>> {
        let (storage, host) = (Storage::of(acme), host.to_owned());
        self.read_aside(move || proof::config(&storage.proof(&host)?).ok())
            .await
    }

    /// Reads from the disk on a thread of its own: it may be slow.
    async fn read_aside<T: Send + 'static>(
        &self,
        read: impl FnOnce() -> Option<T> + Send + 'static,
    ) -> Option<T> {
        let one = self.reads.0.clone().try_acquire_owned().ok()?;
        let read = move || {
            // Given back when the read has ended, which a handshake that is given up does not wait for.
            let _one = one;
            read()
        };
        tokio::task::spawn_blocking(read).await.ok().flatten()
    }
}
