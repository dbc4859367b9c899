//! Clusters of a plan, made of those that run before it.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::endpoint::Rules;
use super::held::Held;
use super::names::{Spot, WatchedName};
use super::peers::Peers;
use super::sticky::Sticky;
use super::{unique, Cluster, Member, Target};
use crate::config::values::ServerAddress;
use crate::names::Resolver;
use crate::plan::{self, Plan};

/// Returns the clusters of a plan, by their indices. One about which nothing has changed is the same as before. One that
/// has changed takes over the servers of the one that had most of its own, with what is known of them. A server that none
/// takes over begins drained or down where it was so in any cluster before. Those with names share what looks them up, with
/// those before if it asks as theirs does.
///
/// # Errors
///
/// The problems of certificates and addresses, in a line each.
pub(crate) fn clusters(
    plan: &Plan,
    before: &[Arc<Cluster>],
) -> Result<Vec<Arc<Cluster>>, Vec<String>> {
    let mut problems = Vec::new();
    let mut made = Vec::new();
    let known: HashMap<&str, &Arc<Cluster>> = before
        .iter()
        .map(|cluster| (&*cluster.key, cluster))
        .collect();
    let mut resolvers = before.iter().map(|cluster| &cluster.resolver);
    let resolver = resolvers.find(|resolver| resolver.is_of(&plan.resolver));
    let resolver = resolver.cloned();
    let resolver = resolver.unwrap_or_else(|| Arc::new(Resolver::new(&plan.resolver)));
    let asked = plan.resolver.key();
    for cluster in &plan.clusters {
        let peers = Peers::new(cluster);
        let asked = if has_names(cluster) { &*asked } else { "" };
        made.push(peers.map(|peers| (format!("{}{asked}", peers.key(&cluster.key)), peers)));
    }
    let keys: HashSet<_> = made.iter().flatten().map(|(key, _)| &**key).collect();
    let changed = before
        .iter()
        .filter(|cluster| !keys.contains(&*cluster.key));
    let mut changed = Changed::of(changed);
    let held = Held::of(before.iter().map(|cluster| &**cluster));
    drop(keys);
    let mut clusters = Vec::new();
    for (plan, made) in plan.clusters.iter().zip(made) {
        let cluster = made.and_then(|(key, peers)| match known.get(&*key) {
            Some(same) => Ok(Arc::clone(same)),
            None => Cluster::new(plan, key, (peers, &resolver), changed.take(plan), &held),
        });
        match cluster {
            Ok(cluster) => clusters.push(cluster),
            Err(why) => problems.push(why),
        }
    }
    if problems.is_empty() {
        Ok(clusters)
    } else {
        Err(problems)
    }
}

/// Returns the files that a cluster of this plan is made of.
pub(crate) fn files(plan: &plan::Cluster) -> impl Iterator<Item = PathBuf> + use<'_> {
    let tls = plan.tls.iter();
    let client = tls.clone().filter_map(|tls| tls.client.as_ref());
    let client = client.flat_map(|pair| [pair.cert.to_path_buf(), pair.key.to_path_buf()]);
    tls.filter_map(|tls| tls.ca.as_deref().map(Path::to_path_buf))
        .chain(client)
}

/// Clusters that no plan has as they are. Each gives its servers to one other at most.
struct Changed<'a> {
    clusters: Vec<Option<&'a Arc<Cluster>>>,
    by_server: HashMap<&'a ServerAddress, Vec<usize>>,
}

impl<'a> Changed<'a> {
    fn of(changed: impl Iterator<Item = &'a Arc<Cluster>>) -> Self {
        let clusters: Vec<_> = changed.map(Some).collect();
        let mut by_server: HashMap<_, Vec<_>> = HashMap::new();
        for (index, cluster) in clusters.iter().flatten().enumerate() {
            for target in &cluster.targets {
                by_server
                    .entry(&target.endpoint.address)
                    .or_default()
                    .push(index);
            }
        }
        Self {
            clusters,
            by_server,
        }
    }

    /// Takes the one that has most of the servers of a plan.
    fn take(&mut self, plan: &plan::Cluster) -> Option<&'a Cluster> {
        let mut shared: HashMap<usize, usize> = HashMap::new();
        for endpoint in &plan.endpoints {
            for index in self.by_server.get(&endpoint.address).into_iter().flatten() {
                *shared.entry(*index).or_default() += 1;
            }
        }
        let left = shared
            .into_iter()
            .filter(|(index, _)| self.clusters[*index].is_some());
        // The first of those that have as many.
        let (index, _) = left.max_by_key(|(index, count)| (*count, usize::MAX - index))?;
        self.clusters[index].take().map(|cluster| &**cluster)
    }
}

fn has_names(plan: &plan::Cluster) -> bool {
    let mut addresses = plan.endpoints.iter().map(|endpoint| &endpoint.address);
    addresses.any(ServerAddress::is_looked_up)
}

/// Returns the time limit of a request with all its tries.
fn time_limit(plan: &plan::Cluster) -> Option<Duration> {
    let tries = plan.retries.as_ref().and_then(|retries| retries.timeout);
    plan.timeouts.request.within(tries)
}

impl Target {
    /// Makes one, with the name of the same target `before`.
    fn new(
        endpoint: &plan::Endpoint,
        peers: &Peers,
        before: Option<&Cluster>,
    ) -> Result<Self, String> {
        let mut known = before.iter().flat_map(|before| &before.targets);
        let known = known.find(|target| target.endpoint.address == endpoint.address);
        let known = known.and_then(|target| target.named.clone());
        let named = known.or_else(|| WatchedName::of(&endpoint.address).map(Arc::new));
        if let ServerAddress::At(address) = &endpoint.address {
            if named.is_none() {
                peers.make(endpoint, address, &peers.credentials())?;
            }
        }
        let endpoint = endpoint.clone();
        Ok(Self { endpoint, named })
    }
}

impl Cluster {
    /// Makes a cluster, with the servers of `before` that it shares. Names are at the addresses that they have there, and
    /// else not looked up yet: their servers are unknown.
    fn new(
        plan: &plan::Cluster,
        key: String,
        (peers, resolver): (Peers, &Arc<Resolver>),
        before: Option<&Self>,
        held: &Held,
    ) -> Result<Arc<Self>, String> {
        let served = plan.endpoints.iter().filter(|endpoint| endpoint.weight > 0);
        let targets = served.map(|endpoint| Target::new(endpoint, &peers, before));
        let targets: Vec<_> = targets.collect::<Result<_, _>>()?;
        let rules = Rules::of(plan);
        let members = before.map_or_else(Vec::new, |before| before.given_to(&targets));
        let held = held.among(&targets);
        let cluster = Self {
            id: unique(),
            key,
            balance: plan.balance,
            rules,
            targets,
            resolver: resolver.clone(),
            peers,
            breaker: plan.circuit_breaker.clone(),
            health: plan.health.clone(),
            time_limit: time_limit(plan),
            retries: plan.retries.clone(),
            sticky: plan.sticky.as_ref().map(Sticky::new).transpose()?,
            limited: plan.endpoints.iter().any(|endpoint| {
                endpoint.max_requests.is_some() || endpoint.max_connections.is_some()
            }),
            queue_rule: plan.queue.clone(),
            queue: before.map_or_else(Arc::default, |before| before.queue.clone()),
            version: AtomicU64::new(unique()),
            inherited: !members.is_empty(),
            members: Mutex::new(members.into()),
            held: Mutex::new(held),
        };
        cluster.place(&cluster.known_spots());
        Ok(Arc::new(cluster))
    }

    /// Returns its members that belong to these targets, by the indices of those.
    fn given_to(&self, targets: &[Target]) -> Vec<Member> {
        let (members, _) = self.members();
        let index = targets.iter().enumerate();
        let index: HashMap<_, _> = index
            .map(|(index, target)| (&target.endpoint.address, index))
            .collect();
        let given = members.iter().filter_map(|member| {
            let server = &self.targets[member.target].endpoint.address;
            let target = *index.get(server)?;
            Some(Member {
                target,
                ..member.clone()
            })
        });
        given.collect()
    }

    /// Returns the addresses of the names of its targets.
    pub(super) fn known_spots(&self) -> Vec<Vec<Spot>> {
        let (members, _) = self.members();
        let mut found = vec![Vec::new(); self.targets.len()];
        for member in members.iter() {
            found[member.target].extend(member.spot);
        }
        found
    }
}
