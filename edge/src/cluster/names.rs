//! Names of servers, which are looked up again while the proxy runs: each one when its answer has been kept for its time to
//! live.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures::stream::{FuturesUnordered, StreamExt};
use futures::FutureExt;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::Cluster;
use crate::names::Answer;
use crate::observe::snapshot::{self, Counts};

/// The time after the first failure. It doubles with each further one, up to [`LAST_RETRY`].
const RETRY: Duration = Duration::from_secs(1);
const LAST_RETRY: Duration = Duration::from_secs(30);

/// A name of a server, and what came of its look-ups.
#[derive(Debug)]
pub(super) struct Named {
    pub(super) name: String,
    pub(super) port: u16,
    lookups: Mutex<Lookups>,
}

/// What came of the look-ups of a name.
#[derive(Clone, Debug, Default)]
pub(super) struct Lookups {
    pub(super) answered: u64,
    pub(super) failed: u64,
    /// When the last answer came.
    pub(super) last: Option<Instant>,
    /// Why there is none, while the last look-up has failed.
    pub(super) failing: Option<String>,
    /// Failures since the last answer.
    in_a_row: u32,
}

impl Named {
    pub(super) fn new(name: &str, port: u16) -> Self {
        Self {
            name: name.to_owned(),
            port,
            lookups: Mutex::default(),
        }
    }

    pub(super) fn lookups(&self) -> Lookups {
        self.locked(|lookups| lookups.clone())
    }

    fn locked<T>(&self, f: impl FnOnce(&mut Lookups) -> T) -> T {
        f(&mut self.lookups.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Lookups {
    fn answer(&mut self) {
        self.answered += 1;
        self.last = Some(Instant::now());
        self.failing = None;
        self.in_a_row = 0;
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
    let mut found = cluster.known_addresses();
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
    let (mut known, mut unknown) = (Some(known), looks.len());
    while let Some(first) = looks.next().await {
        let mut answers = vec![first];
        // What has come meanwhile takes no list of its own.
        while let Some(Some(more)) = looks.next().now_or_never() {
            answers.push(more);
        }
        let mut moved = false;
        unknown = unknown.saturating_sub(answers.len());
        for (index, answer) in answers {
            let wait = take(cluster, index, answer, &mut found[index], &mut moved);
            looks.push(look_up(cluster, index, wait, found[index].clone()));
        }
        if moved {
            cluster.place(&found);
        }
        if let Some(known) = known.take_if(|_| unknown == 0) {
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
    before: Vec<SocketAddr>,
) -> (usize, Result<Answer, String>) {
    if !wait.is_zero() {
        tokio::time::sleep(wait).await;
    }
    let before: Vec<IpAddr> = before.iter().map(SocketAddr::ip).collect();
    let answer = match &cluster.targets[index].named {
        Some(named) => cluster.resolver.look_up(&named.name, &before).await,
        None => Err("it has no name".to_owned()),
    };
    (index, answer)
}

/// Takes what came of a look-up; returns the time until the next one.
fn take(
    cluster: &Cluster,
    index: usize,
    answer: Result<Answer, String>,
    found: &mut Vec<SocketAddr>,
    moved: &mut bool,
) -> Duration {
    let Some(named) = &cluster.targets[index].named else {
        return LAST_RETRY;
    };
    match answer {
        Ok(answer) => {
            let addresses = answer.addresses.into_iter();
            let addresses: Vec<_> = addresses
                .map(|ip| SocketAddr::new(ip, named.port))
                .collect();
            named.locked(Lookups::answer);
            if addresses != *found {
                *moved = true;
                *found = addresses;
            }
            answer.ttl
        }
        Err(why) => {
            let (first, wait) = named.locked(|lookups| lookups.fail(&why));
            // Once for each time that it goes away.
            if first {
                let what = if found.is_empty() {
                    "it gets no request"
                } else {
                    "the last known addresses stay"
                };
                let (name, port) = (&named.name, named.port);
                log::warn!("server {name}:{port}: {what} until its name is found: {why}");
            }
            wait
        }
    }
}
