//! The sessions of a server.

use std::task::{Context, Poll};

use bytes::Bytes;
use pingora_error::{BError, Result};

use super::custom::{break_off, driver, driver_of, Driver};
use super::Downstream;
use crate::protocols::http::{HttpTask, ServerSession};

impl Downstream for ServerSession {
    fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>>> {
        match self {
            ServerSession::H1(s) => s.poll_body_for_upstream(cx),
            ServerSession::H2(s) => s.poll_body_for_upstream(cx),
            ServerSession::Subrequest(s) => s.poll_read_body(cx),
            ServerSession::Custom(s) => driver(s)?.poll_body(cx),
        }
    }

    fn has_buffered_body(&self) -> bool {
        self.as_http1().is_some_and(|s| s.has_buffered_body())
    }

    #[inline]
    fn is_body_done(&mut self) -> bool {
        ServerSession::is_body_done(self)
    }

    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<BError> {
        match self {
            ServerSession::H1(s) => s.poll_abort(cx),
            ServerSession::H2(s) => s.poll_abort(cx),
            ServerSession::Subrequest(s) => s.poll_abort(cx),
            ServerSession::Custom(s) => match driver(s) {
                Ok(driver) => driver.poll_gone(cx),
                Err(e) => Poll::Ready(e),
            },
        }
    }

    #[inline]
    fn tells_leave(&self) -> bool {
        self.is_http2() || self.is_subrequest()
    }

    fn queue(&mut self, task: HttpTask) -> Result<bool> {
        match self {
            ServerSession::H1(s) => s.queue_task(task),
            ServerSession::H2(s) => s.queue_task(task),
            ServerSession::Subrequest(s) => s.queue_task(task),
            ServerSession::Custom(s) => driver(s)?.queue(task),
        }
    }

    #[inline(always)]
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        match self {
            ServerSession::H1(s) => s.poll_flush(cx),
            other => poll_flush_other(other, cx),
        }
    }

    #[inline]
    fn queued(&self) -> usize {
        match self {
            ServerSession::H1(s) => s.queued(),
            ServerSession::H2(s) => s.queued(),
            ServerSession::Subrequest(s) => s.queued(),
            ServerSession::Custom(s) => driver_of(s.as_ref()).map_or(0, Driver::queued),
        }
    }

    fn is_flushed(&self) -> bool {
        match self {
            ServerSession::H1(s) => s.is_flushed(),
            ServerSession::H2(s) => s.is_flushed(),
            ServerSession::Subrequest(s) => s.is_flushed(),
            ServerSession::Custom(s) => !s.has_pending_proxy_tasks(),
        }
    }

    fn has_room(&self) -> bool {
        match self {
            ServerSession::H2(s) => s.has_room(),
            ServerSession::H1(_) | ServerSession::Subrequest(_) | ServerSession::Custom(_) => true,
        }
    }

    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        match self {
            ServerSession::H2(s) => s.poll_room(cx),
            ServerSession::H1(_) | ServerSession::Subrequest(_) | ServerSession::Custom(_) => {
                Poll::Ready(Ok(()))
            }
        }
    }

    fn has_whole_response(&self) -> bool {
        match self {
            ServerSession::H1(s) => s.has_whole_response(),
            ServerSession::H2(s) => s.has_whole_response(),
            ServerSession::Subrequest(s) => s.has_whole_response(),
            ServerSession::Custom(s) => {
                driver_of(s.as_ref()).is_some_and(Driver::has_whole_response)
            }
        }
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

    fn show_while_lent(&mut self) {
        if let ServerSession::Custom(s) = self {
            if let Ok(driver) = driver(s) {
                driver.show_while_lent();
            }
        }
    }

    fn give_up(&mut self) {
        if let ServerSession::Custom(s) = self {
            break_off(s);
        }
    }
}

fn poll_flush_other(session: &mut ServerSession, cx: &mut Context<'_>) -> Poll<Result<()>> {
    match session {
        ServerSession::H1(s) => s.poll_flush(cx),
        ServerSession::H2(s) => s.poll_flush(cx),
        ServerSession::Subrequest(s) => s.poll_flush(cx),
        ServerSession::Custom(s) => driver(s)?.poll_flush(cx),
    }
}
