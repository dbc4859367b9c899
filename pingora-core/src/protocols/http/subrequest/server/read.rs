//! Reading the request.

use std::task::{ready, Context, Poll};

use bytes::Bytes;
use http::HeaderMap;
use pingora_error::ErrorType::{ConnectionClosed, InternalError, ReadError, ReadTimedout};
use pingora_error::{BError, Error, Result};

use super::{head, HttpSession, Reading, Upgrade};
use crate::limits::LIMITS;
use crate::protocols::http::drain::drain;
use crate::protocols::http::v1::proto::framing::{self, Framing};
use crate::protocols::http::v1::{due_in, refused_head};
use crate::protocols::http::HttpTask;

impl HttpSession {
    /// Settles how long the body is by what the head says now. Nothing is read, as the head was copied: returns
    /// `Some(0)`.
    ///
    /// # Errors
    /// `InvalidHTTPHeader` for framing fields that contradict each other.
    ///
    /// # Cancel safety
    /// It does not wait.
    pub async fn read_request(&mut self) -> Result<Option<usize>> {
        self.settle()?;
        Ok(Some(0))
    }

    /// Takes the framing from the head, once.
    fn settle(&mut self) -> Result<()> {
        let inner = &mut *self.inner;
        if inner.reading != Reading::Unframed {
            return Ok(());
        }
        if head::asks_upgrade(&inner.request) {
            inner.upgrade = Upgrade::Asked;
        }
        let request = &*inner.request;
        inner.reading = match framing::request(request.version, request) {
            Ok(Framing::Empty | Framing::Length(0)) => Reading::Done,
            Ok(Framing::Length(n)) => Reading::Body(Some(n)),
            Ok(Framing::Chunked | Framing::UntilClose) => Reading::Body(None),
            Err(refusal) => {
                inner.reading = Reading::Broken;
                return Err(refused_head(refusal));
            }
        };
        Ok(())
    }

    /// After an upgrade the body of the request, if it had one, is followed by bytes without meaning to HTTP.
    fn settled(&mut self) -> Reading {
        // A head that is refused breaks the reading, which is what the caller sees.
        let _ = self.settle();
        if self.was_upgraded() && self.inner.reading == Reading::Done {
            self.inner.reading = Reading::Raw;
        }
        self.inner.reading
    }

    /// Returns whether the request has no body.
    pub fn is_body_empty(&mut self) -> bool {
        self.inner.body_read == 0 && !matches!(self.settled(), Reading::Body(_) | Reading::Raw)
    }

    /// Returns whether the whole request body is read.
    pub fn is_body_done(&mut self) -> bool {
        matches!(
            self.settled(),
            Reading::Done | Reading::Ended | Reading::Broken
        )
    }

    /// The next piece of the request body; `None` after its end. The first call asks the parent for it.
    ///
    /// # Errors
    /// `ReadTimedout`; `ConnectionClosed` when the body is cut short; `ReadError` when it is longer than Content-Length
    /// says; the error that the parent has sent in its place.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn read_body_bytes(&mut self) -> Result<Option<Bytes>> {
        std::future::poll_fn(|cx| self.poll_read_body(cx)).await
    }

    /// [`HttpSession::read_body_bytes`] as a poll.
    pub(crate) fn poll_read_body(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>>> {
        self.settle()?;
        loop {
            match self.settled() {
                Reading::Done | Reading::Ended => return Poll::Ready(Ok(None)),
                Reading::Unframed | Reading::Broken => {
                    return Poll::Ready(Error::e_explain(ReadError, "the request has failed"));
                }
                Reading::Body(_) | Reading::Raw => {}
            }
            if let Some(wants_body) = self.inner.wants_body.take() {
                // Whoever does not listen sends the body unasked.
                let _ = wants_body.send(());
            }
            let received = match self.inner.body.poll_recv(cx) {
                Poll::Ready(Some(task)) => self.receive(task),
                Poll::Ready(None) => Error::e_explain(
                    ConnectionClosed,
                    "the parent left before the request body was complete",
                ),
                Poll::Pending => {
                    ready!(self.poll_silent(cx));
                    Error::e_explain(ReadTimedout, "no request body came from the parent")
                }
            };
            self.inner.read_due = None;
            match received {
                Ok(Some(data)) => return Poll::Ready(Ok(Some(data))),
                Ok(None) => {}
                Err(e) => {
                    self.inner.reading = Reading::Broken;
                    return Poll::Ready(Err(e));
                }
            }
        }
    }

    /// Ready when nothing has come for the read timeout.
    fn poll_silent(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let inner = &mut *self.inner;
        let Some(timeout) = inner.timeouts.read else {
            return Poll::Pending;
        };
        let due = *inner.read_due.get_or_insert_with(|| due_in(timeout));
        if inner.timer.is_over(cx, due) {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }

    /// Takes a message of the parent. `None`: it brought no bytes.
    fn receive(&mut self, task: HttpTask) -> Result<Option<Bytes>> {
        // The end of a body may arrive after the upgrade, and is not that of what follows.
        let of_body = matches!(task, HttpTask::Body(..) | HttpTask::Trailer(_));
        let ends = !(of_body && self.inner.reading == Reading::Raw);
        match task {
            HttpTask::Body(data, end) | HttpTask::UpgradedBody(data, end) => {
                let data = data.filter(|data| !data.is_empty());
                if let Some(data) = &data {
                    self.count(data)?;
                }
                if end && ends {
                    self.end(None)?;
                }
                Ok(data)
            }
            HttpTask::Trailer(_) if !ends => Ok(None),
            HttpTask::Trailer(trailers) => self.end(trailers).map(|()| None),
            HttpTask::Done => self.end(None).map(|()| None),
            HttpTask::Failed(e) => Err(e),
            HttpTask::Header(..) => {
                Error::e_explain(InternalError, "a response head in a request body")
            }
        }
    }

    fn count(&mut self, data: &Bytes) -> Result<()> {
        let inner = &mut *self.inner;
        if let Reading::Body(Some(left)) = &mut inner.reading {
            let Some(rest) = left.checked_sub(data.len() as u64) else {
                return Error::e_explain(
                    ReadError,
                    "the request body is longer than Content-Length",
                );
            };
            inner.reading = match rest {
                0 => Reading::Done,
                rest => Reading::Body(Some(rest)),
            };
        }
        inner.body_read += data.len();
        if let Some(retry) = &mut inner.retry {
            retry.write_to_buffer(data);
        }
        Ok(())
    }

    fn end(&mut self, trailers: Option<Box<HeaderMap>>) -> Result<()> {
        let inner = &mut *self.inner;
        match inner.reading {
            Reading::Body(Some(missing)) => Error::e_explain(
                ConnectionClosed,
                format!("the request body ended {missing} bytes early"),
            ),
            Reading::Raw => {
                inner.reading = Reading::Ended;
                Ok(())
            }
            _ => {
                inner.request_trailers = trailers;
                inner.reading = Reading::Done;
                Ok(())
            }
        }
    }

    /// Reads the body, or, when there is none left or none is expected, waits for the parent to leave.
    ///
    /// # Errors
    /// Those of [`HttpSession::read_body_bytes`], and `ConnectionClosed` when the parent takes no more of the response.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn read_body_or_idle(&mut self, no_body_expected: bool) -> Result<Option<Bytes>> {
        if no_body_expected || self.is_body_done() {
            return Err(std::future::poll_fn(|cx| self.poll_abort(cx)).await);
        }
        self.read_body_bytes().await
    }

    /// Waits for a message of the parent outside of a body.
    ///
    /// # Errors
    /// `ConnectionClosed` when the parent has left.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn idle(&mut self) -> Result<HttpTask> {
        std::future::poll_fn(|cx| {
            if let Poll::Ready(Some(task)) = self.inner.body.poll_recv(cx) {
                return Poll::Ready(Ok(task));
            }
            // Whoever has nothing more to send may still read.
            self.poll_abort(cx).map(Err)
        })
        .await
    }

    /// Ready when the parent has left before the response was complete.
    pub(crate) fn poll_abort(&mut self, cx: &mut Context<'_>) -> Poll<BError> {
        let inner = &mut *self.inner;
        if let Some(tx) = &inner.tx {
            let closed = inner.closed.get_or_insert_with(|| {
                let tx = tx.clone();
                Box::pin(async move { tx.closed().await })
            });
            ready!(closed.as_mut().poll(cx));
        }
        inner.closed = None;
        Poll::Ready(left())
    }

    /// Reads the rest of the request body for nothing. One that was never asked for need not come.
    ///
    /// # Errors
    /// Those of [`HttpSession::read_body_bytes`]; `ReadTimedout` when it takes longer than the total drain timeout,
    /// `ReadError` when there is more of it than is worth it (1 MiB).
    pub async fn drain_request_body(&mut self) -> Result<()> {
        if self.is_body_done() || self.inner.wants_body.is_some() {
            return Ok(());
        }
        let within = self.inner.timeouts.drain.unwrap_or(LIMITS.client_drain);
        drain(within, |cx| self.poll_read_body(cx)).await
    }
}

pub(super) fn left() -> BError {
    Error::explain(
        ConnectionClosed,
        "the parent left before the response was complete",
    )
}
