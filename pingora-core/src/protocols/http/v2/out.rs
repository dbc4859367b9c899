//! The data that is to be sent on a stream and has not been handed over yet.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{ready, Context, Poll};

use bytes::Bytes;
use h2::SendStream;
use http::HeaderMap;
use pingora_error::ErrorType::H2Error;
use pingora_error::{Error, Result};

use super::conn_state::{ConnState, Place};
use super::{padding, stream_error};
use crate::protocols::http::trailers;

/// Bytes of connection window that are asked for at once, so that one stream does not hold back the others.
const MOST_AT_ONCE: usize = 64 * 1024;

/// Pieces of a body, and perhaps its end.
#[derive(Default)]
pub(crate) struct Out {
    pieces: VecDeque<Bytes>,
    len: usize,
    end: Option<End>,
    /// The connection, which counts what its streams hold.
    state: Option<Arc<ConnState>>,
    /// The place among those that wait for room there.
    place: Option<Place>,
}

impl Drop for Out {
    fn drop(&mut self) {
        self.clear();
    }
}

/// The end of a stream.
enum End {
    Plain,
    Trailers(HeaderMap),
}

/// The part that one step handed over.
pub(crate) enum Sent {
    /// A part; there is more.
    Part,
    /// The rest.
    All,
}

impl Out {
    /// Has the connection count what is held from now on.
    pub(crate) fn set_state(&mut self, state: Arc<ConnState>) {
        self.state = Some(state);
    }

    /// Has the connection count nothing from now on; nothing may be held.
    pub(crate) fn forget_state(&mut self) {
        debug_assert_eq!(self.len, 0);
        self.clear();
        self.state = None;
    }

    /// The connection, where it counts.
    pub(crate) fn state(&self) -> Option<&ConnState> {
        self.state.as_deref()
    }

    /// Appends a piece.
    pub(crate) fn push(&mut self, data: Bytes) {
        if !data.is_empty() {
            self.len += data.len();
            if let Some(state) = &self.state {
                state.queued(data.len());
            }
            self.pieces.push_back(data);
        }
    }

    /// Nothing follows but trailers, of which those that can be none are left out.
    pub(crate) fn end(&mut self, trailers: Option<HeaderMap>) {
        let trailers = trailers.map(trailers::to_send);
        let mut trailers = trailers.filter(|trailers| !trailers.is_empty());
        if let Some(trailers) = &mut trailers {
            padding::trim(trailers);
        }
        self.end = Some(trailers.map_or(End::Plain, End::Trailers));
    }

    /// Bytes of body that have not been handed over.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Returns whether nothing is left to hand over.
    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0 && self.end.is_none()
    }

    /// Forgets everything.
    pub(crate) fn clear(&mut self) {
        self.pieces = VecDeque::new();
        self.end = None;
        let len = std::mem::take(&mut self.len);
        if let Some(state) = &self.state {
            state.dropped(len);
            state.leave(&mut self.place);
        }
    }

    /// Ready when the connection has room for more. One that has ended makes none.
    pub(crate) fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match &self.state {
            Some(state) => state.poll_room(&mut self.place, cx),
            None => Poll::Ready(()),
        }
    }

    fn handed_over(&mut self, bytes: usize) {
        self.len -= bytes;
        if let Some(state) = &self.state {
            state.handed_over(bytes);
        }
    }

    /// Hands over as much as the windows of the stream and the connection let, in one step of at most one
    /// piece. The bytes were not written yet; the connection does that.
    ///
    /// # Errors
    /// `H2Error`, `ConnectionClosed` when the stream has ended.
    pub(crate) fn poll_send(
        &mut self,
        stream: &mut SendStream<Bytes>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Sent>> {
        if let Some(piece) = self.pieces.front_mut() {
            if stream.capacity() == 0 {
                stream.reserve_capacity(self.len.min(MOST_AT_ONCE));
                // An old notice may be left of capacity that is gone meanwhile.
                while stream.capacity() == 0 {
                    match ready!(stream.poll_capacity(cx)) {
                        Some(capacity) => capacity.map_err(failed)?,
                        None => return Poll::Ready(Err(closed(stream, cx))),
                    };
                }
            }
            let n = stream.capacity().min(piece.len());
            let data = piece.split_to(n);
            if piece.is_empty() {
                self.pieces.pop_front();
            }
            self.handed_over(n);
            let last = self.len == 0 && matches!(self.end, Some(End::Plain));
            stream.send_data(data, last).map_err(failed)?;
            if last {
                self.end = None;
            }
            return Poll::Ready(Ok(if self.is_empty() {
                Sent::All
            } else {
                Sent::Part
            }));
        }
        Poll::Ready(self.send_end(stream).map(|()| Sent::All))
    }

    /// Hands over everything, whatever flow control says.
    ///
    /// # Errors
    /// As [`Out::poll_send`].
    pub(crate) fn send_all(&mut self, stream: &mut SendStream<Bytes>) -> Result<()> {
        self.handed_over(self.len);
        for piece in std::mem::take(&mut self.pieces) {
            stream.send_data(piece, false).map_err(failed)?;
        }
        self.send_end(stream)
    }

    fn send_end(&mut self, stream: &mut SendStream<Bytes>) -> Result<()> {
        match self.end.take() {
            None => Ok(()),
            Some(End::Plain) => stream.send_data(Bytes::new(), true).map_err(failed),
            Some(End::Trailers(trailers)) => stream.send_trailers(trailers).map_err(failed),
        }
    }
}

fn failed(e: h2::Error) -> Box<Error> {
    stream_error("while writing to a stream", e)
}

/// The stream takes nothing more: because the peer reset it, if that can be told.
fn closed(stream: &mut SendStream<Bytes>, cx: &mut Context<'_>) -> Box<Error> {
    match stream.poll_reset(cx) {
        Poll::Ready(Ok(reason)) => reset_by_peer(reason),
        Poll::Ready(Err(e)) => failed(e),
        Poll::Pending => Error::explain(H2Error, "the stream takes nothing more"),
    }
}

/// The peer gave up the stream.
pub(crate) fn reset_by_peer(reason: h2::Reason) -> Box<Error> {
    Error::because(
        H2Error,
        "the stream was reset by the peer",
        h2::Error::from(reason),
    )
}

/// For a head that is sent when it is known what follows.
impl Out {
    /// Returns whether the end is queued.
    pub(crate) fn is_ended(&self) -> bool {
        self.end.is_some()
    }

    /// Returns whether nothing but the end is queued, and no trailers.
    pub(crate) fn is_bare_end(&self) -> bool {
        self.len == 0 && matches!(self.end, Some(End::Plain))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_no_trailer_is_left_out() {
        let mut trailers = HeaderMap::new();
        for name in ["connection", "content-length", "te"] {
            trailers.append(name, http::HeaderValue::from_static("x"));
            trailers.append(name, http::HeaderValue::from_static("y"));
        }
        let mut out = Out::default();
        out.end(Some(trailers.clone()));
        assert!(out.is_bare_end());
        trailers.append("grpc-status", http::HeaderValue::from_static(" 0\t"));
        out.end(Some(trailers));
        let Some(End::Trailers(left)) = &out.end else {
            panic!("no trailers");
        };
        assert_eq!(left.len(), 1);
        assert_eq!(left["grpc-status"], "0");
    }
}
