//! Reading requests.

use std::task::{ready, Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Version};
use pingora_error::ErrorType::{ConnectionClosed, InternalError, ReadError, ReadTimedout};
use pingora_error::{Error, Result};

use super::super::common;
use super::super::conn::{refused_head, Piece};
use super::super::proto::framing::{persistence, Persistence};
use super::super::proto::head::{self, Found};
use super::super::proto::state::{Reading, Writing};
use super::{HttpSession, Keepalive, Upgrade, LOOK};
use crate::limits::LIMITS;
use crate::protocols::http::drain::drain;
use crate::protocols::l4::ext;
use crate::shutdown::Stage;

impl HttpSession {
    /// Reads the head of the next request and says how long it was; `None` when the client closed, or
    /// the time for which an idle connection is kept was over, or a shutdown began, before a byte of it came.
    ///
    /// Host may be missing, repeated or malformed: who serves the request is to look at it
    /// ([`HttpSession::validate_request`]), as the proxy and [`HttpServer`](crate::apps::http_app::HttpServer) do. Where
    /// the target names an authority, Host says the same afterwards.
    ///
    /// # Errors
    /// `InvalidHTTPHeader` with a [`Refusal`](super::super::proto::Refusal) as its cause; `ReadTimedout`
    /// when the head did not come in time; `ConnectionClosed` and `ReadError`; `InternalError` when a head was
    /// read or a response written already, or when the connection has failed.
    ///
    /// # Cancel safety
    /// Bytes that were received are kept, and the next call goes on.
    pub async fn read_request(&mut self) -> Result<Option<usize>> {
        std::future::poll_fn(|cx| self.poll_read_request(cx)).await
    }

    /// [`HttpSession::read_request`] as a poll.
    pub(crate) fn poll_read_request(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<usize>>> {
        let conn = &self.inner.conn;
        if !matches!(
            (&conn.reading, &conn.writing),
            (Reading::Head, Writing::Head)
        ) {
            return Poll::Ready(Error::e_explain(
                InternalError,
                "no request head is awaited",
            ));
        }
        loop {
            let inner = &mut *self.inner;
            match inner.conn.scan(&inner.limits()) {
                Ok(Some(found)) => return Poll::Ready(self.take_request(found).map(Some)),
                Ok(None) => {}
                Err(refusal) => {
                    inner.conn.reading = Reading::Broken;
                    return Poll::Ready(Err(refused_head(refusal)));
                }
            }
            let begun = inner.conn.scanner.begun(&inner.conn.buf);
            match inner.conn.poll_read(cx) {
                Poll::Ready(Ok(0)) => {
                    inner.conn.eof = true;
                    inner.conn.reading = Reading::Broken;
                    return Poll::Ready(if begun {
                        Error::e_explain(ConnectionClosed, "in the middle of a request head")
                    } else {
                        Ok(None)
                    });
                }
                // The head has its own time, which empty lines before it do not begin.
                Poll::Ready(Ok(_)) => {
                    if !begun && inner.conn.scanner.begun(&inner.conn.buf) {
                        inner.conn.stop_read_deadline();
                    }
                }
                // A reset of a connection that was waiting for its next request is an ordinary end.
                Poll::Ready(Err(_)) if !begun => {
                    inner.conn.reading = Reading::Broken;
                    return Poll::Ready(Ok(None));
                }
                Poll::Ready(Err(e)) => {
                    inner.conn.reading = Reading::Broken;
                    return Poll::Ready(Error::e_because(
                        ReadError,
                        "while reading a request head",
                        e,
                    ));
                }
                Poll::Pending => return self.wait_for_request(cx, begun),
            }
        }
    }

    /// Waits until something comes of the next request, or nothing will, which [`HttpSession::poll_read_request`] then
    /// finds as well.
    pub(crate) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let conn = &mut self.inner.conn;
        // Who waits in no registry ends its wait in a way of its own.
        if self.inner.place.is_none() || conn.eof || !conn.buf.is_empty() {
            return Poll::Ready(());
        }
        match conn.poll_read(cx) {
            // The head has its own time, which empty lines before it do not begin.
            Poll::Ready(Ok(1..)) if conn.scanner.begun(&conn.buf) => conn.stop_read_deadline(),
            Poll::Ready(Ok(1..)) => {}
            Poll::Ready(Ok(0) | Err(_)) => conn.eof = true,
            Poll::Pending if self.wait_is_over(cx, false) => {}
            Poll::Pending => return Poll::Pending,
        }
        Poll::Ready(())
    }

    /// The read has to wait: for how long, and what else ends it.
    fn wait_for_request(
        &mut self,
        cx: &mut Context<'_>,
        begun: bool,
    ) -> Poll<Result<Option<usize>>> {
        if !self.wait_is_over(cx, begun) {
            return Poll::Pending;
        }
        self.inner.conn.reading = Reading::Broken;
        Poll::Ready(if begun {
            Error::e_explain(ReadTimedout, "the request head did not come in time")
        } else {
            Ok(None)
        })
    }

    /// Returns whether what is missing of a request is not awaited any longer.
    fn wait_is_over(&mut self, cx: &mut Context<'_>, begun: bool) -> bool {
        let inner = &mut *self.inner;
        let place = inner.place.as_mut();
        let stage = place.map_or(Stage::Running, |place| place.park(cx.waker()));
        if inner.conn.read_deadline_is_unset() {
            match inner.keepalive {
                Keepalive::For(idle) if inner.reused && !begun => inner.conn.read_by(idle),
                Keepalive::Endless if inner.reused && !begun => {}
                _ => {
                    let within = inner.client_read();
                    inner.conn.read_by(within);
                }
            }
            let keep = match &inner.place {
                Some(place) if stage != Stage::Running && !begun => place.kept_idle(),
                _ => Duration::ZERO,
            };
            inner.kept = !keep.is_zero();
            if inner.kept {
                inner.conn.read_sooner(keep);
            }
        }
        if stage >= Stage::Expiring && (begun || !inner.kept) {
            // A request that lies in the receive queue has reached us: its readiness is on the way.
            if stage == Stage::Closing && !begun && !inner.conn.has_more() {
                return true;
            }
            inner.conn.read_sooner(inner.shutdown_read_timeout);
        }
        inner.conn.read_overdue(cx)
    }

    /// Checks that the request says which host it is for, as HTTP/1.1 demands.
    ///
    /// # Errors
    /// `InvalidHTTPHeader` with [`Refusal::Host`](super::super::proto::Refusal::Host) as its cause.
    pub(crate) fn check_host(&self) -> Result<()> {
        head::check_host(self.req_header()).map_err(refused_head)
    }

    fn take_request(&mut self, found: Found) -> Result<usize> {
        let inner = &mut *self.inner;
        inner.conn.stop_read_deadline();
        let raw = inner.conn.take_head(found);
        let (request, framing) = match head::parse_request(&raw, &inner.limits()) {
            Ok(read) => read,
            Err(refusal) => {
                inner.conn.reading = Reading::Broken;
                // For who wants to know what it was.
                inner.exchange_mut().raw_head = raw;
                return Err(refused_head(refusal));
            }
        };
        let length = raw.len();
        inner.conn.reading = Reading::body(framing, false);
        let asked = common::is_upgrade_req(&request) || request.method == Method::CONNECT;
        let exchange = inner.exchange_mut();
        exchange.upgrade = if asked {
            Upgrade::Asked
        } else {
            Upgrade::Unasked
        };
        exchange.persistent = persistence(request.version, &*request) == Persistence::KeepAlive;
        exchange.raw_head = raw;
        exchange.request = Some(request);
        self.respect_keepalive();
        Ok(length)
    }

    /// The next piece of the request body; `None` after its end.
    ///
    /// # Errors
    /// `ReadTimedout`, `ConnectionClosed` when it is cut short, `H1Error` when it is malformed, `ReadError`.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn read_body_bytes(&mut self) -> Result<Option<Bytes>> {
        std::future::poll_fn(|cx| self.poll_read_body(cx)).await
    }

    /// [`HttpSession::read_body_bytes`] as a poll.
    pub(crate) fn poll_read_body(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>>> {
        let may_be_silent = self.is_being_answered();
        self.poll_body(cx, may_be_silent)
    }

    /// [`HttpSession::poll_read_body`] of a request that has gone upstream: the client may wait for a 100 (RFC 9110 section
    /// 10.1.1) for as long as the origin takes to send it, which has time limits of its own.
    pub(crate) fn poll_body_for_upstream(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<Bytes>>> {
        let waits = self.exchange().response.is_none() && self.awaits_continue();
        let may_be_silent = waits || self.is_being_answered();
        self.poll_body(cx, may_be_silent)
    }

    fn poll_body(
        &mut self,
        cx: &mut Context<'_>,
        may_be_silent: bool,
    ) -> Poll<Result<Option<Bytes>>> {
        self.make_raw_after_upgrade();
        let timeout = if may_be_silent {
            let told = self.inner.timeouts().read;
            if told.is_none() {
                // Once it may not any more, it has its time from then on.
                self.inner.conn.stop_read_deadline();
            }
            told
        } else {
            Some(self.inner.client_read())
        };
        match ready!(self.inner.conn.poll_body(cx, timeout))? {
            Piece::Data(data) => {
                let exchange = self.exchange_mut();
                exchange.body_read += data.len();
                if let Some(retry) = &mut exchange.retry {
                    retry.write_to_buffer(&data);
                }
                Poll::Ready(Ok(Some(data)))
            }
            Piece::End(trailers) => {
                if trailers.is_some() {
                    self.exchange_mut().request_trailers = trailers;
                }
                Poll::Ready(Ok(None))
            }
        }
    }

    /// Returns whether nobody may blame the client for sending nothing: it gets a response. The two sides of an upgraded
    /// connection may be silent as long as they like, until one of them ends.
    fn is_being_answered(&self) -> bool {
        let answered = self.exchange().response.is_some();
        answered && !self.inner.conn.writing.is_over() && !self.has_whole_response()
    }

    /// Reads the body, or, when there is none left or none is expected, waits for the client to leave.
    ///
    /// # Errors
    /// Those of [`HttpSession::read_body_bytes`], and `ConnectionClosed` when the client leaves, be it by closing one
    /// direction only, unless [`HttpSession::set_abort_on_close`] says that it does not leave so.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn read_body_or_idle(&mut self, no_body_expected: bool) -> Result<Option<Bytes>> {
        if no_body_expected || self.is_body_done() {
            let abort = self.exchange().options.abort_on_close.unwrap_or(true);
            let gone = std::future::poll_fn(|cx| match ready!(self.poll_closed(cx)) {
                Err(e) => Poll::Ready(e),
                Ok(()) if abort => Poll::Ready(closed()),
                Ok(()) => Poll::Pending,
            });
            return Err(gone.await);
        }
        self.read_body_bytes().await
    }

    /// Waits until the connection delivers something outside of a body: 0 when the client closed, else how
    /// many bytes it sent, which are kept for the next request.
    ///
    /// # Errors
    /// `ReadError`.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn idle(&mut self) -> Result<usize> {
        if self.inner.conn.eof {
            return Ok(0);
        }
        std::future::poll_fn(|cx| self.inner.conn.poll_fill(cx, None)).await
    }

    /// Ready when the client has left before its response is complete. A request that it sends
    /// meanwhile is kept, once, and nothing more is read.
    ///
    /// A client that has closed its direction may still read (RFC 9112 section 9.6). Whether it does cannot be told
    /// until something is written: one that is gone answers by a reset.
    pub(crate) fn poll_abort(&mut self, cx: &mut Context<'_>) -> Poll<Box<Error>> {
        match ready!(self.poll_closed(cx)) {
            Err(e) => Poll::Ready(e),
            Ok(()) => self.poll_gone(cx),
        }
    }

    /// Ready when the client has closed its direction.
    fn poll_closed(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        let conn = &mut self.inner.conn;
        if !conn.eof && conn.buf.is_empty() {
            // `Broken` is for a failed body. Here a failed read means that the client is gone.
            match ready!(conn.poll_unexpected(cx)) {
                Ok(n) => conn.eof = n == 0,
                Err(e) => {
                    conn.eof = true;
                    conn.reading = Reading::Broken;
                    return Poll::Ready(Error::e_because(
                        ConnectionClosed,
                        "the client is gone before its response is complete",
                        e,
                    ));
                }
            }
        }
        if conn.eof {
            Poll::Ready(Ok(()))
        } else {
            Poll::Pending
        }
    }

    /// Ready when a client that has closed its direction is gone, as far as that can be seen.
    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<Box<Error>> {
        let exchange = self.exchange();
        let abort_on_close = exchange.options.abort_on_close;
        let written = exchange.body_sent + usize::from(exchange.response.is_some());
        let wrote = written != exchange.written;
        let conn = &mut self.inner.conn;
        let reset = conn.socket().is_some_and(ext::is_hung_up);
        if reset || abort_on_close == Some(true) {
            return Poll::Ready(closed());
        }
        if abort_on_close.is_none() {
            // The request is read, so that no read needs the deadline. What is written brings the reset, or shows
            // that the client is there.
            if wrote || conn.read_deadline_is_unset() {
                conn.read_by(LIMITS.client_half_closed);
                self.exchange_mut().written = written;
            }
            if self.inner.conn.read_overdue(cx) {
                return Poll::Ready(closed());
            }
        }
        // The reactor wakes nobody for a reset that follows the end.
        self.inner.conn.wake_in(cx, LOOK);
        Poll::Pending
    }

    /// Reads the rest of the request body for nothing, so that the connection can be used again.
    ///
    /// # Errors
    /// Those of [`HttpSession::read_body_bytes`]; `ReadTimedout` when it takes longer than the total drain
    /// timeout, `ReadError` when there is more of it than is worth it (1 MiB).
    pub async fn drain_request_body(&mut self) -> Result<()> {
        if self.is_body_done() {
            return Ok(());
        }
        let within = self.inner.timeouts().drain.unwrap_or(LIMITS.client_drain);
        let drained = drain(within, |cx| self.poll_read_body(cx)).await;
        if drained.is_err() {
            // Where the next request begins is not known.
            self.inner.conn.reading = Reading::Broken;
        }
        drained
    }

    /// Returns whether a byte of the next request was received.
    pub(crate) fn has_begun(&self) -> bool {
        self.inner.conn.scanner.begun(&self.inner.conn.buf)
    }

    /// Returns whether a byte of the next request is there, be it in the kernel. Does not wait.
    pub(crate) fn poll_has_request(&mut self, cx: &mut Context<'_>) -> bool {
        let conn = &mut self.inner.conn;
        if conn.buf.is_empty() && !conn.eof {
            if let Poll::Ready(Ok(n)) = conn.poll_read(cx) {
                conn.eof = n == 0;
            }
        }
        conn.scanner.begun(&conn.buf) || conn.has_more()
    }

    /// Takes from the request whether the connection is to be kept.
    pub fn respect_keepalive(&mut self) {
        self.inner.keepalive = match self.inner.keepalive {
            _ if !self.exchange().persistent => Keepalive::Off,
            Keepalive::Off if !self.inner.reused => Keepalive::Endless,
            as_before => as_before,
        };
    }

    /// Sets how long the connection is kept for another request: not at all for `None`, without a limit for
    /// `Some(0)`, else so many seconds. A request that forbids it is respected.
    pub fn set_server_keepalive(&mut self, keepalive: Option<u64>) {
        self.inner.keepalive = match keepalive {
            None => Keepalive::Off,
            Some(_) if self.client_forbids_reuse() => Keepalive::Off,
            Some(0) => Keepalive::Endless,
            Some(secs) => Keepalive::For(Duration::from_secs(secs)),
        };
    }

    pub(super) fn client_forbids_reuse(&self) -> bool {
        self.exchange().request.is_some() && !self.exchange().persistent
    }

    /// See [`HttpSession::set_server_keepalive`].
    pub fn get_keepalive_timeout(&self) -> Option<u64> {
        match self.inner.keepalive {
            Keepalive::Off => None,
            Keepalive::Endless => Some(0),
            Keepalive::For(idle) => Some(idle.as_secs()),
        }
    }

    /// Returns whether the connection is to be kept after this exchange.
    pub fn will_keepalive(&self) -> bool {
        self.inner.keepalive != Keepalive::Off
            && self.inner.reuses_remaining != Some(0)
            && !matches!(self.inner.conn.reading, Reading::Broken)
    }

    pub(super) fn is_http10(&self) -> bool {
        self.req_header().version < Version::HTTP_11
    }
}

fn closed() -> Box<Error> {
    Error::explain(
        ConnectionClosed,
        "the client closed before its response was complete",
    )
}
