//! The seam between sessions and the proxy. It is not part of the public API and may change with any version.
//!
//! The proxy moves an exchange by polls: no direction waits for the other, and one task drives both.
//!
//! ```text
//! client <-- queue, poll_flush -- Downstream  |proxy|  Upstream -- queue_*, poll_flush --> origin
//!        -- poll_body, poll_gone ->           |     |           <------ poll_task --------
//! ```
//!
//! [`Downstream`] is implemented by a server's session of every kind, [`Upstream`] by those of a client and by whatever
//! else answers a request. A poll that returns `Pending` has to keep what it waits for: a future that is made anew for
//! each poll forgets its waker and its timer.

use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Version};
use pingora_error::{BError, Result};
use pingora_http::RequestHeader;

use crate::protocols::http::HttpTask;
use crate::protocols::{Digest, UniqueIDType};

pub mod custom;
mod downstream;
mod hooks;
mod upstream;

pub use crate::server::transfer_fd::wire;
pub use crate::shutdown::watch::shutting_down;
pub use crate::shutdown::{close_idle, drain, Registry, Stage};
pub use crate::worker::{current as current_worker, Workers};
pub use hooks::{ClientHooks, ConnectorHooks, ServerHooks};
#[cfg(fuzzing)]
pub use upstream::is_reusable;

/// An exchange with a client.
pub trait Downstream: Send {
    /// The next piece of the request body; `None` after its end. An error is the end of the body as well.
    fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>>>;

    /// Returns whether a piece of the body is there without a read.
    fn has_buffered_body(&self) -> bool {
        false
    }

    /// Returns whether nothing of the request body is still to come.
    fn is_body_done(&mut self) -> bool;

    /// Ready when the client has left before its response was complete.
    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<BError>;

    /// Returns whether [`poll_gone`](Self::poll_gone) notices a client that has left for certain, without a read of the
    /// body: on a connection of many exchanges, where one that has sent its last byte is not taken for one that has
    /// left.
    fn tells_leave(&self) -> bool {
        false
    }

    /// Queues a message of the response, and says whether it ends it.
    ///
    /// # Errors
    /// The message's own, and those of a message that has no place where the response stands.
    fn queue(&mut self, task: HttpTask) -> Result<bool>;

    /// Writes what is queued.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>>;

    /// Returns the number of bytes that are queued and have not left, as far as that is known.
    fn queued(&self) -> usize;

    /// Returns whether everything queued has left.
    fn is_flushed(&self) -> bool;

    /// Returns whether what is written leaves at once, as far as that is known. If not, it is kept in memory.
    fn has_room(&self) -> bool {
        true
    }

    /// Ready when there is room for more of a response, which a connection may not have for all its exchanges.
    fn poll_room(&mut self, _cx: &mut Context<'_>) -> Poll<Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// Returns whether the client has, or will have with what is queued, all of its response by its framing.
    fn has_whole_response(&self) -> bool;

    /// Returns whether a read or a write that is under way has the session to itself. Nobody else may look at it before
    /// it is [flushed](Self::is_flushed), and a read was [taken back](Self::take_back).
    fn lends(&self) -> bool {
        false
    }

    /// Gives up a read that has the session to itself.
    fn take_back(&mut self) {}

    /// Shows filters a copy of the session while the next writes have it to themselves.
    fn show_while_lent(&mut self) {}

    /// Gives up what has the session to itself, as the client is gone. Nothing more can be sent to it.
    fn give_up(&mut self) {}
}

/// An exchange with whoever answers a request: what is queued leaves by [`poll_flush`](Self::poll_flush), what comes
/// arrives by [`poll_task`](Self::poll_task), and neither waits for the other.
pub trait Upstream: Send {
    /// The version that the upstream is spoken to in.
    fn version(&self) -> Version;

    /// The identity of the connection.
    fn id(&self) -> UniqueIDType;

    /// The digest of the connection.
    fn digest(&self) -> Option<&Digest>;

    /// Queues the head of the request.
    ///
    /// # Errors
    /// Those of a head that cannot be sent.
    fn queue_head(&mut self, request: Box<RequestHeader>) -> Result<()>;

    /// Queues a piece of the request's body, or of the raw bytes after an upgrade.
    ///
    /// # Errors
    /// Those of a piece that has no place where the request stands.
    fn queue_body(&mut self, data: Bytes) -> Result<()>;

    /// Queues the end of the request.
    ///
    /// # Errors
    /// Those of a body that is shorter than its head says.
    fn queue_end(&mut self, trailers: Option<&HeaderMap>) -> Result<()>;

    /// Writes what is queued.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>>;

    /// Returns the number of bytes that are queued.
    fn queued(&self) -> usize;

    /// Returns whether everything queued has left.
    fn is_flushed(&self) -> bool;

    /// The next message of the response.
    fn poll_task(&mut self, cx: &mut Context<'_>) -> Poll<Result<HttpTask>>;

    /// Has reads bring little, because the client has no room for more.
    fn read_little(&mut self, _little: bool) {}

    /// Returns whether the content of the response is whole though its end was not seen, which HTTP/2 tells in a frame
    /// of its own.
    fn is_content_complete(&self) -> bool {
        false
    }

    /// Returns whether a message may be there without a read.
    fn has_buffered(&self) -> bool;

    /// The upstream was sent something: its time to answer begins anew.
    fn restart_read_timeout(&mut self) {}

    /// Bytes of request body that went to the upstream.
    fn body_bytes_sent(&self) -> usize;

    /// Returns the time that the connection waited before it took bytes; zero where its streams cannot be told apart.
    fn write_pending_time(&self) -> Duration {
        Duration::ZERO
    }

    /// Returns whether the upstream speaks a protocol of the user's own.
    fn is_custom(&self) -> bool {
        false
    }

    /// Takes what the session has of its custom messages.
    fn take_messages(&mut self) -> custom::Ends {
        custom::Ends::default()
    }

    /// Has the session carry no further exchange.
    fn forbid_reuse(&mut self) {}
}
