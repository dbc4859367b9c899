//! The storage and the lock: those of `pingora-cache`, which are watched, and where runs may differ.

use std::any::Any;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use pingora_cache::lock::{CacheKeyLock, LockStatus, Locked, ReadLock, WritePermit};
use pingora_cache::storage::{
    HandleMiss, HitHandler, MissFinishType, MissHandler, PurgeOutcome, PurgeTarget, PurgeType,
};
use pingora_cache::trace::{Span, SpanHandle};
use pingora_cache::{CacheKey, CacheMeta, Storage};
use pingora_core::ErrorType::InternalError;
use pingora_core::{Error, Result};

use crate::rules::Fill;
use crate::world::World;

impl World {
    /// Takes a step of the storage: others may come first, and it may fail.
    async fn storage_step(&self, what: &'static str) -> Result<()> {
        self.pause().await;
        self.note(what);
        if self.fault(what, 1) > 0 {
            return Error::e_explain(InternalError, "as chosen");
        }
        Ok(())
    }
}

impl CacheKeyLock for World {
    fn lock(&self, key: &CacheKey, stale_writer: bool) -> Locked {
        let locked = self.locks.lock(key, stale_writer);
        let mut state = self.state();
        if locked.is_write() {
            state.note("may write");
            state.permit_granted();
        } else {
            state.note("has to wait");
            state.met().is_waiting = true;
            if state.running == self.scenario.probe() {
                state.fail("the key is still locked");
            }
        }
        locked
    }

    fn release(&self, key: &CacheKey, permit: WritePermit, status: LockStatus) {
        {
            let mut state = self.state();
            state.note(format!("gives the lock back: {status:?}"));
            state.permit_returned(status);
        }
        self.locks.release(key, permit, status);
    }

    fn trace_lock_wait(&self, span: &mut Span, lock: &ReadLock, status: LockStatus) {
        self.state().waited(status);
        self.locks.trace_lock_wait(span, lock, status);
    }

    fn custom_lock_status(&self, reason: &'static str) -> LockStatus {
        self.locks.custom_lock_status(reason)
    }
}

#[async_trait]
impl Storage for World {
    async fn lookup(
        &'static self,
        key: &CacheKey,
        trace: &SpanHandle,
    ) -> Result<Option<(CacheMeta, HitHandler)>> {
        self.state().met().lookups += 1;
        if let Err(e) = self.storage_step("a lookup").await {
            self.state().met().no_lock = true;
            return Err(e);
        }
        let found = self.memory.lookup(key, trace).await?;
        match &found {
            Some((meta, _)) => self.state().found(meta),
            None => self.note("finds nothing"),
        }
        Ok(found)
    }

    async fn lookup_streaming_write(
        &'static self,
        key: &CacheKey,
        tag: Option<&[u8]>,
        trace: &SpanHandle,
    ) -> Result<Option<(CacheMeta, HitHandler)>> {
        self.memory.lookup_streaming_write(key, tag, trace).await
    }

    async fn get_miss_handler(
        &'static self,
        key: &CacheKey,
        meta: &CacheMeta,
        trace: &SpanHandle,
    ) -> Result<MissHandler> {
        self.storage_step("the beginning of a fill").await?;
        let inner = match self.scenario.streams {
            true => Inner::Open(self.memory.get_miss_handler(key, meta, trace).await?),
            false => {
                let (internal, header) = meta.serialize()?;
                let meta = CacheMeta::deserialize(&internal, &header)?;
                Inner::Kept(key.clone(), meta, BytesMut::new())
            }
        };
        let number = self.state().fill_begins();
        Ok(Box::new(Watched {
            inner,
            world: self,
            number,
        }))
    }

    async fn purge(
        &'static self,
        target: PurgeTarget<'_>,
        kind: PurgeType,
        trace: &SpanHandle,
    ) -> Result<PurgeOutcome> {
        self.storage_step("a purge").await?;
        self.state().purged();
        self.memory.purge(target, kind, trace).await
    }

    async fn update_meta(
        &'static self,
        key: &CacheKey,
        meta: &CacheMeta,
        trace: &SpanHandle,
    ) -> Result<bool> {
        self.storage_step("a new header").await?;
        if self.state().is_purged {
            // `MemCache` panics.
            return Error::e_explain(InternalError, "purged meanwhile");
        }
        let updated = self.memory.update_meta(key, meta, trace).await?;
        self.pause().await;
        Ok(updated)
    }

    fn support_streaming_partial_write(&self) -> bool {
        self.scenario.streams
    }

    fn as_any(&self) -> &(dyn Any + Send + Sync + 'static) {
        self
    }
}

/// A fill whose end is noted.
struct Watched {
    inner: Inner,
    world: &'static World,
    number: usize,
}

enum Inner {
    /// What is written can be read at once.
    Open(MissHandler),
    /// Nothing can be read before all is there.
    Kept(CacheKey, CacheMeta, BytesMut),
    Over,
}

#[async_trait]
impl HandleMiss for Watched {
    async fn write_body(&mut self, data: Bytes, end: bool) -> Result<()> {
        self.world.storage_step("a write").await?;
        match &mut self.inner {
            Inner::Open(inner) => inner.write_body(data, end).await,
            Inner::Kept(.., body) => {
                body.extend(data);
                Ok(())
            }
            Inner::Over => Error::e_explain(InternalError, "the fill is over"),
        }
    }

    async fn finish(mut self: Box<Self>) -> Result<MissFinishType> {
        self.world.storage_step("the end of a fill").await?;
        let finished = match std::mem::replace(&mut self.inner, Inner::Over) {
            // `MemCache` panics.
            Inner::Open(_) if self.world.state().answers[self.number].purged => {
                return Error::e_explain(InternalError, "purged meanwhile");
            }
            Inner::Open(inner) => inner.finish().await?,
            Inner::Kept(key, meta, body) => self.world.keep(&key, &meta, body.freeze()).await?,
            Inner::Over => return Error::e_explain(InternalError, "the fill is over"),
        };
        self.world.state().stored(self.number);
        self.world.pause().await;
        Ok(finished)
    }

    fn streaming_write_tag(&self) -> Option<&[u8]> {
        match &self.inner {
            Inner::Open(inner) => inner.streaming_write_tag(),
            Inner::Kept(..) | Inner::Over => None,
        }
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.inner = Inner::Over;
        let mut state = self.world.state();
        let fill = &mut state.answers[self.number].fill;
        if *fill == Fill::Open {
            *fill = Fill::Discarded;
            state.note("discards a fill");
        }
    }
}

impl World {
    /// Stores the whole of a response.
    pub async fn keep(
        &'static self,
        key: &CacheKey,
        meta: &CacheMeta,
        body: Bytes,
    ) -> Result<MissFinishType> {
        let span = Span::inactive();
        let mut fill = self
            .memory
            .get_miss_handler(key, meta, &span.handle())
            .await?;
        fill.write_body(body, true).await?;
        fill.finish().await
    }
}
