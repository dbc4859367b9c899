//! Writing requests.

use std::task::{Context, Poll};

use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, Method, Version};
use pingora_error::ErrorType::{InternalError, WriteError};
use pingora_error::{Error, Result, RetryType};
use pingora_http::internal::{MessageHead, Names};
use pingora_http::RequestHeader;

use super::super::common::CRLF;
use super::super::conn::WriteDeadline;
use super::super::proto::framing::{self, Framing};
use super::super::proto::state::{Reading, Writing};
use super::HttpSession;

impl HttpSession {
    /// Writes the head of the request and says how long it was. Its framing fields decide how the body is
    /// written; without any there is no body.
    ///
    /// # Errors
    /// `WriteError`, `WriteTimedout`; `InternalError` when a head was written already, or when its framing
    /// fields cannot be kept.
    ///
    /// # Cancel safety
    /// The head is queued whole, and leaves with the next write.
    pub async fn write_request_header(&mut self, req: Box<RequestHeader>) -> Result<usize> {
        let length = self.queue_request_header(req)?;
        self.flush().await?;
        Ok(length)
    }

    /// Queues the head of the request.
    pub(crate) fn queue_request_header(&mut self, mut req: Box<RequestHeader>) -> Result<usize> {
        let framing = frame(&mut req)?;
        let conn = &mut self.inner.conn;
        if !matches!(conn.writing, Writing::Head) {
            return Error::e_explain(InternalError, "a second request head on one exchange");
        }
        let before = conn.out.len();
        conn.out.write(|buf| put_head(&req, buf));
        conn.writing = Writing::body(framing);
        conn.reading = Reading::Head;
        let length = conn.out.len() - before;
        self.exchange_mut().request = Some(req);
        Ok(length)
    }

    /// Writes a piece of the request body, and says how much of it belonged to the body; `None` when the
    /// request has no body, or it is complete already.
    ///
    /// # Errors
    /// `WriteError`, `WriteTimedout`; `InternalError` before the head.
    ///
    /// # Cancel safety
    /// The piece is queued whole, and leaves with the next write.
    pub async fn write_body(&mut self, buf: &[u8]) -> Result<Option<usize>> {
        let taken = self.queue_request_body(Bytes::copy_from_slice(buf))?;
        self.flush().await?;
        Ok(taken)
    }

    /// Queues a piece of the request body.
    pub(crate) fn queue_request_body(&mut self, data: Bytes) -> Result<Option<usize>> {
        let taken = self.inner.conn.queue_body(data)?;
        if let Some(taken) = taken {
            self.exchange_mut().body_sent += taken;
        }
        Ok(taken)
    }

    /// Ends the request body; says how long it was, `None` when it had ended before.
    ///
    /// # Errors
    /// `WriteError` also when it is shorter than its head promised; then the connection is useless.
    pub async fn finish_body(&mut self) -> Result<Option<usize>> {
        let ends = self.inner.conn.is_body_open();
        self.queue_request_end(None)?;
        self.flush().await?;
        Ok(ends.then_some(self.exchange().body_sent))
    }

    /// Queues the end of the request body.
    pub(crate) fn queue_request_end(&mut self, trailers: Option<&HeaderMap>) -> Result<()> {
        self.inner.conn.queue_end(trailers)
    }

    async fn flush(&mut self) -> Result<()> {
        std::future::poll_fn(|cx| self.poll_flush(cx)).await
    }

    /// Writes what is queued.
    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        if self.inner.conn.is_flushed() {
            return Poll::Ready(Ok(()));
        }
        let deadline = self.write_timeout.map(WriteDeadline::Silence);
        let conn = &mut self.inner.conn;
        let unanswered = matches!(conn.reading, Reading::Head) && conn.buf.is_empty();
        conn.poll_flush(cx, deadline).map_err(|mut e| {
            // An idle connection that the origin closed shows it by a failed write, too.
            if unanswered && e.etype == WriteError {
                e.retry = RetryType::ReusedOnly;
            }
            e
        })
    }

    /// Returns how many bytes are queued and have not left.
    pub(crate) fn queued(&self) -> usize {
        self.inner.conn.out.len()
    }

    /// Returns whether everything queued has left.
    pub(crate) fn is_flushed(&self) -> bool {
        self.inner.conn.is_flushed()
    }
}

/// The framing of a request, after which no other party can find another one in it.
fn frame(req: &mut RequestHeader) -> Result<Framing> {
    let coded = req.may_have(Names::TRANSFER_ENCODING);
    match framing::outgoing(&*req) {
        Some(Framing::Chunked) if req.version >= Version::HTTP_11 => {
            // RFC 9112 6.2: with a coding there is no length.
            req.remove_any(Names::CONTENT_LENGTH);
            Ok(Framing::Chunked)
        }
        Some(framing) if !coded => Ok(framing),
        None if !coded && !req.may_have(Names::CONTENT_LENGTH) => Ok(Framing::Empty),
        // The origin would take what follows for a body, or a body for the next request.
        _ => Error::e_explain(InternalError, "a request whose framing cannot be kept"),
    }
}

fn put_head(req: &RequestHeader, buf: &mut Vec<u8>) {
    buf.extend_from_slice(req.method.as_str().as_bytes());
    buf.push(b' ');
    buf.extend_from_slice(target(req));
    buf.extend_from_slice(b" HTTP/1.");
    buf.push(if req.version == Version::HTTP_10 {
        b'0'
    } else {
        b'1'
    });
    buf.extend_from_slice(CRLF);
    req.header_to_h1_wire(buf);
    buf.extend_from_slice(CRLF);
}

/// The request target; an empty path is `/` (RFC 9112 section 3.2.1).
fn target(req: &RequestHeader) -> &[u8] {
    match req.raw_path() {
        b"" if req.method == Method::OPTIONS => b"*",
        b"" => b"/",
        path => path,
    }
}

/// The head of a request as HTTP/1.x writes it; `None` for a version that is not 1.x.
pub fn http_req_header_to_wire(req: &RequestHeader) -> Option<BytesMut> {
    if !matches!(req.version, Version::HTTP_10 | Version::HTTP_11) {
        return None;
    }
    let mut head = Vec::with_capacity(512);
    put_head(req, &mut head);
    let mut wire = BytesMut::with_capacity(head.len());
    wire.put_slice(&head);
    Some(wire)
}
