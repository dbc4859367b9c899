//! Sessions that speak a protocol of the user's own in place of HTTP/1 or HTTP/2.
//!
//! Besides requests and responses such a session may carry *custom messages*, in both directions
//! and independent of the bodies. `()` implements the traits for programs without a custom
//! protocol: it never carries a session, and every operation on it that can fail does.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::{Stream, StreamExt};
use pingora_error::{BError, Error, ErrorType, Result};

pub mod client;
pub mod server;

/// The number of custom messages that may wait between a reader and a writer.
pub const CUSTOM_MESSAGE_QUEUE_SIZE: usize = 128;

/// Calls a method of the custom session inside a session, if there is one.
///
/// `custom_session!(session.method(args).await?)` awaits (and propagates the error of) the call
/// on the session's `as_custom_mut()`, and does nothing if that is `None`. The result of the call
/// is dropped.
#[macro_export]
macro_rules! custom_session {
    ($session:ident . $($call:tt)+) => {
        if let ::core::option::Option::Some(session) = $session.as_custom_mut() {
            #[allow(unused_must_use)]
            {
                session.$($call)+;
            }
        }
    };
}

/// The writing half of a stream of custom messages.
#[async_trait]
pub trait CustomMessageWrite: Send + Sync + Unpin + 'static {
    /// Limits how long a write may take; `None` for no limit.
    fn set_write_timeout(&mut self, timeout: Option<Duration>);

    /// Sends one message.
    async fn write_custom_message(&mut self, msg: Bytes) -> Result<()>;

    /// Says that no further message follows.
    async fn finish_custom(&mut self) -> Result<()>;
}

#[async_trait]
impl CustomMessageWrite for () {
    fn set_write_timeout(&mut self, _timeout: Option<Duration>) {}

    async fn write_custom_message(&mut self, _msg: Bytes) -> Result<()> {
        Err(no_session())
    }

    async fn finish_custom(&mut self) -> Result<()> {
        Err(no_session())
    }
}

/// The writing half of a body, apart from its session.
#[async_trait]
pub trait BodyWrite: Send + Sync + Unpin + 'static {
    /// Sends all of `data`, and leaves it empty.
    ///
    /// # Cancel safety
    ///
    /// Bytes that were sent are taken from the front of `data`.
    async fn write_all_buf(&mut self, data: &mut Bytes) -> Result<()>;

    /// Says that the body is complete.
    async fn finish(&mut self) -> Result<()>;

    /// Ends the body early, and releases what it holds.
    async fn cleanup(&mut self) -> Result<()>;

    /// Goes on as a raw stream, after the exchange was upgraded.
    fn upgrade_body_writer(&mut self);
}

/// Returns true if a status code is informational, but for 101, which ends the HTTP part of an exchange.
pub fn is_informational_except_101<T: PartialOrd<u32>>(code: T) -> bool {
    code > 99 && code < 200 && code != 101
}

/// Reads and drops custom messages until their stream ends.
///
/// # Errors
///
/// The first error of the stream.
pub async fn drain_custom_messages(
    reader: Option<Box<dyn Stream<Item = Result<Bytes>> + Unpin + Send + Sync + 'static>>,
) -> Result<()> {
    let Some(mut reader) = reader else {
        return Ok(());
    };
    while let Some(message) = reader.next().await {
        message?;
    }
    Ok(())
}

fn no_session() -> BError {
    Error::explain(ErrorType::InternalError, "no custom session")
}

#[cfg(test)]
mod tests;
