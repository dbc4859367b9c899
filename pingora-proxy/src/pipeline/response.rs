//! The response.

use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use log::{debug, error};
use pingora_core::connectors::http::custom;
use pingora_core::exchange::ServerHooks;
use pingora_core::protocols::http::HttpTask;
use pingora_error::ErrorType::InvalidHTTPHeader;
use pingora_error::{BError, Error, Result};
use pingora_http::ResponseHeader;

use super::{cache_write, Phases};
use crate::duplex::Fate;
use crate::request_policy::{strip_response, websocket};
use crate::ProxyHttp;

impl<'a, SV, C> Phases<'a, SV, C>
where
    SV: ProxyHttp + Send + Sync + 'static,
    SV::CTX: Send + Sync,
    C: custom::Connector,
{
    /// A message of the response: through the upstream's modules and the filters.
    ///
    /// Written as a block, which keeps its arguments once: a function keeps them a second time while it waits.
    #[allow(clippy::manual_async_fn, reason = "it is smaller")]
    pub(super) fn filter_response<'b>(
        &'b mut self,
        task: &'b mut HttpTask,
    ) -> impl Future<Output = Result<Fate>> + Send + use<'b, 'a, SV, C> {
        async move {
            self.receive(task)?;
            if cache_write::is_concerned(self.session) {
                return Box::pin(self.filter_cached(task)).await;
            }
            // Otherwise the modules have seen what this is a part of.
            if !self.session.upstream_compression.is_pending() {
                self.upstream_modules(task).await?;
            }
            self.decompress(task)?;
            let (inner, session, ctx) = (&self.proxy.inner, &mut *self.session, &mut *self.ctx);
            let mut delay = None;
            match task {
                HttpTask::Header(header, _) => {
                    inner.upstream_response_filter(session, header, ctx).await?;
                    if !header.status.is_informational() {
                        let decided = inner.upstream_response_decision(session, header, ctx);
                        if let Some(e) = decided.await {
                            self.turned_down(e)?;
                        }
                    }
                    let (session, ctx) = (&mut *self.session, &mut *self.ctx);
                    inner.response_filter(session, header, ctx).await?;
                }
                HttpTask::Body(body, end) | HttpTask::UpgradedBody(body, end) => {
                    delay = self.filter_body(body, *end)?;
                }
                HttpTask::Trailer(Some(trailers)) => {
                    inner.upstream_response_trailer_filter(session, trailers, ctx)?;
                    Box::pin(self.filter_trailers(task)).await;
                }
                HttpTask::Trailer(None) | HttpTask::Done | HttpTask::Failed(_) => {}
            }
            match delay.filter(|delay| !delay.is_zero()) {
                None => self.announce_end(task),
                Some(delay) => Ok(Fate::Later(delay)),
            }
        }
    }

    /// Filters a piece of a body, which no filter waits for, where no module, no decompression and no cache has part in it.
    #[inline]
    pub(super) fn filter_piece(&mut self, task: &mut HttpTask) -> Option<Result<Fate>> {
        let HttpTask::Body(body, end) = task else {
            return None;
        };
        if cfg!(feature = "upstream_modules")
            || self.session.upstream_compression.is_enabled()
            || cache_write::is_concerned(self.session)
        {
            return None;
        }
        let received = body.as_ref().map_or(0, Bytes::len);
        self.session.upstream.body_received += received;
        let delay = self.filter_body(body, *end);
        Some(delay.map(|delay| match delay {
            Some(delay) if !delay.is_zero() => Fate::Later(delay),
            _ => Fate::Pass,
        }))
    }

    /// Processes a message as the upstream has sent it, before anything decompresses or changes it.
    #[inline]
    fn receive(&mut self, task: &mut HttpTask) -> Result<()> {
        match task {
            HttpTask::Header(header, _) => {
                self.check_handshake(header)?;
                strip_response(header, self.session.req_header().version);
            }
            HttpTask::Body(Some(body), _) | HttpTask::UpgradedBody(Some(body), _) => {
                self.session.upstream.body_received += body.len();
            }
            _ => {}
        }
        Ok(())
    }

    /// Decompresses a message that has passed the upstream's modules.
    #[inline]
    pub(super) fn decompress(&mut self, task: &mut HttpTask) -> Result<()> {
        let compression = &mut self.session.upstream_compression;
        if compression.is_enabled() && !matches!(task, HttpTask::UpgradedBody(..)) {
            compression.response_filter_step(task);
        }
        if matches!(task, HttpTask::Failed(_)) {
            if let HttpTask::Failed(e) = std::mem::replace(task, HttpTask::Done) {
                return Err(e.into_up());
            }
        }
        Ok(())
    }

    /// Trailers through the client's filter.
    pub(super) async fn filter_trailers(&mut self, task: &mut HttpTask) {
        let HttpTask::Trailer(Some(trailers)) = task else {
            return;
        };
        let (inner, session, ctx) = (&self.proxy.inner, &mut *self.session, &mut *self.ctx);
        match inner.response_trailer_filter(session, trailers, ctx).await {
            Ok(None) => {}
            Ok(last) => *task = HttpTask::Body(last, true),
            // The response is complete but for this.
            Err(e) => self.say_trailers_failed(&e),
        }
    }

    /// Tells the filters the end of a body that is empty. What they fill it with follows the head.
    fn announce_end(&mut self, task: &mut HttpTask) -> Result<Fate> {
        if let HttpTask::Header(_, end @ true) = task {
            let mut body = None;
            let delay = self.filter_body(&mut body, true)?;
            if body.is_some() || delay.is_some() {
                *end = false;
                let rest = HttpTask::Body(body, true);
                return Ok(Fate::Then(Box::new((delay.unwrap_or_default(), rest))));
            }
        }
        Ok(Fate::Pass)
    }

    /// A client of HTTP/2 sees nothing of the handshake, which it could check itself in HTTP/1.1.
    fn check_handshake(&self, header: &ResponseHeader) -> Result<()> {
        if !self.session.is_extended_connect() {
            return Ok(());
        }
        let accept = self.rare.as_ref().and_then(|rare| rare.accept.as_ref());
        let why = match (header.status, accept) {
            // RFC 6455 section 4.1.
            (StatusCode::SWITCHING_PROTOCOLS, Some(accept))
                if !websocket::is_accepted(header, accept) =>
            {
                "an answer to another handshake, for a WebSocket"
            }
            // RFC 8441 section 5: a 2xx would tell the client that the tunnel is open.
            (status, _) if status.is_success() => "a success that is no upgrade, for a WebSocket",
            _ => return Ok(()),
        };
        Err(Error::explain(InvalidHTTPHeader, why).into_up())
    }

    /// A piece of the body of the response through the filters; how long to wait before it is sent.
    fn filter_body(&mut self, body: &mut Option<Bytes>, end: bool) -> Result<Option<Duration>> {
        let (inner, session, ctx) = (&self.proxy.inner, &mut *self.session, &mut *self.ctx);
        let first = inner.upstream_response_body_filter(session, body, end, ctx)?;
        let second = inner.response_body_filter(session, body, end, ctx)?;
        Ok(both(first, second))
    }

    /// Ends a try whose response the application does not want. If it only wants another one in its place, and there
    /// can be none, the response is passed on.
    #[cold]
    pub(super) fn turned_down(&mut self, e: BError) -> Result<()> {
        let (inner, attempt) = (&self.proxy.inner, self.attempt);
        let mut e = e;
        e.retry.decide_reuse(attempt.reused);
        if !e.retry() {
            return Err(e);
        }
        let mut e =
            inner.error_while_proxy(attempt.peer, self.session, e, self.ctx, attempt.reused);
        e.retry.decide_reuse(attempt.reused);
        let sent = self.session.response_written().is_some();
        if e.retry() && attempt.more && !sent && !self.session.retry_buffer_truncated() {
            self.session.retry_decided = true;
            return Err(e);
        }
        debug!("a response is passed on, as there is no other try: {e}");
        Ok(())
    }

    #[cold]
    fn say_trailers_failed(&self, e: &Error) {
        let summary = self.proxy.inner.request_summary(self.session, self.ctx);
        error!("response_trailer_filter: {e}, {summary}");
    }

    #[cfg(feature = "upstream_modules")]
    pub(super) async fn upstream_modules(&mut self, task: &mut HttpTask) -> Result<()> {
        if let HttpTask::Header(header, end) = task {
            self.proxy
                .inner
                .adjust_upstream_modules(self.session, header, *end, self.ctx)
                .await?;
        }
        if let HttpTask::Body(body, end) = task {
            let modules = &mut self.session.upstream_modules_ctx;
            *end = modules.response_body_step(body, *end)?;
            return Ok(());
        }
        self.session.upstream_modules_filter_task(task).await
    }

    #[cfg(not(feature = "upstream_modules"))]
    pub(super) async fn upstream_modules(&mut self, _task: &mut HttpTask) -> Result<()> {
        Ok(())
    }
}

/// Two delays, one after the other.
pub(super) fn both(first: Option<Duration>, second: Option<Duration>) -> Option<Duration> {
    match (first, second) {
        (Some(first), Some(second)) => Some(first.saturating_add(second)),
        (first, second) => first.or(second),
    }
}
