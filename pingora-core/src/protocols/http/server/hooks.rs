//! What the proxy asks of a session besides its public API: polls, and where things stand.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use pingora_error::{Error, Result};

use super::{ReusableHttpStream, Session};
use crate::exchange::custom::{driver, driver_of, Driver};
use crate::protocols::http::client::HttpSession;
use crate::protocols::http::HttpTask;
use crate::shutdown::{Registry, Stage};

impl Session {
    /// Lets an HTTP/1.x connection's waiting for a request end with the shutdown. Gives a custom session its driver.
    #[doc(hidden)]
    pub fn wait_in(&mut self, registry: &Arc<Registry>, read_timeout: Duration) {
        match self {
            Session::H1(s) => s.wait_in(registry, read_timeout),
            Session::Custom(s) => drop(driver(s)),
            Session::H2(_) | Session::Subrequest(_) => {}
        }
    }

    /// Exchanges the timer of this connection and that of the upstream's. Both are waited for by the same task, and
    /// the one that the client's waiting for a request has set does for the upstream, too: else each request that
    /// limits its upstream's time would register one of its own.
    #[doc(hidden)]
    pub fn swap_timer<S>(&mut self, upstream: &mut HttpSession<S>) {
        let own = match self {
            Session::H1(s) => s.timer(),
            Session::H2(s) => s.timer(),
            Session::Subrequest(s) => s.timer(),
            Session::Custom(_) => return,
        };
        match upstream {
            HttpSession::H1(s) => std::mem::swap(own, s.timer()),
            HttpSession::H2(s) => std::mem::swap(own, s.timer()),
            HttpSession::Custom(_) => {}
        }
    }

    /// Checks that a request of HTTP/1.1 says which host it is for, as whoever serves it has to:
    /// [`Session::read_request`] leaves it open. HTTP/2 has it checked at the border.
    ///
    /// # Errors
    /// `InvalidHTTPHeader` for a Host that is missing, repeated or malformed.
    #[doc(hidden)]
    #[inline]
    pub fn check_host(&self) -> Result<()> {
        h1!(self, s => s.check_host(), else Ok(()))
    }

    /// Whether lines of request heads on this connection may end in LF alone.
    #[doc(hidden)]
    pub fn set_lenient_line_ends(&mut self, lenient: bool) {
        h1!(self, s => s.set_lenient_line_ends(lenient), else ())
    }

    /// Whether the server of this connection is shutting down.
    #[doc(hidden)]
    pub fn is_shutting_down(&self) -> bool {
        match self {
            Session::H1(s) => s.shutdown_stage() != Stage::Running,
            Session::H2(s) => s.is_shutting_down(),
            Session::Subrequest(s) => s.is_shutting_down(),
            Session::Custom(_) => false,
        }
    }

    /// Whether an earlier request was served on this connection, or is told of a shutdown by its connection.
    #[doc(hidden)]
    pub fn is_reused(&self) -> bool {
        match self {
            Session::H1(s) => s.is_reused(),
            Session::H2(_) => true,
            Session::Subrequest(_) | Session::Custom(_) => false,
        }
    }

    /// Whether a piece of the body is there without a read.
    #[doc(hidden)]
    pub fn has_buffered_body(&self) -> bool {
        h1!(self, s => s.has_buffered_body(), else false)
    }

    /// Whether a byte of the next request is there; reads at most once.
    #[doc(hidden)]
    pub fn poll_has_request(&mut self, cx: &mut Context<'_>) -> bool {
        h1!(self, s => s.poll_has_request(cx), else true)
    }

    /// [`Session::read_request_body`] as a poll.
    #[doc(hidden)]
    pub fn poll_read_body(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>>> {
        match self {
            Session::H1(s) => s.poll_read_body(cx),
            Session::H2(s) => s.poll_read_body(cx),
            Session::Subrequest(s) => s.poll_read_body(cx),
            Session::Custom(s) => driver(s)?.poll_body(cx),
        }
    }

    /// Ready when the client has left before its response is complete.
    #[doc(hidden)]
    pub fn poll_abort(&mut self, cx: &mut Context<'_>) -> Poll<Box<Error>> {
        match self {
            Session::H1(s) => s.poll_abort(cx),
            Session::H2(s) => s.poll_abort(cx),
            Session::Subrequest(s) => s.poll_abort(cx),
            Session::Custom(s) => match driver(s) {
                Ok(driver) => driver.poll_gone(cx),
                Err(e) => Poll::Ready(e),
            },
        }
    }

    /// Queues a message of the response, and says whether it ends it.
    #[doc(hidden)]
    pub fn queue_task(&mut self, task: HttpTask) -> Result<bool> {
        match self {
            Session::H1(s) => s.queue_task(task),
            Session::H2(s) => s.queue_task(task),
            Session::Subrequest(s) => s.queue_task(task),
            Session::Custom(s) => driver(s)?.queue(task),
        }
    }

    /// [`Session::finish`] of an HTTP/1.x session that has nothing left to read or to write, and whose connection may
    /// serve another request; others come back.
    #[doc(hidden)]
    pub fn finish_at_once(self) -> std::result::Result<ReusableHttpStream, Self> {
        match self {
            Session::H1(s) => s.reuse_at_once().map_err(Session::H1),
            other => Err(other),
        }
    }

    /// Writes what is queued.
    #[doc(hidden)]
    #[inline(always)]
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        match self {
            Session::H1(s) => s.poll_flush(cx),
            _ => self.poll_flush_other(cx),
        }
    }

    fn poll_flush_other(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        match self {
            Session::H1(s) => s.poll_flush(cx),
            Session::H2(s) => s.poll_flush(cx),
            Session::Subrequest(s) => s.poll_flush(cx),
            Session::Custom(s) => driver(s)?.poll_flush(cx),
        }
    }

    /// How many bytes are queued and have not left, as far as that is known.
    #[doc(hidden)]
    #[inline]
    pub fn queued(&self) -> usize {
        match self {
            Session::H1(s) => s.queued(),
            Session::H2(s) => s.queued(),
            Session::Subrequest(s) => s.queued(),
            Session::Custom(s) => driver_of(s.as_ref()).map_or(0, Driver::queued),
        }
    }

    /// Whether what is written leaves at once, as far as that is known. If not, it is kept in memory.
    #[doc(hidden)]
    pub fn has_room(&self) -> bool {
        match self {
            Session::H2(s) => s.has_room(),
            Session::H1(_) | Session::Subrequest(_) | Session::Custom(_) => true,
        }
    }

    /// Waits until there is room for more of a response, which a connection of HTTP/2 may not have for all its streams.
    #[doc(hidden)]
    pub fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        match self {
            Session::H2(s) => s.poll_room(cx),
            Session::H1(_) | Session::Subrequest(_) | Session::Custom(_) => Poll::Ready(Ok(())),
        }
    }

    /// Whether the request is an extended CONNECT of HTTP/2 (RFC 8441).
    #[doc(hidden)]
    pub fn is_extended_connect(&self) -> bool {
        match self {
            Session::H2(s) => s.is_extended_connect(),
            Session::H1(_) | Session::Subrequest(_) | Session::Custom(_) => false,
        }
    }

    /// Whether everything queued has left.
    #[doc(hidden)]
    pub fn is_flushed(&self) -> bool {
        match self {
            Session::H1(s) => s.is_flushed(),
            Session::H2(s) => s.is_flushed(),
            Session::Subrequest(s) => s.is_flushed(),
            Session::Custom(s) => !s.has_pending_proxy_tasks(),
        }
    }

    /// The fields after the request body, once it is read. They stay, as another try may need them.
    #[doc(hidden)]
    pub fn request_trailers(&self) -> Option<&HeaderMap> {
        match self {
            Session::H1(s) => s.request_trailers(),
            Session::H2(s) => s.request_trailers(),
            Session::Subrequest(s) => s.request_trailers(),
            Session::Custom(_) => None,
        }
    }

    /// Returns whether the client has, or will have with what is queued, all of its response by its framing.
    #[doc(hidden)]
    pub fn has_whole_response(&self) -> bool {
        match self {
            Session::H1(s) => s.has_whole_response(),
            Session::H2(s) => s.has_whole_response(),
            Session::Subrequest(s) => s.has_whole_response(),
            Session::Custom(s) => driver_of(s.as_ref()).is_some_and(Driver::has_whole_response),
        }
    }

    /// Notes why the exchange has failed, for the way in which the connection or the stream ends.
    #[doc(hidden)]
    pub fn note_failure(&mut self, e: &Error) {
        match self {
            Session::H1(s) => s.note_failure(e),
            Session::H2(s) => s.note_failure(e),
            Session::Subrequest(_) | Session::Custom(_) => {}
        }
    }
}
