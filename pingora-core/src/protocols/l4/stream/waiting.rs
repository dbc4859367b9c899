//! The time that a stream waits for its peer.

use std::task::Poll;
use std::time::Duration;

use crate::protocols::l4::ext::uptime;

/// The time that one direction has waited, in nanoseconds; looks at the clock only when it begins or ends to wait.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    /// On the clock of [`uptime`]; 0 while it does not wait.
    since: u64,
    total: u64,
}

impl Waiting {
    #[inline]
    pub(super) fn note<T>(&mut self, poll: Poll<T>) -> Poll<T> {
        if self.waits() != poll.is_pending() {
            let now = uptime();
            match std::mem::take(&mut self.since) {
                0 => self.since = now,
                since => self.total += now.saturating_sub(since),
            }
        }
        poll
    }

    pub(super) fn waits(&self) -> bool {
        self.since != 0
    }

    pub(super) fn total(&self) -> Duration {
        Duration::from_nanos(self.total)
    }
}
