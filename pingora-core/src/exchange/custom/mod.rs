//! Sessions of a protocol of the user's own, driven by polls.
//!
//! Their methods are asynchronous, and what they wait for is known to their futures alone: a session that waits for a
//! `Notify`, a `Mutex` or a timer is woken only while the future of that wait lives. An adapter keeps the future of the
//! method that is under way from one poll to the next:
//!
//! ```text
//!             start              ready, or taken back
//! at hand ------------> lent ------------------------> at hand
//!    |                   |
//!    +- accessors        +- polled; no filter may look at the session
//! ```
//!
//! A read is taken back when something else is to be done with the session: reads are cancel safe. A write runs to its
//! end.

mod downstream;
mod loan;
mod messages;
mod stand_in;
#[cfg(test)]
mod tests;
mod upstream;

use std::time::Duration;

use pingora_error::{BError, Error, ErrorType};

pub use downstream::{break_off, driver, driver_of, finish_messages, settle, Driver};
pub use messages::{Ends, From as MessageFrom, Left, Messages, Reader, Senders};
pub use upstream::{CustomUpstream, TimeLimits};

/// The time for which a write to a client may go on when its exchange has failed.
const LAST_WRITE: Duration = Duration::from_secs(5);

/// The time for messages that are still to be sent at the end of an exchange.
const LAST_MESSAGES: Duration = Duration::from_secs(1);

/// A session is never lost, but by a future that has leaked it.
fn lost() -> BError {
    Error::explain(
        ErrorType::InternalError,
        "the custom session is lost: a future of it was leaked",
    )
}
