//! The end of a request: the error path, logging, and whether the connection goes on.

use http::header::{HeaderValue, ALLOW};
use http::{Method, StatusCode};
use log::{debug, error, log, log_enabled, Level};
use pingora_core::apps::{HttpPersistentSettings, ReusedHttpStream};
use pingora_core::connectors::http::custom;
use pingora_core::exchange::ServerHooks;
use pingora_core::protocols::http::error_resp::gen_error_response;
use pingora_error::ErrorType::InternalError;
use pingora_error::{BError, Error, ErrorSource, Result};
use pingora_http::ResponseHeader;

use super::custom_sides::end_sides;
use super::{Kept, When};
use crate::error_status::awaits_response;
use crate::pipeline::cache_write;
use crate::{FailToProxy, HttpProxy, ProxyHttp, Session};

impl<SV, C> HttpProxy<SV, C>
where
    SV: ProxyHttp + Send + Sync + 'static,
    SV::CTX: Send + Sync,
    C: custom::Connector,
{
    /// The last phases of a request that failed. Tells whether the connection may serve another one.
    pub(super) async fn conclude_failed(
        &self,
        session: &mut Session,
        ctx: &mut SV::CTX,
        e: BError,
        when: When,
    ) -> bool {
        cache_write::fail(&mut session.cache, &e);
        let failed = self.report(session, ctx, &e).await;
        self.inner.logging(session, Some(&e), ctx).await;
        if session.is_subrequest() {
            // Its response is in the channel: the parent learns of the error after it.
            session.on_proxy_failure(e);
        }
        when == When::Early && failed.can_reuse_downstream
    }

    async fn report(&self, session: &mut Session, ctx: &mut SV::CTX, e: &BError) -> FailToProxy {
        let failed = self.inner.fail_to_proxy(session, e, ctx).await;
        let level = match (e.esource(), failed.error_code) {
            // What a client does is its own affair, and often: it leaves.
            (ErrorSource::Downstream, 0) => Level::Debug,
            (ErrorSource::Downstream, _) => Level::Info,
            _ => Level::Error,
        };
        if !self.inner.suppress_error_log(session, ctx, e) && log_enabled!(level) {
            let summary = self.inner.request_summary(session, ctx);
            let status = failed.error_code;
            log!(level, "fail to proxy: {e}, status: {status}, {summary}");
        }
        failed
    }
}

/// Returns the state that goes with the connection to its next request.
pub(super) fn settings(session: &Session, kept: Kept) -> HttpPersistentSettings {
    let mut settings = HttpPersistentSettings::for_session(session);
    if let Some(kept) = kept {
        settings.set_user_context(kept);
    }
    settings
}

/// Ends a request of which a phase has panicked: with a 500, if no response is under way. No further phase is called,
/// as none can know what state the application's is in.
pub(super) async fn excuse(mut session: Session) -> Option<ReusedHttpStream> {
    let why = "a phase panicked";
    if session.is_custom() {
        end_sides(&mut session, &mut Error::e_explain(InternalError, why)).await;
    }
    let mut downstream = session.downstream_session;
    error!("{why}: {}", downstream.request_summary());
    if downstream.is_subrequest() {
        // The parent may still answer its client as it likes.
        let why = "a phase of the subrequest panicked";
        downstream.on_proxy_failure(Error::explain(InternalError, why));
    } else if awaits_response(&downstream) {
        // Not through the modules: it may be one of them that panics.
        if let Err(e) = downstream.respond_error(500).await {
            debug!("cannot tell the client: {e}");
        }
    }
    downstream.close().await;
    None
}

/// Answers TRACE or OPTIONS as the recipient that Max-Forwards asks for (RFC 9110 section 7.6.2). TRACE is not echoed:
/// what a client would read in it may be credentials that it is not to see.
pub(super) async fn answer_last_hop(session: &mut Session) -> Result<()> {
    let mut response = match session.req_header().method {
        Method::OPTIONS => ResponseHeader::build(StatusCode::OK, Some(3))?,
        _ => gen_error_response(405),
    };
    response.set_content_length(0)?;
    // What this proxy does itself; what the resource allows is known to the origin.
    response.insert_header(ALLOW, HeaderValue::from_static("OPTIONS"))?;
    session
        .write_response_header(Box::new(response), true)
        .await
}
