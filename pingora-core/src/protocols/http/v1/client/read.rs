//! Reading responses.

use std::task::{ready, Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use pingora_error::ErrorType::{ConnectionClosed, InternalError, InvalidHTTPHeader, ReadTimedout};
use pingora_error::{Error, Result, RetryType};
use pingora_http::internal::{MessageHead, Names};
use pingora_http::ResponseHeader;

use super::super::common;
use super::super::conn::{refused_head, Piece};
use super::super::proto::framing::{self, Answered, Framing};
use super::super::proto::head::{self, Found};
use super::super::proto::state::{Reading, Writing};
use super::super::proto::Refusal;
use super::HttpSession;
use crate::protocols::http::HttpTask;

impl HttpSession {
    /// Reads the head of a response and says how long it was. After a 1xx other than 101 the next call reads
    /// the head that follows.
    ///
    /// # Errors
    /// `InvalidHTTPHeader` with a [`Refusal`] as its cause; `ConnectionClosed`, `ReadTimedout`, `ReadError`.
    /// Those that may come from a connection which died while it was idle allow a retry on a reused one.
    /// `InternalError` when the final head was read already, or when the connection has failed.
    ///
    /// # Cancel safety
    /// Bytes that were received are kept, and the next call goes on.
    pub async fn read_response(&mut self) -> Result<usize> {
        std::future::poll_fn(|cx| self.poll_response(cx)).await
    }

    /// [`HttpSession::read_response`] as a poll.
    fn poll_response(&mut self, cx: &mut Context<'_>) -> Poll<Result<usize>> {
        if !matches!(self.inner.conn.reading, Reading::Head) {
            return Poll::Ready(Error::e_explain(
                InternalError,
                "no response head is awaited",
            ));
        }
        let (timeout, whole) = self.head_timeout();
        loop {
            let inner = &mut *self.inner;
            match inner.conn.scan(&inner.limits) {
                Ok(Some(found)) => {
                    if whole {
                        inner.conn.stop_read_deadline();
                    }
                    return Poll::Ready(self.take_response(found));
                }
                Ok(None) => {}
                Err(refusal) => return Poll::Ready(Err(self.refuse(refusal))),
            }
            if inner.conn.eof {
                inner.conn.reading = Reading::Broken;
                let mut e = Error::explain(
                    ConnectionClosed,
                    format!(
                        "the origin closed after {} bytes of a response head",
                        inner.conn.buf.len()
                    ),
                );
                if inner.conn.buf.is_empty() {
                    e.retry = RetryType::ReusedOnly;
                }
                return Poll::Ready(Err(e));
            }
            let silent = inner.conn.buf.is_empty();
            let filled = if whole {
                if timeout.is_none() {
                    // An earlier wait for a 100 is none for what follows the request.
                    inner.conn.stop_read_deadline();
                }
                inner.conn.poll_fill_more(cx, timeout)
            } else {
                inner.conn.poll_fill(cx, timeout)
            };
            if let Err(mut e) = ready!(filled) {
                if silent && e.etype == pingora_error::ErrorType::ReadError {
                    e.retry = RetryType::ReusedOnly;
                }
                if let (true, Some(limit), ReadTimedout) = (whole, timeout, &e.etype) {
                    e = Error::explain(ReadTimedout, format!("no response head within {limit:?}"));
                }
                return Poll::Ready(Err(e));
            }
        }
    }

    /// Returns how long to wait for the head of the response, and whether that is for the whole of it.
    #[inline]
    fn head_timeout(&self) -> (Option<Duration>, bool) {
        match self.response_header_timeout {
            None => (self.read_timeout, false),
            // It may be waiting for the rest of the request, which does not come before its 100 if the client waits for that.
            Some(_)
                if matches!(self.inner.conn.writing, Writing::Body(_)) && !self.owes_continue() =>
            {
                (None, true)
            }
            limit => (limit, true),
        }
    }

    /// Returns whether the origin was asked for a 100, and nothing has been sent without it.
    fn owes_continue(&self) -> bool {
        let exchange = self.exchange();
        let asked = exchange.request.as_deref();
        exchange.body_sent == 0
            && !exchange.continued
            && asked.is_some_and(common::is_expect_continue_req)
    }

    fn refuse(&mut self, refusal: Refusal) -> Box<Error> {
        self.inner.conn.reading = Reading::Broken;
        refused_head(refusal)
    }

    fn take_response(&mut self, found: Found) -> Result<usize> {
        let raw = self.inner.conn.take_head(found);
        let mut response = head::parse_response(&raw).map_err(|r| self.refuse(r))?;
        let answered = match &self.exchange().request {
            Some(request) => Answered::from(&request.method),
            None => Answered::Other,
        };
        let lenient = self.exchange().allow_invalid_length;
        let framing = framing::response(
            answered,
            response.status,
            response.version,
            &*response,
            lenient,
        )
        .map_err(|r| self.refuse(r))?;
        let tunnel = answered == Answered::Connect && response.status.is_success();
        if response.status == StatusCode::SWITCHING_PROTOCOLS || tunnel {
            self.upgrade(tunnel)?;
        } else if response.status.is_informational() {
            self.exchange_mut().continued |= response.status == StatusCode::CONTINUE;
            self.inner.conn.reading = Reading::Head;
        } else {
            self.inner.conn.reading = Reading::body(framing, true);
            tidy(&mut response, framing, lenient);
        }
        let length = raw.len();
        let exchange = self.exchange_mut();
        exchange.raw_head = raw;
        exchange.response = Some(response);
        self.respect_keepalive();
        Ok(length)
    }

    fn upgrade(&mut self, tunnel: bool) -> Result<()> {
        if !tunnel && !self.is_upgrade_req() {
            return Err(self.refuse(Refusal::UnaskedUpgrade));
        }
        if !matches!(self.inner.conn.writing, Writing::Done) {
            // RFC 9110 7.8: the protocol changes only after the whole request.
            return Err(self.refuse(Refusal::UnaskedUpgrade));
        }
        self.inner.conn.reading = Reading::Raw;
        self.exchange_mut().upgraded = true;
        self.maybe_upgrade_body_writer();
        Ok(())
    }

    /// Reads the head of a response and hands it out.
    ///
    /// # Errors
    /// As [`HttpSession::read_response`].
    pub async fn read_resp_header_parts(&mut self) -> Result<Box<ResponseHeader>> {
        self.read_response().await?;
        self.resp_header()
            .map(|h| Box::new(h.clone()))
            .ok_or_else(|| Error::explain(InvalidHTTPHeader, "no response head"))
    }

    /// The next piece of the response body; `None` after its end.
    ///
    /// # Errors
    /// `ConnectionClosed` when it is cut short, `H1Error` when it is malformed, `ReadTimedout`, `ReadError`.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn read_body_bytes(&mut self) -> Result<Option<Bytes>> {
        std::future::poll_fn(|cx| self.poll_response_body(cx)).await
    }

    /// [`HttpSession::read_body_bytes`] as a reference.
    ///
    /// # Errors
    /// As there.
    pub async fn read_body_ref(&mut self) -> Result<Option<&[u8]>> {
        let piece = self.read_body_bytes().await?;
        let ended = piece.is_none();
        self.exchange_mut().last_piece = piece.unwrap_or_default();
        Ok((!ended).then_some(&self.inner.exchange.last_piece))
    }

    fn poll_response_body(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>>> {
        let timeout = self.read_timeout;
        match ready!(self.inner.conn.poll_body(cx, timeout))? {
            Piece::Data(data) => {
                self.exchange_mut().body_received += data.len();
                Poll::Ready(Ok(Some(data)))
            }
            Piece::End(trailers) => {
                if trailers.is_some() {
                    self.exchange_mut().trailers = trailers;
                }
                Poll::Ready(Ok(None))
            }
        }
    }

    /// The next message of the response: heads, pieces of the body, trailers, and `Done` after its end.
    ///
    /// # Errors
    /// Those of [`HttpSession::read_response`] and [`HttpSession::read_body_bytes`].
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn read_response_task(&mut self) -> Result<HttpTask> {
        std::future::poll_fn(|cx| self.poll_response_task(cx)).await
    }

    /// Sets whether reads are to bring little from now on, because what they bring would have to be kept.
    pub(crate) fn read_little(&mut self, little: bool) {
        self.inner.conn.little = little;
    }

    /// [`HttpSession::read_response_task`] as a poll. The head is moved out, not copied.
    pub(crate) fn poll_response_task(&mut self, cx: &mut Context<'_>) -> Poll<Result<HttpTask>> {
        if matches!(self.inner.conn.reading, Reading::Head) {
            ready!(self.poll_response(cx))?;
            let ends = self.inner.conn.reading.is_over();
            let exchange = self.exchange_mut();
            exchange.told_end = ends;
            return Poll::Ready(match exchange.response.take() {
                Some(header) => Ok(HttpTask::Header(header, ends)),
                None => Error::e_explain(InvalidHTTPHeader, "no response head"),
            });
        }
        if self.exchange().told_end {
            return Poll::Ready(Ok(HttpTask::Done));
        }
        let piece = ready!(self.poll_response_body(cx))?;
        let raw = self.was_upgraded();
        let ends = self.inner.conn.reading.is_over();
        let exchange = self.exchange_mut();
        exchange.told_end = ends;
        Poll::Ready(Ok(match (piece, exchange.trailers.take()) {
            (Some(data), _) if raw => HttpTask::UpgradedBody(Some(data), ends),
            (Some(data), _) => HttpTask::Body(Some(data), ends),
            (None, Some(trailers)) => HttpTask::Trailer(Some(trailers)),
            (None, None) if raw => HttpTask::UpgradedBody(None, true),
            (None, None) => HttpTask::Body(None, true),
        }))
    }
}

/// Leaves one statement of the length in a head that made several.
fn tidy(response: &mut ResponseHeader, framing: Framing, lenient: bool) {
    use http::header::CONTENT_LENGTH;
    match framing {
        Framing::Length(n) if framing::length_is_repeated(&*response) => {
            // A number is always a valid value.
            let _ = response.insert_header(CONTENT_LENGTH, n);
        }
        // RFC 9112 6.3: Transfer-Encoding overrides Content-Length, which must not be passed on.
        Framing::Chunked | Framing::UntilClose
            if lenient || response.may_have(Names::TRANSFER_ENCODING) =>
        {
            response.remove_any(Names::CONTENT_LENGTH);
        }
        Framing::Empty => tidy_empty(response),
        _ => {}
    }
}

/// There is no body to misread, but who comes next may keep the length: a cache, or HTTP/2, which has the message malformed.
fn tidy_empty(response: &mut ResponseHeader) {
    use http::header::CONTENT_LENGTH;
    if !response.may_have(Names::CONTENT_LENGTH) {
        return;
    }
    match framing::content_length(&*response) {
        Ok(Some(n)) if !response.may_have(Names::TRANSFER_ENCODING) => {
            if framing::length_is_repeated(&*response) {
                // A number is always a valid value.
                let _ = response.insert_header(CONTENT_LENGTH, n);
            }
        }
        _ => response.remove_any(Names::CONTENT_LENGTH),
    }
}
