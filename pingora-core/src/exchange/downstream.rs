//! The sessions of a server.

use std::task::{Context, Poll};

use bytes::Bytes;
use pingora_error::{BError, Result};

use super::custom::driver;
use super::Downstream;
use crate::protocols::http::{HttpTask, ServerSession};

impl Downstream for ServerSession {
    #[inline]
    fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>>> {
        self.poll_read_body(cx)
    }

    #[inline]
    fn has_buffered_body(&self) -> bool {
        ServerSession::has_buffered_body(self)
    }

    #[inline]
    fn is_body_done(&mut self) -> bool {
        ServerSession::is_body_done(self)
    }

    #[inline]
    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<BError> {
        self.poll_abort(cx)
    }

    #[inline]
    fn tells_leave(&self) -> bool {
        self.is_http2() || self.is_subrequest()
    }

    #[inline]
    fn queue(&mut self, task: HttpTask) -> Result<bool> {
        self.queue_task(task)
    }

    #[inline]
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        ServerSession::poll_flush(self, cx)
    }

    #[inline]
    fn queued(&self) -> usize {
        ServerSession::queued(self)
    }

    #[inline]
    fn is_flushed(&self) -> bool {
        ServerSession::is_flushed(self)
    }

    #[inline]
    fn has_room(&self) -> bool {
        ServerSession::has_room(self)
    }

    #[inline]
    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        ServerSession::poll_room(self, cx)
    }

    #[inline]
    fn has_whole_response(&self) -> bool {
        ServerSession::has_whole_response(self)
    }

    #[inline]
    fn lends(&self) -> bool {
        self.is_custom()
    }

    #[inline]
    fn take_back(&mut self) {
        if let ServerSession::Custom(s) = self {
            if let Ok(driver) = driver(s) {
                driver.take_back();
            }
        }
    }
}
