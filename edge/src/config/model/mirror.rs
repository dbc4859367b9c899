//! Copies of requests for other servers.

use std::time::Duration;

use super::Proxy;
use crate::config::section::section;
use crate::config::values::{Count, Percent, Size};

section! {
    /// A mirror: a copy of requests goes to other servers once the request itself has ended. Their answers are thrown
    /// away, and no request waits for a copy or fails by it.
    pub struct Mirror("a mirror", short: to) {
        /// The servers that get the copies, as in `proxy`.
        to: Proxy,
        /// The share of requests that are copied.
        share: Percent = Percent::whole(100),
        /// The size of a request body up to which a request is copied.
        max_body: Size = Size(64 << 10),
        /// The copies under way at a time in each worker; further ones are dropped.
        max_in_flight: Count = Count(64),
        /// For the whole answer to a copy.
        timeout: Duration = Duration::from_secs(10),
    }
}
