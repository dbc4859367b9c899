//! HTTP/2 upstreams.

use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Version};
use pingora_core::protocols::http::v2::client::Http2Session;
use pingora_core::protocols::http::HttpTask;
use pingora_core::protocols::{Digest, UniqueIDType};
use pingora_error::Result;
use pingora_http::RequestHeader;

use super::Link;

impl Link for Http2Session {
    fn version(&self) -> Version {
        Version::HTTP_2
    }

    fn id(&self) -> UniqueIDType {
        self.fd()
    }

    fn digest(&self) -> Option<&Digest> {
        Http2Session::digest(self)
    }

    fn queue_header(&mut self, request: Box<RequestHeader>) -> Result<()> {
        Http2Session::queue_header(self, request)
    }

    fn queue_body(&mut self, data: Bytes) -> Result<()> {
        Http2Session::queue_body(self, data)
    }

    fn queue_end(&mut self, trailers: Option<&HeaderMap>) -> Result<()> {
        Http2Session::queue_end(self, trailers.cloned())
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        Http2Session::poll_flush(self, cx)
    }

    fn queued(&self) -> usize {
        Http2Session::queued(self)
    }

    fn is_flushed(&self) -> bool {
        Http2Session::is_flushed(self)
    }

    fn poll_task(&mut self, cx: &mut Context<'_>) -> Poll<Result<HttpTask>> {
        self.poll_response_task(cx)
    }

    fn has_buffered(&self) -> bool {
        Http2Session::has_buffered(self)
    }

    fn restart_read_timeout(&mut self) {
        Http2Session::restart_read_timeout(self)
    }

    fn body_bytes_sent(&self) -> usize {
        Http2Session::body_bytes_sent(self)
    }

    fn write_pending_time(&self) -> Duration {
        Duration::ZERO
    }
}
