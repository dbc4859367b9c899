//! The request body.

use std::future::Future;

use bytes::Bytes;
use http::HeaderMap;
use pingora_core::connectors::http::custom;
use pingora_core::exchange::ServerHooks;
use pingora_error::Result;

use super::Phases;
use crate::request_policy::strip_trailers;
use crate::ProxyHttp;

impl<'a, SV, C> Phases<'a, SV, C>
where
    SV: ProxyHttp + Send + Sync + 'static,
    SV::CTX: Send + Sync,
    C: custom::Connector,
{
    /// Returns the part of the body that is there before the client is asked: nothing if it has none, or what an
    /// earlier try has read.
    #[inline(always)]
    pub(super) fn kept(&mut self) -> Option<(Option<Bytes>, bool)> {
        if self.session.is_body_empty() {
            return Some((None, true));
        }
        // It comes as if it were read.
        if self.session.begin_to_send_buffered() {
            return None;
        }
        let read = self.session.get_retry_buffer();
        let read = read.filter(|read| !read.is_empty())?;
        Some((Some(read), self.session.is_body_done()))
    }

    /// A piece of the body: through the modules and the filter.
    ///
    /// Written as a block, which keeps its arguments once: a function keeps them a second time while it waits.
    #[allow(clippy::manual_async_fn, reason = "it is smaller")]
    pub(super) fn filter_request<'b>(
        &'b mut self,
        body: &'b mut Option<Bytes>,
        end: bool,
    ) -> impl Future<Output = Result<()>> + Send + use<'b, 'a, SV, C> {
        async move {
            let modules = &mut self.session.downstream_modules_ctx;
            if !modules.is_dormant() {
                modules.request_body_filter(body, end).await?;
            }
            let (inner, session) = (&self.proxy.inner, &mut *self.session);
            inner
                .request_body_filter(session, body, end, self.ctx)
                .await
        }
    }

    /// A copy of the trailers, as another try may need them.
    #[inline]
    pub(super) fn trailers(&mut self) -> Option<HeaderMap> {
        let mut trailers = self.session.request_trailers().cloned();
        if let Some(trailers) = &mut trailers {
            strip_trailers(trailers);
        }
        trailers
    }
}
