//! The upstream's side of an exchange: one trait, and a thin adapter for each protocol.

use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Version};
use pingora_core::protocols::http::HttpTask;
use pingora_core::protocols::{Digest, UniqueIDType};
use pingora_error::Result;
use pingora_http::RequestHeader;

mod h1;
mod h2;

pub(crate) use h2::H2Link;

/// An exchange with an upstream, as the duplex loop drives it: what is queued leaves by
/// [`poll_flush`](Link::poll_flush), what comes arrives by [`poll_task`](Link::poll_task), and neither waits for
/// the other.
pub(crate) trait Link: Send {
    /// The version that the upstream is spoken to in.
    fn version(&self) -> Version;

    /// The identity of the connection.
    fn id(&self) -> UniqueIDType;

    /// The digest of the connection.
    fn digest(&self) -> Option<&Digest>;

    /// Queues the head of the request.
    fn queue_header(&mut self, request: Box<RequestHeader>) -> Result<()>;

    /// Queues a piece of the request's body, or of the raw bytes after an upgrade.
    fn queue_body(&mut self, data: Bytes) -> Result<()>;

    /// Queues the end of the request.
    fn queue_end(&mut self, trailers: Option<&HeaderMap>) -> Result<()>;

    /// Writes what is queued.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>>;

    /// How many bytes are queued.
    fn queued(&self) -> usize;

    /// Whether everything queued has left.
    fn is_flushed(&self) -> bool;

    /// The next message of the response.
    fn poll_task(&mut self, cx: &mut Context<'_>) -> Poll<Result<HttpTask>>;

    /// Whether reads are to bring little, because the client has no room for more.
    fn read_little(&mut self, _little: bool) {}

    /// Whether the content of the response is whole though its end was not seen, which HTTP/2 tells in a frame of
    /// its own.
    fn is_content_complete(&self) -> bool {
        false
    }

    /// Whether a message may be there without a read.
    fn has_buffered(&self) -> bool;

    /// The upstream was sent something: its time to answer begins anew.
    fn restart_read_timeout(&mut self);

    /// Bytes of request body that went to the upstream.
    fn body_bytes_sent(&self) -> usize;

    /// How long the connection waited before it took bytes; zero where its streams cannot be told apart.
    fn write_pending_time(&self) -> Duration;
}
