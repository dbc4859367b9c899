//! How servers fare, and what follows.

use std::time::Duration;

use crate::config::section::{section, At};
use crate::config::values::{Percent, StatusRange};

section! {
    /// When a server that fails requests is left alone: for a while it gets none, unless all others are left alone too.
    /// Then one request tries it, and an answer brings it back.
    pub struct PassiveHealth("passive health", short: max_fails) {
        /// The failures within `window` after which it is left alone; 0 for never.
        max_fails: u32 = 1,
        /// The time in which failures are counted.
        window: Duration = Duration::from_secs(10),
        /// The time for which it is left alone.
        eject_for: Duration = Duration::from_secs(10),
        /// The statuses of answers that count as failures, beside connections that fail, break off or take too long.
        statuses: Vec<StatusRange> = Vec::new(),
    }
}

section! {
    /// When requests to a server are held back because too many fail, by a connection, a time limit or a status of 5xx.
    /// Then one request at a time tries it, until one succeeds.
    pub struct CircuitBreaker("a circuit breaker", short: error_rate) {
        /// The share of requests that fail.
        error_rate: At<Percent>,
        /// The time over which it is looked at.
        window: Duration = Duration::from_secs(10),
        /// The fewest requests in that time by which a server is judged.
        min_requests: u32 = 20,
        /// The time for which requests are held back.
        open_for: Duration = Duration::from_secs(10),
    }
}
