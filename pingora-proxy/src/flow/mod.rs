//! The life of a request: its phases in their order, retry, and the end.
//!
//! ```text
//! read the head -> early_request_filter -> modules -> request_filter -> (cache, not built yet)
//!   -> proxy_upstream_filter -> try: upstream_peer -> connect -> duplex -> (retry) -> logging -> next request
//! ```

mod attempt;
mod finish;
mod shutdown;
#[cfg(test)]
mod tests;

use pingora_core::apps::{shutting_down, HttpPersistentSettings, ReusedHttpStream};
use pingora_core::connectors::http::custom;
use pingora_core::protocols::http::ServerSession;
use pingora_core::server::ShutdownWatch;
use pingora_error::ErrorType::InternalError;
use pingora_error::{BError, Error, Result};

use crate::{HttpProxy, ProxyHttp, Session};

pub(crate) use shutdown::Drain;

/// Seconds for which an idle connection to a client is kept, unless the application says otherwise.
const KEEPALIVE: u64 = 60;

/// How the phases before an upstream ended.
enum Early {
    /// The request goes upstream.
    Proceed,
    /// It is answered.
    Answered,
}

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
    /// Serves a request whose head is read.
    pub(crate) async fn serve(
        &self,
        downstream: Box<ServerSession>,
        shutdown: &ShutdownWatch,
    ) -> Option<ReusedHttpStream> {
        let mut session = Session::new(downstream, &self.downstream_modules);
        #[cfg(feature = "upstream_modules")]
        {
            session.upstream_modules_ctx = self.upstream_modules.build_ctx();
        }
        let last = session.is_process_shutting_down()
            || shutting_down(shutdown, !session.downstream_session.is_reused());
        session.set_keepalive((!last).then_some(KEEPALIVE));
        let mut ctx = self.inner.new_ctx();
        if let Some(previous) = session.take_connection_user_context() {
            self.inner
                .on_connection_reuse(&mut session, &mut ctx, previous);
        }
        let outcome = match self.before_upstream(&mut session, &mut ctx).await {
            Ok(Early::Answered) => Ok(()),
            Ok(Early::Proceed) => match self.proxy_upstream(&mut session, &mut ctx).await {
                Ok(()) => Ok(()),
                Err(e) => Err((e, When::Late)),
            },
            Err(e) => Err((e, When::Early)),
        };
        let settings = self.conclude(&mut session, &mut ctx, outcome).await;
        // Taken apart, and ended elsewhere, so that this future does not hold both at once.
        let Session {
            downstream_session, ..
        } = session;
        end(downstream_session, settings).await
    }

    async fn before_upstream(&self, session: &mut Session, ctx: &mut SV::CTX) -> Result<Early> {
        self.inner.early_request_filter(session, ctx).await?;
        if self.inner.allow_spawning_subrequest(session, ctx) {
            return Err(unbuilt("subrequests are"));
        }
        // The two lie in one session, of which each borrows its own part.
        let Session {
            downstream_session,
            downstream_modules_ctx,
            ..
        } = session;
        downstream_modules_ctx
            .request_header_filter(downstream_session.req_header_mut())
            .await?;
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
            return Err(unbuilt("the cache is"));
        }
        if self.inner.is_purge(session, ctx) {
            Box::pin(self.refuse_purge(session, ctx)).await?;
            return Ok(Early::Answered);
        }
        if !self.inner.proxy_upstream_filter(session, ctx).await? {
            if session.response_written().is_none() {
                let gateway = ServerSession::generate_error(502);
                Box::pin(session.write_response_header(Box::new(gateway), true)).await?;
            }
            return Ok(Early::Answered);
        }
        Ok(Early::Proceed)
    }
}

/// Ends the exchange with the client: with settings the connection may serve another request.
async fn end(
    downstream: Box<ServerSession>,
    settings: Option<HttpPersistentSettings>,
) -> Option<ReusedHttpStream> {
    let Some(settings) = settings else {
        Box::pin(downstream.close()).await;
        return None;
    };
    match downstream.finish().await {
        Ok(reusable) => Some(ReusedHttpStream::from_reusable_stream(reusable?, settings)),
        Err(e) => {
            log::debug!("response not written: {e}");
            None
        }
    }
}

fn unbuilt(what: &str) -> BError {
    Error::explain(
        InternalError,
        format!("{what} not built yet in this implementation"),
    )
}
