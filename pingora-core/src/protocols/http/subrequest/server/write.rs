//! Writing the response.

use std::task::{ready, Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use log::warn;
use pingora_error::ErrorType::{InternalError, WriteError, WriteTimedout};
use pingora_error::{BError, Error, Result};
use pingora_http::internal::{MessageHead, Names};
use pingora_http::ResponseHeader;
use tokio::sync::mpsc::error::TrySendError;

use super::{HttpSession, Inner, Upgrade, Writing};
use crate::protocols::http::v1::due_in;
use crate::protocols::http::v1::proto::framing::{self, Answered, Framing};
use crate::protocols::http::{tasks, HttpTask};

impl HttpSession {
    /// Writes a response head. A 1xx may be followed by further heads. What follows the final one is as long as
    /// Content-Length says, or ends with a message that says so.
    ///
    /// # Errors
    /// `WriteError`, `WriteTimedout`; `InternalError` for a 101 that was not asked for.
    ///
    /// # Cancel safety
    /// The head is queued whole, and leaves with the next write.
    pub async fn write_response_header(&mut self, header: Box<ResponseHeader>) -> Result<()> {
        self.queue_header(header, false)?;
        self.flush().await
    }

    /// [`HttpSession::write_response_header`] of a copy.
    ///
    /// # Errors
    /// As there.
    pub async fn write_response_header_ref(&mut self, resp: &ResponseHeader) -> Result<()> {
        self.write_response_header(Box::new(resp.clone())).await
    }

    /// Tells the parent to send its body, as a 100 response (RFC 9110 section 15.2.1).
    ///
    /// # Errors
    /// `WriteError`, `WriteTimedout`.
    pub async fn write_continue_response(&mut self) -> Result<()> {
        let header = ResponseHeader::build(StatusCode::CONTINUE, Some(0))?;
        self.write_response_header(Box::new(header)).await
    }

    /// Writes a piece of the response body, and says how much of it belonged to the body; `None` when the response has
    /// no body, or it is complete already.
    ///
    /// # Errors
    /// `WriteError`, `WriteTimedout`; `InternalError` before the head.
    ///
    /// # Cancel safety
    /// The piece is queued whole, and leaves with the next write.
    pub async fn write_body(&mut self, buf: Bytes) -> Result<Option<usize>> {
        let taken = self.queue_body(buf)?;
        self.flush().await?;
        Ok(taken)
    }

    /// Ends the response with trailers.
    ///
    /// # Errors
    /// Those of [`HttpSession::finish`].
    pub async fn write_trailers(&mut self, trailers: Option<Box<HeaderMap>>) -> Result<()> {
        self.queue_end(trailers)?;
        self.flush().await
    }

    /// Ends the response body; says how long it was, `None` when it had ended before.
    ///
    /// # Errors
    /// `WriteError` also when it is shorter than its head promised: the parent sees it cut short.
    pub async fn finish(&mut self) -> Result<Option<usize>> {
        let ends = matches!(self.inner.writing, Writing::Body(_) | Writing::Raw);
        self.queue_end(None)?;
        self.flush().await?;
        Ok(ends.then_some(self.inner.body_sent))
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
        !self.is_flushed() || self.inner.tasks.has_failed()
    }

    /// Sets whether the proxy may queue messages and write them later. It changes nothing here, where this always works.
    pub fn set_proxy_tasks_enabled(&mut self, enabled: bool) {
        self.inner.proxy_tasks = enabled;
    }

    /// The value of [`HttpSession::set_proxy_tasks_enabled`].
    pub fn proxy_tasks_enabled(&self) -> bool {
        self.inner.proxy_tasks
    }

    async fn flush(&mut self) -> Result<()> {
        std::future::poll_fn(|cx| self.poll_flush(cx)).await
    }

    /// Sends what is queued, as the parent takes it.
    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        while !self.inner.queue.is_empty() {
            match self.inner.poll_send(cx) {
                Poll::Ready(Some(())) => self.inner.write_due = None,
                Poll::Ready(None) => {
                    self.shutdown();
                    return Poll::Ready(Error::e_explain(
                        WriteError,
                        "the parent takes no more of the response",
                    ));
                }
                Poll::Pending => {
                    ready!(self.poll_overdue(cx));
                    self.shutdown();
                    return Poll::Ready(Error::e_explain(
                        WriteTimedout,
                        "the parent took nothing of the response",
                    ));
                }
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Ready when the parent has taken nothing for the write timeout.
    fn poll_overdue(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let inner = &mut *self.inner;
        let Some(timeout) = inner.timeouts.write else {
            return Poll::Pending;
        };
        let due = *inner.write_due.get_or_insert_with(|| due_in(timeout));
        if inner.timer.is_over(cx, due) {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }

    /// Returns the number of bytes that are queued and were not sent.
    pub(crate) fn queued(&self) -> usize {
        self.inner.queue.bytes()
    }

    /// Returns whether everything queued was sent.
    pub(crate) fn is_flushed(&self) -> bool {
        self.inner.queue.is_empty()
    }

    /// Queues a message, and says whether it ends the response.
    pub(crate) fn queue_task(&mut self, task: HttpTask) -> Result<bool> {
        tasks::queue(self, task)
    }

    fn queue_header(&mut self, mut header: Box<ResponseHeader>, end: bool) -> Result<()> {
        let status = header.status;
        let switching = status == StatusCode::SWITCHING_PROTOCOLS;
        if status.is_informational() && !switching {
            if self.inner.writing == Writing::Head && !self.inner.ignore_info_resp {
                self.inner.queue.push(HttpTask::Header(header, false));
            }
            return Ok(());
        }
        match self.inner.writing {
            Writing::Head => {}
            Writing::Broken => return Err(broken()),
            Writing::Body(_) | Writing::Raw | Writing::Done => {
                warn!("a second response head ({status}) is dropped");
                return Ok(());
            }
        }
        let upgrade = self.is_upgrade_req() && self.agrees(status);
        if switching && !upgrade {
            return Error::e_explain(InternalError, "101 to a request that asks for no upgrade");
        }
        self.inner.writing = if upgrade {
            // RFC 9110 9.3.6, RFC 9112 6.1: a 101 and a 2xx to CONNECT carry neither.
            header.remove_any(Names::CONTENT_LENGTH.or(Names::TRANSFER_ENCODING));
            self.inner.upgrade = Upgrade::Done;
            Writing::Raw
        } else {
            self.framed(&mut header)
        };
        let whole = self.inner.writing == Writing::Done;
        let body_follows = !end && !whole;
        if end && matches!(self.inner.writing, Writing::Body(Some(n)) if n > 0) {
            self.inner.writing = Writing::Broken;
            return Error::e_explain(WriteError, "a response without the body it promises");
        }
        if end && !upgrade {
            self.inner.writing = Writing::Done;
        }
        self.inner.response = Some(header.clone());
        self.inner
            .queue
            .push(HttpTask::Header(header, !body_follows));
        Ok(())
    }

    /// Returns the way in which the body is written.
    fn framed(&self, header: &mut ResponseHeader) -> Writing {
        let answered = Answered::from(&self.inner.request.method);
        if framing::bodiless(answered, header.status) {
            // RFC 9110 8.6.
            if header.status == StatusCode::NO_CONTENT {
                header.remove_any(Names::CONTENT_LENGTH.or(Names::TRANSFER_ENCODING));
            }
            return Writing::Done;
        }
        match framing::outgoing(&*header) {
            Some(Framing::Length(0)) => Writing::Done,
            Some(Framing::Length(n)) => Writing::Body(Some(n)),
            _ => Writing::Body(None),
        }
    }

    fn queue_body(&mut self, mut data: Bytes) -> Result<Option<usize>> {
        let len = data.len();
        match &mut self.inner.writing {
            Writing::Body(Some(left)) => {
                // As over HTTP/1.1, where the client would take the rest for the next response.
                data.truncate(usize::try_from(*left).map_or(len, |left| left.min(len)));
                *left -= data.len() as u64;
            }
            Writing::Body(None) | Writing::Raw => {}
            Writing::Done => return Ok(None),
            Writing::Head => return Error::e_explain(InternalError, "a body before its head"),
            Writing::Broken => return Err(broken()),
        }
        let taken = data.len();
        if taken < len {
            warn!("{} bytes beyond the response body dropped", len - taken);
        }
        self.inner.body_sent += taken;
        if taken > 0 {
            self.inner.queue.push(match self.inner.writing {
                Writing::Raw => HttpTask::UpgradedBody(Some(data), false),
                _ => HttpTask::Body(Some(data), false),
            });
        }
        Ok(Some(taken))
    }

    fn queue_end(&mut self, trailers: Option<Box<HeaderMap>>) -> Result<()> {
        match self.inner.writing {
            Writing::Body(Some(missing)) if missing > 0 => {
                self.inner.writing = Writing::Broken;
                return Error::e_explain(
                    WriteError,
                    format!("the response body ended {missing} bytes early"),
                );
            }
            Writing::Body(_) | Writing::Raw => {}
            Writing::Done | Writing::Head => return Ok(()),
            Writing::Broken => return Err(broken()),
        }
        let raw = self.inner.writing == Writing::Raw;
        self.inner.writing = Writing::Done;
        let queue = &mut self.inner.queue;
        match queue.last() {
            _ if trailers.is_some() => queue.push(HttpTask::Trailer(trailers)),
            // The last piece tells the end itself, if it is still here.
            Some(HttpTask::Body(_, end) | HttpTask::UpgradedBody(_, end)) => *end = true,
            _ if raw => queue.push(HttpTask::UpgradedBody(None, true)),
            _ => queue.push(HttpTask::Body(None, true)),
        }
        Ok(())
    }
}

impl tasks::Response for HttpSession {
    fn queue_head(&mut self, header: Box<ResponseHeader>, end: bool) -> Result<()> {
        self.queue_header(header, end)
    }

    fn queue_piece(&mut self, data: Bytes) -> Result<()> {
        self.queue_body(data).map(|_| ())
    }

    fn queue_last(&mut self, trailers: Option<Box<HeaderMap>>) -> Result<()> {
        self.queue_end(trailers)
    }

    fn poll_written(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        self.poll_flush(cx)
    }

    fn outcome(&mut self) -> &mut tasks::Outcome {
        &mut self.inner.tasks
    }
}

impl Inner {
    /// Sends the first message; `None` when nobody receives it.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<Option<()>> {
        let Some(tx) = &self.tx else {
            return Poll::Ready(None);
        };
        if self.permit.is_none() {
            // Mostly there is room, and nothing to wait for.
            match tx.try_reserve() {
                Ok(room) => {
                    if let Some(task) = self.queue.pop() {
                        room.send(task);
                    }
                    return Poll::Ready(Some(()));
                }
                Err(TrySendError::Full(())) => {}
                Err(TrySendError::Closed(())) => return Poll::Ready(None),
            }
        }
        let waiting = self
            .permit
            .get_or_insert_with(|| Box::pin(tx.clone().reserve_owned()));
        let room = ready!(waiting.as_mut().poll(cx));
        self.permit = None;
        let Ok(room) = room else {
            return Poll::Ready(None);
        };
        if let Some(task) = self.queue.pop() {
            room.send(task);
        }
        Poll::Ready(Some(()))
    }
}

fn broken() -> BError {
    Error::explain(WriteError, "the exchange has failed")
}
