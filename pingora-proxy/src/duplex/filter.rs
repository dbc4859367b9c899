//! What the application and the modules make of each message on its way.

use std::time::Duration;

use bytes::Bytes;
use log::{debug, error};
use pingora_core::connectors::http::custom;
use pingora_core::protocols::http::HttpTask;
use pingora_error::{BError, Error, Result};

use super::Duplex;
use crate::request_policy::{strip_response, strip_trailers};
use crate::ProxyHttp;
use pingora_core::exchange::Upstream;

impl<SV, C, L> Duplex<'_, SV, C, L>
where
    SV: ProxyHttp + Send + Sync + 'static,
    SV::CTX: Send + Sync,
    C: custom::Connector,
    L: Upstream,
{
    /// A piece of the request body: through the modules and the filter to the upstream.
    pub(super) async fn request_piece(
        &mut self,
        body: &mut Option<Bytes>,
        end: bool,
    ) -> Result<()> {
        let modules = &mut self.session.downstream_modules_ctx;
        if !modules.is_dormant() {
            modules.request_body_filter(body, end).await?;
        }
        self.proxy
            .inner
            .request_body_filter(self.session, body, end, self.ctx)
            .await?;
        if let Some(body) = body.take().filter(|body| !body.is_empty()) {
            self.link.queue_body(body).map_err(Error::into_up)?;
        }
        if end {
            // A copy, as another try may need them.
            let mut trailers = self.session.request_trailers().cloned();
            if let Some(trailers) = &mut trailers {
                strip_trailers(trailers);
            }
            self.link
                .queue_end(trailers.as_ref())
                .map_err(Error::into_up)?;
        }
        self.state.request_piece(end);
        self.link.restart_read_timeout();
        Ok(())
    }

    /// A message of the response: through the upstream's modules and the filters. It is to be sent after the
    /// time that is returned.
    pub(super) async fn filter_response(
        &mut self,
        task: &mut HttpTask,
    ) -> Result<Option<Duration>> {
        match task {
            HttpTask::Header(header, _) => {
                strip_response(header, self.session.req_header().version);
            }
            // As the upstream sent it: before anything decompresses or changes it.
            HttpTask::Body(Some(body), _) | HttpTask::UpgradedBody(Some(body), _) => {
                self.session.upstream.body_received += body.len();
            }
            _ => {}
        }
        // Otherwise the modules have seen what this is a part of.
        if !self.session.upstream_compression.is_pending() {
            self.upstream_modules(task).await?;
        }
        let compression = &mut self.session.upstream_compression;
        if compression.is_enabled() && !matches!(task, HttpTask::UpgradedBody(..)) {
            compression.response_filter_step(task);
        }
        if matches!(task, HttpTask::Failed(_)) {
            if let HttpTask::Failed(e) = std::mem::replace(task, HttpTask::Done) {
                return Err(e.into_up());
            }
        }
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
                let (session, ctx) = (&mut *self.session, &mut *self.ctx);
                match inner.response_trailer_filter(session, trailers, ctx).await {
                    Ok(None) => {}
                    Ok(last) => *task = HttpTask::Body(last, true),
                    // The response is complete but for this.
                    Err(e) => self.say_trailers_failed(&e),
                }
            }
            HttpTask::Trailer(None) | HttpTask::Done | HttpTask::Failed(_) => {}
        }
        Ok(delay)
    }

    /// A piece of the body of the response through the filters; how long to wait before it is sent.
    pub(super) fn filter_body(
        &mut self,
        body: &mut Option<Bytes>,
        end: bool,
    ) -> Result<Option<Duration>> {
        let (inner, session, ctx) = (&self.proxy.inner, &mut *self.session, &mut *self.ctx);
        let first = inner.upstream_response_body_filter(session, body, end, ctx)?;
        let second = inner.response_body_filter(session, body, end, ctx)?;
        Ok(match (first, second) {
            (Some(a), Some(b)) => Some(a.saturating_add(b)),
            (a, b) => a.or(b),
        })
    }

    /// Ends a try whose response the application does not want. If it only wants another one in its place, and there
    /// can be none, the response is passed on.
    #[cold]
    fn turned_down(&mut self, e: BError) -> Result<()> {
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
    async fn upstream_modules(&mut self, task: &mut HttpTask) -> Result<()> {
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
    async fn upstream_modules(&mut self, _task: &mut HttpTask) -> Result<()> {
        Ok(())
    }

    /// A message of the response: through the downstream modules into the queue to the client.
    pub(super) async fn emit(&mut self, task: &mut HttpTask) -> Result<()> {
        match task {
            HttpTask::Body(body, end) => self.session.filter_body_step(body, end)?,
            _ => self.session.filter_task(task).await?,
        }
        self.queue(task)
    }

    /// A message of the response, when the downstream modules are dormant.
    pub(super) fn queue(&mut self, task: &mut HttpTask) -> Result<()> {
        self.session
            .downstream_session
            .queue_task(std::mem::replace(task, HttpTask::Done))
            .map_err(Error::into_down)?;
        Ok(())
    }
}
