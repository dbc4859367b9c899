//! The steps of a storage. One that panics has failed: it costs the request no more than the cache.
//!
//! The `MemCache` of `pingora-cache` 0.9.1 panics when an entry is purged or evicted while it is written or revalidated.

use std::any::Any;
use std::future::Future;
use std::panic::AssertUnwindSafe;

use bytes::Bytes;
use futures::FutureExt;
use pingora_cache::{CacheMeta, HttpCache};
use pingora_error::ErrorType::InternalError;
use pingora_error::{Error, Result};

/// Begins to store the response whose meta is set.
pub(super) async fn begin(cache: &mut HttpCache) -> Result<()> {
    contained(cache.set_miss_handler()).await
}

/// Stores a piece of the body. With the `end` the response is admitted.
pub(super) async fn write(cache: &mut HttpCache, body: Option<&Bytes>, end: bool) -> Result<()> {
    let length = body.map_or(0, Bytes::len);
    let written = async {
        if let Some(handler) = cache.miss_handler().filter(|_| length > 0 || end) {
            // A slice would keep the whole buffer that it was received in.
            let copy = body.map_or_else(Bytes::new, |body| Bytes::copy_from_slice(body));
            handler.write_body(copy, end).await?;
        }
        if end {
            cache.finish_miss_handler().await?;
        }
        Ok(())
    };
    contained(written).await
}

/// Updates the meta of the response that was revalidated.
pub(super) async fn update(cache: &mut HttpCache, meta: CacheMeta) -> Result<()> {
    contained(cache.revalidate_cache_meta(meta)).await?;
    Ok(())
}

/// Runs a step, and turns its panic into an error. After that the cache is only turned off or told to give up what it holds.
async fn contained<T>(step: impl Future<Output = Result<T>>) -> Result<T> {
    let panic = match AssertUnwindSafe(step).catch_unwind().await {
        Ok(done) => return done,
        Err(panic) => panic,
    };
    let why = format!("the storage panicked: {}", message(&*panic));
    Error::e_explain(InternalError, why)
}

fn message(panic: &(dyn Any + Send)) -> &str {
    match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
        (Some(message), _) => message,
        (None, Some(message)) => message,
        (None, None) => "without a message",
    }
}
