//! The choice among servers that may have so many requests or connections at a time.

use std::sync::Arc;
use std::time::Duration;

use pingora_core::upstreams::peer::HttpPeer;
use pingora_core::Result;

use super::endpoint::{Endpoint, Verdict, EJECTED, OPEN};
use super::local::union;
use super::queue::Queue;
use super::{Cluster, Hands, HashBy, Local, Slots, Tried};
use crate::config::model;

/// What becomes of a request.
pub(crate) enum Pick {
    /// A server has it.
    Peer(Box<HttpPeer>),
    /// The servers that could take it have as many requests or connections as they may, or others wait for those.
    Full,
}

impl Cluster {
    /// Returns the requests that wait for its servers.
    pub(crate) fn queue(&self) -> &Arc<Queue> {
        &self.queue
    }

    /// Returns how many requests may wait, and for how long.
    pub(crate) fn queue_rule(&self) -> Option<&model::Queue> {
        self.queue_rule.as_ref()
    }

    /// Has its settings hold for its servers, which are those of the cluster before until then, and tells those who wait.
    pub(crate) fn take_effect(&self) {
        let (members, _) = self.members();
        for member in members.iter() {
            member.endpoint.adapt(&self.rules);
            let target = &self.targets[member.target].endpoint;
            member.endpoint.limit(target.max_requests);
            let connections = match target.max_connections {
                Some(_) => Some(member.endpoint.connections(&member.address)),
                None => member.endpoint.known_connections(),
            };
            if let Some(connections) = connections {
                connections.set_max(target.max_connections);
            }
        }
        self.queue.call();
    }
}

impl Local {
    /// Picks as [`pick`](Self::pick) does, among servers that have room. One that is `called` has its turn.
    #[cold]
    pub(super) fn pick_limited(
        &mut self,
        cluster: &Cluster,
        tried: &mut Tried,
        by: HashBy,
        called: bool,
        hands: &mut Hands<'_>,
    ) -> Result<Pick> {
        if !called && cluster.queue.waiting() > 0 && cluster.queue_rule.is_some() {
            return Ok(Pick::Full);
        }
        if let Some(kept) = self.kept(cluster, tried, by) {
            if !tried.full.has(kept) && self.has_taken(kept, hands) {
                return Ok(self.give_limited(kept, tried, hands));
            }
        }
        // A server that is left alone is for a request that no other could ever take.
        let (mut spare, mut left_alone) = (None, None);
        let (mut full, mut full_alone, mut left) = (false, false, false);
        for level in 0..self.beside.len() {
            let mut passed = union(&tried.failed, &self.beside[level], self.servers.len());
            while let Some(index) = self.next(&passed, by, hands) {
                passed.insert(index);
                let endpoint = self.servers[index].endpoint.clone();
                if !endpoint.may_be_tried() {
                    continue;
                }
                let flags = endpoint.flags();
                if flags & OPEN != 0 && !endpoint.tried_in().is_zero() {
                    continue;
                }
                let alone = flags & (EJECTED | OPEN) != 0;
                if tried.full.has(index) || !self.has_taken(index, hands) {
                    full |= !alone;
                    full_alone |= alone;
                    continue;
                }
                // Only with a place: the one try after a pause is not to be lost.
                let verdict = if endpoint.is_free() {
                    Verdict::Take
                } else {
                    endpoint.verdict(&cluster.rules, hands.random)
                };
                match verdict {
                    Verdict::Take => return Ok(self.give_limited(index, tried, hands)),
                    Verdict::Spare if alone => left_alone = left_alone.or(Some(index)),
                    Verdict::Spare => spare = spare.or(Some(index)),
                    Verdict::Never => {}
                }
                self.leave_place(index, hands);
                left = true;
            }
        }
        // One that has its turn tells the next by itself.
        if left && !called {
            cluster.queue.call();
        }
        let waits = spare.is_none() && full;
        match spare.or(left_alone).filter(|_| !waits) {
            Some(index) if self.has_taken(index, hands) => {
                Ok(self.give_limited(index, tried, hands))
            }
            Some(_) => Ok(Pick::Full),
            None if full || full_alone => Ok(Pick::Full),
            None => Err(self.nobody(&tried.failed)),
        }
    }

    fn give_limited(&self, index: usize, tried: &mut Tried, hands: &mut Hands<'_>) -> Pick {
        tried.held = true;
        Pick::Peer(self.give(index, tried, hands))
    }

    fn has_taken(&self, index: usize, hands: &Hands<'_>) -> bool {
        let server = &self.servers[index];
        let slot = hands.slots.get(server.slot);
        slot.is_some_and(|slot| server.endpoint.take_place(&slot.counts))
    }

    fn leave_place(&self, index: usize, hands: &Hands<'_>) {
        let server = &self.servers[index];
        if let Some(slot) = hands.slots.get(server.slot) {
            server.endpoint.put_back_place(&slot.counts);
        }
    }

    /// Notes that there was no connection for a request to the server which was picked last: others may take it, and else it
    /// waits. It was no try, and nobody is called for the place that it leaves, for which there is no connection either.
    pub(crate) fn got_no_connection(&self, tried: &mut Tried, slots: &Slots) {
        if let (true, Some(counts), Some(server)) = (
            tried.held,
            self.counts(tried, slots),
            self.last(tried, slots),
        ) {
            server.endpoint.put_back_place(counts);
            tried.held = false;
        }
        self.note_full(tried, slots);
    }

    /// Tells whether a server that takes requests has room for one more. One that is left alone takes them after its pause, or
    /// when all are.
    pub(crate) fn has_room(&self) -> bool {
        let all = self.servers.iter().map(|server| &*server.endpoint);
        let mut all = all.filter(|endpoint| endpoint.may_be_tried());
        let is_alone = |endpoint: &Endpoint| endpoint.flags() & (EJECTED | OPEN) != 0;
        let all_alone = all.clone().all(is_alone);
        let takes = |endpoint: &Endpoint| {
            !is_alone(endpoint)
                || endpoint.tried_in().is_zero()
                || all_alone && endpoint.may_serve()
        };
        all.any(|endpoint| takes(endpoint) && endpoint.has_room())
    }

    /// Returns the time until a server that is left alone, or whose circuit breaker is open, may be tried. One that has no
    /// place tells by itself when it has.
    pub(crate) fn next_trial(&self) -> Option<Duration> {
        let all = self.servers.iter().map(|server| &server.endpoint);
        let alone = all.filter(|endpoint| {
            let flags = endpoint.flags();
            flags & (EJECTED | OPEN) != 0 && endpoint.may_be_tried() && endpoint.has_place()
        });
        let soonest = alone.map(|endpoint| endpoint.tried_in()).min();
        // One that somebody else tries has a new pause in a moment.
        soonest.map(|pause| pause.max(Duration::from_millis(10)))
    }
}
