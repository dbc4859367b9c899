//! HTTP/2 as a client speaks it.
//!
//! ```text
//! request:   Idle ---> Queued ---> Open ---> Ended        response:  Unsent ---> Head ---> Body ---> Ended
//!                                    |                                             |         |
//!                                    +--> Taken (by its own writer)                +---------+--> Broken
//! ```
//!
//! A session is one stream. Its frames are moved by the task of its connection, [`drive_connection`]; between the
//! two lie the windows of flow control: what was read and not asked for again keeps the peer's window closed.

use std::pin::Pin;
use std::task::{ready, Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, Method};
use pingora_error::ErrorType::InternalError;
use pingora_error::{BError, Error, Result};
use pingora_http::{RequestHeader, ResponseHeader};

use super::out::Out;
use crate::protocols::http::v1::Timer;
use crate::protocols::l4::socket::SocketAddr;
use crate::protocols::{Digest, UniqueIDType};

pub(crate) mod conn;
mod deadline;
mod drive;
mod failure;
mod read;
mod request;
mod write;

pub use drive::drive_connection;
pub(crate) use drive::{drive, GrowingWindow};
pub use failure::{was_not_processed, PING_TIMEDOUT};

use conn::ConnectionRef;
use deadline::Deadline;
use failure::When;

/// One stream of an HTTP/2 connection, as its client sees it.
pub struct Http2Session {
    inner: Box<Inner>,
    /// The time for which the origin may be silent; `None` for no limit.
    pub read_timeout: Option<Duration>,
    /// The time that the origin may take nothing; `None` for no limit.
    pub write_timeout: Option<Duration>,
    /// The time that the origin may take for the head of its response; `None` for `read_timeout`.
    pub response_header_timeout: Option<Duration>,
    /// The connection.
    pub conn: ConnectionRef,
}

struct Inner {
    send: SendRequest<Bytes>,
    sending: Sending,
    receiving: Receiving,
    out: Out,
    /// The request, where it was asked to be kept.
    request: Option<Box<RequestHeader>>,
    response: Option<Box<ResponseHeader>>,
    asked: Asked,
    /// The origin was asked for a 100, and has not sent it.
    owes_continue: bool,
    /// The length that the head of the request promised, less what was sent of it.
    owed: Option<u64>,
    body_sent: usize,
    body_received: usize,
    /// The length that the head of the response promised.
    promised: Option<u64>,
    /// Bytes that were given out and for which the window is to be opened again.
    unreleased: usize,
    read_deadline: Deadline,
    write_deadline: Deadline,
    /// The last poll brought a message, so that another one may be there.
    more: bool,
}

/// The direction of the request.
enum Sending {
    /// No head yet.
    Idle,
    /// The head waits for the first flush, by which it is known whether anything follows.
    Queued(Box<RequestHeader>),
    Open(SendStream<Bytes>),
    /// Everything is handed over. The handle is kept to reset the stream with.
    Ended(SendStream<Bytes>),
    /// Someone else writes.
    Taken,
}

/// The direction of the response.
enum Receiving {
    /// The request was not sent.
    Unsent,
    Head(ResponseFuture),
    Body(RecvStream),
    Ended,
    Broken,
}

/// The part of the request that the response depends on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Asked {
    #[default]
    Other,
    /// The response has no body.
    Head,
    /// A success opens a tunnel.
    Connect,
    /// A success opens a tunnel that stays HTTP/2's own.
    Tunnel,
}

impl Http2Session {
    pub(crate) fn new(send: SendRequest<Bytes>, conn: ConnectionRef) -> Self {
        Http2Session {
            inner: Box::new(Inner {
                send,
                sending: Sending::Idle,
                receiving: Receiving::Unsent,
                out: Out::default(),
                request: None,
                response: None,
                asked: Asked::Other,
                owes_continue: false,
                owed: None,
                body_sent: 0,
                body_received: 0,
                promised: None,
                unreleased: 0,
                read_deadline: Deadline::default(),
                write_deadline: Deadline::default(),
                more: false,
            }),
            read_timeout: None,
            write_timeout: None,
            response_header_timeout: None,
            conn,
        }
    }

    fn when(&self) -> When {
        match self.inner.receiving {
            Receiving::Unsent | Receiving::Head(_) if self.conn.has_answered() => When::Unanswered,
            Receiving::Unsent | Receiving::Head(_) => When::Unproven,
            _ => When::Answered,
        }
    }

    /// The error for a failure of the stream.
    fn failed(&self, e: h2::Error, context: &'static str) -> BError {
        self.blamed(failure::failed(e, self.when(), context))
    }

    /// Says that a PING was not answered, where that is what ended the stream.
    fn blamed(&self, mut e: BError) -> BError {
        if self.conn.ping_timedout() {
            e.etype = PING_TIMEDOUT;
        }
        e
    }

    /// Gives the stream up: the origin is told to stop (CANCEL), unless it has ended.
    pub fn shutdown(&mut self) {
        self.reset(Reason::CANCEL);
        self.inner.receiving = Receiving::Broken;
    }

    /// Returns whether a tunnel was asked for that is not open yet: until it is, the request has no end.
    pub(crate) fn awaits_tunnel(&self) -> bool {
        self.inner.asked == Asked::Connect
    }

    /// Returns what wakes the task when a time limit of reads is over.
    pub(crate) fn timer(&mut self) -> &mut Timer {
        &mut self.inner.read_deadline.timer
    }

    fn reset(&mut self, reason: Reason) {
        match &mut self.inner.sending {
            Sending::Open(writer) | Sending::Ended(writer) => writer.send_reset(reason),
            Sending::Idle | Sending::Queued(_) | Sending::Taken => {}
        }
        self.inner.out.clear();
    }

    /// The request, once it was written by [`write_request_header`](Http2Session::write_request_header).
    pub fn request_header(&self) -> Option<&RequestHeader> {
        self.inner.request.as_deref()
    }

    /// The head of the response, once it is read.
    pub fn response_header(&self) -> Option<&ResponseHeader> {
        self.inner.response.as_deref()
    }

    /// Bytes of response body read so far.
    pub fn body_bytes_received(&self) -> usize {
        self.inner.body_received
    }

    /// Bytes of request body handed over so far.
    pub(crate) fn body_bytes_sent(&self) -> usize {
        self.inner.body_sent
    }

    /// Returns whether the whole response is read.
    pub fn response_finished(&self) -> bool {
        match &self.inner.receiving {
            Receiving::Body(body) => body.is_end_stream(),
            Receiving::Ended => true,
            Receiving::Unsent | Receiving::Head(_) | Receiving::Broken => false,
        }
    }

    /// Returns whether the body of the response is whole by what its head says, though the stream may not have ended:
    /// nothing but its end and trailers can follow.
    pub(crate) fn is_content_complete(&self) -> bool {
        match self.inner.receiving {
            Receiving::Body(_) => match self.inner.asked {
                Asked::Head => true,
                Asked::Other => self.inner.promised == Some(self.inner.body_received as u64),
                Asked::Connect | Asked::Tunnel => false,
            },
            Receiving::Ended => true,
            Receiving::Unsent | Receiving::Head(_) | Receiving::Broken => false,
        }
    }

    /// The digest of the connection.
    pub fn digest(&self) -> Option<&Digest> {
        Some(self.conn.digest())
    }

    /// Returns what is known of the connection, to add to it; `None` while others have the connection too.
    pub fn digest_mut(&mut self) -> Option<&mut Digest> {
        self.conn.digest_mut()
    }

    /// The origin's address.
    pub fn server_addr(&self) -> Option<&SocketAddr> {
        self.conn.digest().socket_digest.as_ref()?.peer_addr()
    }

    /// The local address of the connection.
    pub fn client_addr(&self) -> Option<&SocketAddr> {
        self.conn.digest().socket_digest.as_ref()?.local_addr()
    }

    /// The identity of the connection, which its streams share.
    pub fn fd(&self) -> UniqueIDType {
        self.conn.id()
    }
}

impl Drop for Http2Session {
    /// Frees the place on the connection. A stream that has not ended is reset with CANCEL, unless nothing but its end
    /// is missing: peers count what is reset, and close connections for it.
    fn drop(&mut self) {
        let ends = matches!(self.inner.sending, Sending::Ended(_)) && self.is_content_complete();
        let receiving = std::mem::replace(&mut self.inner.receiving, Receiving::Ended);
        if let (Receiving::Body(mut body), true) = (receiving, ends) {
            // A stream that is over has no window.
            let _ = body.flow_control().release_capacity(self.inner.unreleased);
            if is_ending(&mut body) {
                self.conn.keep_ending(body);
            }
        }
        self.conn.release_stream();
    }
}

/// Returns whether a stream of which only the end is missing is still to end. What is there of it is read.
pub(crate) fn is_ending(body: &mut RecvStream) -> bool {
    let mut cx = Context::from_waker(Waker::noop());
    loop {
        match body.poll_data(&mut cx) {
            Poll::Ready(Some(Ok(data))) if data.is_empty() => {}
            Poll::Ready(None) => return body.poll_trailers(&mut cx).is_pending(),
            Poll::Ready(Some(_)) => return false,
            Poll::Pending => return true,
        }
    }
}

#[cfg(test)]
mod tests;
