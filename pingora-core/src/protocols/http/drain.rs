//! The rest of a request body that nobody wants.

use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use pingora_error::ErrorType::{ReadError, ReadTimedout};
use pingora_error::{Error, Result};

use crate::limits::LIMITS;

/// Reads the rest of a body, piece by piece by `poll`, for nothing.
///
/// # Errors
/// Those of the reads; `ReadTimedout` when it takes longer than `within`, `ReadError` when there is more of it than is
/// worth it ([`LIMITS`]).
pub(super) async fn drain(
    within: Duration,
    mut poll: impl FnMut(&mut Context<'_>) -> Poll<Result<Option<Bytes>>>,
) -> Result<()> {
    let rest = async {
        let mut drained = 0;
        while let Some(data) = std::future::poll_fn(&mut poll).await? {
            drained += data.len();
            if drained > LIMITS.client_drain_bytes {
                return Error::e_explain(ReadError, "the rest of the request body is too long");
            }
        }
        Ok(())
    };
    match tokio::time::timeout(within, rest).await {
        Ok(drained) => drained,
        Err(_) => Error::e_explain(ReadTimedout, "the rest of the request body did not come"),
    }
}
