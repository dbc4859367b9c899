//! The end of a request: the error path, logging, and whether the connection goes on.

use std::borrow::Cow;

use log::error;
use pingora_core::apps::{HttpPersistentSettings, ReusedHttpStream};
use pingora_core::connectors::http::custom;
use pingora_core::protocols::http::error_resp::gen_error_response;
use pingora_error::{BError, Result};

use crate::{FailToProxy, HttpProxy, ProxyHttp, PurgeStatus, Session};

impl<SV, C> HttpProxy<SV, C>
where
    SV: ProxyHttp + Send + Sync + 'static,
    SV::CTX: Send + Sync,
    C: custom::Connector,
{
    /// The request is answered, or there was nothing to answer it with.
    pub(super) async fn finish(
        &self,
        mut session: Session,
        mut ctx: SV::CTX,
        error: Option<BError>,
    ) -> Option<ReusedHttpStream> {
        self.inner.logging(&mut session, error.as_deref(), &mut ctx).await;
        self.reuse(session, ctx).await
    }

    /// The request could not be answered by an upstream.
    pub(super) async fn fail(
        &self,
        mut session: Session,
        mut ctx: SV::CTX,
        e: BError,
    ) -> Option<ReusedHttpStream> {
        self.report(&mut session, &mut ctx, &e).await;
        self.inner.logging(&mut session, Some(&e), &mut ctx).await;
        session.downstream_session.shutdown().await;
        None
    }

    /// A phase before the upstream failed. Here the application may keep the connection.
    pub(super) async fn fail_early(
        &self,
        mut session: Session,
        mut ctx: SV::CTX,
        e: BError,
    ) -> Option<ReusedHttpStream> {
        let failed = self.report(&mut session, &mut ctx, &e).await;
        self.inner.logging(&mut session, Some(&e), &mut ctx).await;
        if failed.can_reuse_downstream {
            return self.reuse(session, ctx).await;
        }
        session.downstream_session.shutdown().await;
        None
    }

    async fn report(&self, session: &mut Session, ctx: &mut SV::CTX, e: &BError) -> FailToProxy {
        let failed = self.inner.fail_to_proxy(session, e, ctx).await;
        if !self.inner.suppress_error_log(session, ctx, e) {
            let summary = self.inner.request_summary(session, ctx);
            error!("fail to proxy: {e}, status: {}, {summary}", failed.error_code);
        }
        failed
    }

    async fn reuse(&self, session: Session, ctx: SV::CTX) -> Option<ReusedHttpStream> {
        let mut settings = HttpPersistentSettings::for_session(&session);
        if let Some(kept) = self.inner.persist_connection_context(&session, &ctx) {
            settings.set_user_context(kept);
        }
        match session.downstream_session.finish().await {
            Ok(reusable) => Some(ReusedHttpStream::from_reusable_stream(reusable?, settings)),
            Err(e) => {
                log::debug!("response not written: {e}");
                None
            }
        }
    }

    /// A purge without a cache.
    pub(super) async fn refuse_purge(
        &self,
        session: &mut Session,
        ctx: &mut SV::CTX,
    ) -> Result<()> {
        let mut response = Cow::Owned(gen_error_response(405));
        let filtered =
            self.inner
                .purge_response_filter(session, ctx, PurgeStatus::NoCache, &mut response);
        if let Err(e) = filtered {
            error!("purge_response_filter: {e}");
            response = Cow::Owned(gen_error_response(500));
        }
        session
            .write_response_header(Box::new(response.into_owned()), true)
            .await
    }
}
