//! Going upstream: one try after the other until one succeeds, or none may follow.

use log::warn;
use pingora_core::connectors::http::custom;
use pingora_core::protocols::http::client::HttpSession;
use pingora_core::protocols::http::v1::client::HttpSession as Http1Session;
use pingora_core::protocols::UniqueID;
use pingora_core::upstreams::peer::{HttpPeer, Peer};
use pingora_error::ErrorType::InternalError;
use pingora_error::{BError, Error, Result};
use pingora_http::RequestHeader;

use http::header::{HeaderValue, CONTENT_LENGTH, TRANSFER_ENCODING};
use http::Version;

use crate::duplex::Duplex;
use crate::request_policy::{self, websocket};
use crate::{HttpProxy, ProxyHttp, ProxyWarnLogContext, Session};

impl<SV, C> HttpProxy<SV, C>
where
    SV: ProxyHttp + Send + Sync + 'static,
    SV::CTX: Send + Sync,
    C: custom::Connector,
{
    /// Has an upstream answer the request: at most `max_retries` tries. Without any, nothing is answered.
    ///
    /// # Errors
    /// That of the last try.
    pub(crate) async fn proxy_upstream(
        &self,
        session: &mut Session,
        ctx: &mut SV::CTX,
    ) -> Result<()> {
        session.enable_retry_buffering();
        for left in (0..self.max_retries).rev() {
            let Err(e) = self.attempt(session, ctx).await else {
                return Ok(());
            };
            // What the client has seen cannot be taken back.
            if !e.retry() || left == 0 || session.response_written().is_some() {
                return Err(e);
            }
            let context = ProxyWarnLogContext::UpstreamRetry;
            if !self
                .inner
                .suppress_proxy_warn_log(session, ctx, &e, context)
            {
                let summary = self.inner.request_summary(session, ctx);
                warn!("retrying: {e}, {left} tries left, {summary}");
            }
        }
        Ok(())
    }

    async fn attempt(&self, session: &mut Session, ctx: &mut SV::CTX) -> Result<()> {
        let peer = self.inner.upstream_peer(session, ctx).await?;
        let (upstream, reused) = match self.connector.get_http_session(&*peer).await {
            Ok(connected) => connected,
            Err(e) => return Err(self.inner.fail_to_connect(session, &peer, ctx, e.into_up())),
        };
        let exchanged = match upstream {
            HttpSession::H1(h1) => self.exchange_h1(session, ctx, h1, &peer, reused).await,
            HttpSession::Custom(_) => Error::e_explain(
                InternalError,
                "custom sessions to an upstream are not built yet in this implementation",
            ),
        };
        exchanged.map_err(|e| self.inner.error_while_proxy(&peer, session, e, ctx, reused))
    }

    async fn exchange_h1(
        &self,
        session: &mut Session,
        ctx: &mut SV::CTX,
        mut upstream: Http1Session,
        peer: &HttpPeer,
        reused: bool,
    ) -> Result<()> {
        let result = self
            .drive_h1(session, ctx, &mut upstream, peer, reused)
            .await;
        session.upstream.body_sent = Some(upstream.body_bytes_sent());
        session.upstream.write_pending = upstream.stream().get_write_pending_time();
        match result {
            Ok(()) => {
                self.connector
                    .release_http_session(HttpSession::H1(upstream), peer, peer.idle_timeout())
                    .await;
                Ok(())
            }
            Err(e) => {
                Box::pin(upstream.shutdown()).await;
                Err(e)
            }
        }
    }

    async fn drive_h1(
        &self,
        session: &mut Session,
        ctx: &mut SV::CTX,
        upstream: &mut Http1Session,
        peer: &HttpPeer,
        reused: bool,
    ) -> Result<()> {
        let fd = upstream.id();
        let digest = Some(upstream.digest());
        self.inner
            .connected_to_upstream(session, reused, peer, fd, digest, ctx)
            .await?;
        let mut request = prepare(session, peer)?;
        self.inner
            .upstream_request_filter(session, &mut request, ctx)
            .await?;
        complete(session, &mut request)?;
        let mut duplex = Duplex::new(self, session, ctx, upstream);
        duplex.run(request).await
    }
}

/// The copy of the request for the upstream: the one copy that is made of a head.
fn prepare(session: &Session, peer: &HttpPeer) -> Result<Box<RequestHeader>> {
    let received = session.req_header();
    let mut request = Box::new(received.clone());
    request.set_version(Version::HTTP_11);
    let policy = &peer.options.http_upstream_request_policy;
    let websocket = session.is_extended_connect();
    if websocket {
        websocket::begin(&mut request);
    }
    request_policy::apply(&mut request, policy, received.version).map_err(downstream)?;
    request_policy::origin_form(&mut request).map_err(downstream)?;
    if websocket {
        websocket::complete(&mut request, policy.h1_upgrade).map_err(downstream)?;
    }
    Ok(request)
}

/// What HTTP/1.1 demands of the request that the application has made of the copy.
fn complete(session: &mut Session, request: &mut RequestHeader) -> Result<()> {
    request_policy::reconcile_host(request).map_err(downstream)?;
    if session.is_body_empty() || session.is_upgrade_req() {
        return Ok(());
    }
    let framed = request.headers.contains_key(CONTENT_LENGTH)
        || request.headers.contains_key(TRANSFER_ENCODING);
    if !framed {
        let chunked = HeaderValue::from_static("chunked");
        request.insert_header(TRANSFER_ENCODING, chunked)?;
    }
    Ok(())
}

fn downstream(e: BError) -> BError {
    e.into_down()
}
