//! Reading responses.

use std::future::Future;

use http::header::CONTENT_LENGTH;
use pingora_error::ErrorType::{H2Error, ReadTimedout};

use super::*;
use crate::protocols::http::v1::proto::framing;
use crate::protocols::http::HttpTask;

impl Http2Session {
    /// Reads the final head of the response; what comes before it (1xx) is passed over.
    ///
    /// # Errors
    /// `H2Error`, `ConnectionClosed`, `ReadTimedout`, [`PING_TIMEDOUT`]; `H2Downgrade` when the origin wants
    /// HTTP/1.1; `InvalidH2` when what it speaks is not HTTP/2. One that allows a retry says so.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn read_response_header(&mut self) -> Result<()> {
        std::future::poll_fn(|cx| {
            let read = self.poll_read_response_header(cx);
            self.in_time(cx, read, "while reading the head of a response")
        })
        .await
    }

    /// [`Http2Session::read_response_header`] as a poll, without a time limit.
    #[doc(hidden)]
    pub fn poll_read_response_header(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), h2::Error>> {
        let Receiving::Head(response) = &mut self.inner.receiving else {
            return Poll::Ready(match self.inner.response {
                Some(_) => Ok(()),
                None => Err(Reason::INTERNAL_ERROR.into()),
            });
        };
        let received = ready!(Pin::new(response).poll(cx));
        let (header, _) = self.take_head(received)?;
        self.inner.response = Some(header);
        Poll::Ready(Ok(()))
    }

    /// Makes the step from the head to the body; says whether the response ends with the head.
    fn take_head(
        &mut self,
        received: Result<http::Response<RecvStream>, h2::Error>,
    ) -> Result<(Box<ResponseHeader>, bool), h2::Error> {
        let (parts, body) = match received {
            Ok(response) => response.into_parts(),
            Err(e) => {
                // What the failure means depends on that nothing had come, so the state stays.
                return Err(e);
            }
        };
        self.conn.mark_answered();
        let ends = body.is_end_stream();
        let mut header = Box::new(ResponseHeader::from(parts));
        let promised = framing::content_length(&*header);
        let tunnel = self.inner.asked == Asked::Connect && header.status.is_success();
        if promised.is_err() && !tunnel {
            self.inner.receiving = Receiving::Ended;
            return Err(Reason::PROTOCOL_ERROR.into());
        }
        self.inner.promised = promised.ok().flatten();
        if let Some(length) = self.inner.promised {
            if framing::length_is_repeated(&*header) {
                // A number is always a valid value.
                let _ = header.insert_header(CONTENT_LENGTH, length);
            }
        }
        if tunnel {
            self.inner.asked = Asked::Tunnel;
        } else if header.status == 204 || header.status == 304 {
            self.inner.asked = Asked::Head;
        }
        self.inner.receiving = if ends {
            Receiving::Ended
        } else {
            Receiving::Body(body)
        };
        Ok((header, ends))
    }

    /// The next piece of the response body; `None` after its end. The window for a piece opens again when the
    /// next one is asked for.
    ///
    /// # Errors
    /// `H2Error`, `ConnectionClosed` when it is cut short, `ReadTimedout`, [`PING_TIMEDOUT`].
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn read_response_body(&mut self) -> Result<Option<Bytes>> {
        std::future::poll_fn(|cx| {
            let read = self.poll_read_response_body(cx).map(Option::transpose);
            self.in_time(cx, read, "while reading the body of a response")
        })
        .await
    }

    /// [`Http2Session::read_response_body`] as a poll, without a time limit.
    #[doc(hidden)]
    pub fn poll_read_response_body(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, h2::Error>>> {
        let inner = &mut *self.inner;
        let Receiving::Body(body) = &mut inner.receiving else {
            return Poll::Ready(match inner.receiving {
                Receiving::Ended => None,
                _ => Some(Err(Reason::INTERNAL_ERROR.into())),
            });
        };
        let taken = std::mem::take(&mut inner.unreleased);
        if taken > 0 {
            self.conn.note_taken(taken);
        }
        // A stream that is over has no window.
        let _ = body.flow_control().release_capacity(taken);
        loop {
            match ready!(body.poll_data(cx)) {
                None => return Poll::Ready(None),
                Some(Err(e)) => return Poll::Ready(Some(Err(e))),
                Some(Ok(data)) if data.is_empty() => {}
                // RFC 9110 section 6.4.1: none of these responses has a body.
                Some(Ok(_)) if inner.asked == Asked::Head => {
                    return Poll::Ready(Some(Err(Reason::PROTOCOL_ERROR.into())));
                }
                Some(Ok(data)) => {
                    inner.unreleased = data.len();
                    inner.body_received += data.len();
                    return Poll::Ready(Some(Ok(data)));
                }
            }
        }
    }

    /// Reads the trailers; to be called after the body.
    ///
    /// # Errors
    /// As [`Http2Session::read_response_body`].
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn read_trailers(&mut self) -> Result<Option<HeaderMap>> {
        std::future::poll_fn(|cx| {
            let read = self.poll_trailers(cx);
            self.in_time(cx, read, "while reading the trailers of a response")
        })
        .await
    }

    fn poll_trailers(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<HeaderMap>, h2::Error>> {
        let Receiving::Body(body) = &mut self.inner.receiving else {
            return Poll::Ready(match self.inner.receiving {
                Receiving::Ended => Ok(None),
                _ => Err(Reason::INTERNAL_ERROR.into()),
            });
        };
        let trailers = ready!(body.poll_trailers(cx))?;
        self.inner.receiving = Receiving::Ended;
        Poll::Ready(Ok(trailers))
    }

    /// Looks, without waiting, whether the response has ended.
    ///
    /// # Errors
    /// Why the stream failed, if it did.
    pub fn check_response_end_or_error(&mut self) -> Result<bool> {
        let mut cx = Context::from_waker(Waker::noop());
        let failed = match &mut self.inner.receiving {
            Receiving::Unsent => return Ok(false),
            Receiving::Ended => return Ok(true),
            Receiving::Broken => Reason::CANCEL.into(),
            Receiving::Head(_) => match self.poll_read_response_header(&mut cx) {
                Poll::Ready(Err(e)) => e,
                _ => return Ok(self.response_finished()),
            },
            Receiving::Body(body) if body.is_end_stream() => return Ok(true),
            Receiving::Body(_) => match &mut self.inner.sending {
                Sending::Open(writer) | Sending::Ended(writer) => {
                    match writer.poll_reset(&mut cx) {
                        Poll::Ready(Ok(reason)) => reason.into(),
                        Poll::Ready(Err(e)) => e,
                        Poll::Pending => return Ok(false),
                    }
                }
                _ => return Ok(false),
            },
        };
        Err(self.failed(failed, "while waiting for a response"))
    }

    /// The next message of the response: heads, pieces of the body, trailers, and `Done` after its end. The head
    /// is moved out, not copied.
    pub(crate) fn poll_response_task(&mut self, cx: &mut Context<'_>) -> Poll<Result<HttpTask>> {
        let read = self.poll_task(cx);
        let read = self.in_time(cx, read, "while reading a response");
        self.inner.more = matches!(&read, Poll::Ready(Ok(task)) if !task.is_end());
        read
    }

    fn poll_task(&mut self, cx: &mut Context<'_>) -> Poll<Result<HttpTask, h2::Error>> {
        match &mut self.inner.receiving {
            Receiving::Unsent => Poll::Pending,
            Receiving::Head(response) => {
                if let Poll::Ready(Some(informational)) = response.poll_informational(cx) {
                    let (parts, ()) = informational?.into_parts();
                    self.conn.mark_answered();
                    // RFC 9113 section 8.6: HTTP/2 knows no 101.
                    if parts.status == http::StatusCode::SWITCHING_PROTOCOLS {
                        return Poll::Ready(Err(Reason::PROTOCOL_ERROR.into()));
                    }
                    if parts.status == http::StatusCode::CONTINUE {
                        self.inner.owes_continue = false;
                    }
                    let header = Box::new(ResponseHeader::from(parts));
                    return Poll::Ready(Ok(HttpTask::Header(header, false)));
                }
                let received = ready!(Pin::new(response).poll(cx));
                let (header, ends) = self.take_head(received)?;
                Poll::Ready(Ok(HttpTask::Header(header, ends)))
            }
            Receiving::Body(_) => self.poll_body_task(cx),
            Receiving::Ended => Poll::Ready(Ok(HttpTask::Done)),
            Receiving::Broken => Poll::Ready(Err(Reason::CANCEL.into())),
        }
    }

    fn poll_body_task(&mut self, cx: &mut Context<'_>) -> Poll<Result<HttpTask, h2::Error>> {
        let raw = self.inner.asked == Asked::Tunnel;
        let (data, trailers) = match ready!(self.poll_body_and_trailers(cx)) {
            Ok(read) => read,
            // RFC 9113 section 8.1 has it follow the end. There are origins that leave that out.
            Err(e) if ends_well(&e) && self.is_content_complete() => {
                self.inner.receiving = Receiving::Ended;
                (None, None)
            }
            Err(e) => return Poll::Ready(Err(e)),
        };
        if let Some(trailers) = trailers.filter(|_| !raw) {
            return Poll::Ready(Ok(HttpTask::Trailer(Some(Box::new(trailers)))));
        }
        let ends = self.response_finished();
        if ends {
            self.inner.receiving = Receiving::Ended;
        }
        Poll::Ready(Ok(if raw {
            HttpTask::UpgradedBody(data, ends)
        } else {
            HttpTask::Body(data, ends)
        }))
    }

    /// The next piece of the body, or after its end the trailers.
    #[allow(clippy::type_complexity)]
    fn poll_body_and_trailers(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(Option<Bytes>, Option<HeaderMap>), h2::Error>> {
        let data = ready!(self.poll_read_response_body(cx)).transpose()?;
        Poll::Ready(Ok(match data {
            Some(_) => (data, None),
            None => (None, ready!(self.poll_trailers(cx))?),
        }))
    }

    /// Returns whether a message may be there already.
    pub(crate) fn has_buffered(&self) -> bool {
        self.inner.more
    }

    /// Gives the origin its time anew: it was sent something, and may need that to go on.
    pub(crate) fn restart_read_timeout(&mut self) {
        self.inner.read_deadline.restart();
    }

    /// The outcome of a read, or that it took too long.
    fn in_time<T>(
        &mut self,
        cx: &mut Context<'_>,
        read: Poll<Result<T, h2::Error>>,
        context: &'static str,
    ) -> Poll<Result<T>> {
        match (read, self.timeout()) {
            (Poll::Ready(Ok(read)), _) => {
                self.inner.read_deadline.restart();
                Poll::Ready(Ok(read))
            }
            (Poll::Ready(Err(e)), _) => {
                let malformed = e.reason() == Some(Reason::PROTOCOL_ERROR) && !e.is_remote();
                let e = if malformed && !e.is_library() {
                    Error::because(H2Error, "a response that HTTP does not allow", e)
                } else {
                    self.failed(e, context)
                };
                if malformed {
                    self.reset(Reason::PROTOCOL_ERROR);
                }
                self.inner.receiving = Receiving::Broken;
                Poll::Ready(Err(e))
            }
            (Poll::Pending, None) => {
                // An earlier wait is none for what has a limit later.
                self.inner.read_deadline.restart();
                Poll::Pending
            }
            (Poll::Pending, Some(timeout)) => {
                ready!(self.inner.read_deadline.poll(cx, timeout));
                // It may be the connection that is silent, as one that a firewall has forgotten: the next request has another.
                self.conn.mark_shutdown();
                Poll::Ready(Error::e_explain(
                    ReadTimedout,
                    format!("{context}: nothing for {timeout:?}"),
                ))
            }
        }
    }

    /// Returns how long to wait for what comes next.
    fn timeout(&self) -> Option<Duration> {
        match (&self.inner.receiving, self.response_header_timeout) {
            // It may be waiting for the rest of the request, which does not come before its 100 if the client waits for that.
            (Receiving::Head(_), Some(_))
                if matches!(self.inner.sending, Sending::Open(_)) && !self.inner.owes_continue =>
            {
                None
            }
            (Receiving::Head(_), Some(limit)) => Some(limit),
            _ => self.read_timeout,
        }
    }
}

/// Returns whether the origin has reset the stream without an error.
fn ends_well(e: &h2::Error) -> bool {
    e.is_reset() && e.is_remote() && e.reason() == Some(Reason::NO_ERROR)
}
