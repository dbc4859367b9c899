//! One worker's own of a cluster.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::sync::Arc;

use http::StatusCode;
use pingora_core::connectors::l4::is_local_shortage;
use pingora_core::connectors::lacks_connect_permit;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_core::ErrorType::{ConnectNoRoute, HTTPStatus};
use pingora_core::{Error, Result};

use super::balance::{hash, Balancer, Loads, Wish};
use super::budget::Budget;
use super::counts::Counts;
use super::endpoint::{Endpoint, Verdict, SLOW};
use super::limited::Pick;
use super::random::Random;
use super::set::Set;
use super::slots::{Home, Slots};
use super::{clock, sticky};
use super::{Cluster, Level};
use crate::config::model::Balance;
use crate::observe::{EndpointCounts, Series};

/// The servers of a cluster as one worker knows them.
pub(crate) struct Local {
    cluster: u64,
    version: u64,
    pub(super) servers: Vec<Server>,
    balancer: Balancer,
    /// For each level of servers, in their order, those of all other ones. Servers are asked only when none of a level before
    /// can take a request.
    pub(super) beside: Vec<Set>,
    /// The retries that may follow.
    budget: Budget,
    /// True if the time that answers take counts.
    timed: bool,
    /// True if a server may have so many requests or connections at a time only.
    limited: bool,
}

/// The time of an answer that a failure counts as, in microseconds: no answer is not a quick one.
const FAILED: u64 = 1_000_000;

pub(super) struct Server {
    /// Made once: a request gets a copy of the box, which is quicker than a copy in a box.
    peer: Box<HttpPeer>,
    pub(super) endpoint: Arc<Endpoint>,
    pub(super) slot: usize,
    /// The value of the cookie that keeps clients here; 0 where there is none.
    kept_by: u128,
}

/// The state that a worker has besides its clusters.
pub(crate) struct Hands<'a> {
    pub(crate) random: &'a mut Random,
    pub(crate) slots: &'a mut Slots,
}

/// The servers that one request was given, and which of them failed it.
#[derive(Debug, Default)]
pub(crate) struct Tried {
    /// The list that the rest belongs to; 0 for none.
    version: u64,
    /// The server that has the request.
    last: Option<usize>,
    /// Its slot, which no change of the list takes away.
    slot: Option<usize>,
    /// Where it is counted, if it may end on another thread.
    home: Option<Box<Home>>,
    pub(super) failed: Set,
    /// Those to which there was no connection for it, since it looked last.
    pub(super) full: Set,
    /// True if it holds a place of that server.
    pub(super) held: bool,
    /// The times that the server had been left alone when it got the request.
    turn: u32,
    /// The tries that were begun.
    count: u32,
    /// True if it has added to the retries that may follow.
    saved: bool,
    /// When the last try began, in microseconds, where that counts; else 0.
    began: u64,
}

/// The words of a request about its server: the hash of the text by which one is chosen, and the value of the cookie that
/// keeps it at one.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct HashBy {
    hash: u64,
    sticky: Option<u128>,
}

impl HashBy {
    pub(crate) fn of(text: &[u8]) -> Self {
        Self {
            hash: hash(text),
            sticky: None,
        }
    }

    /// Adds the value of the cookie.
    pub(crate) fn kept_by(self, cookie: &[u8]) -> Self {
        Self {
            sticky: sticky::parse(cookie),
            ..self
        }
    }
}

impl Tried {
    /// Has it look again for a connection to those that had none.
    pub(crate) fn look_again(&mut self) {
        self.full = Set::default();
    }

    /// Tells whether a server has failed it.
    pub(crate) fn has_failed(&self) -> bool {
        !self.failed.is_empty()
    }

    /// Has the last try not count among those that the request may have.
    pub(crate) fn spare(&mut self) {
        self.count = self.count.saturating_sub(1);
    }

    /// Returns the server that has the request.
    fn endpoint<'a>(&'a self, slots: &'a Slots) -> Option<&'a Arc<Endpoint>> {
        match self.home.as_deref() {
            Some(home) if !slots.has(Some(home)) => Some(home.endpoint()),
            _ => slots.get(self.slot?).map(|slot| &slot.endpoint),
        }
    }

    /// Tells whether a server has the request.
    #[inline]
    pub(crate) fn is_open(&self) -> bool {
        self.slot.is_some()
    }

    /// Counts the request of the server which was picked last off.
    #[inline]
    pub(crate) fn release(&mut self, slots: &mut Slots) {
        if !slots.has(self.home.as_deref()) {
            return self.release_elsewhere();
        }
        self.home = None;
        if let Some(slot) = self.slot.take() {
            slots.end(slot, std::mem::take(&mut self.held));
        }
    }

    /// As [`release`](Self::release), on a thread that does not know the slot.
    #[cold]
    pub(crate) fn release_elsewhere(&mut self) {
        self.slot = None;
        let held = std::mem::take(&mut self.held);
        if let Some(home) = self.home.take() {
            home.end(held);
        }
    }
}

/// The requests of this worker to the servers of a cluster.
struct Open<'a> {
    servers: &'a [Server],
    slots: &'a Slots,
    now: u64,
}

impl Open<'_> {
    #[inline]
    fn counts(&self, index: usize) -> Option<&Counts> {
        let slot = self.slots.get(self.servers[index].slot);
        slot.map(|slot| &*slot.counts)
    }
}

impl Loads for Open<'_> {
    #[inline]
    fn open(&self, index: usize) -> u32 {
        self.counts(index).map_or(0, Counts::open)
    }

    fn expected(&self, index: usize) -> f64 {
        self.counts(index)
            .map_or(0.0, |counts| counts.expected(self.now))
    }
}

impl Local {
    /// Makes a worker's own of a cluster, which [leaves](Self::leave) its servers later.
    pub(crate) fn of(cluster: &Cluster, hands: &mut Hands<'_>) -> Self {
        let (members, version) = cluster.members();
        let credentials = cluster.peers.credentials();
        let (mut servers, mut weights, mut seeds) = (Vec::new(), Vec::new(), Vec::new());
        let sticky = cluster.sticky.as_ref();
        let mut levels = Vec::new();
        for member in members.iter() {
            let target = &cluster.targets[member.target].endpoint;
            let peer = cluster.peers.make(target, &member.address, &credentials);
            let mut peer = match peer {
                Ok(peer) => Box::new(peer),
                // Addresses of the file were tried before they were taken, and those of names have no path.
                Err(e) => {
                    log::warn!("a server is left out: {e}");
                    continue;
                }
            };
            levels.push(member.level);
            if target.max_connections.is_some() {
                let connections = member.endpoint.connections(&member.address);
                connections.limit(&mut peer);
            }
            let (endpoint, slot) = (member.endpoint.clone(), hands.slots.join(&member.endpoint));
            servers.push(Server {
                peer,
                endpoint,
                slot,
                kept_by: sticky.map_or(0, |sticky| sticky.value(&member.address)),
            });
            weights.push(member.weight);
            seeds.push(hash(member.address.to_string().as_bytes()));
        }
        Self {
            cluster: cluster.id,
            version,
            servers,
            balancer: Balancer::new(cluster.balance, weights, seeds, hands.random),
            beside: beside(&levels),
            budget: Budget::new(),
            timed: cluster.balance == Balance::PeakEwma,
            limited: cluster.limited,
        }
    }

    /// Gives the slots of its servers up.
    pub(crate) fn leave(self, slots: &mut Slots) {
        self.servers
            .iter()
            .for_each(|server| slots.leave(server.slot));
    }

    /// Tells whether it is of this cluster.
    pub(crate) fn is_of(&self, cluster: &Cluster) -> bool {
        self.cluster == cluster.id
    }

    /// Takes the members that the cluster has now, if they are others.
    #[inline]
    pub(crate) fn refresh(&mut self, cluster: &Cluster, hands: &mut Hands<'_>) {
        if self.version != cluster.version.load(Ordering::Acquire) {
            // The slots of servers that stay are joined before they are left.
            let mut new = Self::of(cluster, hands);
            new.budget = self.budget.clone();
            std::mem::replace(self, new).leave(hands.slots);
        }
    }

    /// Returns the next server for a request: one that has not failed it and can take it. One that is `called` has waited
    /// for its turn.
    ///
    /// # Errors
    ///
    /// `ConnectNoRoute`, of the upstream's side, when there is none, or none that has not failed this request; status
    /// 503 when there are some and none can take it.
    #[inline]
    pub(crate) fn pick(
        &mut self,
        cluster: &Cluster,
        tried: &mut Tried,
        by: HashBy,
        called: bool,
        hands: &mut Hands<'_>,
    ) -> Result<Pick> {
        tried.release(hands.slots);
        if tried.version != self.version {
            *tried = Tried {
                version: self.version,
                count: tried.count,
                saved: tried.saved,
                ..Tried::default()
            };
        }
        if let (false, Some(retries)) = (tried.saved, &cluster.retries) {
            tried.saved = true;
            self.budget.add(retries.budget.hundredths());
        }
        if self.limited {
            return self.pick_limited(cluster, tried, by, called, hands);
        }
        let first = if let Some(kept) = self.kept(cluster, tried, by) {
            return Ok(Pick::Peer(self.give(kept, tried, hands)));
        } else if let [first, _, ..] = &self.beside[..] {
            let passed = union(&tried.failed, first, self.servers.len());
            self.next(&passed, by, hands)
        } else {
            self.next(&tried.failed, by, hands)
        };
        let index = match first.filter(|index| self.servers[*index].endpoint.is_free()) {
            Some(index) => index,
            None => self.pick_past(first, cluster, &tried.failed, by, hands)?,
        };
        Ok(Pick::Peer(self.give(index, tried, hands)))
    }

    /// Gives a request to a server.
    #[inline]
    pub(super) fn give(
        &self,
        index: usize,
        tried: &mut Tried,
        hands: &mut Hands<'_>,
    ) -> Box<HttpPeer> {
        let server = &self.servers[index];
        tried.home = hands.slots.begin(server.slot);
        (tried.last, tried.slot) = (Some(index), Some(server.slot));
        tried.turn = server.endpoint.turn();
        tried.count = tried.count.saturating_add(1);
        if self.timed {
            tried.began = clock::micros();
        }
        server.peer.clone()
    }

    /// Returns the server that the cookie of a request keeps it at, if that takes requests.
    #[inline]
    pub(super) fn kept(&self, cluster: &Cluster, tried: &Tried, by: HashBy) -> Option<usize> {
        let value = by.sticky.filter(|_| cluster.sticky.is_some())?;
        let index = self
            .servers
            .iter()
            .position(|server| server.kept_by == value)?;
        let flags = self.servers[index].endpoint.flags();
        (flags & !SLOW == 0 && !tried.failed.has(index)).then_some(index)
    }

    /// Returns the cookie that keeps a client at the server which was picked last, unless its request had it.
    pub(crate) fn cookie(
        &self,
        cluster: &Cluster,
        tried: &Tried,
        by: HashBy,
        tls: bool,
        slots: &Slots,
    ) -> Option<String> {
        let (sticky, server) = (cluster.sticky.as_ref()?, self.last(tried, slots)?);
        let same = by.sticky == Some(server.kept_by);
        (!same).then(|| sticky.field(server.kept_by, tls))
    }

    pub(super) fn next(
        &mut self,
        passed: &Set,
        by: HashBy,
        hands: &mut Hands<'_>,
    ) -> Option<usize> {
        let loads = Open {
            servers: &self.servers,
            slots: hands.slots,
            now: if self.timed { clock::micros() } else { 0 },
        };
        let hash = by.hash;
        self.balancer
            .next(&Wish { passed, hash }, &loads, hands.random)
    }

    /// Chooses past servers that are not free: among the others, then among those of the levels behind, then among those that
    /// are left alone for failures.
    #[cold]
    fn pick_past(
        &mut self,
        first: Option<usize>,
        cluster: &Cluster,
        failed: &Set,
        by: HashBy,
        hands: &mut Hands<'_>,
    ) -> Result<usize> {
        let (mut spare, mut next) = (None, first);
        for level in 0..self.beside.len() {
            let mut passed = union(failed, &self.beside[level], self.servers.len());
            if next.is_none() {
                next = self.next(&passed, by, hands);
            }
            while let Some(index) = next {
                match self.servers[index]
                    .endpoint
                    .verdict(&cluster.rules, hands.random)
                {
                    Verdict::Take => return Ok(index),
                    Verdict::Spare => spare = spare.or(Some(index)),
                    Verdict::Never => {}
                }
                passed.insert(index);
                next = self.next(&passed, by, hands);
            }
        }
        spare.ok_or_else(|| self.nobody(failed))
    }

    pub(super) fn nobody(&self, failed: &Set) -> Box<Error> {
        if self.servers.is_empty() {
            let why = "no server of the cluster has an address";
            return Error::explain(ConnectNoRoute, why).into_up();
        }
        if failed.len() >= self.servers.len() {
            let why = "every server has failed this request";
            return Error::explain(ConnectNoRoute, why).into_up();
        }
        let status = StatusCode::SERVICE_UNAVAILABLE.as_u16();
        Error::explain(
            HTTPStatus(status),
            "no server of the cluster takes requests",
        )
        .into_up()
    }

    /// Returns the series of the server which was picked last.
    #[inline]
    pub(crate) fn series(&self, tried: &Tried, slots: &Slots) -> Option<&Series<EndpointCounts>> {
        self.last(tried, slots)
            .map(|server| server.endpoint.series())
    }

    /// Notes the status of an answer of the server which was picked last.
    #[inline]
    pub(crate) fn answered(
        &self,
        cluster: &Cluster,
        tried: &Tried,
        status: StatusCode,
        slots: &Slots,
    ) {
        let Some(server) = self.last(tried, slots) else {
            return;
        };
        if self.timed {
            self.note_time(tried, slots, 1);
        }
        let code = status.as_u16();
        let bad = cluster.rules.statuses.iter().any(|range| range.has(code));
        if bad || status.is_server_error() {
            if let Some(slot) = slots.get(server.slot) {
                slot.counts.fail();
            }
        }
        if bad {
            self.fail(server, cluster, tried, &format!("it answered {code}"));
        } else if server.endpoint.answered(&cluster.rules, tried.turn) {
            log::info!("server {} is back", server.peer._address);
        }
    }

    /// Notes a failure of the server which was picked last, and says whether one is left that may take this request. A
    /// connection for which this machine had nothing left, or a limit no place, is no failure of the server.
    pub(crate) fn failed(
        &mut self,
        cluster: &Cluster,
        tried: &mut Tried,
        slots: &Slots,
        e: &Error,
    ) -> bool {
        if is_local_shortage(e) || lacks_connect_permit(e) {
            return self.pass_over(cluster, tried, slots);
        }
        if let Some(counts) = self.counts(tried, slots) {
            counts.fail();
        }
        if self.timed {
            self.note_time(tried, slots, FAILED);
        }
        if let Some(server) = self.last(tried, slots) {
            self.fail(server, cluster, tried, e.etype.as_str());
        }
        self.pass_over(cluster, tried, slots)
    }

    /// Has no further try of a request go to the server which was picked last, and says whether one is left that may take
    /// it. Where tries are told, they go round.
    pub(crate) fn pass_over(&self, cluster: &Cluster, tried: &mut Tried, slots: &Slots) -> bool {
        if let Some(index) = self.renew(tried, slots) {
            tried.failed.insert(index);
        }
        let is_left = |failed: &Set| {
            let mut left = self.servers.iter().enumerate();
            left.any(|(index, server)| !failed.has(index) && server.endpoint.may_serve())
        };
        if is_left(&tried.failed) {
            return true;
        }
        if cluster.retries.is_some() {
            tried.failed = Set::default();
        }
        cluster.retries.is_some() && is_left(&tried.failed)
    }

    /// Notes that the server which was picked last has no room for the request, which it was not sent.
    pub(super) fn note_full(&self, tried: &mut Tried, slots: &Slots) {
        if let Some(index) = self.renew(tried, slots) {
            tried.full.insert(index);
            tried.spare();
        }
    }

    /// Takes another try of a request from what is told and saved; `true` where nothing is told.
    pub(crate) fn may_retry(&mut self, cluster: &Cluster, tried: &Tried) -> bool {
        let Some(retries) = &cluster.retries else {
            return true;
        };
        let most = retries.attempts.as_ref().map_or(3, |most| most.value.0);
        tried.count < most && self.budget.take()
    }

    fn fail(&self, server: &Server, cluster: &Cluster, tried: &Tried, why: &str) {
        if let Some(pause) = server.endpoint.failed(&cluster.rules, tried.turn, why) {
            let address = &server.peer._address;
            log::warn!("server {address} has failed: it is left alone for {pause:?}: {why}");
        }
    }

    /// Returns this worker's counts of the server that was picked last, which another worker may have done.
    pub(super) fn counts<'s>(&self, tried: &Tried, slots: &'s Slots) -> Option<&'s Counts> {
        let slot = if slots.has(tried.home.as_deref()) {
            tried.slot
        } else {
            self.last(tried, slots).map(|server| server.slot)
        };
        slots.get(slot?).map(|slot| &*slot.counts)
    }

    /// Notes the time that the last try took, or `least` if that is longer.
    fn note_time(&self, tried: &Tried, slots: &Slots, least: u64) {
        if let Some(counts) = self.counts(tried, slots) {
            let now = clock::micros();
            counts.note(now.saturating_sub(tried.began).max(least), now);
        }
    }

    /// Returns the server which was picked last.
    #[inline]
    pub(super) fn last(&self, tried: &Tried, slots: &Slots) -> Option<&Server> {
        let index = if tried.version == self.version {
            tried.last
        } else {
            self.index_now(tried, slots)
        };
        self.servers.get(index?)
    }

    /// Returns where the server that has a request stands now, as the list has changed since.
    #[cold]
    fn index_now(&self, tried: &Tried, slots: &Slots) -> Option<usize> {
        let endpoint = tried.endpoint(slots)?;
        let is_it = |server: &Server| Arc::ptr_eq(&server.endpoint, endpoint);
        self.servers.iter().position(is_it)
    }

    /// Has a request know the list as it is now. Returns the index of the server which was picked last.
    fn renew(&self, tried: &mut Tried, slots: &Slots) -> Option<usize> {
        if tried.version != self.version {
            tried.last = self.index_now(tried, slots);
            tried.version = self.version;
            (tried.failed, tried.full) = Default::default();
        }
        tried.last
    }
}

/// Returns, for each level in their order, the servers of all other ones.
fn beside(levels: &[Level]) -> Vec<Set> {
    let all: BTreeSet<Level> = levels.iter().copied().collect();
    let others = all.into_iter().map(|level| {
        let mut others = Set::default();
        let behind = levels.iter().enumerate().filter(|(_, of)| **of != level);
        behind.for_each(|(index, _)| others.insert(index));
        others
    });
    others.collect()
}

/// Returns what is in either set, of indices below `end`.
pub(super) fn union(one: &Set, other: &Set, end: usize) -> Set {
    let mut both = one.clone();
    (0..end)
        .filter(|index| other.has(*index))
        .for_each(|index| both.insert(index));
    both
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backups_come_after_all_ranks() {
        let level = |backup, rank| Level { backup, rank };
        let levels = [
            level(true, 0),
            level(false, 1),
            level(false, 0),
            level(false, 1),
        ];
        let own = |others: &Set| (0..4).filter(|index| !others.has(*index)).collect();
        let own: Vec<Vec<usize>> = beside(&levels).iter().map(own).collect();
        assert_eq!(own, [vec![2], vec![1, 3], vec![0]]);
        assert!(beside(&[]).is_empty());
    }
}
