//! The time that a peer has.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep};

/// Further away than any deadline needs to be, and still a time that can be told.
const FAR: Duration = Duration::from_secs(365 * 24 * 3600);

/// A deadline that is moved for nothing: it is registered when it is first waited for, and looked at again
/// when it rings.
#[derive(Default)]
pub(super) struct Timer {
    due: Option<Instant>,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Timer {
    /// The next wait gets its whole time.
    pub(super) fn restart(&mut self) {
        self.due = None;
    }

    /// Ready when `timeout` has passed since the first call after [`restart`](Timer::restart).
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, timeout: Duration) -> Poll<()> {
        let due = *self
            .due
            .get_or_insert_with(|| Instant::now() + timeout.min(FAR));
        let sleep = self
            .sleep
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(due)));
        loop {
            if sleep.deadline() > due {
                sleep.as_mut().reset(due);
            }
            if sleep.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            if sleep.deadline() >= due {
                return Poll::Ready(());
            }
            sleep.as_mut().reset(due);
        }
    }
}
