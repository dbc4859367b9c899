//! HTTP/1.x as a client speaks it.

use std::future::{poll_fn, Future};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::FutureExt;
use http::header::AsHeaderName;
use http::{HeaderMap, StatusCode, Version};
use pingora_error::Error;
use pingora_http::{RequestHeader, ResponseHeader};

use super::closed_stream::ClosedStream;
use super::conn::{is_truncation, Conn};
use super::proto::decode::Decoder;
use super::proto::head::{self, Limits};
use super::proto::state::{self, Reading, Writing};
use super::send::Role;
use super::timer::Timer;
use crate::limits::LIMITS;
use crate::protocols::l4::socket::SocketAddr;
use crate::protocols::l4::stream::Stream as L4Stream;
use crate::protocols::{Digest, SocketDigest, Stream, UniqueID, UniqueIDType};

mod read;
mod write;

pub use write::http_req_header_to_wire;

/// One exchange of an HTTP/1.x connection, as its client sees it.
pub struct HttpSession {
    inner: Box<Inner>,
    /// The time for which the origin may be silent; `None` for no limit.
    pub read_timeout: Option<Duration>,
    /// The time that the origin may take nothing; `None` for no limit.
    pub write_timeout: Option<Duration>,
    /// The time that the origin may take for the head of its response; `None` for no limit but `read_timeout`, which
    /// each byte prolongs.
    pub response_header_timeout: Option<Duration>,
}

struct Inner {
    conn: Conn,
    digest: Digest,
    limits: Limits,
    exchange: Exchange,
    /// Under which the connection is kept: its peer's reuse hash.
    key: Option<u64>,
}

#[derive(Default)]
struct Exchange {
    request: Option<Box<RequestHeader>>,
    response: Option<Box<ResponseHeader>>,
    raw_head: Bytes,
    trailers: Option<Box<HeaderMap>>,
    body_received: usize,
    body_sent: usize,
    upgraded: bool,
    /// The origin's word on whether the connection persists after this response.
    keepalive: Option<bool>,
    allow_invalid_length: bool,
    /// The origin has said by a 100 that it waits for the body.
    continued: bool,
    /// The message that ended the response is given out.
    told_end: bool,
    /// The piece that `read_body_ref` lent last.
    last_piece: Bytes,
}

impl HttpSession {
    /// A session for one exchange on `stream`.
    pub fn new(stream: Stream) -> Self {
        let digest = Digest::of(&*stream);
        HttpSession {
            inner: Box::new(Inner {
                conn: Conn::new(stream, Role::Client),
                digest,
                limits: Limits::response(),
                exchange: Exchange::default(),
                key: None,
            }),
            read_timeout: None,
            write_timeout: None,
            response_header_timeout: None,
        }
    }

    fn exchange(&self) -> &Exchange {
        &self.inner.exchange
    }

    fn exchange_mut(&mut self) -> &mut Exchange {
        &mut self.inner.exchange
    }

    /// Sets whether a Content-Length that cannot be understood counts as absent, instead of as an error.
    pub fn set_allow_h1_response_invalid_content_length(&mut self, allow: bool) {
        self.exchange_mut().allow_invalid_length = allow;
    }

    /// Bytes of response body read so far, framing not counted.
    pub fn body_bytes_received(&self) -> usize {
        self.exchange().body_received
    }

    /// Bytes of request body written so far, framing not counted.
    pub fn body_bytes_sent(&self) -> usize {
        self.exchange().body_sent
    }

    /// The head of the response, once it is read.
    pub fn resp_header(&self) -> Option<&ResponseHeader> {
        self.exchange().response.as_deref()
    }

    /// The status of the response, once its head is read.
    pub fn get_status(&self) -> Option<StatusCode> {
        self.resp_header().map(|h| h.status)
    }

    /// The first value of a field of the response.
    pub fn get_header(&self, name: impl AsHeaderName) -> Option<&http::HeaderValue> {
        self.resp_header()?.headers.get(name)
    }

    /// The first value of a field of the response, empty when there is none.
    pub fn get_header_bytes(&self, name: impl AsHeaderName) -> &[u8] {
        self.get_header(name).map_or(b"", |v| v.as_bytes())
    }

    /// The bytes of the response's head as they were received.
    pub fn get_headers_raw_bytes(&self) -> Bytes {
        self.exchange().raw_head.clone()
    }

    /// Returns whether the request asks for an upgrade.
    pub fn is_upgrade_req(&self) -> bool {
        let request = self.exchange().request.as_deref();
        request.is_some_and(super::common::is_upgrade_req)
    }

    /// Returns whether the origin agreed to leave HTTP.
    pub fn was_upgraded(&self) -> bool {
        self.exchange().upgraded
    }

    /// Lets the request body be raw bytes once the origin has agreed to leave HTTP.
    pub fn maybe_upgrade_body_writer(&mut self) {
        if self.was_upgraded() && !matches!(self.inner.conn.writing, Writing::Broken) {
            self.inner.conn.writing = Writing::Raw;
        }
    }

    /// Returns whether the whole response is read.
    pub fn is_body_done(&mut self) -> bool {
        self.inner.conn.reading.is_over()
    }

    /// Takes from the response whether the connection is to be kept.
    pub fn respect_keepalive(&mut self) {
        use super::proto::framing::{persistence, Persistence};
        let exchange = self.exchange_mut();
        let (Some(request), Some(response)) = (&exchange.request, &exchange.response) else {
            return;
        };
        let version = match request.version {
            Version::HTTP_10 => Version::HTTP_10,
            _ => response.version,
        };
        let both = persistence(version, &**response) == Persistence::KeepAlive
            && persistence(request.version, &**request) == Persistence::KeepAlive;
        exchange.keepalive = Some(both);
    }

    /// Returns whether the origin keeps the connection after this exchange.
    pub fn will_keepalive(&self) -> bool {
        self.exchange().keepalive.unwrap_or(false) && !self.was_upgraded()
    }

    /// Ends the exchange. The connection is returned when it can carry another one, else it is closed.
    pub async fn reuse(mut self) -> Option<Stream> {
        if self.is_reusable() {
            Some(self.inner.conn.stream)
        } else {
            self.shutdown().await;
            None
        }
    }

    /// Returns whether a piece of the response may be there without a read.
    pub(crate) fn has_buffered(&self) -> bool {
        self.inner.conn.has_buffered()
    }

    /// Gives the origin its time anew: it was sent something, and may need that to go on.
    pub(crate) fn restart_read_timeout(&mut self) {
        self.inner.conn.stop_read_deadline();
    }

    /// Returns what wakes the task when a time limit is over.
    pub(crate) fn timer(&mut self) -> &mut Timer {
        &mut self.inner.conn.timer
    }

    /// Returns whether both messages are whole, the origin keeps the connection, and it sent nothing more.
    pub(crate) fn is_reusable(&self) -> bool {
        let conn = &self.inner.conn;
        self.will_keepalive()
            && state::reusable(&conn.reading, &conn.writing)
            && conn.is_flushed()
            && conn.buf.is_empty()
            && !conn.eof
    }

    /// Makes ready for the next exchange, when [`HttpSession::is_reusable`].
    pub(crate) fn next_exchange(&mut self) {
        self.inner.conn.next_exchange();
        self.inner.conn.rest();
        // The request is a copy of one that was received: the worker keeps that, and would have one more each time.
        let ended = std::mem::take(&mut self.inner.exchange);
        head::recycle_response(ended.response);
    }

    pub(crate) fn key(&self) -> Option<u64> {
        self.inner.key
    }

    pub(crate) fn set_key(&mut self, key: u64) {
        self.inner.key = Some(key);
    }

    /// Returns whether bytes came, or the end, on a connection that should be silent.
    pub(crate) fn poll_idle(
        &mut self,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<usize>> {
        let conn = &mut self.inner.conn;
        // Under TLS, what came may be of the protocol alone, and has to be read.
        let plain = conn.stream.as_any().downcast_ref::<L4Stream>();
        if let Some(probed) = plain.and_then(L4Stream::probe) {
            return probed;
        }
        // A task that has used up its budget would be told that every connection is quiet.
        let read = pin!(tokio::task::unconstrained(poll_fn(|cx| conn.poll_read(cx)))).poll(cx);
        self.inner.conn.buf = BytesMut::new();
        read
    }

    /// Puts another transport in the place of this one, or none for the moment.
    pub(crate) fn replace_stream(&mut self, stream: Option<Stream>) -> Stream {
        let stream = stream.unwrap_or_else(|| Box::new(ClosedStream));
        std::mem::replace(&mut self.inner.conn.stream, stream)
    }

    /// Notes that the exchange has failed: a connection that has left HTTP ends by a reset.
    pub(crate) fn note_failure(&mut self, e: &Error) {
        if self.was_upgraded() && !is_truncation(e) {
            // Dropped: a farewell of the stream would come before the reset.
            self.inner.conn.reset_on_close();
            self.replace_stream(None);
        }
    }

    /// Reads the rest of a response that nobody wants, if that is little and there at once or nearly so. Says whether
    /// the connection can carry another exchange, which it can only if the whole request was sent.
    pub(crate) async fn drain_response(&mut self) -> bool {
        let conn = &self.inner.conn;
        // Of chunks that were not received nobody knows how many follow.
        let (worth, patience) = match &conn.reading {
            Reading::Body(Decoder::Length(left)) => (
                *left <= LIMITS.upstream_drain_bytes as u64,
                LIMITS.upstream_drain,
            ),
            Reading::Body(_) => (true, Duration::ZERO),
            reading => (matches!(reading, Reading::Done), LIMITS.upstream_drain),
        };
        if !worth || !matches!(conn.writing, Writing::Done) || !self.will_keepalive() {
            return false;
        }
        let mut drained = 0;
        let rest = async {
            while drained <= LIMITS.upstream_drain_bytes {
                match self.read_body_bytes().await {
                    Ok(Some(data)) => drained += data.len(),
                    Ok(None) | Err(_) => return,
                }
            }
        };
        // It may have begun to wait, and the rest is not worth more.
        let _ = tokio::time::timeout(patience, rest).await;
        self.is_reusable()
    }

    /// Closes the connection. What the origin still sends is of no interest to anyone, so that nothing is
    /// waited for.
    pub async fn shutdown(&mut self) {
        // With TLS, an origin that has stopped to read could hold up the farewell for ever.
        let _ = self.inner.conn.stream.shutdown().now_or_never();
        self.inner.conn.reading = Reading::Broken;
        self.inner.conn.writing = Writing::Broken;
    }

    /// The digest of the connection.
    pub fn digest(&self) -> &Digest {
        &self.inner.digest
    }

    /// Returns what is known of the connection, to add to it.
    pub fn digest_mut(&mut self) -> &mut Digest {
        &mut self.inner.digest
    }

    fn socket_digest(&self) -> Option<&Arc<SocketDigest>> {
        self.inner.digest.socket_digest.as_ref()
    }

    /// The origin's address.
    pub fn server_addr(&self) -> Option<&SocketAddr> {
        self.socket_digest()?.peer_addr()
    }

    /// The local address of the connection.
    pub fn client_addr(&self) -> Option<&SocketAddr> {
        self.socket_digest()?.local_addr()
    }

    /// The transport.
    pub fn stream(&self) -> &Stream {
        &self.inner.conn.stream
    }

    /// Gives the transport back. What was received and not consumed is lost.
    pub fn into_inner(self) -> Stream {
        self.inner.conn.stream
    }
}

impl UniqueID for HttpSession {
    fn id(&self) -> UniqueIDType {
        self.inner.conn.stream.id()
    }
}

#[cfg(test)]
mod tests;
