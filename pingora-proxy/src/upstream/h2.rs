//! HTTP/2 upstreams.
//!
//! A WebSocket is an extended CONNECT there (RFC 8441); to the rest of the proxy it looks as in HTTP/1.1.

use std::task::{ready, Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Version};
use pingora_core::exchange::Upstream;
use pingora_core::protocols::http::v2::client::Http2Session;
use pingora_core::protocols::http::HttpTask;
use pingora_core::protocols::{Digest, UniqueIDType};
use pingora_error::Result;
use pingora_http::RequestHeader;

use crate::request_policy::{is_websocket_handshake, websocket};

/// A stream, and what its request asks for.
pub(crate) struct H2Upstream<'a> {
    stream: &'a mut Http2Session,
    /// True if the origin takes WebSockets by extended CONNECT.
    extended: bool,
    /// The Sec-WebSocket-Accept for a client that asks for a WebSocket over HTTP/1.1.
    accept: Option<Box<HeaderValue>>,
}

impl<'a> H2Upstream<'a> {
    pub(crate) fn new(stream: &'a mut Http2Session, extended: bool) -> Self {
        H2Upstream {
            stream,
            extended,
            accept: None,
        }
    }
}

impl Upstream for H2Upstream<'_> {
    fn version(&self) -> Version {
        Version::HTTP_2
    }

    fn id(&self) -> UniqueIDType {
        self.stream.id()
    }

    fn digest(&self) -> Option<&Digest> {
        Upstream::digest(self.stream)
    }

    fn queue_head(&mut self, mut request: Box<RequestHeader>) -> Result<()> {
        if self.extended && is_websocket_handshake(&request) {
            self.accept = websocket::accept(&request).map(Box::new);
            websocket::extend(&mut request);
        }
        self.stream.queue_head(request)
    }

    fn queue_body(&mut self, data: Bytes) -> Result<()> {
        Upstream::queue_body(self.stream, data)
    }

    fn queue_end(&mut self, trailers: Option<&HeaderMap>) -> Result<()> {
        Upstream::queue_end(self.stream, trailers)
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        Upstream::poll_flush(self.stream, cx)
    }

    fn queued(&self) -> usize {
        Upstream::queued(self.stream)
    }

    fn is_flushed(&self) -> bool {
        Upstream::is_flushed(self.stream)
    }

    fn poll_task(&mut self, cx: &mut Context<'_>) -> Poll<Result<HttpTask>> {
        let mut task = ready!(self.stream.poll_task(cx))?;
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
        Upstream::is_content_complete(self.stream)
    }

    fn has_buffered(&self) -> bool {
        Upstream::has_buffered(self.stream)
    }

    fn restart_read_timeout(&mut self) {
        Upstream::restart_read_timeout(self.stream)
    }

    fn body_bytes_sent(&self) -> usize {
        Upstream::body_bytes_sent(self.stream)
    }

    fn write_pending_time(&self) -> Duration {
        Upstream::write_pending_time(self.stream)
    }
}
