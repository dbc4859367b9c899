//! The session of a subrequest: no socket, but the channels of a [`SubrequestHandle`].
//!
//! ```text
//!           head and digest, copied once
//! parent -------------------------------------> HttpSession   the proxy serves it like a client's request
//!        <-- subreq_wants_body ---------------  first read of the body
//!        --- tx: body ----------------------->
//!        <-- rx: head, body, trailers --------  bounded: a parent that does not read stops the subrequest
//!        <-- subreq_proxy_error --------------  why there is no response, or no whole one
//! ```
//!
//! Framing is that of HTTP/1.1, without its form on the wire: Content-Length is counted in both directions, and a body
//! without it lasts until a message ends it. The closing of a channel never stands for the end of a body.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use http::header::{AsHeaderName, CONTENT_LENGTH, EXPECT, TRAILER, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use log::trace;
use pingora_error::{BError, Error, Result};
use pingora_http::{RequestHeader, ResponseHeader};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::exchange::custom::{driver_of, Driver};
use crate::limits::LIMITS;
use crate::protocols::http::body_buffer::FixedBuffer;
use crate::protocols::http::server::Session;
use crate::protocols::http::v1::proto::framing;
use crate::protocols::http::v1::{common, refused_head, Timer};
use crate::protocols::http::{authority, tasks, HttpTask};
use crate::protocols::l4::socket::SocketAddr;
use crate::protocols::Digest;

mod head;
mod queue;
mod read;
#[cfg(test)]
mod tests;
mod write;

use queue::Queue;

/// Messages in a channel that were sent and not received.
const MESSAGES: usize = 4;

type Wait<T> = Pin<Box<dyn Future<Output = T> + Send + Sync>>;

/// The exchange of a subrequest, as the proxy serves it.
///
/// Dropped before its response is complete, it closes the channel without an end, so that what is cut short is never
/// taken for whole.
pub struct HttpSession {
    inner: Box<Inner>,
}

struct Inner {
    request: Box<RequestHeader>,
    digest: Option<Box<Digest>>,
    shutting_down: bool,
    reading: Reading,
    body: mpsc::Receiver<HttpTask>,
    wants_body: Option<oneshot::Sender<()>>,
    request_trailers: Option<Box<HeaderMap>>,
    retry: Option<FixedBuffer>,
    body_read: usize,
    writing: Writing,
    /// `None` once the exchange is given up.
    tx: Option<mpsc::Sender<HttpTask>>,
    proxy_error: Option<oneshot::Sender<BError>>,
    response: Option<Box<ResponseHeader>>,
    body_sent: usize,
    upgrade: Upgrade,
    queue: Queue,
    /// The place in the channel that is waited for.
    permit: Option<Wait<Result<mpsc::OwnedPermit<HttpTask>, mpsc::error::SendError<()>>>>,
    /// The end of whoever receives the response.
    closed: Option<Wait<()>>,
    /// The outcome that the next write of the queue returns.
    tasks: tasks::Outcome,
    proxy_tasks: bool,
    ignore_info_resp: bool,
    timeouts: Timeouts,
    timer: Timer,
    read_due: Option<Instant>,
    write_due: Option<Instant>,
}

/// The state of the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reading {
    /// The head may still be changed, and has not been asked for the length of the body.
    Unframed,
    /// The body, of which so many bytes are to come, if their number is known.
    Body(Option<u64>),
    /// After an upgrade.
    Raw,
    /// The request is whole.
    Done,
    /// The parent has ended its direction of an upgraded exchange.
    Ended,
    Broken,
}

/// The state of the response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Writing {
    Head,
    /// The body, of which so many bytes are still promised, if a length is.
    Body(Option<u64>),
    /// After an upgrade.
    Raw,
    /// The end is queued or sent.
    Done,
    Broken,
}

/// The stage of an exchange on its way out of HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Upgrade {
    Unasked,
    Asked,
    Done,
}

/// The limits that the application has set.
#[derive(Clone, Copy, Debug, Default)]
struct Timeouts {
    read: Option<Duration>,
    write: Option<Duration>,
    drain: Option<Duration>,
}

/// The other end of a subrequest: whoever reads its response and feeds it a body.
///
/// Dropping [`rx`](Self::rx) ends a subrequest at its next write, or as soon as it waits for its upstream.
#[derive(Debug)]
pub struct SubrequestHandle {
    /// Takes the request body, once it was asked for: pieces, then one that is the last, [`HttpTask::Trailer`] or
    /// [`HttpTask::Done`]. [`HttpTask::Failed`] fails the subrequest.
    pub tx: mpsc::Sender<HttpTask>,
    /// Delivers the response. It is complete only with a message that [ends](HttpTask::is_end) it, never by the end of the
    /// channel.
    pub rx: mpsc::Receiver<HttpTask>,
    /// Resolves when the subrequest reads its body for the first time; with an error if it never does.
    pub subreq_wants_body: oneshot::Receiver<()>,
    /// Resolves to the error that the subrequest ended with, once its last message is in [`rx`](Self::rx); with an error
    /// if it succeeded.
    pub subreq_proxy_error: oneshot::Receiver<Box<Error>>,
}

impl SubrequestHandle {
    /// Receives the response and drops it, until the subrequest ends. No body can be sent to it any more.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn drain_tasks(self) -> JoinHandle<()> {
        let SubrequestHandle { mut rx, .. } = self;
        tokio::spawn(async move {
            while let Some(task) = rx.recv().await {
                trace!("{} of a subrequest drained", task.type_str());
            }
        })
    }
}

impl HttpSession {
    /// Copies the head of the request and the digest of its connection, for a request of one's own. A head of HTTP/2
    /// takes the form of HTTP/1.1.
    ///
    /// The copy may be changed until [`read_request`](Self::read_request).
    pub fn new_from_session(session: &Session) -> (Self, SubrequestHandle) {
        let (tx, rx) = mpsc::channel(MESSAGES);
        let (body_tx, body) = mpsc::channel(MESSAGES);
        let (wants_body, subreq_wants_body) = oneshot::channel();
        let (proxy_error, subreq_proxy_error) = oneshot::channel();
        let bodiless = match session {
            Session::H1(_) | Session::Subrequest(_) => true,
            Session::H2(s) => s.is_body_empty(),
            Session::Custom(s) => driver_of(s.as_ref()).is_none_or(Driver::is_bodiless),
        };
        let inner = Box::new(Inner {
            request: head::copy(session.req_header(), bodiless),
            digest: session.digest().cloned().map(Box::new),
            shutting_down: session.is_shutting_down(),
            reading: Reading::Unframed,
            body,
            wants_body: Some(wants_body),
            request_trailers: None,
            retry: None,
            body_read: 0,
            writing: Writing::Head,
            tx: Some(tx),
            proxy_error: Some(proxy_error),
            response: None,
            body_sent: 0,
            upgrade: Upgrade::Unasked,
            queue: Queue::default(),
            permit: None,
            closed: None,
            tasks: tasks::Outcome::default(),
            proxy_tasks: false,
            ignore_info_resp: false,
            timeouts: Timeouts::default(),
            timer: Timer::default(),
            read_due: None,
            write_due: None,
        });
        let handle = SubrequestHandle {
            tx: body_tx,
            rx,
            subreq_wants_body,
            subreq_proxy_error,
        };
        (HttpSession { inner }, handle)
    }

    /// The head of the request.
    pub fn req_header(&self) -> &RequestHeader {
        &self.inner.request
    }

    /// The head of the request, to change it.
    pub fn req_header_mut(&mut self) -> &mut RequestHeader {
        &mut self.inner.request
    }

    /// Removes the fields that announce a request body, so that the subrequest has none: Content-Length,
    /// Transfer-Encoding, Trailer and Expect.
    pub fn clear_request_body_headers(&mut self) {
        for name in [CONTENT_LENGTH, TRANSFER_ENCODING, TRAILER, EXPECT] {
            self.inner.request.remove_header(&name);
        }
        if let Reading::Body(_) = self.inner.reading {
            self.inner.reading = Reading::Done;
        }
    }

    /// The first value of a field of the request.
    pub fn get_header(&self, name: impl AsHeaderName) -> Option<&HeaderValue> {
        self.inner.request.headers.get(name)
    }

    /// The first value of a field of the request, empty when there is none.
    pub fn get_header_bytes(&self, name: impl AsHeaderName) -> &[u8] {
        self.get_header(name).map_or(b"", |v| v.as_bytes())
    }

    /// The head of the request in HTTP/1.1 form, as it is now.
    pub fn get_headers_raw_bytes(&self) -> Bytes {
        head::wire(&self.inner.request)
    }

    /// Method, target and Host in one line, for logs.
    pub fn request_summary(&self) -> String {
        let host = self.get_header_bytes(http::header::HOST);
        format!(
            "{} {}, Host: {} (subrequest)",
            self.inner.request.method,
            String::from_utf8_lossy(self.inner.request.raw_path()).escape_debug(),
            String::from_utf8_lossy(host).escape_debug()
        )
    }

    /// Checks the request again after its head was changed: framing and authority.
    ///
    /// # Errors
    /// `InvalidHTTPHeader`, with what is wrong.
    pub fn validate_request(&self) -> Result<()> {
        let request = &self.inner.request;
        framing::request(request.version, &**request).map_err(refused_head)?;
        authority::validate_request_authority(request)
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

    /// Returns whether the client has cut its request short, or can send no more of it.
    pub(crate) fn is_request_broken(&self) -> bool {
        self.inner.reading == Reading::Broken
    }

    /// Returns whether the request asks to leave HTTP: by Upgrade, or by CONNECT.
    pub fn is_upgrade_req(&self) -> bool {
        match self.inner.reading {
            Reading::Unframed => head::asks_upgrade(&self.inner.request),
            _ => self.inner.upgrade != Upgrade::Unasked,
        }
    }

    /// Returns whether `header` answers the request's wish for an upgrade, and how; `None` if it had none.
    pub fn is_upgrade(&self, header: &ResponseHeader) -> Option<bool> {
        self.is_upgrade_req()
            .then(|| self.agrees(header.status) || self.was_upgraded())
    }

    /// Returns whether a head was written by which the exchange has left HTTP.
    pub fn was_upgraded(&self) -> bool {
        self.inner.upgrade == Upgrade::Done
    }

    fn agrees(&self, status: StatusCode) -> bool {
        match self.inner.request.method {
            Method::CONNECT => status.is_success(),
            _ => status == StatusCode::SWITCHING_PROTOCOLS,
        }
    }

    /// Keeps a copy of the request body, up to 64 KiB, for a retry.
    pub fn enable_retry_buffering(&mut self) {
        let retry = &mut self.inner.retry;
        retry.get_or_insert_with(|| FixedBuffer::new(LIMITS.retry_buffer_bytes));
    }

    /// Returns whether more of the body was read than is kept, so that there can be no retry.
    pub fn retry_buffer_truncated(&self) -> bool {
        self.inner.retry.as_ref().is_some_and(|r| r.is_truncated())
    }

    /// The request body read so far; `None` when nothing or not all of it is kept.
    pub fn get_retry_buffer(&self) -> Option<Bytes> {
        let retry = self.inner.retry.as_ref()?;
        if retry.is_truncated() {
            return None;
        }
        retry.get_buffer()
    }

    /// Sets how long a body may be silent between two pieces; `None`, as at first, for no limit: whoever sends it is
    /// another request, which has limits of its own.
    pub fn set_read_timeout(&mut self, timeout: Option<Duration>) {
        self.inner.timeouts.read = timeout;
    }

    /// The limit of [`HttpSession::set_read_timeout`].
    pub fn get_read_timeout(&self) -> Option<Duration> {
        self.inner.timeouts.read
    }

    /// Sets how long the parent may take nothing of the response; `None`, as at first, for no limit.
    pub fn set_write_timeout(&mut self, timeout: Option<Duration>) {
        self.inner.timeouts.write = timeout;
    }

    /// The limit of [`HttpSession::set_write_timeout`].
    pub fn get_write_timeout(&self) -> Option<Duration> {
        self.inner.timeouts.write
    }

    /// Sets how long, in all, [`HttpSession::drain_request_body`] may take.
    pub fn set_total_drain_timeout(&mut self, timeout: Option<Duration>) {
        self.inner.timeouts.drain = timeout;
    }

    /// The limit of [`HttpSession::set_total_drain_timeout`]; `None` stands for 5 s.
    pub fn get_total_drain_timeout(&self) -> Option<Duration> {
        self.inner.timeouts.drain
    }

    /// Sets whether 1xx responses, a 101 aside, are dropped instead of written.
    pub(crate) fn set_ignore_info_resp(&mut self, ignore: bool) {
        self.inner.ignore_info_resp = ignore;
    }

    /// The digest of the parent's connection.
    pub fn digest(&self) -> Option<&Digest> {
        self.inner.digest.as_deref()
    }

    /// The digest of the parent's connection, to add to it for this subrequest: its parent does not see what is added.
    pub fn digest_mut(&mut self) -> Option<&mut Digest> {
        self.inner.digest.as_deref_mut()
    }

    /// The address of the parent's client.
    pub fn client_addr(&self) -> Option<&SocketAddr> {
        self.digest()?.socket_digest.as_ref()?.peer_addr()
    }

    /// The address at which the parent's client was accepted.
    pub fn server_addr(&self) -> Option<&SocketAddr> {
        self.digest()?.socket_digest.as_ref()?.local_addr()
    }

    /// Tells the parent why the subrequest has failed. A response that is not complete stays so.
    pub fn on_proxy_failure(&mut self, e: Box<Error>) {
        if let Some(tell) = self.inner.proxy_error.take() {
            // A parent that does not ask has left.
            let _ = tell.send(e);
        }
    }

    /// Gives up the exchange. What is queued is dropped: the parent sees a response without its end, unless that was
    /// sent.
    pub fn shutdown(&mut self) {
        let inner = &mut *self.inner;
        inner.queue = Queue::default();
        inner.permit = None;
        inner.closed = None;
        inner.tx = None;
        inner.body.close();
        inner.reading = Reading::Broken;
        inner.writing = Writing::Broken;
    }

    /// The timer that wakes the task when a time limit is over.
    pub(crate) fn timer(&mut self) -> &mut Timer {
        &mut self.inner.timer
    }

    /// Returns whether the server was shutting down when the subrequest was made.
    pub(crate) fn is_shutting_down(&self) -> bool {
        self.inner.shutting_down
    }

    /// Returns whether the parent has, or will have with what is queued, all of the response.
    pub(crate) fn has_whole_response(&self) -> bool {
        matches!(self.inner.writing, Writing::Done | Writing::Body(Some(0)))
    }

    /// The fields after the request body, once it is read.
    pub(crate) fn request_trailers(&self) -> Option<&HeaderMap> {
        self.inner.request_trailers.as_deref()
    }
}
