//! Exchanges of which a side speaks a protocol of the user's own.

use pingora_core::connectors::http::custom;
use pingora_core::exchange::custom::{settle, CustomUpstream, Ends, Messages, TimeLimits};
use pingora_core::exchange::{ServerHooks, Upstream};
use pingora_core::protocols::http::client::HttpSession;
use pingora_core::protocols::http::ServerSession;
use pingora_core::upstreams::peer::Peer;
use pingora_error::{BError, Error, Result};
use pingora_http::RequestHeader;

use super::due::in_time;
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
    /// One try with a custom session to the upstream, which is given back to its connector if another exchange may follow.
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
        let due = session.upstream_due.as_deref().copied();
        let exchange = self.exchange(session, ctx, &mut upstream, attempt);
        let done = match due {
            None => exchange.await,
            Some(due) => in_time(due, exchange).await,
        };
        session.note_sent(&upstream);
        let failed = done.as_ref().err().map(|e| &**e);
        if let Some(e) = failed {
            settle_down(session).await;
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
        let (mut messages, (to_upstream, to_downstream)) = Messages::new(down, up);
        let to_upstream = hops.upstream.then_some(to_upstream);
        let forwarding = self
            .inner
            .custom_forwarding(session, ctx, to_upstream, to_downstream);
        let done = match forwarding.await {
            Ok(()) => {
                let phases = Phases::new(self, session, ctx, attempt, &request);
                let phases = phases.with_messages(&mut messages, hops);
                let mut duplex = Duplex::new(phases, upstream).with_custom(true);
                match duplex.ask(request) {
                    Ok(()) => duplex.run().await,
                    Err(e) => Err(e),
                }
            }
            Err(e) => Err(e),
        };
        settle_down(session).await;
        let whole = matches!(done, Ok(Outcome::Complete));
        let (ends, clean) = messages.end(whole).await;
        if !clean {
            upstream.forbid_reuse();
        }
        if let Err(e) = give_back(session, ends, whole).await {
            log::debug!("the custom messages of a client: {e}");
        }
        done
    }
}

/// Has a custom session to the client end what it does, so that it can be looked at again.
pub(in crate::flow) async fn settle_down(session: &mut Session) {
    if let ServerSession::Custom(custom) = &mut *session.downstream_session {
        settle(custom).await;
    }
}

/// What a client's custom session has of its messages.
fn take_messages(session: &mut Session) -> Ends {
    match session.as_custom_mut() {
        Some(custom) => Ends {
            reader: custom.take_custom_message_reader(),
            writer: custom.take_custom_message_writer(),
        },
        None => Ends::default(),
    }
}

/// Gives the session of the client back what was taken, for another try or for the application, and says after a
/// response that is `whole` that no more messages follow.
async fn give_back(
    session: &mut Session,
    ends: Ends,
    whole: bool,
) -> std::result::Result<(), BError> {
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
    if whole && sends {
        custom.finish_custom().await.map_err(Error::into_down)?;
    }
    Ok(())
}
