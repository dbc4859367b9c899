//! Writing responses.

use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{HeaderValue, CONNECTION, DATE, TRANSFER_ENCODING};
use http::{HeaderMap, Method, StatusCode};
use log::warn;
use pingora_error::ErrorType::InternalError;
use pingora_error::{Error, Result};
use pingora_http::internal::{MessageHead, Names};
use pingora_http::ResponseHeader;

use super::super::common::CRLF;
use super::super::proto::framing::{self, Answered, Framing};
use super::super::proto::out::Out;
use super::super::proto::state::Writing;
use super::super::send::broken;
use super::{HttpSession, Keepalive, Upgrade};
use crate::protocols::http::{date, tasks, HttpTask};
use crate::shutdown::Stage;

impl HttpSession {
    /// Writes a response head. A 1xx may be followed by further heads.
    ///
    /// Date is added when it is missing, Connection says what will happen to the connection, and the
    /// framing fields decide how the body is written: so many bytes, or chunked, which is also what
    /// happens without any of them. HTTP/1.0 knows no chunks: there the end of the connection ends the body.
    ///
    /// # Errors
    /// `WriteError`, `WriteTimedout`; `InternalError` for a 101 that the client did not ask for.
    ///
    /// # Cancel safety
    /// The head is queued whole, and leaves with the next write.
    pub async fn write_response_header(&mut self, header: Box<ResponseHeader>) -> Result<()> {
        self.queue_header(header)?;
        self.flush().await
    }

    /// [`HttpSession::write_response_header`] of a copy.
    ///
    /// # Errors
    /// As there.
    pub async fn write_response_header_ref(&mut self, resp: &ResponseHeader) -> Result<()> {
        self.write_response_header(Box::new(resp.clone())).await
    }

    /// Tells the client to send its body (RFC 9110 section 15.2.1).
    ///
    /// # Errors
    /// `WriteError`, `WriteTimedout`.
    pub async fn write_continue_response(&mut self) -> Result<()> {
        let header = ResponseHeader::build(StatusCode::CONTINUE, Some(0))?;
        self.write_response_header(Box::new(header)).await
    }

    /// Writes a piece of the response body, and says how much of it belonged to the body; `None` when
    /// the response has no body, or it is complete already.
    ///
    /// # Errors
    /// `WriteError`, `WriteTimedout`; `InternalError` before the head.
    ///
    /// # Cancel safety
    /// The piece is queued whole, and leaves with the next write.
    pub async fn write_body(&mut self, buf: &[u8]) -> Result<Option<usize>> {
        self.write_body_bytes(Bytes::copy_from_slice(buf)).await
    }

    /// [`HttpSession::write_body`] without a copy.
    pub(crate) async fn write_body_bytes(&mut self, data: Bytes) -> Result<Option<usize>> {
        let taken = self.queue_body(data)?;
        self.flush().await?;
        Ok(taken)
    }

    /// Ends the response body; says how long it was, `None` when it had ended before.
    ///
    /// # Errors
    /// `WriteError` also when it is shorter than its head promised; then the connection is useless.
    pub async fn finish_body(&mut self) -> Result<Option<usize>> {
        let ends = self.inner.conn.is_body_open();
        self.inner.conn.queue_end(None)?;
        self.flush().await?;
        Ok(ends.then_some(self.exchange().body_sent))
    }

    /// Writes the messages of a response, and says whether the last one ended it.
    ///
    /// # Errors
    /// Those of the writes, and the one that a [`HttpTask::Failed`] carries.
    pub async fn response_duplex_vec(&mut self, tasks: Vec<HttpTask>) -> Result<bool> {
        tasks::write_all(self, tasks).await
    }

    /// Queues a message of the response for [`HttpSession::write_proxy_tasks`].
    pub fn send_proxy_task(&mut self, task: HttpTask) {
        tasks::send(self, task)
    }

    /// Writes the queued messages, and says whether the last one ended the response.
    ///
    /// # Errors
    /// As [`HttpSession::response_duplex_vec`].
    ///
    /// # Cancel safety
    /// Messages that are not written stay queued.
    pub async fn write_proxy_tasks(&mut self) -> Result<bool> {
        tasks::write_sent(self).await
    }

    /// Returns whether messages are queued and not written.
    pub fn has_pending_proxy_tasks(&self) -> bool {
        !self.inner.conn.is_flushed() || self.exchange().tasks.has_failed()
    }

    /// Sets whether the proxy may queue messages and write them later. It changes nothing for HTTP/1.x, where
    /// this always works.
    pub fn set_proxy_tasks_enabled(&mut self, enabled: bool) {
        self.exchange_mut().options.proxy_tasks = enabled;
    }

    /// See [`HttpSession::set_proxy_tasks_enabled`].
    pub fn proxy_tasks_enabled(&self) -> bool {
        self.exchange().options.proxy_tasks
    }

    async fn flush(&mut self) -> Result<()> {
        std::future::poll_fn(|cx| self.poll_flush(cx)).await
    }

    /// Writes what is queued.
    #[inline]
    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        if self.inner.conn.is_flushed() {
            Poll::Ready(Ok(()))
        } else {
            self.poll_flush_queued(cx)
        }
    }

    fn poll_flush_queued(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        let deadline = self.write_deadline();
        self.inner.conn.poll_flush(cx, Some(deadline))
    }

    /// Returns how many bytes are queued and have not left.
    pub(crate) fn queued(&self) -> usize {
        self.inner.conn.out.len()
    }

    /// Returns whether everything queued has left.
    pub(crate) fn is_flushed(&self) -> bool {
        self.inner.conn.is_flushed()
    }

    /// Queues a message, and says whether it ends the response.
    pub(crate) fn queue_task(&mut self, task: HttpTask) -> Result<bool> {
        tasks::queue(self, task)
    }

    fn queue_body(&mut self, data: Bytes) -> Result<Option<usize>> {
        let taken = self.inner.conn.queue_body(data)?;
        if let Some(taken) = taken {
            self.exchange_mut().body_sent += taken;
        }
        Ok(taken)
    }

    fn queue_header(&mut self, mut header: Box<ResponseHeader>) -> Result<()> {
        let status = header.status;
        let switching = status == StatusCode::SWITCHING_PROTOCOLS;
        if status.is_informational() && !switching {
            self.queue_informational(&header);
            return Ok(());
        }
        match self.inner.conn.writing {
            Writing::Head => {}
            Writing::Broken => return Err(broken()),
            _ => {
                warn!("a second response head ({status}) is dropped");
                return Ok(());
            }
        }
        let upgrade = self.upgrades_with(status);
        if switching && !upgrade {
            return Error::e_explain(InternalError, "101 to a client that asked for no upgrade");
        }
        let writing = if upgrade {
            // RFC 9110 9.3.6, RFC 9112 6.1: a 101 and a 2xx to CONNECT carry neither.
            header.remove_any(Names::CONTENT_LENGTH.or(Names::TRANSFER_ENCODING));
            Writing::Raw
        } else {
            Writing::body(self.frame(&mut header))
        };
        if self.input_ends_connection(&writing) {
            self.inner.keepalive = Keepalive::Off;
        }
        if !upgrade {
            self.say_persistence(&mut header);
        }
        if !header.may_have(Names::DATE) {
            header.insert_header(DATE, date::get_cached_date())?;
        }
        put_head(&header, &mut self.inner.conn.out);
        self.inner.conn.writing = writing;
        if upgrade {
            self.exchange_mut().upgrade = Upgrade::Done;
            self.inner.keepalive = Keepalive::Off;
        }
        self.exchange_mut().response = Some(header);
        Ok(())
    }

    /// A 1xx other than 101 changes nothing in the state of the exchange.
    fn queue_informational(&mut self, header: &ResponseHeader) {
        // A client that waits for a 100 gets it all the same.
        let awaited = header.status == StatusCode::CONTINUE && self.awaits_continue();
        let wanted = (awaited || !self.exchange().options.ignore_info_resp)
            // RFC 9110 15.2: HTTP/1.0 does not know them.
            && !self.is_http10()
            && matches!(self.inner.conn.writing, Writing::Head);
        if wanted {
            self.exchange_mut().options.continued |= header.status == StatusCode::CONTINUE;
            // RFC 9110 8.6, RFC 9112 6.1: it has no body to frame.
            if header.may_have(Names::CONTENT_LENGTH) || header.may_have(Names::TRANSFER_ENCODING) {
                let mut header = header.clone();
                header.remove_any(Names::CONTENT_LENGTH);
                header.remove_any(Names::TRANSFER_ENCODING);
                put_head(&header, &mut self.inner.conn.out);
            } else {
                put_head(header, &mut self.inner.conn.out);
            }
        }
    }

    pub(super) fn upgrades_with(&self, status: StatusCode) -> bool {
        let agrees = match self.req_header().method {
            Method::CONNECT => status.is_success(),
            _ => status == StatusCode::SWITCHING_PROTOCOLS,
        };
        agrees && self.exchange().upgrade == Upgrade::Asked
    }

    /// Makes the framing fields consistent, and says what they mean.
    fn frame(&mut self, header: &mut ResponseHeader) -> Framing {
        let answered = Answered::from(&self.req_header().method);
        if framing::bodiless(answered, header.status) {
            // RFC 9110 8.6, RFC 9112 6.1: a 204 carries neither, HTTP/1.0 knows no coding, and no other one than chunked
            // would be applied to the body that this head stands for.
            if header.status == StatusCode::NO_CONTENT {
                header.remove_any(Names::CONTENT_LENGTH);
            }
            if header.may_have(Names::TRANSFER_ENCODING)
                && (header.status == StatusCode::NO_CONTENT
                    || self.is_http10()
                    || framing::outgoing(header) != Some(Framing::Chunked))
            {
                header.remove_any(Names::TRANSFER_ENCODING);
            }
            return Framing::Empty;
        }
        let framing = framing::outgoing(header);
        match framing {
            Some(Framing::Length(n)) => return Framing::Length(n),
            Some(Framing::Chunked) if !self.is_http10() => {
                header.remove_any(Names::CONTENT_LENGTH);
                return Framing::Chunked;
            }
            None if !self.is_http10() && !header.may_have(Names::TRANSFER_ENCODING) => {
                // What is there is no number, or it would have told the length.
                header.remove_any(Names::CONTENT_LENGTH);
                // Who understands chunks need not learn the end from the end of the connection.
                let chunked = HeaderValue::from_static("chunked");
                if header.insert_header(TRANSFER_ENCODING, chunked).is_ok() {
                    return Framing::Chunked;
                }
            }
            _ => {}
        }
        // The client learns the end of the body from the end of the connection.
        header.remove_any(Names::CONTENT_LENGTH.or(Names::TRANSFER_ENCODING));
        self.inner.keepalive = Keepalive::Off;
        Framing::UntilClose
    }

    /// Says in Connection what will happen, where the version does not say it already.
    fn say_persistence(&mut self, header: &mut ResponseHeader) {
        // The shutdown may have begun since the request was read, and this is the last chance to say so.
        if self.shutdown_stage() != Stage::Running {
            self.inner.keepalive = Keepalive::Off;
        }
        header.remove_any(Names::CONNECTION);
        // RFC 9110 7.8: who sends Upgrade, as a 426 must, names it in Connection.
        let upgrade = header.may_have(Names::UPGRADE);
        let options = match (self.will_keepalive(), self.is_http10(), upgrade) {
            (true, false, false) => return,
            (true, false, true) => "upgrade",
            (true, true, false) => "keep-alive",
            (true, true, true) => "keep-alive, upgrade",
            (false, _, false) => "close",
            (false, _, true) => "close, upgrade",
        };
        let option = HeaderValue::from_static(options);
        // A static value cannot fail to be one.
        let _ = header.insert_header(CONNECTION, option);
    }
}

impl tasks::Response for HttpSession {
    fn queue_head(&mut self, header: Box<ResponseHeader>, _end: bool) -> Result<()> {
        self.queue_header(header)
    }

    fn queue_piece(&mut self, data: Bytes) -> Result<()> {
        self.queue_body(data).map(|_| ())
    }

    fn queue_last(&mut self, trailers: Option<Box<HeaderMap>>) -> Result<()> {
        self.inner.conn.queue_end(trailers.as_deref())
    }

    fn poll_written(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        self.poll_flush(cx)
    }

    fn outcome(&mut self) -> &mut tasks::Outcome {
        &mut self.exchange_mut().tasks
    }
}

fn put_head(header: &ResponseHeader, out: &mut Out) {
    out.write(|buf| {
        buf.extend_from_slice(b"HTTP/1.1 ");
        buf.extend_from_slice(header.status.as_str().as_bytes());
        buf.push(b' ');
        buf.extend_from_slice(header.get_reason_phrase().unwrap_or("").as_bytes());
        buf.extend_from_slice(CRLF);
        header.header_to_h1_wire(buf);
        buf.extend_from_slice(CRLF);
    });
}
