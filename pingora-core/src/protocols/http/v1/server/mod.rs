//! HTTP/1.x as a server speaks it.
//!
//! An [`HttpSession`] is one exchange. What belongs to the connection (buffers, digest, timer, place in
//! the shutdown registry) lies in one box that travels from exchange to exchange.

use std::any::Any;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::AsHeaderName;
use http::HeaderMap;
use once_cell::sync::OnceCell;
use pingora_error::{Error, Result};
use pingora_http::{RequestHeader, ResponseHeader};

use super::closed_stream::ClosedStream;
use super::common;
use super::conn::{is_truncation, Conn, WriteDeadline};
use super::proto::encode::Encoder;
use super::proto::head::{self, Limits, Scanner};
use super::proto::state::{Reading, Writing};
use super::send::Role;
use super::timer::Timer;
use crate::free_list::{self, FreeList};
use crate::limits::LIMITS;
use crate::protocols::http::body_buffer::FixedBuffer;
use crate::protocols::http::tasks;
use crate::protocols::http::ConnectionSettings;
use crate::protocols::l4::socket::SocketAddr;
use crate::protocols::{Digest, SocketDigest, Stream};
use crate::shutdown::{Registration, Registry, Stage};

mod read;
mod reuse;
mod write;

/// The time between two looks at a client that has closed its direction.
const LOOK: Duration = Duration::from_secs(1);

/// One exchange of an HTTP/1.x connection, as its server sees it.
pub struct HttpSession {
    inner: Box<Inner>,
}

/// The connection, and the exchange on it.
pub(crate) struct Inner {
    conn: Conn,
    /// The digest of the connection, once it was asked for.
    digest: OnceCell<Box<Digest>>,
    /// The registration by which the connection waits for a shutdown.
    place: Option<Registration>,
    shutdown_read_timeout: Duration,
    /// True if it waits for a request since after a shutdown began, and is kept for its own time.
    kept: bool,
    lenient_line_ends: bool,
    exchange: Option<Box<Exchange>>,
    timeouts: Option<Box<Timeouts>>,
    keepalive: Keepalive,
    reuses_remaining: Option<u32>,
    user_context: Option<Box<dyn Any + Send + Sync>>,
    /// True if a request was served on this connection before.
    reused: bool,
}

/// The timeouts that the application has set, and `None` where it has not; from request to request.
#[derive(Clone, Copy, Debug, Default)]
struct Timeouts {
    read: Option<Duration>,
    write: Option<Duration>,
    drain: Option<Duration>,
    /// The endpoint's own for a head, and for a body between two pieces.
    endpoint_read: Option<Duration>,
    /// The endpoint's own for a connection without a request, in seconds.
    idle: Option<u64>,
}

/// The current request and response. A connection that waits for a request has none.
#[derive(Default)]
struct Exchange {
    request: Option<Box<RequestHeader>>,
    raw_head: Bytes,
    request_trailers: Option<Box<HeaderMap>>,
    response: Option<Box<ResponseHeader>>,
    retry: Option<FixedBuffer>,
    body_read: usize,
    body_sent: usize,
    min_send_rate: Option<usize>,
    upgrade: Upgrade,
    /// True if the request lets another one follow on the connection.
    persistent: bool,
    options: Options,
    tasks: tasks::Outcome,
    /// The number of bytes written when a client that has closed its direction was looked after last.
    written: usize,
    /// The connection has left HTTP, and failed: its end must not look like an orderly one.
    cut_short: bool,
}

/// The state of an upgrade that leaves HTTP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Upgrade {
    #[default]
    Unasked,
    Asked,
    Done,
}

/// Choices of the application for one exchange.
#[derive(Clone, Copy, Debug, Default)]
struct Options {
    ignore_info_resp: bool,
    /// True if a client that closes its direction is gone; `None` where the application does not know.
    abort_on_close: Option<bool>,
    close_before_request_ends: bool,
    pipelining: bool,
    proxy_tasks: bool,
    /// A 100 was sent, or is not awaited any more.
    continued: bool,
}

/// The time that the connection waits for another request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Keepalive {
    Off,
    Endless,
    For(Duration),
}

thread_local! {
    static SPARE: FreeList<Box<Exchange>> = const { FreeList::new() };
}

fn blank_exchange() -> Box<Exchange> {
    free_list::take(&SPARE).unwrap_or_default()
}

impl Inner {
    fn digest(&self) -> &Digest {
        let known = || Box::new(Digest::of(&*self.conn.stream));
        self.digest.get_or_init(known)
    }

    fn limits(&self) -> Limits {
        Limits {
            lenient_line_ends: self.lenient_line_ends,
            ..Limits::default()
        }
    }

    fn timeouts(&self) -> Timeouts {
        self.timeouts.as_deref().copied().unwrap_or_default()
    }

    /// Returns how long a head may take, and a body be silent that the client is to send.
    fn client_read(&self) -> Duration {
        let timeouts = self.timeouts();
        let told = timeouts.read.or(timeouts.endpoint_read);
        told.unwrap_or(LIMITS.client_read)
    }

    fn timeouts_mut(&mut self) -> &mut Timeouts {
        self.timeouts.get_or_insert_default()
    }

    fn exchange(&self) -> &Exchange {
        static NONE: LazyLock<Exchange> = LazyLock::new(Exchange::default);
        self.exchange.as_deref().unwrap_or_else(|| &NONE)
    }

    #[inline]
    fn exchange_mut(&mut self) -> &mut Exchange {
        self.exchange.get_or_insert_with(blank_exchange)
    }

    fn end_exchange(&mut self) {
        if let Some(mut exchange) = self.exchange.take() {
            head::recycle_request(exchange.request.take());
            head::recycle_response(exchange.response.take());
            *exchange = Exchange::default();
            free_list::give(&SPARE, exchange);
        }
    }
}

impl HttpSession {
    /// A session for the first request of a connection.
    pub fn new(underlying_stream: Stream) -> Self {
        HttpSession {
            inner: Box::new(Inner {
                conn: Conn::new(underlying_stream, Role::Server),
                digest: OnceCell::new(),
                place: None,
                shutdown_read_timeout: LIMITS.client_shutdown_read,
                kept: false,
                lenient_line_ends: false,
                exchange: None,
                timeouts: None,
                keepalive: Keepalive::Off,
                reuses_remaining: None,
                user_context: None,
                reused: false,
            }),
        }
    }

    fn exchange(&self) -> &Exchange {
        self.inner.exchange()
    }

    fn exchange_mut(&mut self) -> &mut Exchange {
        self.inner.exchange_mut()
    }

    /// Returns what wakes the task when a time limit is over.
    pub(crate) fn timer(&mut self) -> &mut Timer {
        &mut self.inner.conn.timer
    }

    /// The head of the request; before it is read, that of an empty `GET /`.
    #[inline]
    pub fn req_header(&self) -> &RequestHeader {
        match &self.exchange().request {
            Some(request) => request,
            None => unread_request(),
        }
    }

    /// The head of the request, to change it.
    pub fn req_header_mut(&mut self) -> &mut RequestHeader {
        self.exchange_mut()
            .request
            .get_or_insert_with(|| Box::new(unread_request().clone()))
    }

    /// The first value of a field of the request.
    pub fn get_header(&self, name: impl AsHeaderName) -> Option<&http::HeaderValue> {
        self.req_header().headers.get(name)
    }

    /// The first value of a field of the request, empty when there is none.
    pub fn get_header_bytes(&self, name: impl AsHeaderName) -> &[u8] {
        self.get_header(name).map_or(b"", |v| v.as_bytes())
    }

    /// The bytes of the request's head as they were received.
    pub fn get_headers_raw_bytes(&self) -> Bytes {
        self.exchange().raw_head.clone()
    }

    /// Returns whether the head of a request was read.
    pub(crate) fn has_request(&self) -> bool {
        self.exchange().request.is_some()
    }

    /// The bytes of a head that was refused, as far as they were received.
    pub(crate) fn received_head(&self) -> &[u8] {
        match &self.exchange().raw_head[..] {
            [] => &self.inner.conn.buf,
            head => head,
        }
    }

    /// Method, target and Host in one line, for logs.
    pub fn request_summary(&self) -> String {
        let request = self.req_header();
        format!(
            "{} {}, Host: {}",
            request.method,
            String::from_utf8_lossy(request.raw_path()).escape_debug(),
            String::from_utf8_lossy(self.get_header_bytes(http::header::HOST)).escape_debug()
        )
    }

    /// The final response head that was written, if one was.
    pub fn response_written(&self) -> Option<&ResponseHeader> {
        self.exchange().response.as_deref()
    }

    /// Bytes of request body read so far, framing not counted.
    pub fn body_bytes_read(&self) -> usize {
        self.exchange().body_read
    }

    /// Bytes of response body written so far, framing not counted.
    pub fn body_bytes_sent(&self) -> usize {
        self.exchange().body_sent
    }

    /// Returns whether the request has no body.
    pub fn is_body_empty(&mut self) -> bool {
        self.exchange().body_read == 0
            && !matches!(self.inner.conn.reading, Reading::Body(_) | Reading::Raw)
    }

    /// Returns whether the whole request body is read.
    pub fn is_body_done(&mut self) -> bool {
        self.make_raw_after_upgrade();
        match self.inner.conn.reading {
            Reading::Head => self.exchange().request.is_none(),
            Reading::Body(_) | Reading::Raw => false,
            Reading::Done | Reading::Ended | Reading::Broken => true,
        }
    }

    /// Returns whether the client has cut its request short, or can send no more of it.
    pub(crate) fn is_request_broken(&self) -> bool {
        matches!(self.inner.conn.reading, Reading::Broken)
    }

    /// Returns whether the request asks to leave HTTP: by Upgrade, or by CONNECT.
    pub fn is_upgrade_req(&self) -> bool {
        self.exchange().upgrade != Upgrade::Unasked
    }

    /// Returns whether `header` answers the request's wish for an upgrade, and how; `None` if it had none.
    pub fn is_upgrade(&self, header: &ResponseHeader) -> Option<bool> {
        self.is_upgrade_req()
            .then(|| self.upgrades_with(header.status))
    }

    /// Returns whether a 101 was written: what follows is not HTTP.
    pub fn was_upgraded(&self) -> bool {
        self.exchange().upgrade == Upgrade::Done
    }

    /// Returns whether the client has closed its direction while the response was not complete.
    pub fn is_half_closed(&self) -> bool {
        self.inner.conn.eof && !self.inner.conn.writing.is_over()
    }

    /// Keeps a copy of the request body, up to 64 KiB, for a retry.
    pub fn enable_retry_buffering(&mut self) {
        let retry = &mut self.exchange_mut().retry;
        retry.get_or_insert_with(|| FixedBuffer::new(LIMITS.retry_buffer_bytes));
    }

    /// Returns whether more of the body was read than is kept, so that there can be no retry.
    pub fn retry_buffer_truncated(&self) -> bool {
        self.exchange()
            .retry
            .as_ref()
            .is_some_and(|r| r.is_truncated())
    }

    /// The request body read so far; `None` when nothing or not all of it is kept.
    pub fn get_retry_buffer(&self) -> Option<Bytes> {
        let retry = self.exchange().retry.as_ref()?;
        if retry.is_truncated() {
            None
        } else {
            retry.get_buffer()
        }
    }

    /// Sets how long a head may take, and a body between two pieces.
    pub fn set_read_timeout(&mut self, timeout: Option<Duration>) {
        self.inner.timeouts_mut().read = timeout;
    }

    /// See [`HttpSession::set_read_timeout`]; `None` stands for that of the endpoint
    /// ([`ConnectionSettings::read`]), else 60 s.
    pub fn get_read_timeout(&self) -> Option<Duration> {
        self.inner.timeouts().read
    }

    /// Sets how long the client may take nothing of the response.
    pub fn set_write_timeout(&mut self, timeout: Option<Duration>) {
        self.inner.timeouts_mut().write = timeout;
    }

    /// See [`HttpSession::set_write_timeout`]; `None` stands for 60 s.
    pub fn get_write_timeout(&self) -> Option<Duration> {
        self.inner.timeouts().write
    }

    /// Sets how long, in all, the rest of a request body is awaited once the response is complete.
    pub fn set_total_drain_timeout(&mut self, timeout: Option<Duration>) {
        self.inner.timeouts_mut().drain = timeout;
    }

    /// See [`HttpSession::set_total_drain_timeout`]; `None` stands for 5 s.
    pub fn get_total_drain_timeout(&self) -> Option<Duration> {
        self.inner.timeouts().drain
    }

    /// The least bytes a second that the client has to take; it goes before the write timeout. 0 or
    /// `None` sets no rate.
    pub fn set_min_send_rate(&mut self, min_send_rate: Option<usize>) {
        self.exchange_mut().min_send_rate = min_send_rate.filter(|rate| *rate > 0);
    }

    /// Sets whether 1xx responses, a 101 aside, are dropped instead of written.
    pub fn set_ignore_info_resp(&mut self, ignore: bool) {
        self.exchange_mut().options.ignore_info_resp = ignore;
    }

    /// Sets whether a client that closes its direction before its response is complete ends the exchange at once,
    /// or is taken to be there still.
    ///
    /// Without this call, a proxied request goes on: the client may have closed one direction only (RFC 9112 section
    /// 9.6). It ends when the connection is seen to be reset, and when nothing could be written for 60 s.
    /// [`HttpSession::read_body_or_idle`] ends at once.
    pub fn set_abort_on_close(&mut self, abort: bool) {
        self.exchange_mut().options.abort_on_close = Some(abort);
    }

    /// Sets whether the connection closes, instead of reading the rest of the request, when the response is
    /// complete before the request is.
    pub fn set_close_on_response_before_downstream_finish(&mut self, close: bool) {
        self.exchange_mut().options.close_before_request_ends = close;
    }

    /// Sets whether a request that arrives before the previous one is answered is served (RFC 9112 section
    /// 9.3.2). If not, which is the default, the answer says `Connection: close`, and the connection closes after it.
    /// A request that arrives when the head of the answer has left is served in any case, for that head has said so.
    pub fn set_pipelining_enabled(&mut self, enabled: bool) {
        self.exchange_mut().options.pipelining = enabled;
    }

    /// See [`HttpSession::set_pipelining_enabled`].
    pub fn pipelining_enabled(&self) -> bool {
        self.exchange().options.pipelining
    }

    /// Puts bytes in front of what the connection delivers next.
    pub fn set_pipelined_prefix(&mut self, prefix: BytesMut) {
        let conn = &mut self.inner.conn;
        // The search for the end of a head begins anew.
        conn.scanner = Scanner::default();
        if conn.buf.is_empty() {
            conn.buf = prefix;
        } else {
            let mut joined = prefix;
            joined.extend_from_slice(&conn.buf);
            conn.buf = joined;
        }
    }

    /// Sets how many more requests the connection may serve after this one; `None` for no limit.
    pub fn set_keepalive_reuses_remaining(&mut self, remaining: Option<u32>) {
        self.inner.reuses_remaining = remaining;
    }

    /// See [`HttpSession::set_keepalive_reuses_remaining`].
    pub fn get_keepalive_reuses_remaining(&self) -> Option<u32> {
        self.inner.reuses_remaining
    }

    /// A value of the application that goes with the connection to its next request.
    pub fn set_connection_user_context(&mut self, ctx: Option<Box<dyn Any + Send + Sync>>) {
        self.inner.user_context = ctx;
    }

    /// Takes the value that the previous request left.
    pub fn take_connection_user_context(&mut self) -> Option<Box<dyn Any + Send + Sync>> {
        self.inner.user_context.take()
    }

    /// The digest of the connection.
    pub fn digest(&self) -> &Digest {
        self.inner.digest()
    }

    /// Returns what is known of the connection, to add to it.
    pub fn digest_mut(&mut self) -> &mut Digest {
        self.inner.digest();
        // It is there: that was what the line above is for.
        self.inner.digest.get_mut().expect("a digest")
    }

    fn socket_digest(&self) -> Option<&Arc<SocketDigest>> {
        self.digest().socket_digest.as_ref()
    }

    /// The client's address.
    pub fn client_addr(&self) -> Option<&SocketAddr> {
        self.socket_digest()?.peer_addr()
    }

    /// The address at which the client was accepted.
    pub fn server_addr(&self) -> Option<&SocketAddr> {
        self.socket_digest()?.local_addr()
    }

    /// The transport.
    pub fn stream(&self) -> &Stream {
        &self.inner.conn.stream
    }

    /// Gives the transport back. What was received and not consumed is lost.
    pub fn into_inner(mut self) -> Stream {
        std::mem::replace(&mut self.inner.conn.stream, Box::new(ClosedStream))
    }

    /// Checks the request again after its head was changed: framing and authority.
    ///
    /// # Errors
    /// `InvalidHTTPHeader`, with what is wrong.
    pub fn validate_request(&self) -> Result<()> {
        let request = self.req_header();
        super::proto::framing::request(request.version, request)
            .map_err(super::conn::refused_head)?;
        crate::protocols::http::authority::validate_request_authority(request)
    }

    /// Puts the connection into a shutdown registry, unless it is there already: from now on its waiting
    /// for a request ends with the shutdown.
    pub(crate) fn wait_in(&mut self, registry: &Arc<Registry>, read_timeout: Duration) {
        if !self.inner.place.as_ref().is_some_and(|p| p.is_in(registry)) {
            self.inner.place = Some(registry.register(crate::worker::current()));
            self.inner.shutdown_read_timeout = read_timeout;
        }
    }

    /// Sets whether lines of request heads on this connection may end in LF alone.
    pub(crate) fn set_lenient_line_ends(&mut self, lenient: bool) {
        self.inner.lenient_line_ends = lenient;
    }

    /// Takes the settings of the endpoint that accepted the connection.
    pub(crate) fn set_connection_settings(&mut self, settings: &ConnectionSettings) {
        if settings.read.is_some() || settings.idle.is_some() {
            let timeouts = self.inner.timeouts_mut();
            (timeouts.endpoint_read, timeouts.idle) = (settings.read, settings.idle_seconds());
        }
    }

    /// Returns for how many seconds the connection is kept for another request, unless the application says otherwise.
    pub(crate) fn idle_seconds(&self) -> u64 {
        let of_endpoint = self.inner.timeouts().idle;
        of_endpoint.unwrap_or(LIMITS.client_idle_seconds)
    }

    /// Returns how far the shutdown is that this connection waits for.
    pub(crate) fn shutdown_stage(&self) -> Stage {
        self.inner
            .place
            .as_ref()
            .map_or(Stage::Running, |p| p.stage())
    }

    /// Returns whether a piece of the body is there without a read.
    pub(crate) fn has_buffered_body(&self) -> bool {
        self.inner.conn.has_buffered()
    }

    /// Returns whether an earlier request was served on this connection.
    pub(crate) fn is_reused(&self) -> bool {
        self.inner.reused
    }

    /// The fields after the request body, once it is read.
    pub(crate) fn request_trailers(&self) -> Option<&HeaderMap> {
        self.exchange().request_trailers.as_deref()
    }

    /// Returns whether the client has, or will have with what is queued, all of its response by its framing.
    pub(crate) fn has_whole_response(&self) -> bool {
        match &self.inner.conn.writing {
            Writing::Done => true,
            Writing::Body(encoder) => encoder.is_complete(),
            _ => false,
        }
    }

    /// Notes that the exchange has failed: a connection that has left HTTP ends by a reset.
    pub(crate) fn note_failure(&mut self, e: &Error) {
        if self.was_upgraded() && !is_truncation(e) {
            self.exchange_mut().cut_short = true;
        }
    }

    fn write_deadline(&self) -> WriteDeadline {
        let exchange = self.exchange();
        match exchange.min_send_rate {
            Some(rate) => WriteDeadline::Rate(rate),
            None => {
                WriteDeadline::Silence(self.inner.timeouts().write.unwrap_or(LIMITS.client_write))
            }
        }
    }

    /// After a 101 the body of the request, if it had one, is followed by bytes without meaning to HTTP.
    fn make_raw_after_upgrade(&mut self) {
        if self.was_upgraded() && matches!(self.inner.conn.reading, Reading::Done) {
            self.inner.conn.reading = Reading::Raw;
        }
    }

    fn mark_broken(&mut self) {
        self.inner.conn.reading = Reading::Broken;
        self.inner.conn.writing = Writing::Broken;
    }
}

impl Drop for Inner {
    /// A callback that panicked drops the connection where it is. When only the end of the connection would
    /// tell the end of the response, the client must not take this for it.
    fn drop(&mut self) {
        if self.ends_by_closing() {
            self.conn.reset_on_close();
        }
    }
}

impl Inner {
    /// Returns whether the response is under way, and closing the connection would end it.
    fn ends_by_closing(&self) -> bool {
        match self.conn.writing {
            Writing::Body(Encoder::UntilClose) => true,
            Writing::Raw | Writing::Ended | Writing::Broken => self.exchange().cut_short,
            _ => false,
        }
    }
}

fn unread_request() -> &'static RequestHeader {
    static UNREAD: once_cell::sync::Lazy<RequestHeader> =
        once_cell::sync::Lazy::new(|| RequestHeader::from(http::Request::new(()).into_parts().0));
    &UNREAD
}

#[cfg(test)]
mod tests;
