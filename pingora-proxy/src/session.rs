//! A request and its response, as the phases of a proxy see them.

use std::future::Future;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::Stream as FuturesStream;
use pingora_cache::HttpCache;
use pingora_core::exchange::custom::Messages;
use pingora_core::exchange::{Downstream, ServerHooks, Upstream};
use pingora_core::modules::http::{HttpModuleCtx, HttpModules};
use pingora_core::protocols::http::compression::ResponseCompressionCtx;
use pingora_core::protocols::http::{HttpTask, ServerSession};
use pingora_core::protocols::Stream;
use pingora_error::{Error, Result};
use pingora_http::ResponseHeader;

use crate::error_status::awaits_response;
use crate::flow::Due;
use crate::pipeline::cache_write::progress::CacheWrite;
use crate::subrequest::{self, spawner::SubrequestSpawner};
use buffered::Buffered;

mod buffered;
mod downstream;

/// The client's side of a proxied request, and what the proxy knows about the rest of it.
///
/// It dereferences to the [`ServerSession`]. Responses that are written by the methods of this type pass
/// the downstream modules; those written to the inner session do not.
pub struct Session {
    /// The exchange with the client.
    pub downstream_session: Box<ServerSession>,
    /// The cache of this request, off unless [`request_cache_filter`](crate::ProxyHttp::request_cache_filter) enables
    /// it.
    pub cache: HttpCache,
    /// (De)compression of what comes from the upstream, before the cache. Off unless it is set, which has to be before
    /// the request goes upstream: it goes by the Accept-Encoding that it then has.
    pub upstream_compression: ResponseCompressionCtx,
    /// Answer with the whole resource whatever Range says, where the cache would look at it.
    pub ignore_downstream_range: bool,
    /// True if the upstream's header was changed for the sake of the cache.
    pub upstream_headers_mutated_for_cache: bool,
    /// The context of a subrequest; `None` for a request of a client.
    pub subrequest_ctx: Option<Box<subrequest::Ctx>>,
    /// Makes subrequests of this request, if
    /// [`allow_spawning_subrequest`](crate::ProxyHttp::allow_spawning_subrequest) said so.
    pub subrequest_spawner: Option<SubrequestSpawner>,
    /// The modules between the proxy and the client.
    pub downstream_modules_ctx: HttpModuleCtx,
    /// The modules between the proxy and the upstream.
    #[cfg(feature = "upstream_modules")]
    pub upstream_modules_ctx: HttpModuleCtx,
    pub(crate) upstream: UpstreamCounts,
    pub(crate) upstream_time_limit: Option<Duration>,
    /// When that is over, once the first try has begun.
    pub(crate) upstream_due: Option<Arc<Due>>,
    /// True if it is decided already that the error of this try is followed by another one.
    pub(crate) retry_decided: bool,
    /// True if the try that fails is not counted among those that the request may have.
    pub(crate) try_spared: bool,
    /// The cache's part in the try, if it has one.
    pub(crate) cache_write: Option<Box<CacheWrite>>,
    /// The custom messages of the try, where a side has any.
    pub(crate) messages: Option<Box<Messages>>,
    buffered: Option<Box<Buffered>>,
}

/// The counts of bytes that went to and came from the upstream.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct UpstreamCounts {
    pub(crate) body_received: usize,
    pub(crate) body_sent: Option<usize>,
    pub(crate) write_pending: Duration,
}

impl Session {
    pub(crate) fn new(downstream_session: Box<ServerSession>, modules: &HttpModules) -> Self {
        Session {
            downstream_session,
            cache: HttpCache::new(),
            upstream_compression: ResponseCompressionCtx::new(0, false, false),
            ignore_downstream_range: false,
            upstream_headers_mutated_for_cache: false,
            subrequest_ctx: None,
            subrequest_spawner: None,
            downstream_modules_ctx: modules.build_ctx(),
            #[cfg(feature = "upstream_modules")]
            upstream_modules_ctx: HttpModuleCtx::empty(),
            upstream: UpstreamCounts::default(),
            upstream_time_limit: None,
            upstream_due: None,
            retry_decided: false,
            try_spared: false,
            cache_write: None,
            messages: None,
            buffered: None,
        }
    }

    /// A session over an HTTP/1.x connection, without modules: for tests of filters.
    pub fn new_h1(stream: Stream) -> Self {
        Session::new_h1_with_modules(stream, &HttpModules::new())
    }

    /// A session over an HTTP/1.x connection: for tests of filters and modules.
    pub fn new_h1_with_modules(stream: Stream, downstream_modules: &HttpModules) -> Self {
        let downstream = Box::new(ServerSession::new_http1(stream));
        Session::new(downstream, downstream_modules)
    }

    /// Notes what went to the upstream.
    pub(crate) fn note_sent(&mut self, link: &impl Upstream) {
        self.upstream.body_sent = Some(link.body_bytes_sent());
        self.upstream.write_pending = link.write_pending_time();
    }

    /// Limits the time from when the first upstream is chosen to when the whole response has left, over all tries;
    /// `None` for no limit. Heeded if it is set before the request goes upstream.
    ///
    /// A request that takes longer fails: with a 504, or by the end of its connection or stream where the head of a
    /// response is out. An upgraded connection may last longer: the limit is for the way to it.
    pub fn set_upstream_time_limit(&mut self, limit: Option<Duration>) {
        self.upstream_time_limit = limit;
    }

    /// Returns true once the time of [`set_upstream_time_limit`](Self::set_upstream_time_limit) is over. The request fails
    /// then whatever its last upstream does, which may have had little of that time.
    pub fn is_upstream_time_over(&self) -> bool {
        let due = self.upstream_due.as_ref();
        due.is_some_and(|due| due.is_over())
    }

    /// Has the try that fails not count among the `max_retries` of the request: nobody was asked. For
    /// [`fail_to_connect`](crate::ProxyHttp::fail_to_connect), with an error that asks for a retry, by an application that
    /// waits in `upstream_peer` for what was missing, such as room for a connection
    /// ([`lacks_connect_permit`](pingora_core::connectors::lacks_connect_permit)). Without such a wait the request would be
    /// tried again without an end.
    pub fn spare_try(&mut self) {
        self.try_spared = true;
    }

    /// The exchange with the client.
    pub fn as_downstream(&self) -> &ServerSession {
        &self.downstream_session
    }

    /// The exchange with the client.
    pub fn as_downstream_mut(&mut self) -> &mut ServerSession {
        &mut self.downstream_session
    }

    /// Answers with an error status and no body; the connection closes afterwards.
    ///
    /// # Errors
    /// Those of the writes.
    pub async fn respond_error(&mut self, error: u16) -> Result<()> {
        self.respond_error_with_body(error, Bytes::new()).await
    }

    /// Returns true if the head of a response may still be written: none was, or none but informational ones.
    pub fn awaits_response(&self) -> bool {
        awaits_response(&self.downstream_session)
    }

    /// Answers with an error status and a body; the connection closes afterwards.
    ///
    /// # Errors
    /// Those of the writes and the modules.
    pub async fn respond_error_with_body(&mut self, error: u16, body: Bytes) -> Result<()> {
        let mut resp = ServerSession::generate_error(error);
        if !body.is_empty() {
            resp.set_content_length(body.len())?;
        }
        self.set_keepalive(None);
        self.write_response_header(Box::new(resp), body.is_empty())
            .await?;
        self.write_response_body((!body.is_empty()).then_some(body), true)
            .await
    }

    /// Writes a response head; `end_of_stream` says that no body follows.
    ///
    /// # Errors
    /// Those of the write and the modules.
    pub async fn write_response_header(
        &mut self,
        mut resp: Box<ResponseHeader>,
        end_of_stream: bool,
    ) -> Result<()> {
        let modules = &mut self.downstream_modules_ctx;
        modules
            .response_header_filter(&mut resp, end_of_stream)
            .await?;
        self.downstream_session.write_response_header(resp).await
    }

    /// [`Session::write_response_header`] of a copy.
    ///
    /// # Errors
    /// As there.
    pub async fn write_response_header_ref(
        &mut self,
        resp: &ResponseHeader,
        end_of_stream: bool,
    ) -> Result<(), Box<Error>> {
        let copy = Box::new(resp.clone());
        self.write_response_header(copy, end_of_stream).await
    }

    /// Writes a piece of the response body; `end_of_stream` makes it the last.
    ///
    /// # Errors
    /// Those of the write and the modules.
    pub async fn write_response_body(
        &mut self,
        mut body: Option<Bytes>,
        end_of_stream: bool,
    ) -> Result<()> {
        loop {
            let mut end = end_of_stream;
            self.filter_body_step(&mut body, &mut end)?;
            if body.is_some() || end {
                self.downstream_session
                    .write_response_body(body.take().unwrap_or_default(), end)
                    .await?;
            }
            if !self.downstream_modules_ctx.is_pending() {
                return Ok(());
            }
            // A piece of a body may become much larger, and others want to be served too.
            tokio::task::yield_now().await;
        }
    }

    /// Writes the messages of a response, and says whether the last one ended it.
    ///
    /// # Errors
    /// Those of the writes and the modules, and the one that a [`HttpTask::Failed`] carries.
    pub async fn write_response_tasks(&mut self, mut tasks: Vec<HttpTask>) -> Result<bool> {
        for task in &mut tasks {
            self.filter_task(task).await?;
        }
        self.downstream_session.response_duplex_vec(tasks).await
    }

    /// Queues a message of the response for [`Session::write_downstream_proxy_tasks`].
    ///
    /// # Errors
    /// Those of the modules.
    pub async fn send_downstream_proxy_task(&mut self, mut task: HttpTask) -> Result<()> {
        self.filter_task(&mut task).await?;
        self.downstream_session.send_downstream_proxy_task(task);
        Ok(())
    }

    /// Writes the queued messages, and says whether the last one ended the response.
    ///
    /// # Errors
    /// Those of the writes.
    ///
    /// # Cancel safety
    /// Messages that are not written stay queued.
    pub async fn write_downstream_proxy_tasks(&mut self) -> Result<bool> {
        self.downstream_session.write_downstream_proxy_tasks().await
    }

    /// Returns true if messages are queued and not written.
    pub fn has_pending_downstream_tasks(&self) -> bool {
        self.downstream_session.has_pending_downstream_proxy_tasks()
    }

    /// Lets messages be queued and written later.
    pub fn set_proxy_tasks_enabled(&mut self, enabled: bool) {
        self.downstream_session.set_proxy_tasks_enabled(enabled)
    }

    /// Passes a message through the downstream modules.
    pub(crate) async fn filter_task(&mut self, task: &mut HttpTask) -> Result<()> {
        let modules = &mut self.downstream_modules_ctx;
        match task {
            HttpTask::Header(header, end) => modules.response_header_filter(header, *end).await,
            HttpTask::Body(body, end) => self.filter_body(body, *end),
            HttpTask::Trailer(_) | HttpTask::Done => self.filter_end(task),
            HttpTask::UpgradedBody(..) | HttpTask::Failed(_) => Ok(()),
        }
    }

    /// [`filter_task`](Self::filter_task), of which a piece of the body that becomes much larger comes step by step.
    ///
    /// Written as a block, which keeps its arguments once: a function keeps them a second time while it waits.
    #[allow(clippy::manual_async_fn, reason = "it is smaller")]
    pub(crate) fn filter_step<'a>(
        &'a mut self,
        task: &'a mut HttpTask,
    ) -> impl Future<Output = Result<()>> + Send + 'a {
        async move {
            match task {
                HttpTask::Body(body, end) => self.filter_body_step(body, end),
                _ => self.filter_task(task).await,
            }
        }
    }

    fn filter_end(&mut self, task: &mut HttpTask) -> Result<()> {
        let modules = &mut self.downstream_modules_ctx;
        if let HttpTask::Trailer(trailers) = task {
            if let Some(last) = modules.response_trailer_filter(trailers)? {
                *task = HttpTask::Body(Some(last), true);
                return Ok(());
            }
        }
        let Some(last) = modules.response_done_filter()? else {
            return Ok(());
        };
        match task {
            // What a module held back belongs before the trailers.
            HttpTask::Trailer(_) => {
                let last = HttpTask::Body(Some(last), false);
                self.downstream_session.queue(last).map(|_| ())
            }
            _ => {
                *task = HttpTask::Body(Some(last), true);
                Ok(())
            }
        }
    }

    /// Passes a piece of the body that becomes much larger through the downstream modules, step by step: `None` is the
    /// next one while they are pending. The end of the body is at its last piece.
    pub(crate) fn filter_body_step(
        &mut self,
        body: &mut Option<Bytes>,
        end: &mut bool,
    ) -> Result<()> {
        *end = self.downstream_modules_ctx.response_body_step(body, *end)?;
        match end {
            true => self.filter_last(body),
            false => Ok(()),
        }
    }

    /// Returns true if the upstream modules have more of the last piece of the body.
    pub(crate) fn upstream_modules_pending(&self) -> bool {
        #[cfg(feature = "upstream_modules")]
        return self.upstream_modules_ctx.is_pending();
        #[cfg(not(feature = "upstream_modules"))]
        false
    }

    fn filter_body(&mut self, body: &mut Option<Bytes>, end: bool) -> Result<()> {
        self.downstream_modules_ctx
            .response_body_filter(body, end)?;
        match end {
            true => self.filter_last(body),
            false => Ok(()),
        }
    }

    /// Appends to the last piece of the body what the modules have kept.
    fn filter_last(&mut self, body: &mut Option<Bytes>) -> Result<()> {
        let modules = &mut self.downstream_modules_ctx;
        if let Some(last) = modules.response_done_filter()? {
            *body = Some(match body.take() {
                Some(body) => [body, last].concat().into(),
                None => last,
            });
        }
        Ok(())
    }

    /// Passes a message through the upstream modules.
    ///
    /// # Errors
    /// Those of the modules.
    #[cfg(feature = "upstream_modules")]
    pub async fn upstream_modules_filter_task(&mut self, t: &mut HttpTask) -> Result<()> {
        let modules = &mut self.upstream_modules_ctx;
        match t {
            HttpTask::Header(header, end) => modules.response_header_filter(header, *end).await?,
            HttpTask::Body(body, end) => modules.response_body_filter(body, *end)?,
            HttpTask::Trailer(trailers) => {
                if let Some(body) = modules.response_trailer_filter(trailers)? {
                    *t = HttpTask::Body(Some(body), true);
                }
            }
            HttpTask::Done => {
                if let Some(last) = modules.response_done_filter()? {
                    *t = HttpTask::Body(Some(last), true);
                }
            }
            HttpTask::UpgradedBody(..) | HttpTask::Failed(_) => {}
        }
        Ok(())
    }

    /// Returns true if the server is shutting down.
    pub fn is_process_shutting_down(&self) -> bool {
        self.downstream_session.is_shutting_down()
    }

    /// Notes that the upstream's header was changed for the sake of the cache.
    pub fn mark_upstream_headers_mutated_for_cache(&mut self) {
        self.upstream_headers_mutated_for_cache = true;
    }

    /// See [`Session::mark_upstream_headers_mutated_for_cache`].
    pub fn upstream_headers_mutated_for_cache(&self) -> bool {
        self.upstream_headers_mutated_for_cache
    }

    /// Bytes of response body that came from the upstream of the last try, as it sent them: before modules, filters
    /// and decompression, and without their framing.
    pub fn upstream_body_bytes_received(&self) -> usize {
        self.upstream.body_received
    }

    /// Bytes of request body that went to the upstream of the last try; `None` without a try.
    pub fn upstream_body_bytes_sent(&self) -> Option<usize> {
        self.upstream.body_sent
    }

    /// Returns the time that the upstream of the last try let its connection wait before it took bytes.
    pub fn upstream_write_pending_time(&self) -> Duration {
        self.upstream.write_pending
    }

    /// The messages that a custom client sends besides its request.
    ///
    /// # Errors
    /// None: a client of HTTP has no messages, and neither has one whose messages were taken.
    #[allow(clippy::type_complexity)]
    pub fn downstream_custom_message(
        &mut self,
    ) -> Result<Option<Box<dyn FuturesStream<Item = Result<Bytes>> + Unpin + Send + Sync + 'static>>>
    {
        match self.downstream_session.as_custom_mut() {
            Some(custom) => Ok(custom.take_custom_message_reader()),
            None => Ok(None),
        }
    }
}

impl Deref for Session {
    type Target = ServerSession;

    fn deref(&self) -> &Self::Target {
        &self.downstream_session
    }
}

impl DerefMut for Session {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.downstream_session
    }
}

impl AsRef<ServerSession> for Session {
    fn as_ref(&self) -> &ServerSession {
        &self.downstream_session
    }
}

impl AsMut<ServerSession> for Session {
    fn as_mut(&mut self) -> &mut ServerSession {
        &mut self.downstream_session
    }
}

#[cfg(test)]
mod tests;
