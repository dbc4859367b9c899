//! Reading the body of a request.

use std::future::Future;
use std::pin::Pin;
use std::task::{ready, Context, Poll};

use bytes::Bytes;
use h2::Reason;
use http::HeaderMap;
use pingora_error::ErrorType::{H2Error, ReadTimedout};
use pingora_error::{BError, Error, Result};

use super::super::conn_state::ConnState;
use super::super::out::reset_by_peer;
use super::super::stream_error;
use super::{HttpSession, ReadState};
use crate::limits::LIMITS;
use crate::protocols::http::drain::drain;
use crate::protocols::http::v1::common::is_expect_continue_req;
use crate::protocols::http::v1::due_in;

impl HttpSession {
    /// The next piece of the request body; `None` after its end.
    ///
    /// The client gets its window back for a piece when the next one is asked for, so that who reads no
    /// further stops it. The last bytes that Content-Length promises are given out only when the
    /// stream has ended there: nobody takes a request for complete that is not.
    ///
    /// # Errors
    /// `H2Error` when the stream was reset, by the client or because it is malformed; `ConnectionClosed`;
    /// `ReadTimedout`.
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
        let may_be_silent = self.awaits_continue() || self.is_being_answered();
        self.poll_body(cx, may_be_silent)
    }

    fn poll_body(
        &mut self,
        cx: &mut Context<'_>,
        may_be_silent: bool,
    ) -> Poll<Result<Option<Bytes>>> {
        match self.poll_read_body_bytes(cx) {
            Poll::Ready(None) => Poll::Ready(Ok(None)),
            Poll::Ready(Some(Ok(data))) => {
                self.inner.read_due = None;
                Poll::Ready(Ok(Some(data)))
            }
            Poll::Ready(Some(Err(e))) => {
                Poll::Ready(Err(stream_error("while reading a request body", e)))
            }
            Poll::Pending => {
                let timeout = match self.inner.read_timeout {
                    None if may_be_silent => {
                        // Once it may not any more, it has its time from then on.
                        self.inner.read_due = None;
                        return Poll::Pending;
                    }
                    Some(told) => told,
                    None => {
                        let of_endpoint = self.inner.out.state().and_then(ConnState::read_timeout);
                        of_endpoint.unwrap_or(LIMITS.client_read)
                    }
                };
                let due = *self.inner.read_due.get_or_insert_with(|| due_in(timeout));
                if !self.inner.timer.is_over(cx, due) {
                    return Poll::Pending;
                }
                self.inner.reading.state = ReadState::Broken;
                Poll::Ready(Error::e_explain(
                    ReadTimedout,
                    format!("nothing was received for {timeout:?}"),
                ))
            }
        }
    }

    /// Returns whether nobody may blame the client for sending nothing: it gets a response, as in a call of gRPC, or has a
    /// tunnel, whose two sides may be silent as long as they like. A PING asks whether it is still there. Once the other
    /// side has ended, it has to come to its end.
    fn is_being_answered(&self) -> bool {
        (self.is_tunnel() || self.response_written().is_some()) && !self.has_whole_response()
    }

    /// Returns whether the client waits for a 100 before it sends its body.
    pub(super) fn awaits_continue(&self) -> bool {
        self.inner.body_read == 0
            && !self.inner.continued
            && self.response_written().is_none()
            && is_expect_continue_req(&self.inner.request)
    }

    /// [`HttpSession::read_body_bytes`] as a poll, without the timeout, and with the error as it came.
    #[doc(hidden)]
    pub fn poll_read_body_bytes(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, h2::Error>>> {
        if self.inner.reading.state == ReadState::Broken {
            return Poll::Ready(Some(Err(Reason::CANCEL.into())));
        }
        if self.awaits_tunnel() {
            return Poll::Ready(None);
        }
        self.release();
        loop {
            match self.inner.reading.state {
                ReadState::Body => match ready!(self.inner.body.poll_data(cx)) {
                    Some(Ok(data)) => {
                        self.inner.reading.unreleased += data.len();
                        if data.is_empty() {
                            continue;
                        }
                        match self.take(data) {
                            Ok(Some(data)) => return self.deliver(data),
                            Ok(None) => {}
                            Err(reason) => return self.refuse(reason),
                        }
                    }
                    Some(Err(e)) => {
                        self.inner.reading.state = ReadState::Broken;
                        return Poll::Ready(Some(Err(e)));
                    }
                    None => self.inner.reading.state = ReadState::Trailers,
                },
                ReadState::Trailers => {
                    let trailers = match ready!(self.inner.body.poll_trailers(cx)) {
                        Ok(trailers) => trailers,
                        Err(e) => {
                            self.inner.reading.state = ReadState::Broken;
                            return Poll::Ready(Some(Err(e)));
                        }
                    };
                    if let Err(reason) = self.end_of_request(trailers) {
                        return self.refuse(reason);
                    }
                    if let Some(held) = self.inner.reading.held.take() {
                        self.release();
                        return self.deliver(held);
                    }
                }
                ReadState::Done => {
                    return Poll::Ready(None);
                }
                ReadState::Broken => return Poll::Ready(Some(Err(Reason::CANCEL.into()))),
            }
        }
    }

    /// Counts a piece, and holds it back when it completes what Content-Length promises and more may follow.
    fn take(&mut self, data: Bytes) -> Result<Option<Bytes>, Reason> {
        self.inner.body_read += data.len();
        let read = self.inner.body_read as u64;
        let promised = self.inner.reading.promised;
        let ended = self.inner.body.is_end_stream();
        if promised.is_some_and(|promised| read > promised || (ended && read < promised)) {
            return Err(Reason::PROTOCOL_ERROR);
        }
        if ended {
            self.inner.reading.state = ReadState::Done;
            self.release();
        } else if promised == Some(read) {
            self.inner.reading.held = Some(data);
            return Ok(None);
        }
        Ok(Some(data))
    }

    fn deliver(&mut self, data: Bytes) -> Poll<Option<Result<Bytes, h2::Error>>> {
        if let Some(retry) = &mut self.inner.retry {
            retry.write_to_buffer(&data);
        }
        Poll::Ready(Some(Ok(data)))
    }

    /// The request is malformed: its stream ends here.
    fn refuse(&mut self, reason: Reason) -> Poll<Option<Result<Bytes, h2::Error>>> {
        if let Some(state) = self.inner.out.state() {
            state.note_malformed();
        }
        self.shutdown_with_reason(reason);
        Poll::Ready(Some(Err(reason.into())))
    }

    fn end_of_request(&mut self, trailers: Option<HeaderMap>) -> Result<(), Reason> {
        let promised = self.inner.reading.promised;
        if promised.is_some_and(|promised| promised != self.inner.body_read as u64) {
            return Err(Reason::PROTOCOL_ERROR);
        }
        if let Some(trailers) = trailers {
            super::check::trailers(&trailers)?;
            self.inner.request_trailers = Some(Box::new(trailers));
        }
        self.inner.reading.state = ReadState::Done;
        Ok(())
    }

    /// Waits for the end of a request that promises a body of no bytes and has not ended with its head: an origin of
    /// HTTP/1.1 takes it for complete when it sees the head, so it is passed on when it is.
    ///
    /// # Errors
    /// Those of [`HttpSession::read_body_bytes`].
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub(crate) async fn read_empty_body(&mut self) -> Result<()> {
        std::future::poll_fn(|cx| self.poll_empty_body(cx)).await
    }

    fn poll_empty_body(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        let ends_later = self.inner.reading.promised == Some(0)
            && !self.awaits_tunnel()
            && matches!(
                self.inner.reading.state,
                ReadState::Body | ReadState::Trailers
            );
        match ends_later {
            // The first byte is one too many, and resets the stream.
            true => self.poll_read_body(cx).map_ok(|_| ()),
            false => Poll::Ready(Ok(())),
        }
    }

    /// Gives the client its window back for what was passed on.
    fn release(&mut self) {
        let n = std::mem::take(&mut self.inner.reading.unreleased);
        if n > 0 {
            // It fails only for more than was received.
            let _ = self.inner.body.flow_control().release_capacity(n);
        }
    }

    /// Reads the body, or, when there is none left or none is expected, waits for the client to leave.
    ///
    /// # Errors
    /// Those of [`HttpSession::read_body_bytes`], and `H2Error` when the client resets the stream.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn read_body_or_idle(&mut self, no_body_expected: bool) -> Result<Option<Bytes>> {
        if no_body_expected || self.is_body_done() {
            let reason = self.idle().await?;
            return Err(reset_by_peer(reason));
        }
        self.read_body_bytes().await
    }

    /// Waits for the client to give up the stream, and says why it did.
    ///
    /// # Errors
    /// When the connection ends.
    pub fn idle(&mut self) -> Idle<'_> {
        Idle(self)
    }

    fn poll_reset(&mut self, cx: &mut Context<'_>) -> Poll<Result<Reason>> {
        let reset = match &mut self.inner.send {
            Some(send) => send.poll_reset(cx),
            None => self.inner.respond.poll_reset(cx),
        };
        reset.map_err(|e| stream_error("while waiting for the end of a stream", e))
    }

    /// Ready when the client has left before its response is complete.
    pub(crate) fn poll_abort(&mut self, cx: &mut Context<'_>) -> Poll<BError> {
        self.poll_reset(cx).map(|reset| match reset {
            Ok(reason) => reset_by_peer(reason),
            Err(e) => e,
        })
    }

    /// Reads the rest of the request body for nothing.
    ///
    /// # Errors
    /// Those of [`HttpSession::read_body_bytes`]; `ReadTimedout` when it takes longer than the total drain
    /// timeout, `ReadError` when there is more of it than is worth it (1 MiB).
    pub async fn drain_request_body(&mut self) -> Result<()> {
        if self.is_body_done() {
            return Ok(());
        }
        let within = self.inner.drain_timeout.unwrap_or(LIMITS.client_drain);
        drain(within, |cx| self.poll_read_body(cx)).await
    }

    /// The fields after the request body, once it is read.
    pub(crate) fn request_trailers(&self) -> Option<&HeaderMap> {
        self.inner.request_trailers.as_deref()
    }
}

/// Waits for the client to give up a stream; see [`HttpSession::idle`].
pub struct Idle<'a>(&'a mut HttpSession);

impl Future for Idle<'_> {
    type Output = Result<Reason>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.poll_reset(cx)
    }
}

/// A response that no longer makes sense, because its stream was given up.
pub(super) fn broken() -> BError {
    Error::explain(H2Error, "the stream was given up")
}
