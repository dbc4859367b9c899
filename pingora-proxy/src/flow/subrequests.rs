//! The life of a subrequest: that of a request, without a connection.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use async_trait::async_trait;
use futures::FutureExt;
use http::Method;
use log::warn;
use pingora_core::connectors::http::custom;
use pingora_core::exchange::ServerHooks;
use pingora_core::protocols::http::ServerSession;
use pingora_error::ErrorType::HTTPStatus;
use pingora_error::{Error, Result};

use super::finish;
use crate::request_policy::websocket;
use crate::subrequest::Ctx;
use crate::{HttpProxy, ProxyHttp, Subrequest, SubrequestSpawner};

#[async_trait]
impl<SV, C> Subrequest for HttpProxy<SV, C>
where
    SV: ProxyHttp + Send + Sync + 'static,
    <SV as ProxyHttp>::CTX: Send + Sync,
    C: custom::Connector,
{
    /// Neither waits for a shutdown nor is stopped by one: the request that it belongs to finishes.
    async fn process_subrequest(
        self: Arc<Self>,
        mut session: Box<ServerSession>,
        sub_req_ctx: Box<Ctx>,
    ) {
        if let Err(e) = self.admit(&mut session).await {
            warn!("subrequest refused: {e}, {}", session.request_summary());
            session.on_proxy_failure(e);
            return;
        }
        let mut session = self.session(session);
        session.subrequest_ctx = Some(sub_req_ctx);
        // What a panic leaves of the request is the session, which is only asked for what it has sent.
        let phases = AssertUnwindSafe(self.phases(&mut session)).catch_unwind();
        let Ok(ended) = phases.await else {
            Box::pin(finish::excuse(session)).await;
            return;
        };
        let downstream = *session.downstream_session;
        // To finish a response that failed in the middle would make it look complete.
        if ended.is_none() {
            downstream.close().await;
        } else if let Err(e) = downstream.finish().await {
            log::debug!("response of a subrequest not written: {e}");
        }
    }
}

impl<SV, C> HttpProxy<SV, C>
where
    SV: ProxyHttp + Send + Sync + 'static,
    SV::CTX: Send + Sync,
    C: custom::Connector,
{
    /// A spawner of subrequests that this proxy serves. It costs a reference count that workers share, so that only a
    /// request that needs one has it made.
    pub(crate) fn spawner(self: &Arc<Self>) -> SubrequestSpawner {
        SubrequestSpawner::new(self.clone())
    }

    /// Settles the framing of a subrequest, and checks what of a client's request is checked before its phases.
    async fn admit(&self, session: &mut ServerSession) -> Result<()> {
        session.read_request().await?;
        let request = session.req_header();
        // That of a client of HTTP/2 can be opened by the stream only that it came over.
        let extended = request.method == Method::CONNECT && websocket::asked(request).is_some();
        let refused = if extended {
            Some(501)
        } else {
            self.refused_tunnel(request)
        };
        match refused {
            Some(status) => Error::e_explain(
                HTTPStatus(status),
                "a CONNECT that is not let through, of a subrequest",
            ),
            None => Ok(()),
        }
    }
}
