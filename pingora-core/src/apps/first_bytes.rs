//! Waiting for what a client begins with, for no longer than a shutdown allows.

use std::future::{poll_fn, Future};
use std::task::Poll;
use std::time::Duration;

use tokio::time::{timeout, Instant};

use super::HttpServerApp;
use crate::shutdown::watch::ShutdownWatch;
use crate::shutdown::Stage;

/// The treatment at a shutdown of clients that have not begun to ask.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Treatment {
    /// Those that have sent nothing are let go at once.
    Strict,
    /// Whoever they are, they may take the shutdown read timeout.
    Lenient,
}

/// Runs `step`, which waits for what a client begins with, for `limit` at most; `None` when that is over.
///
/// From a shutdown on, a client of which nothing has come, as `begun` tells, is let go when idle connections are,
/// and any other has the application's shutdown read timeout.
pub(super) async fn in_time<A, T>(
    app: &A,
    shutdown: &ShutdownWatch,
    limit: Duration,
    begun: impl Fn() -> bool,
    step: impl Future<Output = T>,
) -> Option<T>
where
    A: HttpServerApp + Send + Sync,
{
    let since = Instant::now();
    let too_late = async {
        let Ok(treatment) = timeout(limit, shutdown_of(app, shutdown)).await else {
            return;
        };
        // What has come counts, even if no reactor has reported it yet.
        if treatment == Treatment::Strict && !begun() {
            return;
        }
        let left = limit.saturating_sub(since.elapsed());
        tokio::time::sleep(left.min(app.shutdown_read_timeout())).await;
    };
    tokio::select! {
        // The step first: what is there decides, before the shutdown does.
        biased;
        done = step => Some(done),
        () = too_late => None,
    }
}

/// Waits until the shutdown concerns clients that have not begun to ask.
async fn shutdown_of<A>(app: &A, shutdown: &ShutdownWatch) -> Treatment
where
    A: HttpServerApp + Send + Sync,
{
    let Some(registry) = app.shutdown_registry() else {
        // The watch does not tell when idle connections are to close. An error says that the server is gone.
        let _ = shutdown.clone().wait_for(|stops| *stops).await;
        return Treatment::Lenient;
    };
    let mut place = registry.register(crate::worker::current());
    poll_fn(|cx| match place.park(cx.waker()) {
        Stage::Running | Stage::Draining => Poll::Pending,
        Stage::Expiring => Poll::Ready(Treatment::Lenient),
        Stage::Closing => Poll::Ready(Treatment::Strict),
    })
    .await
}

#[cfg(test)]
pub(super) mod tests;
