//! Waiting for what a client of an HTTP application begins with.

use std::future::Future;
use std::time::Duration;

use super::HttpServerApp;
use crate::shutdown::first_bytes::{self, TimeLimit, TooLate, Treatment};
use crate::shutdown::watch::ShutdownWatch;

/// Runs `step`, which waits for what a client begins with, for `limit` at most.
///
/// From a shutdown on, a client of which nothing has come, as `begun` tells, is let go when idle connections are,
/// and any other has the application's shutdown read timeout.
///
/// # Errors
/// When the time is over; `step` is dropped then.
pub(super) async fn in_time<A, T>(
    app: &A,
    shutdown: &ShutdownWatch,
    limit: Duration,
    begun: impl Fn() -> bool,
    step: impl Future<Output = T>,
) -> Result<T, TooLate>
where
    A: HttpServerApp + Send + Sync,
{
    let limit = TimeLimit {
        whole: limit,
        at_shutdown: app.shutdown_read_timeout(),
    };
    let treatment = async {
        if let Some(registry) = app.shutdown_registry() {
            return first_bytes::treatment(registry).await;
        }
        // The watch does not tell when idle connections are to close. An error says that the server is gone.
        let _ = shutdown.clone().wait_for(|stops| *stops).await;
        Treatment::Lenient
    };
    first_bytes::in_time(limit, treatment, begun, step).await
}

#[cfg(test)]
pub(super) mod tests;
