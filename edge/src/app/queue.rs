//! Requests that find all servers with as many requests or connections as they may have.

use std::any::Any;
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use pingora_core::connectors::ConnectPermit;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_core::ErrorType::HTTPStatus;
use pingora_core::{Error, Result};
use pingora_proxy::Session;
use tokio::time::{sleep, sleep_until, Instant};

use super::{Ctx, Edge};
use crate::cluster::{Cluster, Pick, Ticket};
use crate::observe::Limit;

/// The turn of a request that waits for a server. It has it until it has a connection, so that one for which there is none
/// after all stays in front of those that came later.
#[derive(Debug)]
pub(super) struct Turn {
    ticket: Arc<Ticket>,
    began: Instant,
}

/// The permit of a request that has its turn. Once nothing but the server keeps it from its connection, the next one is
/// called: a server that is dead is not waited for by all.
#[derive(Debug)]
struct InTurn {
    permit: Arc<dyn ConnectPermit>,
    ticket: Arc<Ticket>,
}

impl ConnectPermit for InTurn {
    fn acquire(&self) -> Option<Box<dyn Any + Send + Sync>> {
        let place = self.permit.acquire()?;
        self.ticket.leave();
        Some(place)
    }

    fn key(&self) -> u64 {
        self.permit.key()
    }

    fn joins(&self) {
        self.permit.joins();
        self.ticket.leave();
    }
}

impl Ctx {
    /// Leaves the queue, if the request is there, for the one that is next.
    #[inline]
    pub(super) fn end_turn(&mut self) {
        if let Some(turn) = self.turn.take() {
            // The peer may have the ticket for longer.
            turn.ticket.leave();
            self.counting.waited(turn.began.elapsed());
        }
    }

    /// Returns its turn among those that wait; the last one if it is not there yet.
    ///
    /// # Errors
    ///
    /// Status 503 when too many wait.
    fn take_turn(&mut self, cluster: &Cluster) -> Result<Box<Turn>> {
        if let Some(turn) = self.turn.take() {
            return Ok(turn);
        }
        let Some(rule) = cluster.queue_rule() else {
            return Err(refuse(
                self,
                "every server has as many requests or connections as it may",
            ));
        };
        let Some(ticket) = cluster.queue().enter(cluster.id(), rule.size.0) else {
            return Err(refuse(self, "the queue for the servers is full"));
        };
        self.counting.waits();
        let began = Instant::now();
        let ticket = Arc::new(ticket);
        Ok(Box::new(Turn { ticket, began }))
    }
}

/// The seconds after which a client that is refused may come again.
pub(super) const RETRY_AFTER: u64 = 1;

impl Edge {
    /// Gives a request to a server that has room; one that is `called` has waited for that.
    #[inline]
    pub(super) fn pick(&self, ctx: &mut Ctx, called: bool) -> Result<Pick> {
        let (running, tried) = (&*ctx.running, &mut ctx.tried);
        self.live
            .with_cluster(running, ctx.cluster, |local, hands| {
                let cluster = &running.clusters[ctx.cluster];
                let pick = local.pick(cluster, tried, ctx.hash_by, called, hands)?;
                if let Pick::Peer(peer) = &pick {
                    ctx.counting.tries(local.series(tried, hands.slots));
                    ctx.observed.asks(running, peer);
                }
                Ok(pick)
            })
    }

    /// Has a request that has found no room, or has its turn, go to the server that was picked for it, or wait for one.
    ///
    /// # Errors
    ///
    /// Status 503 when too many wait, or when it has waited for too long; the client's when it goes away; those of the
    /// choice of a server.
    pub(super) async fn go_in_turn(
        &self,
        session: &mut Session,
        ctx: &mut Ctx,
        picked: Result<Pick>,
    ) -> Result<Box<HttpPeer>> {
        let mut picked = match picked {
            Ok(Pick::Peer(peer)) => Ok(peer),
            Ok(Pick::Full) => self.wait_for_room(session, ctx).await,
            Err(e) => Err(e),
        };
        let permit = picked.as_mut().ok();
        let permit = permit.and_then(|peer| peer.options.connect_permit.as_mut());
        match (permit, &ctx.turn) {
            // There may be no connection after all.
            (Some(permit), Some(turn)) => {
                *permit = Arc::new(InTurn {
                    permit: permit.clone(),
                    ticket: turn.ticket.clone(),
                });
            }
            _ => ctx.end_turn(),
        }
        picked
    }

    async fn wait_for_room(&self, session: &mut Session, ctx: &mut Ctx) -> Result<Box<HttpPeer>> {
        let cluster = ctx.running.clusters[ctx.cluster].clone();
        let again = ctx.turn.is_some();
        let turn = ctx.take_turn(&cluster)?;
        if again {
            turn.ticket.come_back();
            // Others may go where it cannot.
            turn.ticket
                .pass(ctx.tried.has_failed() || self.has_room(ctx));
        }
        let (ticket, began) = (turn.ticket.clone(), turn.began);
        // It has its turn, and is counted, also when it is given up while it waits.
        ctx.turn = Some(turn);
        self.wait_for_turn(session, ctx, &cluster, &ticket, began)
            .await
    }

    async fn wait_for_turn(
        &self,
        session: &mut Session,
        ctx: &mut Ctx,
        cluster: &Cluster,
        ticket: &Ticket,
        began: Instant,
    ) -> Result<Box<HttpPeer>> {
        let limit = cluster
            .queue_rule()
            .map_or(Duration::ZERO, |rule| rule.timeout);
        loop {
            let trial = self.next_trial(ctx);
            tokio::select! {
                biased;
                () = ticket.called() => {
                    ctx.tried.look_again();
                    match self.pick(ctx, true)? {
                        Pick::Peer(peer) => return Ok(peer),
                        Pick::Full => ticket.pass(self.has_room(ctx)),
                    }
                }
                // In its turn.
                () = trial => ticket.call_first(),
                e = gone(session) => return Err(e),
                () = sleep_until(began + limit) => {
                    return Err(refuse(ctx, "it has waited for too long until a server has room"));
                }
            }
        }
    }

    /// Has a request for which there was no connection be tried again: by another server, or by the same one when it has
    /// waited.
    pub(super) fn got_no_connection(
        &self,
        session: &mut Session,
        ctx: &mut Ctx,
        mut e: Box<Error>,
    ) -> Box<Error> {
        let (running, tried) = (&*ctx.running, &mut ctx.tried);
        self.live
            .with_cluster(running, ctx.cluster, |local, hands| {
                local.got_no_connection(tried, hands.slots);
            });
        ctx.counting.takes_back();
        session.spare_try();
        e.set_retry(true);
        e
    }

    /// Waits until a server whose circuit breaker is open may be tried; for ever where there is none.
    fn next_trial(&self, ctx: &Ctx) -> impl std::future::Future<Output = ()> + Send + use<> {
        let pause =
            (self.live).with_cluster(&ctx.running, ctx.cluster, |local, _| local.next_trial());
        async move {
            match pause {
                Some(pause) => sleep(pause).await,
                None => pending().await,
            }
        }
    }

    fn has_room(&self, ctx: &Ctx) -> bool {
        (self.live).with_cluster(&ctx.running, ctx.cluster, |local, _| local.has_room())
    }
}

/// Waits until the client goes away. One that closes its direction alone is taken for gone, too: nothing is written meanwhile
/// by which that could be told.
async fn gone(session: &mut Session) -> Box<Error> {
    if !session.is_body_done() {
        // What comes is the body, which is for the server.
        return pending().await;
    }
    match session.as_downstream_mut().read_body_or_idle(true).await {
        Err(e) => e.into_down(),
        Ok(_) => pending().await,
    }
}

fn refuse(ctx: &mut Ctx, why: &'static str) -> Box<Error> {
    ctx.found_no_room = true;
    ctx.counting.limited(Limit::Upstream);
    let status = StatusCode::SERVICE_UNAVAILABLE.as_u16();
    Error::explain(HTTPStatus(status), why).into_up()
}
