//! The servers that a route's requests go to, while the proxy runs.
//!
//! A [`Cluster`] is shared: it knows the addresses, and how each server fares. Each worker has a [`Local`] of it, with
//! peers and turns of its own, and [`Slots`] with counts of its own, so that a request writes nothing that workers share
//! unless a server fails or comes back. A reload that leaves the settings of a cluster as they were keeps it; one that
//! changes them keeps the [`Endpoint`]s, with all that is known of them.
//!
//! A request tries each server once. What keeps a server from getting any stands in [`endpoint`]; `watch` is the task
//! beside the requests that looks names up, checks servers and opens circuit breakers, and [`report`] what others may know.

mod balance;
mod budget;
mod check;
mod clock;
mod connections;
mod counts;
#[cfg_attr(feature = "rustls", path = "credentials/rustls.rs")]
#[cfg_attr(
    any(feature = "openssl", feature = "boringssl"),
    path = "credentials/openssl.rs"
)]
#[cfg_attr(
    not(any(feature = "rustls", feature = "openssl", feature = "boringssl")),
    path = "credentials/none.rs"
)]
mod credentials;
mod endpoint;
mod greeting;
mod held;
mod limited;
mod local;
mod make;
mod names;
mod peers;
mod places;
mod queue;
mod random;
mod report;
mod set;
mod slots;
mod sticky;
#[cfg(test)]
mod tests;
mod watch;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::config::model::{self, Balance, CircuitBreaker, Health, Retries};
use crate::config::values::{Address, ServerAddress};
use crate::names::Resolver;
use crate::plan;
pub(crate) use credentials::count as authorities;
use endpoint::{Endpoint, Rules, DRAINED};
pub(crate) use greeting::Greeting;
use held::Held;
pub(crate) use limited::Pick;
pub(crate) use local::{Hands, HashBy, Local, Tried};
pub(crate) use make::{clusters, files};
use names::{Spot, WatchedName};
use peers::Peers;
use queue::Queue;
pub(crate) use queue::Ticket;
pub(crate) use random::Random;
pub use report::{ClusterState, EndpointState, EndpointStatus, QueueState, WorkerCounts};
pub(crate) use slots::Slots;
use sticky::Sticky;
pub(crate) use watch::watch;

/// The servers of a cluster, and how they fare.
pub(crate) struct Cluster {
    /// Tells it from every other one, of other generations too.
    id: u64,
    key: String,
    balance: Balance,
    rules: Rules,
    targets: Vec<Target>,
    /// Looks the names of servers up.
    resolver: Arc<Resolver>,
    peers: Peers,
    breaker: Option<CircuitBreaker>,
    health: Option<Health>,
    /// The time limit of a request with all its tries.
    time_limit: Option<Duration>,
    retries: Option<Retries>,
    sticky: Option<Sticky>,
    /// True if a server may have so many requests or connections at a time only.
    limited: bool,
    queue_rule: Option<model::Queue>,
    /// The requests that wait. It stays over a reload, as the servers do.
    queue: Arc<Queue>,
    /// Tells workers that the members are others than those that they know. It is unique over all clusters.
    version: AtomicU64,
    /// True if it began with members of the one before: what comes to it is new.
    inherited: bool,
    members: Mutex<Arc<[Member]>>,
    /// The servers that other clusters held back when this one was made, until they have their places.
    held: Mutex<Held>,
}

/// A server as the file has it.
struct Target {
    endpoint: plan::Endpoint,
    /// Its name, if that is looked up. It stays over a reload, as the servers do.
    named: Option<Arc<WatchedName>>,
}

/// A server at one of its addresses.
#[derive(Clone)]
struct Member {
    /// The index of its target.
    target: usize,
    /// An IP address or a Unix socket.
    address: Address,
    weight: u64,
    level: Level,
    /// The word of a look-up about it, if it was found by one.
    spot: Option<Spot>,
    endpoint: Arc<Endpoint>,
}

/// The order in which servers are asked: those of a level get requests while none of a lower one can take them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Level {
    /// The file says so.
    backup: bool,
    /// By the priority of its record.
    rank: u16,
}

/// A weight of 1, which the addresses of a name share evenly, up to 16 of them.
const WEIGHT: u64 = 720_720;

/// Returns a number that no other call does.
pub(crate) fn unique() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

impl Cluster {
    /// Returns what tells it from every other one.
    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    /// Returns when its requests are tried again, if that is told.
    #[inline]
    pub(crate) fn retries(&self) -> Option<&Retries> {
        self.retries.as_ref()
    }

    /// Returns the time limit of a request with all its tries.
    #[inline]
    pub(crate) fn time_limit(&self) -> Option<Duration> {
        self.time_limit
    }

    /// Tells whether a cookie keeps clients at its servers.
    #[inline]
    pub(crate) fn is_sticky(&self) -> bool {
        self.sticky.is_some()
    }

    /// Returns the PROXY protocol to its servers, if that is spoken.
    #[inline]
    pub(crate) fn greeting(&self) -> Option<&plan::Greeting> {
        self.peers.greeting.as_ref()
    }

    /// Ends what looks its names up, once nobody does.
    pub(crate) fn forget_names(&self) {
        self.resolver.rest();
    }

    /// Tells whether there is anything to do for it beside requests.
    pub(crate) fn is_watched(&self) -> bool {
        self.has_names() || self.breaker.is_some() || self.health.is_some()
    }

    fn has_names(&self) -> bool {
        self.targets.iter().any(|target| target.named.is_some())
    }

    /// Has the servers be at these addresses, those of names. Members that were there before keep their state.
    fn place(&self, found: &[Vec<Spot>]) {
        let mut members = self.members.lock().unwrap_or_else(PoisonError::into_inner);
        let mut new = Vec::new();
        let mut known: Vec<Vec<&Member>> = vec![Vec::new(); self.targets.len()];
        for member in members.iter() {
            known[member.target].push(member);
        }
        for (index, (target, found)) in self.targets.iter().zip(found).enumerate() {
            let whole = u64::from(target.endpoint.weight) * WEIGHT;
            let placed: Vec<_> = match (&target.named, &target.endpoint.address) {
                (None, ServerAddress::At(address)) => vec![(address.clone(), whole, None)],
                _ => found
                    .iter()
                    .map(|spot| {
                        let address = Address::Ip(spot.address);
                        (address, spot.part(whole, found), Some(*spot))
                    })
                    .collect(),
            };
            let before = &known[index];
            let is_drained = |member: &&Member| member.endpoint.flags() & DRAINED != 0;
            let drained = !before.is_empty() && before.iter().all(is_drained);
            for (address, weight, spot) in placed {
                let known = before.iter().find(|member| member.address == address);
                let endpoint = match known {
                    Some(member) => member.endpoint.clone(),
                    // Those of a cluster that has just begun have nobody to be slower than, with names that are found only
                    // now, one after the other.
                    None => {
                        let named = target.named.as_ref().filter(|_| before.is_empty());
                        let begins = named.is_some_and(|named| !named.has_failed());
                        let joins = !members.is_empty() && (self.inherited || !begins);
                        let endpoint = Endpoint::new(&self.rules, joins, &self.queue);
                        let server = &target.endpoint.address;
                        let held = self.held(|held| held.take(server, &address));
                        if let Some((flags, why)) = held {
                            endpoint.hold(&self.rules, flags, why);
                        }
                        endpoint.limit(target.endpoint.max_requests);
                        if let Some(max) = target.endpoint.max_connections {
                            endpoint.connections(&address).begin_with(max);
                        }
                        Arc::new(endpoint)
                    }
                };
                if known.is_none() && drained {
                    endpoint.set(DRAINED);
                }
                new.push(Member {
                    target: index,
                    address,
                    weight: weight.max(1),
                    level: Level {
                        backup: target.endpoint.backup,
                        rank: spot.map_or(0, |spot| spot.rank),
                    },
                    spot,
                    endpoint,
                });
            }
        }
        *members = new.into();
        // While the list is locked: who sees the number finds the list of it.
        self.version.store(unique(), Ordering::Release);
        drop(members);
        self.queue.call();
    }

    fn held<T>(&self, f: impl FnOnce(&mut Held) -> T) -> T {
        f(&mut self.held.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Returns the members, and the number of their list.
    fn members(&self) -> (Arc<[Member]>, u64) {
        let members = self.members.lock().unwrap_or_else(PoisonError::into_inner);
        (members.clone(), self.version.load(Ordering::Acquire))
    }
}
