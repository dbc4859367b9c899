//! Copies of requests for other servers.

use std::time::Duration;

use crate::config::values::Percent;

/// The servers that get copies of a route's requests, and how many.
#[derive(Clone, Debug)]
pub struct Mirror {
    /// The index of the servers in [`Plan::clusters`](super::Plan::clusters).
    pub cluster: usize,
    /// The share of requests that are copied.
    pub share: Percent,
    /// The bytes of a request body that are copied.
    pub max_body: u64,
    /// The copies under way at a time, in each worker.
    pub max_in_flight: u32,
    /// The time limit of a copy.
    pub timeout: Duration,
}
