//! Requests that wait for a server.

use std::time::Duration;

use crate::config::section::section;
use crate::config::values::Count;

section! {
    /// The requests that wait, in the order in which they came, while all servers have `max_requests` or
    /// `max_connections`. One that finds the queue full, or has waited for too long, is answered with 503 and `Retry-After`.
    pub struct Queue("a queue", short: size) {
        /// The requests that wait at most, over all workers.
        size: Count,
        /// The time for which a request waits at most.
        timeout: Duration = Duration::from_secs(5),
    }
}
