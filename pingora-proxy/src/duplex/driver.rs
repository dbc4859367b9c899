//! The loop.

use std::future::Future;
use std::pin::Pin;
use std::task::{ready, Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{StatusCode, Version};
use log::debug;
use pingora_core::exchange::{Downstream, Upstream};
use pingora_core::protocols::http::HttpTask;
use pingora_error::ErrorType::{ReadTimedout, WriteTimedout};
use pingora_error::{BError, Error, Result};
use pingora_http::RequestHeader;
use tokio::time::Sleep;

use super::apart::Apart;
use super::idle::Idle;
use super::state::{Message, State, Wants};
use super::{Fate, Outcome, Pipeline};

/// One exchange between a client and an upstream.
pub(crate) struct Duplex<'a, P, U> {
    pub(super) pipeline: P,
    pub(super) upstream: &'a mut U,
    pub(super) state: State,
    /// A message that a filter wants to be sent later.
    pub(super) delayed: Option<Box<(Pin<Box<Sleep>>, HttpTask)>>,
    /// Why the upstream takes no more of the request.
    write_error: Option<BError>,
    /// Others were let go first, since the last piece of what a message became.
    gave_way: bool,
    /// The time for which nothing passes the tunnel that this has become, where it has a limit.
    idle: Option<Box<Idle>>,
    /// State that is needed only when the client does not follow the upstream.
    pub(super) apart: Option<Box<Apart>>,
    /// The messages of a side that speaks a protocol of the user's own.
    pub(super) custom: Custom,
}

/// State of the loop when a side speaks a protocol of the user's own.
#[derive(Default)]
pub(super) struct Custom {
    pub(super) is_on: bool,
    /// The last event was a message: something else has its turn first.
    pub(super) told: bool,
    /// The response is over, and the messages that came with it are passed on.
    pub(super) over: bool,
}

/// The event that the loop waited for. What has come with it is in the loop's one place for messages: it is moved there once.
#[derive(Clone, Copy)]
pub(super) enum Event {
    /// A piece of the request body, as a [`HttpTask::Body`].
    Request,
    /// The upstream has a message.
    Response,
    /// The pipeline has more of the last one.
    More,
    /// The source has a message for the client.
    Stored,
    /// The time of the delayed message has come; or the last step of the pipeline has more of the last one.
    Due,
    /// A custom message has come.
    Message,
    /// Something has failed that the exchange goes on without: its client, or messages beside it.
    Left,
    /// The response is complete, and has left.
    Over,
}

impl<'a, P: Pipeline, U: Upstream> Duplex<'a, P, U> {
    /// An exchange in which there is nothing to ask, unless [`ask`](Self::ask) is called: the response is passed on,
    /// and the request body is not read.
    pub(crate) fn new(pipeline: P, upstream: &'a mut U) -> Self {
        Duplex {
            pipeline,
            upstream,
            state: State::answering(),
            delayed: None,
            write_error: None,
            gave_way: false,
            idle: None,
            apart: None,
            custom: Custom::default(),
        }
    }

    /// Begins with the head of the request.
    ///
    /// # Errors
    /// Those of a head that cannot be sent.
    pub(crate) fn ask(&mut self, request: Box<RequestHeader>) -> Result<()> {
        self.state = State::new();
        self.upstream.queue_head(request).map_err(Error::into_up)
    }

    /// Sends the request, passes the response on, and returns when it is complete and has left.
    ///
    /// Written as a block, like all that waits here: it keeps its arguments once, where a function keeps them a second
    /// time.
    ///
    /// # Errors
    /// Whose fault it is, is said by the error's source.
    #[allow(clippy::manual_async_fn, reason = "it is smaller")]
    pub(crate) fn run(
        &mut self,
    ) -> impl Future<Output = Result<Outcome>> + Send + use<'_, 'a, P, U> {
        async move {
            // What passes is lent to those that look at it: a future holds all that it is given.
            let mut task = HttpTask::Done;
            let mut begun = self.begin(&mut task);
            loop {
                let event = if std::mem::take(&mut begun) {
                    Event::Request
                } else {
                    std::future::poll_fn(|cx| self.poll_next(cx, &mut task)).await?
                };
                if let Some(idle) = &mut self.idle {
                    idle.passed();
                }
                match event {
                    Event::Request => {
                        if let HttpTask::Body(body, end) = &mut task {
                            self.request_piece(body, *end).await?;
                        }
                    }
                    // One place for both: it is inlined.
                    Event::Response | Event::More => {
                        if matches!(event, Event::More) || self.receive(&task) {
                            self.pass(&mut task).await?;
                        }
                    }
                    Event::Due => self.emit(&mut task).await?,
                    // Boxed: an exchange without it shall not be larger for it.
                    Event::Stored => Box::pin(self.stored(&mut task)).await?,
                    Event::Message => Box::pin(self.pipeline.message()).await?,
                    Event::Left => {}
                    Event::Over => return Ok(self.outcome()),
                }
            }
        }
    }

    /// Begins with what is there of the request body. Returns whether that is anything, if only its end.
    #[inline(always)]
    fn begin(&mut self, task: &mut HttpTask) -> bool {
        if !self.state.asks() {
            return false;
        }
        let kept = self.pipeline.kept_request();
        let begun = kept.is_some();
        if let Some((body, end)) = kept {
            *task = HttpTask::Body(body, end);
        }
        begun
    }

    #[inline(always)]
    fn poll_next(&mut self, cx: &mut Context<'_>, task: &mut HttpTask) -> Poll<Result<Event>> {
        if self.custom.is_on {
            return self.poll_custom(cx, task);
        }
        self.poll_event(cx, task)
    }

    /// Inlined into the loop, for which it is most of the work.
    #[inline(always)]
    pub(super) fn poll_event(
        &mut self,
        cx: &mut Context<'_>,
        task: &mut HttpTask,
    ) -> Poll<Result<Event>> {
        if let Some(delayed) = &mut self.delayed {
            if delayed.0.as_mut().poll(cx).is_ready() {
                *task = std::mem::replace(&mut delayed.1, HttpTask::Done);
                self.delayed = None;
                return Poll::Ready(Ok(Event::Due));
            }
        }
        if self.apart.is_some() {
            return self.poll_apart(cx, task);
        }
        let mut wants = self.wants();
        // What one read brought leaves by one write: a head with the beginning of its body.
        if wants.request
            && self.pipeline.downstream().has_buffered_body()
            && self.upstream.queued() < SMALL
        {
            if let Poll::Ready(event) = self.poll_request(cx, task) {
                return Poll::Ready(event);
            }
        }
        if wants.response && self.upstream.has_buffered() && self.client_has_room() {
            if let Poll::Ready(event) = self.poll_response(cx, task) {
                return Poll::Ready(event);
            }
        }
        self.poll_write_request(cx, &mut wants)?;
        let flushed = match self.pipeline.downstream_mut().poll_flush(cx) {
            Poll::Ready(Ok(())) => true,
            Poll::Ready(Err(e)) => return Poll::Ready(self.client_failed(e)),
            Poll::Pending => false,
        };
        if flushed && self.delayed.is_none() && self.is_pending() {
            return self.poll_more(cx, task).map(Ok);
        }
        let sent = !self.state.is_tunnel() || self.upstream.is_flushed();
        if flushed && sent && self.state.is_over() && self.delayed.is_none() {
            return Poll::Ready(Ok(Event::Over));
        }
        // An origin's 1xx are taken from it also when the client takes nothing: no window holds them back in HTTP/2.
        if wants.response && (flushed || self.state.awaits_head()) {
            match self.poll_may_read_on(cx) {
                Poll::Ready(Err(e)) => return Poll::Ready(self.client_failed(e)),
                Poll::Ready(Ok(())) => {
                    if let Poll::Ready(event) = self.poll_response(cx, task) {
                        return Poll::Ready(event);
                    }
                    if self.has_all_content() {
                        *task = HttpTask::Body(None, true);
                        return Poll::Ready(Ok(Event::Response));
                    }
                }
                Poll::Pending => {}
            }
        }
        if wants.request && self.upstream.is_flushed() {
            if let Poll::Ready(event) = self.poll_request(cx, task) {
                return Poll::Ready(event);
            }
        }
        if let Poll::Ready(e) = self.poll_leave(cx, wants) {
            return Poll::Ready(self.client_failed(e));
        }
        if self.state.is_tunnel() {
            return self.poll_idle(cx);
        }
        Poll::Pending
    }

    /// Writes what is queued of the request. Once the response is whole, what the upstream does not take is of no use
    /// (RFC 9113 section 8.1), except in a tunnel.
    #[inline(always)]
    pub(super) fn poll_write_request(
        &mut self,
        cx: &mut Context<'_>,
        wants: &mut Wants,
    ) -> Result<()> {
        let useful = !self.state.is_answered() || self.state.is_tunnel();
        if useful && !self.upstream.is_flushed() {
            if let Poll::Ready(Err(e)) = self.upstream.poll_flush(cx) {
                self.write_failed(e)?;
                *wants = self.wants();
            }
        }
        Ok(())
    }

    /// Ready when the client has left.
    #[inline]
    pub(super) fn poll_leave(&mut self, cx: &mut Context<'_>, wants: Wants) -> Poll<BError> {
        let downstream = self.pipeline.downstream_mut();
        let tells = downstream.tells_leave();
        // It can leave while its request is not read on; where it tells nothing it is seen by a read only.
        let unread = wants.request && tells && !self.upstream.is_flushed();
        // In a tunnel of HTTP/1.1 the end of what a client sends looks as if it had left, and it still reads.
        if unread || (wants.leave && (tells || !self.state.is_tunnel())) {
            return downstream.poll_gone(cx);
        }
        Poll::Pending
    }

    /// Fails when nothing has passed a tunnel for as long as it may.
    pub(super) fn poll_idle(&mut self, cx: &mut Context<'_>) -> Poll<Result<Event>> {
        let limit = self.pipeline.tunnel_idle_timeout(!self.state.asks());
        if self.idle.as_ref().map(|idle| idle.limit()) != limit {
            self.idle = limit.map(|limit| Box::new(Idle::new(limit)));
        }
        let Some(idle) = &mut self.idle else {
            return Poll::Pending;
        };
        idle.poll(cx).map(|()| {
            let why = format!("nothing passed a tunnel for {:?}", idle.limit());
            Err(Error::explain(ReadTimedout, why).into_down())
        })
    }

    /// Ready when the client's connection has room for the beginning of a body, which may come with its head.
    #[inline]
    fn poll_may_read_on(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        // What an origin of HTTP/2 sends before the head would be kept all the same.
        if !self.state.awaits_head() || self.upstream.version() == Version::HTTP_2 {
            return Poll::Ready(Ok(()));
        }
        self.pipeline.downstream_mut().poll_room(cx)
    }

    /// Returns whether the client has all of its response, and need not wait for the mere end of the upstream's.
    fn has_all_content(&self) -> bool {
        self.upstream.is_content_complete() && self.pipeline.downstream().has_whole_response()
    }

    #[inline]
    pub(super) fn wants(&self) -> Wants {
        let mut wants = self.state.wants();
        if self.apart.is_none() {
            wants.response &= self.delayed.is_none() && !self.is_pending();
        }
        wants
    }

    /// Returns true if the last message of the response became more than one step of its decoding.
    fn is_pending(&self) -> bool {
        self.pipeline.emits_more() || self.pipeline.has_more()
    }

    /// A few bytes may become gigabytes: others are served in between.
    pub(super) fn gives_way(&mut self, cx: &mut Context<'_>) -> bool {
        self.gave_way = !self.gave_way;
        if self.gave_way {
            cx.waker().wake_by_ref();
        }
        self.gave_way
    }

    /// The next step of what a message became.
    pub(super) fn poll_more(&mut self, cx: &mut Context<'_>, task: &mut HttpTask) -> Poll<Event> {
        if self.gives_way(cx) {
            return Poll::Pending;
        }
        *task = HttpTask::Body(None, false);
        Poll::Ready(if self.pipeline.emits_more() {
            Event::Due
        } else {
            Event::More
        })
    }

    pub(super) fn poll_request(
        &mut self,
        cx: &mut Context<'_>,
        task: &mut HttpTask,
    ) -> Poll<Result<Event>> {
        let downstream = self.pipeline.downstream_mut();
        Poll::Ready(match ready!(downstream.poll_body(cx)) {
            Ok(body) => {
                let end = body.is_none() || downstream.is_body_done();
                *task = HttpTask::Body(body, end);
                Ok(Event::Request)
            }
            Err(e) => self.client_failed(e),
        })
    }

    #[inline(always)]
    fn poll_response(&mut self, cx: &mut Context<'_>, task: &mut HttpTask) -> Poll<Result<Event>> {
        self.upstream
            .read_little(!self.pipeline.downstream().has_room());
        Poll::Ready(match ready!(self.upstream.poll_task(cx)) {
            Ok(message) => {
                *task = message;
                Ok(Event::Response)
            }
            Err(e) => self.response_failed(e),
        })
    }

    /// The upstream failed, which means nothing to a client that has all of its response.
    fn response_failed(&mut self, e: BError) -> Result<Event> {
        if self.client_needs_no_more() {
            debug!("after the end of the response: {e}");
            return Ok(Event::Over);
        }
        Err(self.upstream_failed(e))
    }

    /// Returns true if the client's side has all of its response, if only queued.
    pub(super) fn client_needs_no_more(&self) -> bool {
        !self.state.is_tunnel() && self.pipeline.downstream().has_whole_response()
    }

    pub(super) fn upstream_failed(&mut self, e: BError) -> BError {
        // The upstream closed because it would not read on: that is what went wrong first.
        self.write_error.take().unwrap_or(e).into_up()
    }

    /// Returns true if what the client has not taken yet is little enough to add to it without a write in between.
    pub(super) fn client_has_room(&self) -> bool {
        self.pipeline.downstream().queued() < SMALL
    }

    fn write_failed(&mut self, e: BError) -> Result<()> {
        // One that takes nothing in its time is waited for no longer, unless its answer has begun.
        let given_up = *e.etype() == WriteTimedout && self.state.awaits_head();
        if given_up || !self.state.may_still_answer() {
            return Err(e.into_up());
        }
        self.state.request_failed();
        self.write_error = Some(e);
        Ok(())
    }

    /// A piece of the request body: through the pipeline to the upstream.
    #[allow(clippy::manual_async_fn, reason = "it is smaller")]
    fn request_piece<'b>(
        &'b mut self,
        body: &'b mut Option<Bytes>,
        end: bool,
    ) -> impl Future<Output = Result<()>> + Send + use<'b, 'a, P, U> {
        async move {
            self.pipeline.request(body, end).await?;
            if let Some(body) = body.take().filter(|body| !body.is_empty()) {
                self.upstream.queue_body(body).map_err(Error::into_up)?;
            }
            if end {
                let trailers = self.pipeline.request_trailers();
                self.upstream
                    .queue_end(trailers.as_ref())
                    .map_err(Error::into_up)?;
            }
            self.state.request_piece(end);
            self.upstream.restart_read_timeout();
            Ok(())
        }
    }

    /// A message of the response has come. Returns whether it goes on: not an interim response that the client has no
    /// room for.
    fn receive(&mut self, task: &HttpTask) -> bool {
        if let HttpTask::Header(header, _) = task {
            if header.status.is_informational()
                && header.status != StatusCode::SWITCHING_PROTOCOLS
                && !self.client_has_room()
            {
                return false;
            }
        }
        self.state.response(self.message(task));
        true
    }

    /// Filters a message of the response, then queues, delays or keeps it.
    #[allow(clippy::manual_async_fn, reason = "it is smaller")]
    fn pass<'b>(
        &'b mut self,
        task: &'b mut HttpTask,
    ) -> impl Future<Output = Result<()>> + Send + use<'b, 'a, P, U> {
        async move {
            let fate = match self.pipeline.response_now(task) {
                Some(fate) => fate?,
                None => self.pipeline.response(task).await?,
            };
            let follows = matches!(fate, Fate::Pass) && self.apart.is_none();
            if !follows && !self.set_aside(fate, task) {
                return Ok(());
            }
            if self.pipeline.emits() {
                self.pipeline.emit(task).await?;
            }
            self.queue(task)
        }
    }

    /// A message on its last steps to the client.
    #[allow(clippy::manual_async_fn, reason = "it is smaller")]
    pub(super) fn emit<'b>(
        &'b mut self,
        task: &'b mut HttpTask,
    ) -> impl Future<Output = Result<()>> + Send + use<'b, 'a, P, U> {
        async move {
            self.pipeline.emit(task).await?;
            self.queue(task)
        }
    }

    pub(super) fn queue(&mut self, task: &mut HttpTask) -> Result<()> {
        let task = std::mem::replace(task, HttpTask::Done);
        match self.pipeline.downstream_mut().queue(task) {
            Ok(_) => Ok(()),
            Err(e) => self.client_failed(e).map(|_| ()),
        }
    }

    pub(super) fn delay(&mut self, delay: Duration, task: HttpTask) {
        self.delayed = Some(Box::new((Box::pin(tokio::time::sleep(delay)), task)));
    }

    fn message(&self, task: &HttpTask) -> Message {
        let HttpTask::Header(header, end) = task else {
            return Message::Rest { end: task.is_end() };
        };
        match header.status {
            StatusCode::SWITCHING_PROTOCOLS => Message::Switching,
            status if status.is_success() && self.pipeline.asks_for_tunnel() => Message::Switching,
            status if status.is_informational() => Message::Informational,
            _ => Message::Head { end: *end },
        }
    }
}

/// Bytes that are gathered before they are written.
const SMALL: usize = 16 * 1024;
