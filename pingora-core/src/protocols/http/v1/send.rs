//! The sending half of a connection, the same for both roles: a message's body and its end are framed and queued here.

use bytes::Bytes;
use http::HeaderMap;
use log::warn;
use pingora_error::ErrorType::{InternalError, WriteError};
use pingora_error::{BError, Error, Result};

use super::conn::Conn;
use super::proto::encode::Encoder;
use super::proto::state::Writing;

/// The side of an exchange that a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Client,
    Server,
}

impl Role {
    /// The message that this side writes.
    fn message(self) -> &'static str {
        match self {
            Role::Client => "request",
            Role::Server => "response",
        }
    }
}

impl Conn {
    /// Queues a piece of the body, and says how much of it belonged to the body; `None` when there is no body, or it is
    /// complete already.
    ///
    /// # Errors
    /// `InternalError` before the head; `WriteError` when the connection has failed.
    pub(super) fn queue_body(&mut self, data: Bytes) -> Result<Option<usize>> {
        let len = data.len();
        let taken = match &mut self.writing {
            Writing::Body(encoder) => encoder.body(data, &mut self.out),
            Writing::Raw => {
                self.out.push(data);
                len
            }
            Writing::Done | Writing::Ended => return Ok(None),
            Writing::Head => return Error::e_explain(InternalError, "a body before its head"),
            Writing::Broken => return Err(broken()),
        };
        if taken < len {
            let message = self.role.message();
            warn!("{} bytes beyond the {message} body dropped", len - taken);
        }
        Ok(Some(taken))
    }

    /// Returns whether [`Conn::queue_end`] would end a body.
    pub(super) fn is_body_open(&self) -> bool {
        matches!(self.writing, Writing::Body(_) | Writing::Raw)
    }

    /// Queues the end of the body; without effect when there is no body, or it is complete already.
    ///
    /// # Errors
    /// `WriteError` when the body is shorter than its head promised, or, of a server, when the connection has failed: of a
    /// client the answer may come nevertheless.
    pub(super) fn queue_end(&mut self, trailers: Option<&HeaderMap>) -> Result<()> {
        match &mut self.writing {
            Writing::Body(encoder) => {
                let ended = match *encoder {
                    Encoder::UntilClose => Writing::Ended,
                    _ => Writing::Done,
                };
                if let Err(short) = encoder.finish(trailers, &mut self.out) {
                    self.writing = Writing::Broken;
                    let message = self.role.message();
                    return Error::e_explain(
                        WriteError,
                        format!("the {message} body ended {} bytes early", short.missing),
                    );
                }
                self.writing = ended;
            }
            Writing::Raw => {
                // The peer is to see that nothing more comes, and may go on to send.
                self.close_after_flush();
                self.writing = Writing::Ended;
            }
            Writing::Broken if self.role == Role::Server => return Err(broken()),
            Writing::Done | Writing::Ended | Writing::Head | Writing::Broken => {}
        }
        Ok(())
    }
}

/// The error of who writes on after a failure.
pub(super) fn broken() -> BError {
    Error::explain(WriteError, "the connection has failed")
}
