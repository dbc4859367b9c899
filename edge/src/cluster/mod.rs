//! The servers that a route's requests go to, while the proxy runs.
//!
//! A [`Cluster`] is shared: it knows the addresses, and how each server fares. Each worker has a [`Local`] of it, with
//! peers, turns and counts of its own, so that a request writes nothing that workers share unless a server fails or
//! comes back. A reload that leaves the settings of a cluster as they were keeps it.
//!
//! Health is passive: after a failure a server is left alone for ten seconds, then one request tries it, and an answer
//! brings it back. When all are out, they are tried all the same. A request tries each server once.

mod balance;
#[cfg_attr(feature = "rustls", path = "credentials/rustls.rs")]
#[cfg_attr(not(feature = "rustls"), path = "credentials/none.rs")]
mod credentials;
mod local;
mod names;
mod peers;
mod random;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use crate::upstreams::{Health, State};
use pingora_core::upstreams::resolve::{Resolver, ResolverOptions};

use crate::config::model::Balance;
use crate::config::values::Address;
use crate::observe::snapshot::Endpoint;
use crate::observe::{EndpointCounts, Series};
use crate::plan;
pub(crate) use local::{HashBy, Local, Tried};
pub(crate) use names::follow;
use peers::Peers;
pub(crate) use random::Random;

/// The servers of a cluster, and how they fare.
pub(crate) struct Cluster {
    /// Tells it from every other one, of other generations too.
    id: u64,
    key: String,
    balance: Balance,
    health: Health,
    targets: Vec<Target>,
    peers: Peers,
    started: Instant,
    /// Tells workers that the members are others than those that they know. It is unique over all clusters.
    version: AtomicU64,
    members: Mutex<Arc<[Member]>>,
}

/// The clusters of another generation, by their keys.
pub(crate) type Known<'a> = HashMap<&'a str, &'a Arc<Cluster>>;

/// A server as the file has it.
struct Target {
    endpoint: plan::Endpoint,
    /// Looks its name up, if it has one.
    resolver: Option<Resolver>,
}

/// A server at one of its addresses.
#[derive(Clone)]
struct Member {
    /// The index of its target.
    target: usize,
    /// An IP address or a Unix socket.
    address: Address,
    weight: u64,
    state: Arc<State>,
    series: Arc<Series<EndpointCounts>>,
}

/// A weight of 1, which the addresses of a name share evenly, up to 16 of them.
const WEIGHT: u64 = 720_720;

/// Returns a number that no other call does.
pub(crate) fn unique() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

impl Target {
    fn new(endpoint: &plan::Endpoint, peers: &Peers) -> Result<Self, String> {
        let resolver = match &endpoint.address {
            Address::Name(name, port) => {
                let name = format!("{name}:{port}");
                let resolver = Resolver::with_options(name, ResolverOptions::default());
                Some(resolver.map_err(|e| e.to_string())?)
            }
            Address::Ip(_) | Address::Unix(_) => {
                peers.make(&endpoint.address, &endpoint.address, &peers.credentials())?;
                None
            }
        };
        let endpoint = endpoint.clone();
        Ok(Self { endpoint, resolver })
    }
}

impl Cluster {
    /// Returns the cluster of a plan: one of `known`, by their keys, if nothing about it has changed, or a new one. Names
    /// of a new one are not looked up yet: their servers are unknown.
    ///
    /// # Errors
    ///
    /// What cannot be used of its certificates and addresses, in a line.
    pub(crate) fn of(plan: &plan::Cluster, known: &Known<'_>) -> Result<Arc<Self>, String> {
        let peers = Peers::new(plan)?;
        let key = peers.key(&plan.key);
        if let Some(same) = known.get(&*key) {
            return Ok(Arc::clone(same));
        }
        let served = plan.endpoints.iter().filter(|endpoint| endpoint.weight > 0);
        let targets = served.map(|endpoint| Target::new(endpoint, &peers));
        let targets: Vec<_> = targets.collect::<Result<_, _>>()?;
        let found = vec![Vec::new(); targets.len()];
        let cluster = Self {
            id: unique(),
            key,
            balance: plan.balance,
            health: Health::default(),
            targets,
            peers,
            started: Instant::now(),
            version: AtomicU64::new(unique()),
            members: Mutex::new(Arc::new([])),
        };
        cluster.place(&found);
        Ok(Arc::new(cluster))
    }

    /// Returns clusters by their keys.
    pub(crate) fn known(clusters: &[Arc<Self>]) -> Known<'_> {
        let keyed = clusters.iter().map(|cluster| (&*cluster.key, cluster));
        keyed.collect()
    }

    /// Returns the files that a cluster of this plan is made of.
    pub(crate) fn files(plan: &plan::Cluster) -> impl Iterator<Item = PathBuf> + use<'_> {
        let tls = plan.tls.iter();
        let client = tls.clone().filter_map(|tls| tls.client.as_ref());
        let client = client.flat_map(|pair| [pair.cert.clone(), pair.key.clone()]);
        tls.filter_map(|tls| tls.ca.clone()).chain(client)
    }

    /// Returns what tells it from every other one.
    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    /// Tells whether names have to be looked up for it.
    pub(crate) fn has_names(&self) -> bool {
        self.targets.iter().any(|target| target.resolver.is_some())
    }

    /// Has the servers be at these addresses, those of names. Members that were there before keep their health.
    fn place(&self, found: &[Vec<SocketAddr>]) {
        let mut members = self.members.lock().unwrap_or_else(PoisonError::into_inner);
        let mut new = Vec::new();
        for (index, (target, found)) in self.targets.iter().zip(found).enumerate() {
            let addresses: Vec<_> = match &target.resolver {
                Some(_) => found.iter().copied().map(Address::Ip).collect(),
                None => vec![target.endpoint.address.clone()],
            };
            let weight = u64::from(target.endpoint.weight) * WEIGHT / addresses.len().max(1) as u64;
            for address in addresses {
                let known = members
                    .iter()
                    .find(|member| member.target == index && member.address == address);
                new.push(Member {
                    target: index,
                    state: known.map_or_else(Arc::default, |member| member.state.clone()),
                    series: known.map_or_else(Arc::default, |member| member.series.clone()),
                    address,
                    weight: weight.max(1),
                });
            }
        }
        *members = new.into();
        // While the list is locked: who sees the number finds the list of it.
        self.version.store(unique(), Ordering::Release);
    }

    /// Returns the members, and the number of their list.
    fn members(&self) -> (Arc<[Member]>, u64) {
        let members = self.members.lock().unwrap_or_else(PoisonError::into_inner);
        (members.clone(), self.version.load(Ordering::Acquire))
    }

    /// Tells of its servers, as those of the cluster `name`.
    pub(crate) fn observed(&self, name: &str) -> impl Iterator<Item = Endpoint> + use<'_> {
        let (members, _) = self.members();
        let name = name.to_owned();
        (0..members.len()).map(move |index| {
            let member = &members[index];
            let target = &self.targets[member.target].endpoint;
            let mut endpoint = Endpoint {
                cluster: name.clone(),
                server: target.address.to_string(),
                address: member.address.to_string(),
                weight: u64::from(target.weight),
                up: !member.state.is_down(&self.health),
                ..Endpoint::default()
            };
            endpoint.count(&member.series.sum());
            endpoint
        })
    }

    /// Milliseconds since it was made.
    fn now(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}
