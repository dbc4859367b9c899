//! Writing requests.

use http::header::CONTENT_LENGTH;
use pingora_error::ErrorType::{WriteError, WriteTimedout};
use pingora_error::RetryType;

use super::super::out::Sent;
use super::*;
use crate::protocols::http::v1::common::is_expect_continue_req;

impl Http2Session {
    /// Writes the head of the request; `end` says that no body follows. Host becomes `:authority`, and fields
    /// that HTTP/2 does not have are left out.
    ///
    /// # Errors
    /// `InvalidHTTPHeader` when the target or Host has no form in HTTP/2; `H2Error` when the connection takes no
    /// more streams, which allows a retry; `InternalError` for a second head.
    pub fn write_request_header(&mut self, req: Box<RequestHeader>, end: bool) -> Result<()> {
        self.inner.request = Some(req.clone());
        self.queue_header(req)?;
        if end {
            self.queue_end(None)?;
        }
        self.open()
    }

    /// Queues the head of the request.
    pub(crate) fn queue_header(&mut self, req: Box<RequestHeader>) -> Result<()> {
        if !matches!(self.inner.sending, Sending::Idle) {
            return Error::e_explain(InternalError, "a second request head on one stream");
        }
        self.inner.asked = match req.method {
            Method::HEAD => Asked::Head,
            Method::CONNECT => Asked::Connect,
            _ => Asked::Other,
        };
        let length = req.headers.get(CONTENT_LENGTH);
        self.inner.owed = length.and_then(|n| n.to_str().ok()?.parse().ok());
        self.inner.owes_continue = is_expect_continue_req(&req);
        self.inner.sending = Sending::Queued(req);
        Ok(())
    }

    /// Queues a piece of the request body. What exceeds the length that the head promised is dropped.
    pub(crate) fn queue_body(&mut self, mut data: Bytes) -> Result<()> {
        if let Some(owed) = &mut self.inner.owed {
            if data.len() as u64 > *owed {
                log::warn!(
                    "{} bytes beyond the request body dropped",
                    data.len() as u64 - *owed
                );
                data.truncate(*owed as usize);
            }
            *owed -= data.len() as u64;
        }
        self.inner.body_sent += data.len();
        self.inner.owes_continue &= data.is_empty();
        self.inner.out.push(data);
        Ok(())
    }

    /// Queues the end of the request.
    ///
    /// # Errors
    /// `WriteError` when the body is shorter than its head promised; the stream is reset then.
    pub(crate) fn queue_end(&mut self, trailers: Option<HeaderMap>) -> Result<()> {
        if let Some(missing) = self.inner.owed.filter(|n| *n > 0) {
            self.reset(Reason::CANCEL);
            return Error::e_explain(
                WriteError,
                format!("the request body ended {missing} bytes early"),
            );
        }
        if !matches!(self.inner.sending, Sending::Ended(_) | Sending::Taken) {
            self.inner.out.end(trailers);
        }
        Ok(())
    }

    /// Sends the head that is queued, if one is. It ends the stream when nothing else is queued but the end.
    fn open(&mut self) -> Result<()> {
        let inner = &mut *self.inner;
        let request = match std::mem::replace(&mut inner.sending, Sending::Idle) {
            Sending::Queued(request) => request,
            other => {
                inner.sending = other;
                return Ok(());
            }
        };
        let end = request.send_end_stream() != Some(false) && inner.out.is_bare_end();
        let (response, writer) = self.send(*request, end).inspect_err(|_| {
            // Nobody shall wait for a response to what was not sent.
            self.inner.receiving = Receiving::Broken;
            self.inner.out.clear();
        })?;
        self.inner.receiving = Receiving::Head(response);
        self.inner.sending = if end {
            self.inner.out.clear();
            Sending::Ended(writer)
        } else {
            Sending::Open(writer)
        };
        Ok(())
    }

    fn send(
        &mut self,
        request: RequestHeader,
        end: bool,
    ) -> Result<(ResponseFuture, SendStream<Bytes>)> {
        let request = request::translate(request, self.conn.digest().ssl_digest.is_some())?;
        self.inner.send.send_request(request, end).map_err(|e| {
            self.conn.mark_shutdown();
            let mut e = self.failed(e, "while opening a stream");
            // Nothing was sent, whatever the reason.
            e.retry = RetryType::Decided(true);
            e
        })
    }

    /// Hands over what is queued, as the origin's window opens.
    ///
    /// # Errors
    /// `WriteTimedout` when it opened for nothing; `H2Error`, `ConnectionClosed` when the stream has ended, which
    /// does not mean that there is no response.
    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        self.open()?;
        loop {
            let inner = &mut *self.inner;
            let writer = match &mut inner.sending {
                Sending::Open(writer) if !inner.out.is_empty() => writer,
                _ => return Poll::Ready(Ok(())),
            };
            let ends = inner.out.is_ended();
            match inner.out.poll_send(writer, cx) {
                Poll::Ready(Ok(sent)) => {
                    inner.write_deadline.restart();
                    if matches!(sent, Sent::All) && ends {
                        self.end();
                    }
                }
                Poll::Ready(Err(e)) => {
                    inner.out.clear();
                    self.end();
                    return Poll::Ready(Err(self.blamed(failure::refined(e, self.when()))));
                }
                Poll::Pending => {
                    let Some(timeout) = self.write_timeout else {
                        return Poll::Pending;
                    };
                    ready!(inner.write_deadline.poll(cx, timeout));
                    // As for a read.
                    self.conn.mark_shutdown();
                    self.shutdown();
                    return Poll::Ready(Error::e_explain(
                        WriteTimedout,
                        format!("no window for the request for {timeout:?}"),
                    ));
                }
            }
        }
    }

    fn end(&mut self) {
        self.inner.sending = match std::mem::replace(&mut self.inner.sending, Sending::Idle) {
            Sending::Open(writer) => Sending::Ended(writer),
            other => other,
        };
    }

    /// Returns how many bytes are queued and were not handed over.
    pub(crate) fn queued(&self) -> usize {
        self.inner.out.len()
    }

    /// Returns whether everything queued was handed over.
    pub(crate) fn is_flushed(&self) -> bool {
        match &self.inner.sending {
            Sending::Queued(_) => false,
            Sending::Open(_) => self.inner.out.is_empty(),
            Sending::Idle | Sending::Ended(_) | Sending::Taken => true,
        }
    }

    /// Writes a piece of the request body and waits until it is handed over; `end` makes it the last.
    ///
    /// # Errors
    /// `WriteTimedout`, `H2Error`, `ConnectionClosed`; `InternalError` before the head.
    ///
    /// # Cancel safety
    /// The piece is queued whole, and leaves with the next write.
    pub async fn write_request_body(&mut self, data: Bytes, end: bool) -> Result<()> {
        if matches!(self.inner.sending, Sending::Idle) {
            return Error::e_explain(InternalError, "a body before its head");
        }
        self.queue_body(data)?;
        if end {
            self.queue_end(None)?;
        }
        std::future::poll_fn(|cx| self.poll_flush(cx)).await
    }

    /// Ends the request body, without waiting for the window to open for what is left of it.
    ///
    /// # Errors
    /// `H2Error` when the stream has ended otherwise; `InternalError` before the head; `WriteError` when the body
    /// is shorter than its head promised.
    pub fn finish_request_body(&mut self) -> Result<()> {
        if matches!(self.inner.sending, Sending::Idle) {
            return Error::e_explain(InternalError, "the end of a body before its head");
        }
        self.queue_end(None)?;
        self.open()?;
        let Sending::Open(writer) = &mut self.inner.sending else {
            return Ok(());
        };
        let sent = self.inner.out.send_all(writer);
        sent.map_err(|e| self.blamed(failure::refined(e, self.when())))?;
        self.end();
        Ok(())
    }

    /// Takes the writer of the request body out of the session; `None` before the head, after the end, or when it
    /// was taken before.
    pub fn take_request_body_writer(&mut self) -> Option<SendStream<Bytes>> {
        match std::mem::replace(&mut self.inner.sending, Sending::Taken) {
            Sending::Open(writer) => Some(writer),
            other => {
                self.inner.sending = other;
                None
            }
        }
    }
}
