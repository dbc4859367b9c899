//! The timer of a connection, which streams of HTTP/2 have too.

use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::time::{Instant, Sleep};

/// The time after `timeout`.
pub(crate) fn due_in(timeout: Duration) -> Instant {
    let now = Instant::now();
    // A year stands for what cannot be represented.
    now.checked_add(timeout)
        .unwrap_or_else(|| now + Duration::from_secs(365 * 24 * 3600))
}

/// The one timer of a connection. A deadline that moves later costs nothing: the timer rings at the old
/// time, and is set again then.
#[derive(Default)]
pub(crate) struct Timer {
    sleep: Option<Pin<Box<Sleep>>>,
    /// When it rings; `None` while it is not registered with the runtime.
    armed: Option<Instant>,
    /// Whom it wakes.
    waker: Option<Waker>,
}

impl Timer {
    /// Returns whether `due` is over. If not, the task is woken then, or earlier.
    pub(crate) fn is_over(&mut self, cx: &mut Context<'_>, due: Instant) -> bool {
        loop {
            let sleep = match &mut self.sleep {
                Some(sleep) => sleep,
                none => none.insert(Box::pin(tokio::time::sleep_until(due))),
            };
            let awaited = self.armed.is_some_and(|at| at <= due)
                && self.waker.as_ref().is_some_and(|w| w.will_wake(cx.waker()));
            if awaited && !sleep.is_elapsed() {
                return false;
            }
            if self.armed.is_none_or(|at| at > due) {
                sleep.as_mut().reset(due);
                self.armed = Some(due);
            }
            match std::future::Future::poll(sleep.as_mut(), cx) {
                Poll::Pending => {
                    self.waker = Some(cx.waker().clone());
                    return false;
                }
                Poll::Ready(()) => {
                    self.armed = None;
                    if Instant::now() >= due {
                        return true;
                    }
                }
            }
        }
    }
}
