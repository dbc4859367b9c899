//! Names of servers, which are looked up again while the proxy runs: each one when its answer has been kept for its time to
//! live.

mod share;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures::stream::{FuturesUnordered, StreamExt};
use futures::FutureExt;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::Cluster;
use crate::config::values::{Address, ServerAddress};
use crate::names::{Hosts, Resolver};
use crate::observe::snapshot::{self, Counts};
pub(super) use share::Spot;

/// The time after the first failure. It doubles with each further one, up to [`LAST_RETRY`].
const RETRY: Duration = Duration::from_secs(1);
const LAST_RETRY: Duration = Duration::from_secs(30);

/// A name of a server, and what came of its look-ups.
#[derive(Debug)]
pub(super) struct WatchedName {
    question: Question,
    lookups: Mutex<Lookups>,
}

/// The question.
#[derive(Debug)]
enum Question {
    /// The addresses of a name, with this port.
    Addresses(String, u16),
    /// The servers of a service.
    Service(String),
}

/// The results of the look-ups of a name.
#[derive(Clone, Debug, Default)]
pub(super) struct Lookups {
    answered: u64,
    failed: u64,
    /// The time of the last answer.
    last: Option<Instant>,
    /// The reason why there is none, while the last look-up has failed.
    pub(super) failing: Option<String>,
    /// Failures since the last answer.
    in_a_row: u32,
    /// The addresses of the servers that the records of a service name.
    hosts: Hosts,
}

/// The result of a look-up.
struct LookedUp {
    spots: Vec<Spot>,
    ttl: Duration,
    hosts: Hosts,
    /// The reason why a part of it is missing or old.
    missing: Option<String>,
}

impl WatchedName {
    /// Returns the name of a server; none when there is nothing to look up.
    pub(super) fn of(server: &ServerAddress) -> Option<Self> {
        let question = match server {
            ServerAddress::At(Address::Name(name, port)) => {
                Question::Addresses(name.clone(), *port)
            }
            ServerAddress::Srv(name) => Question::Service(name.clone()),
            ServerAddress::At(_) => return None,
        };
        Some(Self {
            question,
            lookups: Mutex::default(),
        })
    }

    pub(super) fn lookups(&self) -> Lookups {
        self.locked(|lookups| lookups.clone())
    }

    /// Tells whether it could not be found at some time.
    pub(super) fn has_failed(&self) -> bool {
        self.locked(|lookups| lookups.failed > 0)
    }

    fn locked<T>(&self, f: impl FnOnce(&mut Lookups) -> T) -> T {
        let mut lookups = self.lookups.lock().unwrap_or_else(PoisonError::into_inner);
        f(&mut lookups)
    }

    async fn look_up(&self, resolver: &Resolver, before: &[Spot]) -> Result<LookedUp, String> {
        match &self.question {
            Question::Addresses(name, port) => {
                let before: Vec<IpAddr> = before.iter().map(|spot| spot.address.ip()).collect();
                let answer = resolver.look_up(name, &before).await?;
                Ok(LookedUp {
                    spots: share::evenly(&answer.addresses, *port),
                    ttl: answer.ttl,
                    hosts: Hosts::new(),
                    missing: None,
                })
            }
            Question::Service(name) => {
                let before = self.locked(|lookups| lookups.hosts.clone());
                let service = resolver.service(name, &before).await?;
                Ok(LookedUp {
                    spots: share::by_record(&service.places),
                    ttl: service.ttl,
                    hosts: service.hosts,
                    missing: service.missing,
                })
            }
        }
    }
}

impl Lookups {
    fn answer(&mut self, hosts: Hosts) {
        self.answered += 1;
        self.last = Some(Instant::now());
        self.failing = None;
        self.in_a_row = 0;
        self.hosts = hosts;
    }

    /// Notes a failure; returns whether it is the first since the last answer, and the time until the name is looked up again.
    fn fail(&mut self, why: &str) -> (bool, Duration) {
        self.failed += 1;
        let first = self.failing.is_none();
        self.failing = Some(why.to_owned());
        let wait = RETRY * 2u32.saturating_pow(self.in_a_row.min(8));
        self.in_a_row = self.in_a_row.saturating_add(1);
        (first, wait.min(LAST_RETRY))
    }
}

impl Cluster {
    /// Tells of the names of its servers for metrics, as those of the cluster `cluster`.
    pub(crate) fn observed_names<'a>(
        &'a self,
        cluster: &'a str,
    ) -> impl Iterator<Item = snapshot::Name> + use<'a> {
        self.targets.iter().filter_map(move |target| {
            let lookups = target.named.as_ref()?.lookups();
            Some(snapshot::Name {
                cluster: cluster.to_owned(),
                server: target.endpoint.address.to_string(),
                lookups: Counts::of(&["answered", "failed"], [lookups.answered, lookups.failed]),
                error: lookups.failing,
                age: lookups.last.map(|last| last.elapsed().as_secs_f64()),
            })
        })
    }
}

/// Keeps a cluster at the addresses that the names of its servers have at the moment, for as long as the future is
/// polled. `known` is told when all names were looked up once, with whatever result.
///
/// While a look-up fails, the last known addresses stay; a server of whose name none is known gets no request.
pub(super) async fn follow(cluster: &Cluster, known: oneshot::Sender<()>) {
    let mut found = cluster.known_spots();
    let mut looks = FuturesUnordered::new();
    for (index, target) in cluster.targets.iter().enumerate() {
        if target.named.is_some() {
            looks.push(look_up(
                cluster,
                index,
                Duration::ZERO,
                found[index].clone(),
            ));
        }
    }
    let is_named = |index: &usize| cluster.targets[*index].named.is_some();
    let mut unknown: HashSet<_> = (0..cluster.targets.len()).filter(is_named).collect();
    let mut known = Some(known);
    while let Some(first) = looks.next().await {
        let mut answers = vec![first];
        // What has come meanwhile takes no list of its own.
        while let Some(Some(more)) = looks.next().now_or_never() {
            answers.push(more);
        }
        let mut moved = false;
        for (index, answer) in answers {
            unknown.remove(&index);
            let wait = take(cluster, index, answer, &mut found[index], &mut moved);
            looks.push(look_up(cluster, index, wait, found[index].clone()));
        }
        if moved {
            cluster.place(&found);
        }
        if let Some(known) = known.take_if(|_| unknown.is_empty()) {
            // Who waited may have given up.
            let _ = known.send(());
        }
    }
}

/// Waits, and looks the name of a target up.
async fn look_up(
    cluster: &Cluster,
    index: usize,
    wait: Duration,
    before: Vec<Spot>,
) -> (usize, Result<LookedUp, String>) {
    if !wait.is_zero() {
        tokio::time::sleep(wait).await;
    }
    let answer = match &cluster.targets[index].named {
        Some(named) => named.look_up(&cluster.resolver, &before).await,
        None => Err("it has no name".to_owned()),
    };
    (index, answer)
}

/// Takes what came of a look-up; returns the time until the next one.
fn take(
    cluster: &Cluster,
    index: usize,
    answer: Result<LookedUp, String>,
    known: &mut Vec<Spot>,
    moved: &mut bool,
) -> Duration {
    let target = &cluster.targets[index];
    let Some(named) = &target.named else {
        return LAST_RETRY;
    };
    let server = &target.endpoint.address;
    match answer {
        Ok(found) => {
            if found.spots != *known {
                *moved = true;
                *known = found.spots;
            }
            let Some(why) = found.missing else {
                named.locked(|lookups| lookups.answer(found.hosts));
                return found.ttl;
            };
            let (first, wait) = named.locked(|lookups| {
                lookups.hosts = found.hosts;
                lookups.fail(&why)
            });
            if first {
                log::warn!("server {server}: the name of a part of it is not found: {why}");
            }
            wait.min(found.ttl)
        }
        Err(why) => {
            let (first, wait) = named.locked(|lookups| lookups.fail(&why));
            // Once for each time that it goes away.
            if first {
                let what = if known.is_empty() {
                    "it gets no request"
                } else {
                    "the last known addresses stay"
                };
                log::warn!("server {server}: {what} until its name is found: {why}");
            }
            wait
        }
    }
}
