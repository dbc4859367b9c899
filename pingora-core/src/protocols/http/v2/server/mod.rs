//! HTTP/2 as a server speaks it.
//!
//! An [`HttpSession`] is one stream: a request and its response. The connection is driven by whoever calls
//! [`HttpSession::from_h2_conn`] again and again; a stream makes no progress without that.

use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use h2::ext::Protocol;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, Method, StatusCode};
use pingora_error::Error;
use pingora_http::{RequestHeader, ResponseHeader};
use tokio::time::Instant;

use super::conn_state::ConnState;
use super::out::Out;
use crate::limits::LIMITS;
use crate::protocols::http::body_buffer::FixedBuffer;
use crate::protocols::http::tasks;
use crate::protocols::http::v1::Timer;
use crate::protocols::l4::socket::SocketAddr;
use crate::protocols::Digest;

mod check;
mod connect;
mod read;
mod write;

pub(crate) use connect::begin;
pub use connect::{default_h2_options, handshake, H2Accept};
pub use h2::server::Builder as H2Options;
pub use read::Idle;

/// One stream of an HTTP/2 connection, as its server sees it.
///
/// Dropped before its response is complete, it resets the stream, so that what is cut short is never taken for whole.
pub struct HttpSession {
    inner: Box<Inner>,
    /// The time that the client may take nothing of the response; `None` stands for 60 s.
    pub write_timeout: Option<Duration>,
}

/// The stream, and the exchange on it.
struct Inner {
    request: Box<RequestHeader>,
    body: RecvStream,
    respond: SendResponse<Bytes>,
    /// The stream for the body, once the head of the response is out.
    send: Option<SendStream<Bytes>>,
    response: Option<Box<ResponseHeader>>,
    digest: Arc<Digest>,
    read_timeout: Option<Duration>,
    drain_timeout: Option<Duration>,
    reading: Reading,
    writing: Writing,
    out: Out,
    /// True if the last piece was handed over without waiting.
    room: bool,
    timer: Timer,
    read_due: Option<Instant>,
    write_due: Option<Instant>,
    body_read: usize,
    body_sent: usize,
    retry: Option<Box<FixedBuffer>>,
    request_trailers: Option<Box<HeaderMap>>,
    tunnel: Tunnel,
    ignore_info_resp: bool,
    /// Bytes of informational responses that were handed over.
    informed: usize,
    /// True once a 100 was handed over.
    continued: bool,
    /// By what the client learns that its response will not be complete.
    reset: Reason,
    tasks: tasks::Outcome,
}

/// The state of the request.
struct Reading {
    state: ReadState,
    /// The length that Content-Length promises.
    promised: Option<u64>,
    /// Bytes that were passed on and whose window the client has not got back.
    unreleased: usize,
    /// The last bytes that Content-Length promises: kept until the stream says that they are.
    held: Option<Bytes>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ReadState {
    Body,
    Trailers,
    /// All of the request was read.
    Done,
    Broken,
}

/// The state of the response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Writing {
    Head,
    /// The body, of which so many bytes are still promised, if a length is.
    Body(Option<u64>),
    /// The end is queued or handed over.
    Done,
    Broken,
}

/// The state of a tunnel over the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tunnel {
    Unasked,
    /// By CONNECT; a 2xx opens it (RFC 9113 section 8.5).
    Connect,
    /// By an extended CONNECT (RFC 8441); the 101 of an HTTP/1.1 origin opens it.
    Extended,
    Open,
}

impl HttpSession {
    /// Returns what wakes the task when a time limit is over.
    pub(crate) fn timer(&mut self) -> &mut Timer {
        &mut self.inner.timer
    }

    fn new(
        request: Box<RequestHeader>,
        promised: Option<u64>,
        body: RecvStream,
        respond: SendResponse<Bytes>,
        digest: Arc<Digest>,
    ) -> Self {
        let state = if body.is_end_stream() {
            ReadState::Done
        } else {
            ReadState::Body
        };
        let tunnel = match request.method == Method::CONNECT {
            true if request.extensions.get::<Protocol>().is_some() => Tunnel::Extended,
            true => Tunnel::Connect,
            false => Tunnel::Unasked,
        };
        let inner = Box::new(Inner {
            request,
            body,
            respond,
            send: None,
            response: None,
            digest,
            read_timeout: None,
            drain_timeout: None,
            reading: Reading {
                state,
                promised,
                unreleased: 0,
                held: None,
            },
            writing: Writing::Head,
            out: Out::default(),
            room: false,
            timer: Timer::default(),
            read_due: None,
            write_due: None,
            body_read: 0,
            body_sent: 0,
            retry: None,
            request_trailers: None,
            tunnel,
            ignore_info_resp: false,
            informed: 0,
            continued: false,
            reset: Reason::INTERNAL_ERROR,
            tasks: tasks::Outcome::default(),
        });
        HttpSession {
            inner,
            write_timeout: None,
        }
    }

    /// The head of the request.
    pub fn req_header(&self) -> &RequestHeader {
        &self.inner.request
    }

    /// The head of the request, to change it.
    pub fn req_header_mut(&mut self) -> &mut RequestHeader {
        &mut self.inner.request
    }

    /// Method, target and Host in one line, for logs.
    pub fn request_summary(&self) -> String {
        format!(
            "{} {}, Host: {}",
            self.inner.request.method,
            String::from_utf8_lossy(self.inner.request.raw_path()).escape_debug(),
            String::from_utf8_lossy(self.host()).escape_debug(),
        )
    }

    fn host(&self) -> &[u8] {
        match self.inner.request.uri.authority() {
            Some(authority) => authority.as_str().as_bytes(),
            None => {
                let host = self.inner.request.headers.get(http::header::HOST);
                host.map_or(b"", |host| host.as_bytes())
            }
        }
    }

    /// The head of the request as HTTP/1.1 would write it, for logs and for tools that know no other form.
    pub fn pseudo_raw_h1_request_header(&self) -> Bytes {
        let mut raw = BytesMut::with_capacity(512);
        raw.put_slice(self.inner.request.method.as_str().as_bytes());
        raw.put_u8(b' ');
        raw.put_slice(self.inner.request.raw_path());
        raw.put_slice(b" HTTP/1.1\r\n");
        if !self.inner.request.headers.contains_key(http::header::HOST) {
            raw.put_slice(b"Host: ");
            raw.put_slice(self.host());
            raw.put_slice(b"\r\n");
        }
        self.inner.request.header_to_h1_wire(&mut raw);
        raw.put_slice(b"\r\n");
        raw.freeze()
    }

    /// The final response head that was written, if one was.
    pub fn response_written(&self) -> Option<&ResponseHeader> {
        self.inner.response.as_deref()
    }

    /// Bytes of request body read so far.
    pub fn body_bytes_read(&self) -> usize {
        self.inner.body_read
    }

    /// Bytes of response body written so far.
    pub fn body_bytes_sent(&self) -> usize {
        self.inner.body_sent
    }

    /// Returns whether the request has no body. What a client sends into a tunnel is none.
    pub fn is_body_empty(&self) -> bool {
        self.awaits_tunnel()
            || (self.inner.body_read == 0 && self.inner.reading.state == ReadState::Done)
    }

    /// Returns whether the whole request body is read.
    pub fn is_body_done(&self) -> bool {
        self.awaits_tunnel()
            || matches!(
                self.inner.reading.state,
                ReadState::Done | ReadState::Broken
            )
    }

    /// Returns whether the client has cut its request short, or can send no more of it.
    pub(crate) fn is_request_broken(&self) -> bool {
        self.inner.reading.state == ReadState::Broken
    }

    fn awaits_tunnel(&self) -> bool {
        matches!(self.inner.tunnel, Tunnel::Connect | Tunnel::Extended)
    }

    /// Returns whether the request asks to leave HTTP.
    pub(crate) fn is_tunnel_req(&self) -> bool {
        self.inner.tunnel != Tunnel::Unasked
    }

    /// Returns whether it did.
    pub(crate) fn is_tunnel(&self) -> bool {
        self.inner.tunnel == Tunnel::Open
    }

    pub(crate) fn is_extended_connect(&self) -> bool {
        self.inner.tunnel == Tunnel::Extended
    }

    /// Returns whether a response with this status opens the tunnel that was asked for.
    pub(crate) fn opens_tunnel(&self, status: StatusCode) -> bool {
        match self.inner.tunnel {
            Tunnel::Connect => status.is_success(),
            Tunnel::Extended => status == StatusCode::SWITCHING_PROTOCOLS,
            Tunnel::Unasked | Tunnel::Open => false,
        }
    }

    /// Keeps a copy of the request body, up to 64 KiB, for a retry.
    pub fn enable_retry_buffering(&mut self) {
        self.inner
            .retry
            .get_or_insert_with(|| Box::new(FixedBuffer::new(LIMITS.retry_buffer_bytes)));
    }

    /// Returns whether more of the body was read than is kept, so that there can be no retry.
    pub fn retry_buffer_truncated(&self) -> bool {
        self.inner.retry.as_ref().is_some_and(|r| r.is_truncated())
    }

    /// The request body read so far; `None` when nothing or not all of it is kept.
    pub fn get_retry_buffer(&self) -> Option<Bytes> {
        let retry = self.inner.retry.as_ref()?;
        if retry.is_truncated() {
            None
        } else {
            retry.get_buffer()
        }
    }

    /// Sets how long a body may be silent between two pieces.
    pub(crate) fn set_read_timeout(&mut self, timeout: Option<Duration>) {
        self.inner.read_timeout = timeout;
    }

    pub(crate) fn get_read_timeout(&self) -> Option<Duration> {
        self.inner.read_timeout
    }

    /// Sets how long the client may take nothing of the response.
    pub fn set_write_timeout(&mut self, timeout: Option<Duration>) {
        self.write_timeout = timeout;
    }

    /// See [`HttpSession::set_write_timeout`]; `None` stands for 60 s.
    pub fn get_write_timeout(&self) -> Option<Duration> {
        self.write_timeout
    }

    /// Sets how long, in all, [`HttpSession::drain_request_body`] may take.
    pub fn set_total_drain_timeout(&mut self, timeout: Option<Duration>) {
        self.inner.drain_timeout = timeout;
    }

    /// See [`HttpSession::set_total_drain_timeout`]; `None` stands for 5 s.
    pub fn get_total_drain_timeout(&self) -> Option<Duration> {
        self.inner.drain_timeout
    }

    /// Ties the stream to the state of its connection.
    pub(crate) fn set_conn_state(&mut self, state: Arc<ConnState>) {
        self.inner.out.set_state(state);
    }

    /// Returns whether the server of the connection shuts down.
    pub(crate) fn is_shutting_down(&self) -> bool {
        self.inner.out.state().is_some_and(ConnState::is_leaving)
    }

    /// Ends the connection once its streams are done.
    pub(crate) fn end_connection(&self) {
        if let Some(state) = self.inner.out.state() {
            state.ask_end();
        }
    }

    pub(crate) fn set_ignore_info_resp(&mut self, ignore: bool) {
        self.inner.ignore_info_resp = ignore;
    }

    /// The digest of the connection.
    pub fn digest(&self) -> Option<&Digest> {
        Some(&self.inner.digest)
    }

    /// Returns what is known of the connection, to add to it for this stream: others do not see what is added.
    pub fn digest_mut(&mut self) -> Option<&mut Digest> {
        Some(Arc::make_mut(&mut self.inner.digest))
    }

    /// The client's address.
    pub fn client_addr(&self) -> Option<&SocketAddr> {
        self.inner.digest.socket_digest.as_ref()?.peer_addr()
    }

    /// The address at which the client was accepted.
    pub fn server_addr(&self) -> Option<&SocketAddr> {
        self.inner.digest.socket_digest.as_ref()?.local_addr()
    }

    /// Gives up the stream, unless its response is complete: with INTERNAL_ERROR, or with what an origin has said that
    /// means something to the client.
    pub fn shutdown(&mut self) {
        // A reset would take from the client what is there of a response that is whole. What flow control holds back of it
        // waits in the connection. A tunnel that failed must not look as if it had ended.
        let whole = match self.inner.writing {
            Writing::Done => !self.is_tunnel(),
            Writing::Body(left) => left == Some(0),
            Writing::Head | Writing::Broken => false,
        };
        if whole && self.finish().is_ok() {
            return;
        }
        self.shutdown_with_reason(self.inner.reset);
    }

    /// Returns whether the client has all of its response with what is queued.
    pub(crate) fn has_whole_response(&self) -> bool {
        self.inner.writing == Writing::Done
    }

    /// Returns whether the head of the response is out, and its end is not.
    pub(crate) fn is_within_response(&self) -> bool {
        matches!(self.inner.writing, Writing::Body(_))
    }

    /// Takes from a failure by what reason the stream is to be reset.
    pub(crate) fn note_failure(&mut self, e: &Error) {
        self.inner.reset = match self.is_tunnel() {
            // RFC 8441 section 5: what a reset of a TCP connection becomes.
            true => Reason::CANCEL,
            false => super::told_by_peer(e).unwrap_or(Reason::INTERNAL_ERROR),
        };
    }

    /// Gives up the stream, unless its response is complete: then the client gets all of it, and a request
    /// body that still flows is ended by NO_ERROR (RFC 9113 section 8.1).
    pub fn shutdown_with_reason(&mut self, reason: Reason) {
        if self.inner.writing == Writing::Done && self.inner.out.is_empty() {
            return;
        }
        self.inner.out.clear();
        self.inner.writing = Writing::Broken;
        self.inner.reading.state = ReadState::Broken;
        match &mut self.inner.send {
            Some(send) => send.send_reset(reason),
            None => self.inner.respond.send_reset(reason),
        }
    }
}

impl Drop for HttpSession {
    fn drop(&mut self) {
        if let Some(state) = self.inner.out.state() {
            state.note_end(self.write_timeout);
        }
        if self.inner.writing != Writing::Broken {
            self.shutdown();
        }
    }
}
