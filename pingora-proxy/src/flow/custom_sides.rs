//! Exchanges of which a side speaks a protocol of the user's own.

use pingora_core::connectors::http::custom;
use pingora_core::exchange::custom::{
    break_off, finish_messages, settle, CustomUpstream, Ends, Messages, TimeLimits,
};
use pingora_core::exchange::{ServerHooks, Upstream};
use pingora_core::protocols::http::client::HttpSession;
use pingora_core::protocols::http::ServerSession;
use pingora_core::upstreams::peer::Peer;
use pingora_error::{Error, Result};
use pingora_http::RequestHeader;

use crate::duplex::{Duplex, Outcome};
use crate::pipeline::cache_write;
use crate::pipeline::{Hops, Phases, Try};
use crate::{HttpProxy, ProxyHttp, Session};

impl<SV, C> HttpProxy<SV, C>
where
    SV: ProxyHttp + Send + Sync + 'static,
    SV::CTX: Send + Sync,
    C: custom::Connector,
{
    /// One try with a custom session to the upstream, which is given back to its connector if another exchange may
    /// follow.
    pub(super) async fn custom_attempt(
        &self,
        session: &mut Session,
        ctx: &mut SV::CTX,
        upstream: C::Session,
        attempt: &Try<'_>,
    ) -> Result<Outcome> {
        let options = &attempt.peer.options;
        let limits = TimeLimits {
            read: options.read_timeout,
            head: options.response_header_timeout,
            write: options.write_timeout,
        };
        let mut upstream = CustomUpstream::new(upstream, limits);
        let exchange = self.exchange_in_time(session, ctx, &mut upstream, attempt);
        let mut done = exchange.await;
        session.note_sent(&upstream);
        if !end_sides(session, &mut done).await {
            upstream.forbid_reuse();
        }
        let failed = done.as_ref().err().map(|e| &**e);
        if let Some(e) = failed {
            session.note_failure(e);
            cache_write::abandon_try(&mut session.cache, e);
        }
        if let Some(upstream) = upstream.end(failed).await {
            let (upstream, peer) = (HttpSession::Custom(upstream), attempt.peer);
            self.connector
                .release_http_session(upstream, peer, peer.idle_timeout())
                .await;
        }
        done
    }

    /// Sends `request`, and passes the response and the custom messages on.
    pub(super) async fn custom_exchange<U: Upstream>(
        &self,
        session: &mut Session,
        ctx: &mut SV::CTX,
        upstream: &mut U,
        attempt: &Try<'_>,
        request: Box<RequestHeader>,
    ) -> Result<Outcome> {
        let hops = Hops {
            downstream: session.is_custom(),
            upstream: upstream.is_custom(),
        };
        let mut up = upstream.take_messages();
        let mut down = take_messages(session);
        if let Some(writer) = &mut up.writer {
            writer.set_write_timeout(attempt.peer.options.write_timeout);
        }
        if let Some(writer) = &mut down.writer {
            writer.set_write_timeout(session.get_write_timeout());
        }
        let (messages, (to_upstream, to_downstream)) = Messages::new(down, up);
        // However the exchange ends, they are ended after it.
        session.messages = Some(Box::new(messages));
        let to_upstream = hops.upstream.then_some(to_upstream);
        self.inner
            .custom_forwarding(session, ctx, to_upstream, to_downstream)
            .await?;
        let phases = Phases::new(self, session, ctx, attempt, &request).with_messages(hops);
        let mut duplex = Duplex::new(phases, upstream).with_custom(true);
        duplex.ask(request)?;
        duplex.run().await
    }
}

/// Has a custom session to the client end what it does, so that it can be looked at again.
pub(in crate::flow) async fn settle_down(session: &mut Session) {
    if let ServerSession::Custom(custom) = &mut *session.downstream_session {
        settle(custom).await;
    }
}

/// [Settles](settle_down) the client's side after a try, and ends the custom messages. Returns whether the upstream was
/// sent all of its messages.
///
/// A message to the client that was cut leaves no place for another try.
pub(in crate::flow) async fn end_sides(session: &mut Session, done: &mut Result<Outcome>) -> bool {
    settle_down(session).await;
    let Some(messages) = session.messages.take() else {
        return true;
    };
    let whole = matches!(done, Ok(Outcome::Complete));
    let left = messages.end(whole).await;
    if left.client_cut {
        if let ServerSession::Custom(custom) = &mut *session.downstream_session {
            break_off(custom);
        }
        if let Err(e) = done {
            e.set_retry(false);
        }
    }
    let tell_end = whole && !left.client_cut;
    if let Err(e) = give_back(session, left.client, tell_end).await {
        log::debug!("the custom messages of a client: {e}");
    }
    left.upstream_whole
}

/// Returns the ends of a client's custom session's messages.
fn take_messages(session: &mut Session) -> Ends {
    match session.as_custom_mut() {
        Some(custom) => Ends {
            reader: custom.take_custom_message_reader(),
            writer: custom.take_custom_message_writer(),
        },
        None => Ends::default(),
    }
}

/// Gives the session of the client back what was taken, for another try or for the application. With `tell_end` it says
/// that no more messages follow.
async fn give_back(session: &mut Session, ends: Ends, tell_end: bool) -> Result<()> {
    let Some(custom) = session.as_custom_mut() else {
        return Ok(());
    };
    let sends = ends.writer.is_some();
    if let Some(reader) = ends.reader {
        custom.restore_custom_message_reader(reader)?;
    }
    if let Some(writer) = ends.writer {
        custom.restore_custom_message_writer(writer)?;
    }
    if tell_end && sends {
        finish_messages(custom).await.map_err(Error::into_down)?;
    }
    Ok(())
}
