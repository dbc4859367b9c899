//! HTTP/2 upstreams.
//!
//! A WebSocket is an extended CONNECT there (RFC 8441); to the rest of the proxy it looks as in HTTP/1.1.

use std::task::{ready, Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Version};
use pingora_core::protocols::http::v2::client::Http2Session;
use pingora_core::protocols::http::HttpTask;
use pingora_core::protocols::{Digest, UniqueIDType};
use pingora_error::Result;
use pingora_http::RequestHeader;

use super::Link;
use crate::request_policy::{is_websocket_handshake, websocket};

/// A stream, and what its request asks for.
pub(crate) struct H2Link<'a> {
    stream: &'a mut Http2Session,
    /// Whether the origin takes WebSockets by extended CONNECT.
    extended: bool,
    /// What the client of a WebSocket, of HTTP/1.1 as it seems, is to be told.
    accept: Option<Box<HeaderValue>>,
}

impl<'a> H2Link<'a> {
    pub(crate) fn new(stream: &'a mut Http2Session, extended: bool) -> Self {
        H2Link {
            stream,
            extended,
            accept: None,
        }
    }
}

impl Link for H2Link<'_> {
    fn version(&self) -> Version {
        Version::HTTP_2
    }

    fn id(&self) -> UniqueIDType {
        self.stream.fd()
    }

    fn digest(&self) -> Option<&Digest> {
        self.stream.digest()
    }

    fn queue_header(&mut self, mut request: Box<RequestHeader>) -> Result<()> {
        if self.extended && is_websocket_handshake(&request) {
            self.accept = websocket::accept(&request).map(Box::new);
            websocket::extend(&mut request);
        }
        self.stream.queue_header(request)
    }

    fn queue_body(&mut self, data: Bytes) -> Result<()> {
        self.stream.queue_body(data)
    }

    fn queue_end(&mut self, trailers: Option<&HeaderMap>) -> Result<()> {
        // The client's end of a tunnel comes after the origin has opened it.
        if self.stream.awaits_tunnel() {
            return Ok(());
        }
        self.stream.queue_end(trailers.cloned())
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        self.stream.poll_flush(cx)
    }

    fn queued(&self) -> usize {
        self.stream.queued()
    }

    fn is_flushed(&self) -> bool {
        self.stream.is_flushed()
    }

    fn poll_task(&mut self, cx: &mut Context<'_>) -> Poll<Result<HttpTask>> {
        let mut task = ready!(self.stream.poll_response_task(cx))?;
        if let (Some(accept), HttpTask::Header(header, end)) = (&self.accept, &mut task) {
            if header.status.is_success() {
                websocket::switched(header, accept)?;
                // That it ended comes by itself.
                *end = false;
            }
        }
        Poll::Ready(Ok(task))
    }

    fn is_content_complete(&self) -> bool {
        self.stream.is_content_complete()
    }

    fn has_buffered(&self) -> bool {
        self.stream.has_buffered()
    }

    fn restart_read_timeout(&mut self) {
        self.stream.restart_read_timeout()
    }

    fn body_bytes_sent(&self) -> usize {
        self.stream.body_bytes_sent()
    }

    fn write_pending_time(&self) -> Duration {
        Duration::ZERO
    }
}
