//! HTTP/1.x upstreams.

use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Version};
use pingora_core::protocols::http::v1::client::HttpSession;
use pingora_core::protocols::http::HttpTask;
use pingora_core::protocols::{Digest, UniqueID, UniqueIDType};
use pingora_error::Result;
use pingora_http::RequestHeader;

use super::Link;

impl Link for HttpSession {
    fn version(&self) -> Version {
        Version::HTTP_11
    }

    fn id(&self) -> UniqueIDType {
        UniqueID::id(self)
    }

    fn digest(&self) -> Option<&Digest> {
        Some(HttpSession::digest(self))
    }

    fn queue_header(&mut self, request: Box<RequestHeader>) -> Result<()> {
        self.queue_request_header(request).map(|_| ())
    }

    fn queue_body(&mut self, data: Bytes) -> Result<()> {
        self.queue_request_body(data).map(|_| ())
    }

    fn queue_end(&mut self, trailers: Option<&HeaderMap>) -> Result<()> {
        self.queue_request_end(trailers)
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        HttpSession::poll_flush(self, cx)
    }

    fn queued(&self) -> usize {
        HttpSession::queued(self)
    }

    fn is_flushed(&self) -> bool {
        HttpSession::is_flushed(self)
    }

    fn poll_task(&mut self, cx: &mut Context<'_>) -> Poll<Result<HttpTask>> {
        self.poll_response_task(cx)
    }

    fn read_little(&mut self, little: bool) {
        HttpSession::read_little(self, little)
    }

    fn has_buffered(&self) -> bool {
        HttpSession::has_buffered(self)
    }

    fn restart_read_timeout(&mut self) {
        HttpSession::restart_read_timeout(self)
    }

    fn body_bytes_sent(&self) -> usize {
        HttpSession::body_bytes_sent(self)
    }

    fn write_pending_time(&self) -> Duration {
        self.stream().get_write_pending_time()
    }
}
