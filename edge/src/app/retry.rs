//! True if a request is tried again, and whose fault a failure was.

use http::Method;
use pingora_core::protocols::http::v2::client::was_not_processed;
use pingora_core::upstreams::peer::{HttpPeer, Peer};
use pingora_core::ErrorType::{
    H2Downgrade, HTTPStatus, InvalidH2, InvalidHTTPHeader, ReadTimedout, WriteTimedout,
};
use pingora_core::{Error, ErrorSource, RetryType};
use pingora_proxy::Session;

use super::{Ctx, Edge};
use crate::config::model::Retries;
use crate::config::values::RetryOn;

/// Tells whether a request is tried again for this.
fn asks(retries: &Retries, of: RetryOn) -> bool {
    match &retries.on[..] {
        [] => matches!(of, RetryOn::Connect | RetryOn::Reset),
        told => told.contains(&of),
    }
}

/// Tells whether a request may be sent twice.
fn is_repeatable(session: &Session, retries: Option<&Retries>) -> bool {
    let method = &session.req_header().method;
    let fits = match retries.map_or(&[][..], |retries| &retries.methods) {
        [] => method.is_idempotent(),
        told => told.contains(method),
    };
    fits && !session.retry_buffer_truncated()
}

/// Tells whether a server is asked in HTTP/2 alone.
fn is_h2_only(peer: &HttpPeer) -> bool {
    let alpn = peer.get_alpn();
    alpn.is_some_and(|alpn| alpn.get_min_http_version() == 2)
}

impl Edge {
    /// Judges a connection that could not be made. Nothing was sent, so that every request may be tried again. What the
    /// request itself is refused for, such as a WebSocket that the server's version of HTTP has no way for, is no failure
    /// of the server.
    pub(super) fn connect_failed(&self, ctx: &mut Ctx, mut e: Box<Error>) -> Box<Error> {
        if !matches!(e.etype, HTTPStatus(_)) {
            let others = self.failed(ctx, &e);
            let asked = |retries| asks(retries, RetryOn::Connect);
            let again = others && ctx.retries().is_none_or(asked) && self.may_retry(ctx);
            e.set_retry(again);
        }
        e
    }

    /// Judges a failure on an established connection, which was `reused` if so. Of a request whose answer has begun to
    /// go to the client there is no other try.
    pub(super) fn exchange_failed(
        &self,
        session: &mut Session,
        peer: &HttpPeer,
        ctx: &mut Ctx,
        e: Box<Error>,
        reused: bool,
    ) -> Box<Error> {
        let mut e = e.more_context(format!("Peer: {peer}"));
        if std::mem::take(&mut ctx.turned_down) {
            e.set_retry(true);
            return e;
        }
        let untouched = e.esource() == &ErrorSource::Upstream && was_not_processed(&e);
        let other_version = matches!(e.etype, H2Downgrade | InvalidH2);
        // The only version that it may be asked in is none of its own: it has understood nothing, as if there had been no
        // connection.
        let misfit = other_version && is_h2_only(peer);
        let retries = ctx.retries();
        let repeatable = is_repeatable(session, retries)
            || (untouched || misfit) && !session.retry_buffer_truncated();
        // The end of an idle connection says nothing about the server.
        let stale = reused && matches!(e.retry, RetryType::ReusedOnly);
        // Nor does its asking for another version, in which it is asked next, nor what a WebSocket was answered, which
        // its client chose to ask for there.
        let method = &session.req_header().method;
        let handshake = method == Method::CONNECT && e.etype == InvalidHTTPHeader;
        let excused = handshake || ctx.is_out_of_time(session);
        let spared = stale || (untouched || other_version) && !misfit || excused;
        let unanswered = session.response_written().is_none();
        if e.esource() == &ErrorSource::Upstream && unanswered && !spared {
            let late = matches!(e.etype, ReadTimedout | WriteTimedout);
            let of = if misfit {
                RetryOn::Connect
            } else if late {
                RetryOn::Timeout
            } else {
                RetryOn::Reset
            };
            // A server that was too slow is followed by another one, which has as much to do, only where that is told.
            let asked = retries.map_or(!late, |retries| asks(retries, of));
            let others = self.failed(ctx, &e);
            e.set_retry(repeatable && others && asked && self.may_retry(ctx));
        } else if repeatable {
            if stale {
                // It had no chance of an answer: when a server has restarted, a request may meet several of its old
                // connections.
                ctx.tried.spare();
            }
            e.retry.decide_reuse(reused);
        } else {
            e.set_retry(false);
        }
        e
    }

    /// Tells whether an answer with this status is turned down in favour of another try.
    pub(super) fn turns_down(&self, session: &Session, ctx: &mut Ctx, status: u16) -> bool {
        let Some(retries) = ctx.retries() else {
            return false;
        };
        let fits = |on: &RetryOn| matches!(on, RetryOn::Status(range) if range.has(status));
        if !retries.on.iter().any(fits) || !is_repeatable(session, Some(retries)) {
            return false;
        }
        // It was counted as an answer already.
        let (running, tried) = (&*ctx.running, &mut ctx.tried);
        let others = self
            .live
            .with_cluster(running, ctx.cluster, |local, hands| {
                local.pass_over(&running.clusters[ctx.cluster], tried, hands.slots)
            });
        ctx.turned_down = others && self.may_retry(ctx);
        ctx.turned_down
    }

    /// Returns the cookie that keeps the client at its server, unless it has it.
    pub(super) fn cookie(&self, ctx: &Ctx) -> Option<String> {
        let running = &*ctx.running;
        self.live
            .with_cluster(running, ctx.cluster, |local, hands| {
                let cluster = &running.clusters[ctx.cluster];
                local.cookie(cluster, &ctx.tried, ctx.hash_by, ctx.secure, hands.slots)
            })
    }

    /// Notes that the server which has the request failed it, and says whether another one is left.
    fn failed(&self, ctx: &mut Ctx, e: &Error) -> bool {
        let (running, tried) = (&*ctx.running, &mut ctx.tried);
        self.live
            .with_cluster(running, ctx.cluster, |local, hands| {
                let cluster = &running.clusters[ctx.cluster];
                local.failed(cluster, tried, hands.slots, e)
            })
    }

    /// Asks the limits of tries for another one.
    fn may_retry(&self, ctx: &mut Ctx) -> bool {
        let (running, tried) = (&*ctx.running, &ctx.tried);
        self.live.with_cluster(running, ctx.cluster, |local, _| {
            local.may_retry(&running.clusters[ctx.cluster], tried)
        })
    }
}

impl Ctx {
    pub(super) fn retries(&self) -> Option<&Retries> {
        self.running.clusters[self.cluster].retries()
    }

    /// Tells whether the time of the request is over, for which its server is not to blame: only one that had the whole
    /// request for all of that time is. Else a client could have servers left alone by sending slowly.
    pub(super) fn is_out_of_time(&self, session: &mut Session) -> bool {
        let whole = session.is_body_empty() || session.buffered_request_body().is_some();
        session.is_upstream_time_over() && !(whole && self.counting.is_at_first_server())
    }
}
