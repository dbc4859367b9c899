//! The servers of clusters as somebody sees them who asks, off the path of requests.

use serde::Serialize;

use super::endpoint::{Endpoint, DOWN, DRAINED, EJECTED, OPEN, SLOW};
use super::{Cluster, Member};
use crate::config::section::Scalar;
use crate::observe::snapshot;

/// A cluster.
#[derive(Clone, Debug, Serialize)]
pub struct ClusterState {
    /// Its name in metrics, made of its servers.
    pub name: String,
    /// The place in the file that names its servers first, as `file:line:column`.
    pub place: String,
    /// The way in which a server is chosen, as in the file.
    pub balance: String,
    /// The requests that wait for its servers, if any may.
    pub queue: Option<QueueState>,
    /// Its servers, in the order of the file.
    pub endpoints: Vec<EndpointState>,
}

/// The requests that wait for the servers of a cluster.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct QueueState {
    /// Those that wait.
    pub waiting: u32,
    /// Those that may.
    pub size: u32,
}

/// A server at one of its addresses.
#[derive(Clone, Debug, Serialize)]
pub struct EndpointState {
    /// The server as in the file.
    pub server: String,
    /// The address, an IP address or a Unix socket; `None` for a name of which none is known.
    pub address: Option<String>,
    /// The weight in the file, which the addresses of a name share; of a server that an SRV record names, that of the record.
    pub weight: u32,
    /// True if it gets requests only while no other server can take them.
    pub backup: bool,
    /// True if it gets requests.
    pub status: EndpointStatus,
    /// The reason for which it does not; empty if it does.
    pub why: String,
    /// The reason for which the last look-up of its name failed, if it did: its last known addresses stay.
    pub name_error: Option<String>,
    /// The milliseconds until a request tries it, while it is ejected or its circuit breaker is open.
    pub tried_in_ms: Option<u64>,
    /// The part of its share that it gets, in percent: below 100 during its slow start.
    pub share_percent: u32,
    /// The requests that it may have at a time, if that is told.
    pub max_requests: Option<u32>,
    /// The connections that may be open to it at a time, if that is told.
    pub max_connections: Option<u32>,
    /// The connections that are open to it, over all routes, if their maximum is told.
    pub connections: Option<u32>,
    /// The requests that it has at the moment.
    pub open: u64,
    /// The requests that it was sent, tries each.
    pub total: u64,
    /// Those that failed: no connection, broken off, too late, or a status of 5xx or of `passive_health`.
    pub failed: u64,
    /// The time to the head of an answer, in microseconds, on average over the workers; `None` where the way to balance
    /// does not ask for it.
    pub latency_us: Option<f64>,
    /// The same for each worker that has sent it any, by their numbers.
    pub workers: Vec<WorkerCounts>,
}

/// The requests of one worker to a server.
#[derive(Clone, Debug, Serialize)]
pub struct WorkerCounts {
    /// The number of the worker.
    pub worker: u64,
    /// The open requests.
    pub open: u64,
    /// All requests.
    pub total: u64,
    /// The failed requests.
    pub failed: u64,
    /// The time to the head of an answer, in microseconds.
    pub latency_us: Option<f64>,
}

/// True if a server gets requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum EndpointStatus {
    /// It does.
    Up,
    /// It does, and its share grows.
    SlowStart,
    /// It is left alone for failures: it gets one try after a pause.
    Ejected,
    /// Its circuit breaker is open: it gets one try after a pause.
    CircuitOpen,
    /// A check says that it is down.
    Down,
    /// Somebody said that it is to get no more.
    Drained,
    /// No address of its name is known.
    Unresolved,
    /// Its weight is 0.
    NoWeight,
}

impl Cluster {
    /// Returns how its servers fare. `plan` is what it was made of.
    pub(crate) fn state(&self, plan: &crate::plan::Cluster) -> ClusterState {
        let (members, _) = self.members();
        let mut endpoints = Vec::new();
        for of_file in &plan.endpoints {
            let target = self
                .targets
                .iter()
                .position(|target| target.endpoint.address == of_file.address);
            let own = members
                .iter()
                .filter(|member| Some(member.target) == target);
            let before = endpoints.len();
            let named = target.and_then(|target| self.targets[target].named.as_ref());
            let name_error = named.and_then(|named| named.lookups().failing);
            endpoints.extend(own.map(|member| self.member_state(of_file, member)));
            if endpoints.len() == before {
                let status = if target.is_some() {
                    EndpointStatus::Unresolved
                } else {
                    EndpointStatus::NoWeight
                };
                endpoints.push(without_member(of_file, status));
            }
            for endpoint in &mut endpoints[before..] {
                endpoint.name_error.clone_from(&name_error);
            }
        }
        ClusterState {
            name: plan.name.clone(),
            place: plan.place.clone(),
            balance: plan.balance.show(),
            queue: (self.queue_rule.as_ref()).map(|rule| QueueState {
                waiting: self.queue.waiting(),
                size: rule.size.0,
            }),
            endpoints,
        }
    }

    fn member_state(&self, of_file: &crate::plan::Endpoint, member: &Member) -> EndpointState {
        let endpoint = &member.endpoint;
        let status = status(endpoint);
        let tried = matches!(
            status,
            EndpointStatus::Ejected | EndpointStatus::CircuitOpen
        );
        let serves = matches!(status, EndpointStatus::Up | EndpointStatus::SlowStart);
        let tried_in = || super::clock::millis(endpoint.tried_in());
        let mut state = EndpointState {
            address: Some(member.address.to_string()),
            weight: weight(of_file, member),
            backup: member.level.backup || member.level.rank > 0,
            why: if serves {
                String::new()
            } else {
                endpoint.why()
            },
            tried_in_ms: tried.then(tried_in),
            share_percent: endpoint.warmth(&self.rules),
            connections: connections(of_file, endpoint),
            ..without_member(of_file, status)
        };
        for counts in endpoint.counts() {
            let own = WorkerCounts {
                worker: counts.worker,
                open: counts.open().into(),
                total: counts.total(),
                failed: counts.failed(),
                latency_us: Some(counts.average()).filter(|average| *average > 0.0),
            };
            state.open += own.open;
            state.total = state.total.wrapping_add(own.total);
            state.failed = state.failed.wrapping_add(own.failed);
            state.workers.push(own);
        }
        let known = state.workers.iter().filter_map(|own| own.latency_us);
        let (sum, count) = known.fold((0.0, 0.0), |(sum, count), one| (sum + one, count + 1.0));
        state.latency_us = (count > 0.0).then(|| sum / count);
        state
    }

    /// Tells of its servers for metrics, as those of the cluster `name`.
    pub(crate) fn observed(
        &self,
        name: &str,
    ) -> impl Iterator<Item = snapshot::Endpoint> + use<'_> {
        let (members, _) = self.members();
        let name = name.to_owned();
        (0..members.len()).map(move |index| {
            let member = &members[index];
            let target = &self.targets[member.target].endpoint;
            let up = matches!(
                status(&member.endpoint),
                EndpointStatus::Up | EndpointStatus::SlowStart
            );
            let mut endpoint = snapshot::Endpoint {
                cluster: name.clone(),
                server: target.address.to_string(),
                address: member.address.to_string(),
                weight: u64::from(weight(target, member)),
                max_requests: target.max_requests,
                max_connections: target.max_connections,
                connections: connections(target, &member.endpoint),
                up,
                ..snapshot::Endpoint::default()
            };
            endpoint.count(&member.endpoint.series().sum());
            endpoint
        })
    }

    /// Tells of the requests that wait for its servers, as those of the cluster `name`.
    pub(crate) fn observed_queue(&self, name: &str) -> Option<snapshot::Queue> {
        let rule = self.queue_rule.as_ref()?;
        Some(snapshot::Queue {
            cluster: name.to_owned(),
            waiting: self.queue.waiting(),
            size: rule.size.0,
        })
    }

    /// Has a server, by its address in the file or one of those of its name, get no more requests, or get them again.
    /// Requests that it has go on. Returns the number of addresses that this is about.
    pub(crate) fn drain(&self, server: &str, drained: bool) -> usize {
        if !drained {
            self.held(|held| held.forget(server));
        }
        let (members, _) = self.members();
        let mut count = 0;
        for member in members.iter() {
            let named = self.targets[member.target].endpoint.address.to_string();
            if named != server && member.address.to_string() != server {
                continue;
            }
            count += 1;
            let endpoint = &member.endpoint;
            if drained {
                endpoint.set(DRAINED);
            } else if endpoint.flags() & DRAINED != 0 {
                endpoint.clear(DRAINED);
                endpoint.came_up(&self.rules);
            }
        }
        count
    }
}

fn weight(of_file: &crate::plan::Endpoint, member: &Member) -> u32 {
    let told = member.spot.and_then(|spot| spot.weight);
    told.map_or(of_file.weight, u32::from)
}

/// Returns the number of connections that are open to a server, if it has a maximum.
fn connections(of_file: &crate::plan::Endpoint, endpoint: &Endpoint) -> Option<u32> {
    of_file.max_connections?;
    endpoint.known_connections().map(|all| all.open())
}

fn without_member(of_file: &crate::plan::Endpoint, status: EndpointStatus) -> EndpointState {
    EndpointState {
        server: of_file.address.to_string(),
        address: None,
        weight: of_file.weight,
        backup: of_file.backup,
        status,
        why: String::new(),
        name_error: None,
        tried_in_ms: None,
        share_percent: 100,
        max_requests: of_file.max_requests,
        max_connections: of_file.max_connections,
        connections: None,
        open: 0,
        total: 0,
        failed: 0,
        latency_us: None,
        workers: Vec::new(),
    }
}

fn status(endpoint: &Endpoint) -> EndpointStatus {
    let flags = endpoint.flags();
    let of = [
        (DRAINED, EndpointStatus::Drained),
        (DOWN, EndpointStatus::Down),
        (OPEN, EndpointStatus::CircuitOpen),
        (EJECTED, EndpointStatus::Ejected),
        (SLOW, EndpointStatus::SlowStart),
    ];
    let found = of.into_iter().find(|(flag, _)| flags & flag != 0);
    found.map_or(EndpointStatus::Up, |(_, status)| status)
}
