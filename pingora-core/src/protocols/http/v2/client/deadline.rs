//! The time that a peer has.

use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::Instant;

use crate::protocols::http::v1::{due_in, Timer};

/// A deadline that is moved for nothing.
#[derive(Default)]
pub(super) struct Deadline {
    due: Option<Instant>,
    pub(super) timer: Timer,
}

impl Deadline {
    /// The next wait gets its whole time.
    pub(super) fn restart(&mut self) {
        self.due = None;
    }

    /// Ready when `timeout` has passed since the first call after [`restart`](Deadline::restart).
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, timeout: Duration) -> Poll<()> {
        let due = *self.due.get_or_insert_with(|| due_in(timeout));
        if self.timer.is_over(cx, due) {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }
}
