//! Both directions of an exchange, in one loop on one task.
//!
//! Nothing is spawned and no channel is made. Each direction reads only when what it read before has been
//! taken at the other end, so that a slow reader stops its sender and memory is bounded.

mod filter;
mod idle;
mod state;

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, StatusCode, Version};
use log::debug;
use pingora_core::connectors::http::custom;
use pingora_core::protocols::http::HttpTask;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_error::ErrorType::{InvalidHTTPHeader, ReadTimedout, WriteTimedout};
use pingora_error::{BError, Error, Result};
use pingora_http::{RequestHeader, ResponseHeader};
use tokio::time::Sleep;

use crate::request_policy::websocket;
use crate::{HttpProxy, ProxyHttp, Session};
use idle::Idle;
use pingora_core::exchange::Upstream;
use state::{Message, State, Wants};

/// One exchange between a client and an upstream.
pub(crate) struct Duplex<'a, SV: ProxyHttp, C: custom::Connector, L> {
    proxy: &'a HttpProxy<SV, C>,
    session: &'a mut Session,
    ctx: &'a mut SV::CTX,
    link: &'a mut L,
    state: State,
    /// A message that a filter wants to be sent later.
    delayed: Option<Box<(Pin<Box<Sleep>>, HttpTask)>>,
    /// By what the upstream shows that it has understood a handshake that the client did not make itself.
    accept: Option<Box<HeaderValue>>,
    /// Why the upstream takes no more of the request.
    write_error: Option<BError>,
    /// Others were let go first, since the last piece of what a message became.
    gave_way: bool,
    /// The time for which nothing passes the tunnel that this has become, where it has a limit.
    idle: Option<Box<Idle>>,
    attempt: &'a Try<'a>,
}

/// One of the tries to have a request answered.
pub(crate) struct Try<'a> {
    pub(crate) peer: &'a HttpPeer,
    /// Whether its connection was used before.
    pub(crate) reused: bool,
    /// Whether there may be another one.
    pub(crate) more: bool,
}

/// What the loop waited for.
enum Event {
    Request(Option<Bytes>),
    Response(HttpTask),
    /// The time of the delayed message has come; or the downstream modules have more of the last one.
    Due(HttpTask),
    /// What decodes the response has more of the last message.
    More(HttpTask),
    /// The response is complete, and has left.
    Over,
}

impl<'a, SV, C, L> Duplex<'a, SV, C, L>
where
    SV: ProxyHttp + Send + Sync + 'static,
    SV::CTX: Send + Sync,
    C: custom::Connector,
    L: Upstream,
{
    pub(crate) fn new(
        proxy: &'a HttpProxy<SV, C>,
        session: &'a mut Session,
        ctx: &'a mut SV::CTX,
        link: &'a mut L,
        attempt: &'a Try<'a>,
    ) -> Self {
        Duplex {
            proxy,
            session,
            ctx,
            link,
            attempt,
            state: State::new(),
            delayed: None,
            accept: None,
            write_error: None,
            gave_way: false,
            idle: None,
        }
    }

    /// Sends the request, passes the response on, and returns when it is complete and has left.
    ///
    /// # Errors
    /// Whose fault it is, is said by the error's source.
    pub(crate) async fn run(&mut self, request: Box<RequestHeader>) -> Result<()> {
        if self.session.is_extended_connect() {
            self.accept = websocket::accept(&request).map(Box::new);
        }
        self.link.queue_head(request).map_err(Error::into_up)?;
        if self.session.is_body_empty() {
            self.request_piece(&mut None, true).await?;
        } else if !self.session.begin_to_send_buffered() {
            // What an earlier try has read.
            let mut read = self.session.get_retry_buffer();
            if read.as_ref().is_some_and(|read| !read.is_empty()) {
                let end = self.session.is_body_done();
                self.request_piece(&mut read, end).await?;
            }
        }
        loop {
            // What passes is lent to those that look at it: a future holds all that it is given.
            let mut event = std::future::poll_fn(|cx| self.poll_event(cx)).await?;
            if let Some(idle) = &mut self.idle {
                idle.passed();
            }
            match &mut event {
                Event::Request(body) => {
                    let end = body.is_none() || self.session.is_request_sent_off();
                    self.request_piece(body, end).await?;
                }
                Event::Response(task) => self.response(task).await?,
                Event::Due(task) => self.emit(task).await?,
                Event::More(task) => self.pass(task).await?,
                Event::Over => return Ok(()),
            }
        }
    }

    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Result<Event>> {
        if let Some(delayed) = &mut self.delayed {
            if std::future::Future::poll(delayed.0.as_mut(), cx).is_ready() {
                let task = std::mem::replace(&mut delayed.1, HttpTask::Done);
                self.delayed = None;
                return Poll::Ready(Ok(Event::Due(task)));
            }
        }
        let mut wants = self.wants();
        // What one read brought leaves by one write: a head with the beginning of its body.
        if wants.request && self.session.has_buffered_body() && self.link.queued() < SMALL {
            if let Poll::Ready(event) = self.poll_request(cx) {
                return Poll::Ready(event);
            }
        }
        if wants.response && self.link.has_buffered() && self.client_has_room() {
            if let Poll::Ready(event) = self.poll_response(cx) {
                return Poll::Ready(event);
            }
        }
        // Once the response is whole, what the upstream does not take is of no use (RFC 9113 section 8.1), except
        // in a tunnel.
        let useful = !self.state.is_over() || self.state.is_tunnel();
        if useful && !self.link.is_flushed() {
            if let Poll::Ready(Err(e)) = self.link.poll_flush(cx) {
                self.write_failed(e)?;
                wants = self.wants();
            }
        }
        let flushed = match self.session.downstream_session.poll_flush(cx) {
            Poll::Ready(Ok(())) => true,
            Poll::Ready(Err(e)) => return Poll::Ready(Err(e.into_down())),
            Poll::Pending => false,
        };
        if flushed && self.delayed.is_none() && self.is_pending() {
            return self.poll_more(cx).map(Ok);
        }
        let sent = !self.state.is_tunnel() || self.link.is_flushed();
        if flushed && sent && self.state.is_over() && self.delayed.is_none() {
            return Poll::Ready(Ok(Event::Over));
        }
        // An origin's 1xx are taken from it also when the client takes nothing: no window holds them back in HTTP/2.
        if wants.response && (flushed || self.state.awaits_head()) && self.may_read_on(cx)? {
            if let Poll::Ready(event) = self.poll_response(cx) {
                return Poll::Ready(event);
            }
            // The client has all of its response, and need not wait for the mere end of the upstream's.
            if self.link.is_content_complete() && self.session.has_whole_response() {
                return Poll::Ready(Ok(Event::Response(HttpTask::Body(None, true))));
            }
        }
        if wants.request && self.link.is_flushed() {
            if let Poll::Ready(event) = self.poll_request(cx) {
                return Poll::Ready(event);
            }
        }
        // A client of HTTP/2 can leave while its request is not read on; others are seen by a read only.
        let unread = wants.request && !self.link.is_flushed() && self.session.is_http2();
        // In a tunnel of HTTP/1.1 the end of what a client sends looks as if it had left, and it still reads.
        let tells = self.session.is_http2() || !self.state.is_tunnel();
        if (wants.leave && tells) || unread {
            if let Poll::Ready(e) = self.session.downstream_session.poll_abort(cx) {
                return Poll::Ready(Err(e.into_down()));
            }
        }
        if self.state.is_tunnel() {
            return self.poll_idle(cx);
        }
        Poll::Pending
    }

    /// Fails when nothing has passed a tunnel for as long as the server's options let it.
    fn poll_idle(&mut self, cx: &mut Context<'_>) -> Poll<Result<Event>> {
        if self.idle.is_none() {
            let options = self.proxy.server_options.as_ref();
            let limit = options.and_then(|options| options.tunnel_idle_timeout);
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

    /// Whether the client's connection has room for the beginning of a body, which may come with its head.
    fn may_read_on(&mut self, cx: &mut Context<'_>) -> Result<bool> {
        // What an origin of HTTP/2 sends before the head would be kept all the same.
        if !self.session.is_http2()
            || !self.state.awaits_head()
            || self.link.version() == Version::HTTP_2
        {
            return Ok(true);
        }
        match self.session.downstream_session.poll_room(cx) {
            Poll::Ready(room) => room.map(|()| true).map_err(Error::into_down),
            Poll::Pending => Ok(false),
        }
    }

    fn wants(&self) -> Wants {
        let mut wants = self.state.wants();
        wants.response &= self.delayed.is_none() && !self.is_pending();
        wants
    }

    /// Whether the last message of the response became more than one step of its decoding.
    fn is_pending(&self) -> bool {
        let session = &self.session;
        session.downstream_modules_ctx.is_pending()
            || session.upstream_compression.is_pending()
            || session.upstream_modules_pending()
    }

    /// The next step. A few bytes may become gigabytes: others are served in between.
    fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        self.gave_way = !self.gave_way;
        if self.gave_way {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let task = HttpTask::Body(None, false);
        Poll::Ready(match self.session.downstream_modules_ctx.is_pending() {
            true => Event::Due(task),
            false => Event::More(task),
        })
    }

    fn poll_request(&mut self, cx: &mut Context<'_>) -> Poll<Result<Event>> {
        if self.session.has_buffered_to_send() {
            return Poll::Ready(Ok(Event::Request(self.session.next_buffered())));
        }
        let body = self.session.downstream_session.poll_read_body(cx);
        body.map(|body| body.map(Event::Request).map_err(Error::into_down))
    }

    fn poll_response(&mut self, cx: &mut Context<'_>) -> Poll<Result<Event>> {
        self.link.read_little(!self.session.has_room());
        let task = self.link.poll_task(cx);
        task.map(|task| match task {
            Ok(task) => Ok(Event::Response(task)),
            Err(e) => self.response_failed(e),
        })
    }

    /// The upstream failed, which means nothing to a client that has all of its response.
    fn response_failed(&mut self, e: BError) -> Result<Event> {
        if !self.state.is_tunnel() && self.session.has_whole_response() {
            debug!("after the end of the response: {e}");
            return Ok(Event::Over);
        }
        // The upstream closed because it would not read on: that is what went wrong first.
        Err(self.write_error.take().unwrap_or(e).into_up())
    }

    /// Whether what the client has not taken yet is little enough to add to it without a write in between.
    fn client_has_room(&self) -> bool {
        self.session.queued() < SMALL
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

    /// A message of the response: filtered by the application, then written or delayed.
    async fn response(&mut self, task: &mut HttpTask) -> Result<()> {
        if let HttpTask::Header(header, _) = &*task {
            self.check_handshake(header)?;
            if header.status.is_informational()
                && header.status != StatusCode::SWITCHING_PROTOCOLS
                && !self.client_has_room()
            {
                return Ok(());
            }
        }
        self.state.response(self.message(task));
        self.pass(task).await
    }

    /// Filters a message of the response, then queues or delays it.
    async fn pass(&mut self, task: &mut HttpTask) -> Result<()> {
        let delay = self.filter_response(task).await?;
        self.announce_end(task)?;
        match delay {
            None | Some(Duration::ZERO) if self.session.downstream_modules_ctx.is_dormant() => {
                self.queue(task)
            }
            None | Some(Duration::ZERO) => self.emit(task).await,
            Some(delay) => {
                let task = std::mem::replace(task, HttpTask::Done);
                self.delay(delay, task);
                Ok(())
            }
        }
    }

    /// Tells the filters the end of a body that is empty. What they fill it with follows the head.
    fn announce_end(&mut self, task: &mut HttpTask) -> Result<()> {
        if let HttpTask::Header(_, end @ true) = task {
            let mut body = None;
            let delay = self.filter_body(&mut body, true)?;
            if body.is_some() || delay.is_some() {
                *end = false;
                self.delay(delay.unwrap_or_default(), HttpTask::Body(body, true));
            }
        }
        Ok(())
    }

    fn delay(&mut self, delay: Duration, task: HttpTask) {
        self.delayed = Some(Box::new((Box::pin(tokio::time::sleep(delay)), task)));
    }

    /// A client of HTTP/2 sees nothing of the handshake, which it could check itself in HTTP/1.1.
    fn check_handshake(&self, header: &ResponseHeader) -> Result<()> {
        if !self.session.is_extended_connect() {
            return Ok(());
        }
        let why = match (header.status, &self.accept) {
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

    fn message(&self, task: &HttpTask) -> Message {
        let HttpTask::Header(header, end) = task else {
            return Message::Rest { end: task.is_end() };
        };
        let tunnel =
            self.session.req_header().method == Method::CONNECT && header.status.is_success();
        match header.status {
            StatusCode::SWITCHING_PROTOCOLS => Message::Switching,
            _ if tunnel => Message::Switching,
            status if status.is_informational() => Message::Informational,
            _ => Message::Head { end: *end },
        }
    }
}

/// Bytes that are gathered before they are written.
const SMALL: usize = 16 * 1024;
