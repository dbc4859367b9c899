//! A stored response that may still be written.

use std::any::Any;

use async_trait::async_trait;
use bytes::Bytes;
use pingora_cache::key::CacheKey;
use pingora_cache::storage::{HandleHit, HitHandler};
use pingora_cache::trace::SpanHandle;
use pingora_cache::{CacheEntryId, Storage};
use pingora_error::ErrorType::InternalError;
use pingora_error::{Error, Result};

use crate::pipeline::cache_write::fills::Reading;

/// A handler whose body ends only where that of a fill does. It cannot seek, nor can the one inside.
pub(crate) struct Partial {
    handler: HitHandler,
    fills: Reading,
    read: usize,
}

impl Partial {
    pub(crate) fn new(handler: HitHandler, fills: Reading) -> Self {
        Partial {
            handler,
            fills,
            read: 0,
        }
    }
}

#[async_trait]
impl HandleHit for Partial {
    /// # Errors
    /// Those of the handler, and at the end of a body that was given up.
    async fn read_body(&mut self) -> Result<Option<Bytes>> {
        let piece = self.handler.read_body().await?;
        match &piece {
            Some(piece) => self.read += piece.len(),
            None if !self.fills.is_whole(self.read) => {
                let why = "the response was given up while it was stored";
                return Error::e_explain(InternalError, why);
            }
            None => {}
        }
        Ok(piece)
    }

    async fn finish(
        self: Box<Self>,
        storage: &'static (dyn Storage + Sync),
        key: &CacheKey,
        trace: &SpanHandle,
    ) -> Result<()> {
        self.handler.finish(storage, key, trace).await
    }

    fn should_count_access(&self) -> bool {
        self.handler.should_count_access()
    }

    fn get_eviction_weight(&self) -> usize {
        self.handler.get_eviction_weight()
    }

    fn entry_id(&self) -> Option<CacheEntryId> {
        self.handler.entry_id()
    }

    fn as_any(&self) -> &(dyn Any + Send + Sync) {
        self.handler.as_any()
    }

    fn as_any_mut(&mut self) -> &mut (dyn Any + Send + Sync) {
        self.handler.as_any_mut()
    }
}
