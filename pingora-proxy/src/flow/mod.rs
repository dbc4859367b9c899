//! The life of a request: its phases in their order, retry, and the end.
//!
//! ```text
//! read the head -> early_request_filter -> modules -> request_filter -> cache
//!   -> proxy_upstream_filter -> try: upstream_peer -> connect -> duplex -> (retry) -> logging -> next request
//! ```

mod attempt;
mod cache;
mod custom_sides;
mod drain;
mod due;
mod finish;
mod shutdown;
mod shutdown_flag;
mod subrequests;
#[cfg(test)]
mod tests;

use std::any::Any;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;

use futures::FutureExt;
use pingora_cache::NoCacheReason;
use pingora_core::apps::{HttpPersistentSettings, ReusedHttpStream};
use pingora_core::connectors::http::custom;
use pingora_core::exchange::ServerHooks;
use pingora_core::protocols::http::ServerSession;
use pingora_error::{BError, Error, Result};

use crate::pipeline::cache_write::{self, Lease};
use crate::{request_policy, HttpProxy, ProxyHttp, Session};

pub(crate) use drain::Drain;
pub(crate) use due::Due;
pub(crate) use shutdown_flag::ShutdownFlag;

/// The outcome of the phases before an upstream.
enum Early {
    /// The request goes upstream.
    Proceed,
    /// It is answered.
    Answered,
    /// Its answer has begun, and failed.
    Failed(BError),
}

/// The state that an application keeps of a request for the next one of its connection.
type Kept = Option<Box<dyn Any + Send + Sync>>;

/// When a request failed: before anything went upstream, the application may still keep the connection.
#[derive(Clone, Copy, PartialEq, Eq)]
enum When {
    Early,
    Late,
}

impl<SV, C> HttpProxy<SV, C>
where
    SV: ProxyHttp + Send + Sync + 'static,
    SV::CTX: Send + Sync,
    C: custom::Connector,
{
    /// Serves a request whose head is read; after it the connection closes, when the server `ends`.
    ///
    /// A phase that panics costs its own request and its connection.
    pub(crate) async fn serve(
        self: &Arc<Self>,
        downstream: Box<ServerSession>,
        ends: bool,
    ) -> Option<ReusedHttpStream> {
        let mut session = self.session(downstream);
        let last = ends || session.is_process_shutting_down();
        let idle = session.idle_seconds();
        session.set_keepalive((!last).then_some(idle));
        // What a panic leaves of the request is the session, which is only asked for what it has sent.
        let phases = AssertUnwindSafe(self.phases(&mut session)).catch_unwind();
        let Ok(kept) = phases.await else {
            return Box::pin(finish::excuse(session)).await;
        };
        let settings = kept.map(|kept| finish::settings(&session, kept));
        let Session {
            downstream_session, ..
        } = session;
        match end(downstream_session, settings) {
            Ok(next) => Some(next),
            Err(rest) => rest.await,
        }
    }

    /// A session with modules of its own.
    fn session(&self, downstream: Box<ServerSession>) -> Session {
        #[allow(unused_mut, reason = "as the features are")]
        let mut session = Session::new(downstream, &self.downstream_modules);
        #[cfg(feature = "upstream_modules")]
        {
            session.upstream_modules_ctx = self.upstream_modules.build_ctx();
        }
        session
    }

    /// All that the application sees of a request. Returns what it keeps for the next one of the connection, if there
    /// may be one.
    ///
    /// Written as a block, which keeps its arguments once: a function keeps them a second time while it waits.
    #[allow(clippy::manual_async_fn, reason = "it is smaller")]
    fn phases<'a>(
        self: &'a Arc<Self>,
        session: &'a mut Session,
    ) -> impl Future<Output = Option<Kept>> + Send + 'a {
        let lease = Lease(session);
        async move {
            let mut ctx = self.inner.new_ctx();
            if let Some(previous) = lease.0.take_connection_user_context() {
                self.inner.on_connection_reuse(lease.0, &mut ctx, previous);
            }
            // Nothing of the first step is kept while the next one waits.
            let outcome = 'decided: {
                match self.before_upstream(lease.0, &mut ctx).await {
                    Ok(Early::Proceed) => {}
                    Ok(Early::Answered) => break 'decided Ok(()),
                    Ok(Early::Failed(e)) => break 'decided Err((e, When::Late)),
                    Err(e) => break 'decided Err((e, When::Early)),
                }
                let mut done = self.proxy_upstream(lease.0, &mut ctx).await;
                if cache_write::is_concerned(lease.0) {
                    done = Box::pin(self.after_upstream(lease.0, &mut ctx, done)).await;
                }
                done.map_err(|e| (e, When::Late))
            };
            let reusable = match outcome {
                Ok(()) => {
                    self.inner.logging(lease.0, None, &mut ctx).await;
                    let write = lease.0.cache_write.as_ref();
                    write.is_none_or(|write| !write.is_client_gone())
                }
                Err((e, when)) => Box::pin(self.conclude_failed(lease.0, &mut ctx, e, when)).await,
            };
            reusable.then(|| self.inner.persist_connection_context(lease.0, &ctx))
        }
    }

    /// Serves what is stored where it answers in place of the upstream, and ends what the tries have begun to store.
    async fn after_upstream(
        &self,
        session: &mut Session,
        ctx: &mut SV::CTX,
        done: Result<()>,
    ) -> Result<()> {
        let answered = match &done {
            Ok(()) => session
                .cache_write
                .as_ref()
                .is_some_and(|write| write.is_answered_by_stored()),
            Err(e) => cache_write::may_serve_stale(&self.inner, session, ctx, e),
        };
        if !answered {
            if done.is_ok() {
                cache_write::settle(&mut session.cache);
            }
            return done;
        }
        if let Err(e) = done {
            log::warn!(
                "served stale: {e}, {}",
                self.inner.request_summary(session, ctx)
            );
        }
        self.serve_stored(session, ctx).await
    }

    async fn before_upstream(
        self: &Arc<Self>,
        session: &mut Session,
        ctx: &mut SV::CTX,
    ) -> Result<Early> {
        self.inner.early_request_filter(session, ctx).await?;
        if self.inner.allow_spawning_subrequest(session, ctx) {
            session.subrequest_spawner = Some(self.spawner());
        }
        // The two lie in one session, of which each borrows its own part.
        let Session {
            downstream_session,
            downstream_modules_ctx,
            ..
        } = session;
        if !downstream_modules_ctx.is_dormant() {
            let request = downstream_session.req_header_mut();
            downstream_modules_ctx
                .request_header_filter(request)
                .await?;
        }
        if self.inner.request_filter(session, ctx).await? {
            return Ok(Early::Answered);
        }
        if let Err(e) = self.inner.request_cache_filter(session, ctx) {
            log::warn!(
                "request_cache_filter: {e}, {}",
                self.inner.request_summary(session, ctx)
            );
        }
        if session.cache.enabled() {
            if session.subrequest_ctx.is_some() {
                session.cache.tag_as_subrequest();
            }
            self.name_in_cache(session, ctx);
        }
        if self.inner.is_purge(session, ctx) {
            Box::pin(self.purge(session, ctx)).await?;
            return Ok(Early::Answered);
        }
        if request_policy::is_last_hop(session.req_header()).map_err(Error::into_down)? {
            Box::pin(finish::answer_last_hop(session)).await?;
            return Ok(Early::Answered);
        }
        if session.cache.enabled() {
            match Box::pin(self.answer_from_cache(session, ctx)).await {
                Early::Proceed => {}
                early => return Ok(early),
            }
        }
        // A lock that a subrequest has brought and not taken is of no use to it, and others may wait for it.
        if let Some(brought) = &mut session.subrequest_ctx {
            brought.release_write_lock();
        }
        if !self.inner.proxy_upstream_filter(session, ctx).await? {
            if session.cache.enabled() {
                session.cache.disable(NoCacheReason::DeclinedToUpstream);
            }
            if session.response_written().is_none() {
                let gateway = ServerSession::generate_error(502);
                Box::pin(session.write_response_header(Box::new(gateway), true)).await?;
            }
            return Ok(Early::Answered);
        }
        Ok(Early::Proceed)
    }
}

/// The work that is left at the end of an exchange.
type Rest = Pin<Box<dyn Future<Output = Option<ReusedHttpStream>> + Send>>;

/// Ends the exchange with the client: with settings the connection may serve another request. Mostly nothing is left
/// to wait for.
fn end(
    downstream: Box<ServerSession>,
    settings: Option<HttpPersistentSettings>,
) -> std::result::Result<ReusedHttpStream, Rest> {
    let Some(settings) = settings else {
        return Err(Box::pin(async {
            downstream.close().await;
            None
        }));
    };
    match downstream.finish_at_once() {
        Ok(reusable) => Ok(ReusedHttpStream::from_reusable_stream(reusable, settings)),
        Err(unfinished) => Err(Box::pin(finish(unfinished, settings))),
    }
}

/// Reads and writes what is left of the exchange.
async fn finish(
    downstream: ServerSession,
    settings: HttpPersistentSettings,
) -> Option<ReusedHttpStream> {
    match downstream.finish().await {
        Ok(reusable) => Some(ReusedHttpStream::from_reusable_stream(reusable?, settings)),
        Err(e) => {
            log::debug!("response not written: {e}");
            None
        }
    }
}
