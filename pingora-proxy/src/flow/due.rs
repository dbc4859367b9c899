//! The time of a request with all its tries.

use std::future::Future;
use std::time::Duration;

use pingora_error::ErrorType::ReadTimedout;
use pingora_error::{Error, Result};
use tokio::time::Instant;

/// Gives up `work` when the time of the request with all its tries is over.
pub(super) async fn in_time<T>(due: Due, work: impl Future<Output = Result<T>>) -> Result<T> {
    let done = tokio::time::timeout_at(due.at, work).await;
    done.unwrap_or_else(|_| {
        let why = format!("the request took longer than {:?}", due.limit);
        Err(Error::explain(ReadTimedout, why).into_up())
    })
}

/// When the time of a request with all its tries is over.
#[derive(Clone, Copy)]
pub(crate) struct Due {
    pub(crate) at: Instant,
    limit: Duration,
}

impl Due {
    pub(super) fn within(limit: Duration) -> Option<Self> {
        let at = Instant::now().checked_add(limit)?;
        Some(Due { at, limit })
    }
}
