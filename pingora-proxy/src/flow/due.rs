//! The time of a request with all its tries.

use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use pingora_error::ErrorType::ReadTimedout;
use pingora_error::{Error, Result};
use tokio::time::Instant;

/// Gives up `work` when the time of the request with all its tries is over, if it has one, unless it is lifted by then.
pub(super) async fn in_time<T>(
    due: Option<&Due>,
    work: impl Future<Output = Result<T>>,
) -> Result<T> {
    let mut work = pin!(work);
    let Some(due) = due else {
        return work.await;
    };
    match tokio::time::timeout_at(due.at, work.as_mut()).await {
        Ok(done) => done,
        Err(_) if due.is_lifted() => work.await,
        Err(_) => {
            let why = format!("the request took longer than {:?}", due.limit);
            Err(Error::explain(ReadTimedout, why).into_up())
        }
    }
}

/// When the time of a request with all its tries is over.
pub(crate) struct Due {
    at: Instant,
    limit: Duration,
    lifted: AtomicBool,
}

impl Due {
    pub(super) fn within(limit: Duration) -> Option<Self> {
        let at = Instant::now().checked_add(limit)?;
        Some(Due {
            at,
            limit,
            lifted: AtomicBool::new(false),
        })
    }

    /// Takes the limit away: what a request became a tunnel for has no end of its own.
    pub(crate) fn lift(&self) {
        self.lifted.store(true, Relaxed);
    }

    fn is_lifted(&self) -> bool {
        self.lifted.load(Relaxed)
    }

    /// Returns whether the time is over.
    pub(crate) fn is_over(&self) -> bool {
        !self.is_lifted() && self.at <= Instant::now()
    }
}
