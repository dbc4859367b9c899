//! A response that nobody has to be asked for.

use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, Version};
use pingora_core::exchange::Upstream;
use pingora_core::protocols::http::HttpTask;
use pingora_core::protocols::{Digest, UniqueIDType};
use pingora_error::ErrorType::InternalError;
use pingora_error::{Error, Result};
use pingora_http::RequestHeader;

use super::Hit;
use crate::duplex::Source;

/// A hit as an upstream that is not asked.
///
/// The loop of an exchange asks for both halves of an upstream. With a bound for the response alone it would be generic
/// over the halves, and with a provided request half in [`Upstream`] a link could forget to send.
pub(crate) struct Stored(pub(crate) Hit);

impl Upstream for Stored {
    fn version(&self) -> Version {
        Version::HTTP_11
    }

    fn id(&self) -> UniqueIDType {
        UniqueIDType::default()
    }

    fn digest(&self) -> Option<&Digest> {
        None
    }

    fn queue_head(&mut self, _request: Box<RequestHeader>) -> Result<()> {
        takes_none()
    }

    fn queue_body(&mut self, _data: Bytes) -> Result<()> {
        takes_none()
    }

    fn queue_end(&mut self, _trailers: Option<&HeaderMap>) -> Result<()> {
        takes_none()
    }

    fn poll_flush(&mut self, _cx: &mut Context<'_>) -> Poll<Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn queued(&self) -> usize {
        0
    }

    fn is_flushed(&self) -> bool {
        true
    }

    fn poll_task(&mut self, cx: &mut Context<'_>) -> Poll<Result<HttpTask>> {
        self.0.poll_task(cx)
    }

    fn has_buffered(&self) -> bool {
        // A head leaves together with the beginning of its body, if that is there.
        true
    }

    fn body_bytes_sent(&self) -> usize {
        0
    }
}

fn takes_none() -> Result<()> {
    Error::e_explain(InternalError, "a stored response takes no request")
}
