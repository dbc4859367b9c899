//! Requests that find all servers with as many as they may have.

use std::future::pending;

use http::StatusCode;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_core::ErrorType::HTTPStatus;
use pingora_core::{Error, Result};
use pingora_proxy::Session;
use tokio::time::{sleep, sleep_until, Instant};

use super::{Ctx, Edge};
use crate::cluster::Pick;
use crate::observe::Limit;

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
                    ctx.counting.tries(local.series(tried));
                    ctx.observed.asks(running, peer);
                }
                Ok(pick)
            })
    }

    /// Has a request wait until a server has room for it.
    ///
    /// # Errors
    ///
    /// Status 503 when too many wait, or when it has waited for too long; the client's when it goes away; those of the
    /// choice of a server.
    pub(super) async fn wait_for_room(
        &self,
        session: &mut Session,
        ctx: &mut Ctx,
    ) -> Result<Box<HttpPeer>> {
        let cluster = ctx.running.clusters[ctx.cluster].clone();
        let Some(rule) = cluster.queue_rule() else {
            return Err(refuse(ctx, "every server has as many requests as it may"));
        };
        let Some(ticket) = cluster.queue().enter(cluster.id(), rule.size.0) else {
            return Err(refuse(ctx, "the queue for the servers is full"));
        };
        ctx.counting.waits();
        let began = Instant::now();
        let waited = async {
            loop {
                let trial = self.next_trial(ctx);
                tokio::select! {
                    biased;
                    () = ticket.called() => match self.pick(ctx, true)? {
                        Pick::Peer(peer) => break Ok(peer),
                        Pick::Full => ticket.pass(self.has_room(ctx)),
                    },
                    // In its turn.
                    () = trial => ticket.call_first(),
                    e = gone(session) => break Err(e),
                    () = sleep_until(began + rule.timeout) => {
                        break Err(refuse(ctx, "it has waited for too long until a server has room"));
                    }
                }
            }
        };
        let picked = waited.await;
        ctx.counting.waited(began.elapsed());
        picked
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
