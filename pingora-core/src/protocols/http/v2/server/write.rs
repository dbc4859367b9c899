//! Writing responses.

use std::task::{ready, Context, Poll};

use bytes::Bytes;
use h2::{Reason, SendStream};
use http::header::{CONTENT_LENGTH, DATE};
use http::{HeaderMap, Response, StatusCode, Version};
use log::warn;
use pingora_error::ErrorType::{InternalError, WriteError, WriteTimedout};
use pingora_error::{Error, Result};
use pingora_http::internal::{FieldRules, MessageHead, Names};
use pingora_http::ResponseHeader;

use super::super::conn_state::ConnState;
use super::super::out::Sent;
use super::super::{padding, stream_error};
use super::read::broken;
use super::{HttpSession, Tunnel, Writing};
use crate::limits::LIMITS;
use crate::protocols::http::v1::due_in;
use crate::protocols::http::v1::proto::framing::{self, Answered};
use crate::protocols::http::{date, tasks, HttpTask};

impl HttpSession {
    /// Writes a response head. A 1xx may be followed by further heads; `end` says that no body follows
    /// this one.
    ///
    /// Date is added when it is missing, and fields that speak of a connection are removed. A 101 answers an
    /// extended CONNECT, and is a 200 there (RFC 8441 section 5).
    ///
    /// # Errors
    /// `H2Error` when the stream has ended; `InternalError` for a 101 to another request.
    pub fn write_response_header(&mut self, header: Box<ResponseHeader>, end: bool) -> Result<()> {
        let status = header.status;
        if status == StatusCode::SWITCHING_PROTOCOLS {
            if !self.opens_tunnel(status) {
                return Error::e_explain(
                    InternalError,
                    "101 to a client that asked for no upgrade",
                );
            }
        } else if status.is_informational() {
            return self.write_informational(header);
        }
        match self.inner.writing {
            Writing::Head => self.write_final(header, end),
            Writing::Broken => Err(broken()),
            Writing::Body(_) | Writing::Done => {
                warn!("a second response head ({status}) is dropped");
                Ok(())
            }
        }
    }

    /// [`HttpSession::write_response_header`] of a copy.
    ///
    /// # Errors
    /// As there.
    pub fn write_response_header_ref(&mut self, header: &ResponseHeader, end: bool) -> Result<()> {
        self.write_response_header(Box::new(header.clone()), end)
    }

    fn write_informational(&mut self, mut header: Box<ResponseHeader>) -> Result<()> {
        // A client that waits for a 100 gets it all the same.
        let awaited = header.status == StatusCode::CONTINUE && self.awaits_continue();
        let wanted = awaited || !self.inner.ignore_info_resp;
        if self.inner.writing != Writing::Head || !wanted {
            return Ok(());
        }
        header.remove_any(Names::HOP_BY_HOP);
        // RFC 9110 section 8.6.
        header.remove_any(Names::CONTENT_LENGTH);
        self.inner.informed += size(&header);
        if self.inner.informed > LIMITS.informational_bytes && !awaited {
            // No window holds them back, and a client does without.
            return Ok(());
        }
        self.inner.continued |= header.status == StatusCode::CONTINUE;
        self.inner
            .respond
            .send_informational(message(&header))
            .map_err(|e| stream_error("while writing an informational response", e))
    }

    fn write_final(&mut self, mut header: Box<ResponseHeader>, end: bool) -> Result<()> {
        header.remove_any(Names::HOP_BY_HOP);
        let tunnel = self.opens_tunnel(header.status);
        if tunnel {
            self.open_tunnel(&mut header)?;
        }
        let answered = Answered::from(&self.inner.request.method);
        let bodiless = !tunnel && framing::bodiless(answered, header.status);
        // RFC 9110 section 8.6.
        if header.status == StatusCode::NO_CONTENT {
            header.remove_header(&CONTENT_LENGTH);
        }
        let promised = if bodiless {
            None
        } else {
            framing::content_length(&*header).ok().flatten()
        };
        if !header.may_have(Names::DATE) || !header.headers.contains_key(DATE) {
            header.insert_header(DATE, date::get_cached_date())?;
        }
        let end = end || bodiless;
        if end && promised.is_some_and(|n| n > 0) {
            self.shutdown_with_reason(Reason::INTERNAL_ERROR);
            return Error::e_explain(WriteError, "a response without the body it promises");
        }
        let sent = self.inner.respond.send_response(message(&header), end);
        match sent {
            Ok(send) => self.inner.send = Some(send),
            Err(e) => {
                self.inner.writing = Writing::Broken;
                return Err(stream_error("while writing a response head", e));
            }
        }
        self.inner.writing = if end {
            Writing::Done
        } else {
            Writing::Body(promised)
        };
        self.inner.response = Some(header);
        Ok(())
    }

    /// Makes the response one whose body is a tunnel, which has no length.
    fn open_tunnel(&mut self, header: &mut ResponseHeader) -> Result<()> {
        header.remove_header(&CONTENT_LENGTH);
        if self.inner.tunnel == Tunnel::Extended {
            header.set_status(StatusCode::OK)?;
            for of_http1 in FieldRules::HTTP1_HANDSHAKE.fields() {
                header.remove_header(&of_http1);
            }
        }
        self.inner.tunnel = Tunnel::Open;
        Ok(())
    }

    /// Writes a piece of the response body, and waits until flow control has let it go; `end` makes it the last.
    ///
    /// # Errors
    /// `H2Error` when the stream has ended, `WriteTimedout`; `WriteError` when the body is shorter than its
    /// head promised; `InternalError` before the head.
    ///
    /// # Cancel safety
    /// The piece is queued whole, and leaves with the next write.
    pub async fn write_body(&mut self, data: Bytes, end: bool) -> Result<()> {
        self.queue_body(data)?;
        if end {
            self.queue_end(None)?;
        }
        self.flush().await
    }

    /// Ends the response with trailers. What of the body still waits for the client goes before them.
    ///
    /// # Errors
    /// Those of [`HttpSession::write_body`].
    pub fn write_trailers(&mut self, trailers: HeaderMap) -> Result<()> {
        self.queue_end(Some(trailers))?;
        self.send_now()
    }

    /// Ends the response.
    ///
    /// # Errors
    /// Those of [`HttpSession::write_body`].
    pub fn finish(&mut self) -> Result<()> {
        if self.inner.writing == Writing::Broken {
            return Ok(());
        }
        self.queue_end(None)?;
        self.send_now()
    }

    /// Gives the writer of the body away, once the head of the response is out; what is queued goes before. The
    /// rest of the response, and its end, are up to who takes it.
    #[doc(hidden)]
    pub fn take_response_body_writer(&mut self) -> Option<SendStream<Bytes>> {
        let mut send = self.inner.send.take()?;
        // It fails when the stream has ended, which its new owner sees with the next write.
        let _ = self.inner.out.send_all(&mut send);
        // The connection takes the stream for served: when its new owner is done with it, nobody tells.
        self.inner.out.forget_state();
        self.inner.writing = Writing::Done;
        Some(send)
    }

    /// Writes the messages of a response, and says whether the last one ended it.
    ///
    /// # Errors
    /// Those of the writes, and the one that a [`HttpTask::Failed`] carries.
    pub async fn response_duplex_vec(&mut self, tasks: Vec<HttpTask>) -> Result<bool> {
        tasks::write_all(self, tasks).await
    }

    /// Queues a message, and says whether it ends the response.
    pub(crate) fn queue_task(&mut self, task: HttpTask) -> Result<bool> {
        tasks::queue(self, task)
    }

    fn queue_body(&mut self, mut data: Bytes) -> Result<()> {
        match &mut self.inner.writing {
            Writing::Body(Some(left)) => {
                let taken = data.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                if taken < data.len() {
                    warn!(
                        "{} bytes beyond the response body dropped",
                        data.len() - taken
                    );
                    data.truncate(taken);
                }
                *left -= taken as u64;
            }
            Writing::Body(None) => {}
            Writing::Done => return Ok(()),
            Writing::Head => return Error::e_explain(InternalError, "a body before its head"),
            Writing::Broken => return Err(broken()),
        }
        self.inner.body_sent += data.len();
        self.inner.out.push(data);
        Ok(())
    }

    fn queue_end(&mut self, trailers: Option<HeaderMap>) -> Result<()> {
        match self.inner.writing {
            Writing::Body(Some(missing)) if missing > 0 => {
                self.shutdown_with_reason(Reason::INTERNAL_ERROR);
                Error::e_explain(
                    WriteError,
                    format!("the response body ended {missing} bytes early"),
                )
            }
            Writing::Body(_) => {
                self.inner.out.end(trailers);
                self.inner.writing = Writing::Done;
                Ok(())
            }
            Writing::Done | Writing::Head => Ok(()),
            Writing::Broken => Err(broken()),
        }
    }

    async fn flush(&mut self) -> Result<()> {
        std::future::poll_fn(|cx| self.poll_flush(cx)).await
    }

    /// Hands over everything, whatever flow control says: what it does not let go waits in the connection.
    fn send_now(&mut self) -> Result<()> {
        match &mut self.inner.send {
            Some(send) => self.inner.out.send_all(send),
            None => Ok(()),
        }
    }

    /// Hands what is queued to the connection, as much as flow control lets.
    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        let pending = !self.inner.out.is_empty();
        match self.poll_hand_over(cx) {
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(e)) => {
                self.inner.out.clear();
                self.inner.writing = Writing::Broken;
                return Poll::Ready(Err(e));
            }
            Poll::Pending => {
                self.inner.room = false;
                return self.poll_overdue(cx);
            }
        }
        // With its head may come the beginning of a body, for which nobody has asked yet.
        self.inner.room = self.inner.writing != Writing::Head
            || !self.inner.out.state().is_some_and(ConnState::is_crowded);
        match self.inner.writing {
            // More of it stays with its origin until there is room for it.
            Writing::Body(_) => self.poll_room(cx),
            // With nothing to hand over, it is the time of the wait for room, which goes on.
            Writing::Head if !pending => Poll::Ready(Ok(())),
            Writing::Head | Writing::Done | Writing::Broken => {
                self.inner.write_due = None;
                Poll::Ready(Ok(()))
            }
        }
    }

    fn poll_hand_over(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        let inner = &mut *self.inner;
        let Some(send) = &mut inner.send else {
            return Poll::Ready(Ok(()));
        };
        while !inner.out.is_empty() {
            match ready!(inner.out.poll_send(send, cx))? {
                Sent::All => break,
                Sent::Part => inner.write_due = None,
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Waits until the connection has room for more of the response: while its client takes nothing, its streams
    /// together hold a limited number of bytes.
    ///
    /// # Errors
    /// `H2Error` when the client gives up the stream, `WriteTimedout` when it takes nothing for too long.
    pub(crate) fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        if self.inner.out.poll_room(cx).is_ready() {
            self.inner.write_due = None;
            return Poll::Ready(Ok(()));
        }
        self.inner.room = false;
        // Nobody makes room in a connection that has ended.
        match self.poll_abort(cx) {
            Poll::Ready(e) => Poll::Ready(Err(e)),
            Poll::Pending => self.poll_overdue(cx),
        }
    }

    /// Fails when the client has taken nothing for too long.
    fn poll_overdue(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        let timeout = self.write_timeout.unwrap_or(LIMITS.client_write);
        let due = *self.inner.write_due.get_or_insert_with(|| due_in(timeout));
        if !self.inner.timer.is_over(cx, due) {
            return Poll::Pending;
        }
        self.shutdown_with_reason(Reason::CANCEL);
        Poll::Ready(Error::e_explain(
            WriteTimedout,
            format!("nothing was taken for {timeout:?}"),
        ))
    }

    /// Returns how many bytes are queued and were not handed over.
    pub(crate) fn queued(&self) -> usize {
        self.inner.out.len()
    }

    /// Returns whether everything queued was handed over.
    pub(crate) fn is_flushed(&self) -> bool {
        self.inner.out.is_empty()
    }

    /// Returns whether the client takes what is written at once, as far as that is known.
    pub(crate) fn has_room(&self) -> bool {
        self.inner.room
    }

    /// Queues a message of the response for [`HttpSession::write_proxy_tasks`].
    pub(crate) fn send_proxy_task(&mut self, task: HttpTask) {
        tasks::send(self, task)
    }

    /// Writes the queued messages, and says whether the last one ended the response.
    pub(crate) async fn write_proxy_tasks(&mut self) -> Result<bool> {
        tasks::write_sent(self).await
    }

    pub(crate) fn has_pending_proxy_tasks(&self) -> bool {
        !self.is_flushed() || self.inner.tasks.has_failed()
    }

    /// Ends the response, and waits until flow control has let all of it go.
    pub(crate) async fn finish_and_flush(&mut self) -> Result<()> {
        if self.inner.writing == Writing::Broken {
            return Ok(());
        }
        self.queue_end(None)?;
        self.flush().await
    }
}

impl tasks::Response for HttpSession {
    fn queue_head(&mut self, header: Box<ResponseHeader>, end: bool) -> Result<()> {
        self.write_response_header(header, end)
    }

    fn queue_piece(&mut self, data: Bytes) -> Result<()> {
        self.queue_body(data)
    }

    fn queue_last(&mut self, trailers: Option<Box<HeaderMap>>) -> Result<()> {
        self.queue_end(trailers.map(|trailers| *trailers))
    }

    fn poll_written(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        self.poll_flush(cx)
    }

    fn outcome(&mut self) -> &mut tasks::Outcome {
        &mut self.inner.tasks
    }
}

/// Returns what a head takes in memory, by the reckoning of RFC 9113 section 6.5.2.
fn size(header: &ResponseHeader) -> usize {
    let fields = header.headers.iter();
    fields.fold(32, |size, (name, value)| {
        size + name.as_str().len() + value.len() + 32
    })
}

/// The head as the h2 crate takes it.
pub(super) fn message(header: &ResponseHeader) -> Response<()> {
    let mut message = Response::new(());
    *message.status_mut() = header.status;
    *message.version_mut() = Version::HTTP_2;
    *message.headers_mut() = header.headers.clone();
    padding::trim(message.headers_mut());
    message
}
