//! Waiting for what a client begins with, for no longer than a shutdown allows.

use std::fmt;
use std::future::{poll_fn, Future};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::time::{sleep, timeout, Instant};

use super::{Registry, Stage};

/// The time for what a client begins with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TimeLimit {
    /// In all.
    pub(crate) whole: Duration,
    /// From a shutdown on, if that is less.
    pub(crate) at_shutdown: Duration,
}

/// The treatment at a shutdown of clients that have not begun to ask.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Treatment {
    /// Those that have sent nothing are let go at once.
    Strict,
    /// All have the time that a shutdown leaves.
    Lenient,
}

/// The end of a wait that was too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TooLate {
    /// Nothing came before the shutdown.
    Silent,
    /// Too little came in this time.
    Incomplete(Duration),
}

impl fmt::Display for TooLate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TooLate::Silent => f.write_str("nothing came before the shutdown"),
            TooLate::Incomplete(time) => write!(f, "not complete after {time:?}"),
        }
    }
}

/// Waits until the shutdown concerns clients that have not begun to ask.
pub(crate) async fn treatment(registry: &Arc<Registry>) -> Treatment {
    let mut place = registry.register(crate::worker::current());
    poll_fn(|cx| match place.park(cx.waker()) {
        Stage::Running | Stage::Draining => Poll::Pending,
        Stage::Expiring => Poll::Ready(Treatment::Lenient),
        Stage::Closing => Poll::Ready(Treatment::Strict),
    })
    .await
}

/// Runs `step`, which waits for what a client begins with, within its time limit.
///
/// From the end of `shutdown` on, a client is treated as that says; `begun` tells whether something has come of it.
///
/// # Errors
/// When the time is over; `step` is dropped then.
pub(crate) async fn in_time<T>(
    limit: TimeLimit,
    shutdown: impl Future<Output = Treatment>,
    begun: impl Fn() -> bool,
    step: impl Future<Output = T>,
) -> Result<T, TooLate> {
    let too_late = async {
        let since = Instant::now();
        if let Ok(treatment) = timeout(limit.whole, shutdown).await {
            // What has come counts, even if no reactor has reported it yet.
            if treatment == Treatment::Strict && !begun() {
                return TooLate::Silent;
            }
            let left = limit.whole.saturating_sub(since.elapsed());
            sleep(left.min(limit.at_shutdown)).await;
        }
        TooLate::Incomplete(since.elapsed())
    };
    tokio::select! {
        // The step first: it takes what is there before it is asked whether something is.
        biased;
        done = step => Ok(done),
        late = too_late => Err(late),
    }
}
