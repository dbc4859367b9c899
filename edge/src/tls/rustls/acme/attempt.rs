//! One try for the certificate of a host.

use std::sync::Arc;
use std::time::Duration;

use super::account::Accounts;
use super::on_demand::Limits;
use super::order::{Failure, Wanted};
use super::schedule::{renewal, Course};
use super::storage::{identity, Storage};
use super::unsaved::Unsaved;
use super::{now, Automatic};
use crate::calendar::Utc;
use crate::plan::acme::Acme;
use crate::tls::backend::identity::Identity;

/// The time for a whole try.
const PATIENCE: Duration = Duration::from_secs(360);

/// A try.
pub(super) struct Attempt {
    pub(super) automatic: Arc<Automatic>,
    pub(super) accounts: Arc<Accounts>,
    pub(super) acme: Arc<Acme>,
    pub(super) storage: Storage,
    pub(super) host: String,
    /// The tries before.
    pub(super) course: Course,
    /// The limits of names on demand, if it is one.
    pub(super) limits: Option<Limits>,
}

/// The end of a try.
pub(super) enum Outcome {
    /// There is a certificate: of this process if it was `issued` to it, else of another one.
    Have {
        identity: Arc<Identity>,
        issued: bool,
        /// The error of the storage, which does not have it, if there is one.
        unsaved: Option<Unsaved>,
    },
    /// Another process works on it.
    Busy,
    /// Another process has failed, and waits.
    Wait(Course),
    /// There is none.
    Failed(Failure),
    /// The authority wants it to be renewed then; it may be asked again after a time.
    Window {
        window: Option<(i64, i64)>,
        again: Duration,
    },
}

impl Attempt {
    /// Has the certificate: from the storage if another process has had it, else by an order.
    pub(super) async fn run(self) -> Outcome {
        let tried = async {
            match (&self.limits, &self.acme.on_demand) {
                (Some(limits), Some(rules)) => self.on_demand(rules, limits).await,
                _ => self.have().await,
            }
        };
        match tokio::time::timeout(PATIENCE, tried).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(failure)) => Outcome::Failed(failure),
            Err(_) => Outcome::Failed(Failure::here("the authority took too long")),
        }
    }

    async fn have(&self) -> Result<Outcome, Failure> {
        let (storage, host) = (&self.storage, &self.host);
        storage.prepare().map_err(Failure::storage)?;
        let Some(_held) = storage.lock(host).map_err(Failure::storage)? else {
            return Ok(Outcome::Busy);
        };
        if let Some(outcome) = self.of_others() {
            return Ok(outcome);
        }
        self.order().await
    }

    /// Orders it. The caller holds its lock.
    pub(super) async fn order(&self) -> Result<Outcome, Failure> {
        let (storage, host) = (&self.storage, &self.host);
        let account = self.accounts.of(&self.acme, storage).await?;
        let challenges = &self.acme.challenges;
        let wanted = Wanted {
            automatic: &self.automatic,
            storage,
            acme: &self.acme,
            host,
            // Each in its turn: one may be blocked on the way.
            challenge: challenges[self.course.failures as usize % challenges.len()],
            replaces: self.automatic.known(host, storage),
        };
        let pem = match wanted.order(&account).await {
            Ok(pem) => pem,
            Err(failure) => {
                if failure.no_account {
                    self.accounts.forget(account.id(), storage).await;
                }
                return Err(failure);
            }
        };
        let identity = good(&pem, host, now()).map_err(|why| {
            Failure::refused(format!("the authority sent no good certificate: {why}"))
        })?;
        // It serves all the same.
        let written = storage.write_certificate(host, &pem).err();
        let unsaved = written.map(|error| Unsaved {
            storage: storage.clone(),
            pem,
            error,
            place: None,
        });
        Ok(Outcome::Have {
            identity: Arc::new(identity),
            issued: true,
            unsaved,
        })
    }

    /// Returns what another process has made of it in the meantime.
    fn of_others(&self) -> Option<Outcome> {
        let (storage, host) = (&self.storage, &self.host);
        let known = self.automatic.known(host, storage);
        let newer = |found: &Identity| {
            let until = renewal(found.validity(), self.acme.renew_before, 0);
            let is_new = known.as_ref().is_none_or(|known| !known.is_same(found));
            is_new && until > now()
        };
        match storage.certificate(host) {
            Ok(Some(found)) if newer(&found) => {
                return Some(Outcome::Have {
                    identity: Arc::new(found),
                    issued: false,
                    unsaved: None,
                });
            }
            Ok(_) => {}
            Err(e) => log::warn!("the certificate for {host} cannot be used: {e}"),
        }
        let course = storage.course(host, now())?;
        let waits = course.next > now() && course != self.course;
        (waits && course.next > self.course.next).then_some(Outcome::Wait(course))
    }
}

/// Returns the certificate that an authority has issued for a host at the time `now`, if it can be used.
fn good(pem: &str, host: &str, now: i64) -> Result<Identity, String> {
    let identity = identity(pem.as_bytes())?;
    if !identity.is_for(host) {
        return Err("it is for another host".to_owned());
    }
    let (_, end) = identity.validity();
    if end < now {
        // Each handshake would order the next one.
        let (end, now) = (Utc::at(end).date(), Utc::at(now).date());
        return Err(format!("it has expired on {end}, and it is {now} here"));
    }
    Ok(identity)
}

/// Does work on the disk, which may be slow, on a thread of its own.
pub(super) async fn aside<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Failure> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|e| Failure::here(e.to_string()))
}

#[cfg(test)]
mod tests {
    use super::super::tests::pem;
    use super::*;

    #[test]
    fn a_certificate_that_is_over_when_it_comes_is_not_taken() {
        let of = |until| good(&pem("a.test", until), "a.test", now()).err();
        assert_eq!(of(2090), None);
        let why = of(2001).unwrap();
        assert!(why.starts_with("it has expired on 2001-01-01, "), "{why}");
        let other = good(&pem("b.test", 2090), "a.test", now()).err();
        assert_eq!(other.as_deref(), Some("it is for another host"));
    }
}
