//! What all runs of a search have in common.

use std::time::Duration;

/// The time after which a writer is waited for no longer.
pub const LOCK_AGE: Duration = Duration::from_secs(20);

/// Requests for one key, and what they meet.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    pub requests: usize,
    /// A purge of the key takes place beside them.
    pub purge: bool,
    /// A response can be read while it is stored: its lock ends when that begins.
    pub streams: bool,
    /// A stale response is stored.
    pub stale: Option<Stale>,
    /// Lookups after waits, where the application limits them.
    pub retries: Option<usize>,
    /// The longest wait of a request, where the application limits it.
    pub wait_timeout: Option<Duration>,
    /// The requests after the first one cannot use what that one stores.
    pub unusable: bool,
}

/// The use of a stale response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stale {
    /// It is served while it is revalidated in the background.
    Served,
    /// It is revalidated before it is served.
    Waited,
}

impl Default for Scenario {
    fn default() -> Self {
        Scenario {
            requests: 2,
            purge: false,
            streams: false,
            stale: None,
            retries: None,
            wait_timeout: None,
            unusable: false,
        }
    }
}

impl Scenario {
    /// The request that looks, after all others, for what is left of them. Its number follows those of the requests
    /// and of the purge, and before those of the subrequests in the background.
    pub fn probe(&self) -> usize {
        self.requests + usize::from(self.purge)
    }

    pub fn max_retries(&self) -> usize {
        self.retries.unwrap_or(2)
    }
}
