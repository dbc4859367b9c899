//! The sessions of a client.

use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Version};
use pingora_error::Result;
use pingora_http::RequestHeader;

use super::Upstream;
use crate::protocols::http::v1::client::HttpSession;
use crate::protocols::http::v2::client::Http2Session;
use crate::protocols::http::HttpTask;
use crate::protocols::{Digest, UniqueID, UniqueIDType};

impl Upstream for HttpSession {
    #[inline]
    fn version(&self) -> Version {
        Version::HTTP_11
    }

    #[inline]
    fn id(&self) -> UniqueIDType {
        UniqueID::id(self)
    }

    #[inline]
    fn digest(&self) -> Option<&Digest> {
        Some(HttpSession::digest(self))
    }

    #[inline]
    fn queue_head(&mut self, request: Box<RequestHeader>) -> Result<()> {
        self.queue_request_header(request).map(|_| ())
    }

    #[inline]
    fn queue_body(&mut self, data: Bytes) -> Result<()> {
        self.queue_request_body(data).map(|_| ())
    }

    #[inline]
    fn queue_end(&mut self, trailers: Option<&HeaderMap>) -> Result<()> {
        self.queue_request_end(trailers)
    }

    #[inline]
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        HttpSession::poll_flush(self, cx)
    }

    #[inline]
    fn queued(&self) -> usize {
        HttpSession::queued(self)
    }

    #[inline]
    fn is_flushed(&self) -> bool {
        HttpSession::is_flushed(self)
    }

    #[inline]
    fn poll_task(&mut self, cx: &mut Context<'_>) -> Poll<Result<HttpTask>> {
        self.poll_response_task(cx)
    }

    #[inline]
    fn read_little(&mut self, little: bool) {
        HttpSession::read_little(self, little)
    }

    #[inline]
    fn has_buffered(&self) -> bool {
        HttpSession::has_buffered(self)
    }

    #[inline]
    fn restart_read_timeout(&mut self) {
        HttpSession::restart_read_timeout(self)
    }

    #[inline]
    fn body_bytes_sent(&self) -> usize {
        HttpSession::body_bytes_sent(self)
    }

    #[inline]
    fn write_pending_time(&self) -> Duration {
        self.stream().get_write_pending_time()
    }
}

impl Upstream for Http2Session {
    fn version(&self) -> Version {
        Version::HTTP_2
    }

    fn id(&self) -> UniqueIDType {
        self.fd()
    }

    fn digest(&self) -> Option<&Digest> {
        Http2Session::digest(self)
    }

    fn queue_head(&mut self, request: Box<RequestHeader>) -> Result<()> {
        self.queue_header(request)
    }

    fn queue_body(&mut self, data: Bytes) -> Result<()> {
        Http2Session::queue_body(self, data)
    }

    fn queue_end(&mut self, trailers: Option<&HeaderMap>) -> Result<()> {
        // The client's end of a tunnel comes after the origin has opened it.
        if self.awaits_tunnel() {
            return Ok(());
        }
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

    fn is_content_complete(&self) -> bool {
        Http2Session::is_content_complete(self)
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
}

/// Returns whether both messages are whole, the origin keeps the connection, and it sent nothing more.
#[cfg(fuzzing)]
pub fn is_reusable(session: &HttpSession) -> bool {
    session.is_reusable()
}
