//! One worker's own of a cluster.

use std::sync::atomic::Ordering;
use std::sync::Arc;

use crate::upstreams::{Set, State};
use pingora_core::upstreams::peer::HttpPeer;
use pingora_core::ErrorType::ConnectNoRoute;
use pingora_core::{Error, Result};

use super::balance::{hash, Balancer, Wish};
use super::random::Random;
use super::Cluster;
use crate::observe::{EndpointCounts, Series};

/// The servers of a cluster as one worker knows them.
pub(crate) struct Local {
    cluster: u64,
    version: u64,
    servers: Vec<Server>,
    balancer: Balancer,
}

struct Server {
    /// Made once: a request gets a copy of the box, which is quicker than a copy in a box.
    peer: Box<HttpPeer>,
    state: Arc<State>,
    series: Arc<Series<EndpointCounts>>,
}

/// The servers that one request was given, and which of them failed it.
#[derive(Debug, Default)]
pub(crate) struct Tried {
    /// The list that the rest belongs to; 0 for none.
    version: u64,
    /// The server that has the request.
    last: Option<usize>,
    failed: Set,
}

/// The hash of the text by which a server is chosen.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct HashBy(u64);

impl HashBy {
    pub(crate) fn of(text: &[u8]) -> Self {
        Self(hash(text))
    }
}

impl Tried {
    /// Tells whether a server was given the request.
    #[inline]
    pub(crate) fn is_any(&self) -> bool {
        self.version != 0
    }
}

impl Local {
    /// Makes a worker's own of a cluster.
    pub(crate) fn of(cluster: &Cluster, random: &mut Random) -> Self {
        let (members, version) = cluster.members();
        let credentials = cluster.peers.credentials();
        let (mut servers, mut weights, mut seeds) = (Vec::new(), Vec::new(), Vec::new());
        for member in members.iter() {
            let server = &cluster.targets[member.target].endpoint.address;
            match cluster.peers.make(server, &member.address, &credentials) {
                Ok(peer) => {
                    servers.push(Server {
                        peer: Box::new(peer),
                        state: member.state.clone(),
                        series: member.series.clone(),
                    });
                    weights.push(member.weight);
                    seeds.push(hash(member.address.to_string().as_bytes()));
                }
                // Addresses of the file were tried before they were taken, and those of names have no path.
                Err(e) => log::warn!("a server is left out: {e}"),
            }
        }
        Self {
            cluster: cluster.id,
            version,
            servers,
            balancer: Balancer::new(cluster.balance, weights, seeds, random),
        }
    }

    /// Tells whether it is of this cluster.
    pub(crate) fn is_of(&self, cluster: &Cluster) -> bool {
        self.cluster == cluster.id
    }

    /// Takes the members that the cluster has now, if they are others.
    #[inline]
    pub(crate) fn refresh(&mut self, cluster: &Cluster, random: &mut Random) {
        if self.version != cluster.version.load(Ordering::Acquire) {
            *self = Self::of(cluster, random);
        }
    }

    /// Returns the next server for a request: one that has not failed it, and has not failed others lately if there
    /// is such a one.
    ///
    /// # Errors
    ///
    /// `ConnectNoRoute`, of the upstream's side, when there is none, or none that has not failed this request.
    #[inline]
    pub(crate) fn pick(
        &mut self,
        cluster: &Cluster,
        tried: &mut Tried,
        HashBy(hash): HashBy,
        random: &mut Random,
    ) -> Result<Box<HttpPeer>> {
        self.release(tried);
        if tried.version != self.version {
            *tried = Tried {
                version: self.version,
                ..Tried::default()
            };
        }
        let passed = &tried.failed;
        let first = self.balancer.next(&Wish { passed, hash }, random);
        let may_try = |index: &usize| {
            let state = &self.servers[*index].state;
            state.may_try(&cluster.health, || cluster.now())
        };
        let index = match first.filter(may_try) {
            Some(index) => index,
            None => self.pick_past(first, cluster, passed.clone(), hash, random)?,
        };
        self.balancer.began(index);
        tried.last = Some(index);
        Ok(self.servers[index].peer.clone())
    }

    /// Chooses past a server that is left alone. When all are, they are tried all the same.
    #[cold]
    fn pick_past(
        &mut self,
        first: Option<usize>,
        cluster: &Cluster,
        mut passed: Set,
        hash: u64,
        random: &mut Random,
    ) -> Result<usize> {
        let mut next = first;
        while let Some(index) = next {
            passed.insert(index);
            let wish = Wish {
                passed: &passed,
                hash,
            };
            next = self.balancer.next(&wish, random);
            let state = next.map(|index| &self.servers[index].state);
            if state.is_some_and(|state| state.may_try(&cluster.health, || cluster.now())) {
                break;
            }
        }
        next.or(first).ok_or_else(|| {
            let why = if self.servers.is_empty() {
                "no server of the cluster has an address"
            } else {
                "every server has failed this request"
            };
            Error::explain(ConnectNoRoute, why).into_up()
        })
    }

    /// Returns the series of the server which was picked last.
    #[inline]
    pub(crate) fn series(&self, tried: &Tried) -> Option<&Series<EndpointCounts>> {
        self.last(tried).map(|server| &*server.series)
    }

    /// Notes that the server which was picked last has answered: it is well.
    #[inline]
    pub(crate) fn answered(&self, tried: &Tried) {
        if let Some(server) = self.last(tried) {
            server.state.answered();
        }
    }

    /// Notes a failure of the server which was picked last, and says whether one is left that has not failed this
    /// request.
    pub(crate) fn failed(&mut self, cluster: &Cluster, tried: &mut Tried) -> bool {
        if tried.version != self.version {
            // Of another list none was tried.
            return !self.servers.is_empty();
        }
        if let Some(server) = self.last(tried) {
            if server.state.failed(&cluster.health, cluster.now()) {
                let (address, pause) = (&server.peer._address, cluster.health.fail_timeout);
                log::warn!("server {address} has failed: it is left alone for {pause:?}");
            }
        }
        if let Some(index) = tried.last {
            tried.failed.insert(index);
        }
        tried.failed.len() < self.servers.len()
    }

    /// Counts the request of the server which was picked last off.
    #[inline]
    pub(crate) fn release(&mut self, tried: &mut Tried) {
        if tried.version == self.version {
            if let Some(index) = tried.last.take() {
                self.balancer.ended(index);
            }
        }
    }

    fn last(&self, tried: &Tried) -> Option<&Server> {
        let index = tried.last.filter(|_| tried.version == self.version);
        self.servers.get(index?)
    }
}
