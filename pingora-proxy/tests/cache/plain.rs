//! Storage whose responses can be read only when they are whole, and that fails where a test wants it to.

#![allow(unreachable_pub, reason = "several tests use it")]

use async_trait::async_trait;
use bytes::Bytes;
use pingora_cache::key::CompactCacheKey;
use pingora_cache::storage::{HandleHit, HandleMiss, MissFinishType, PurgeOutcome};
use pingora_cache::trace::SpanHandle;
use pingora_cache::{
    CacheKey, CacheMeta, HitHandler, MissHandler, PurgeTarget, PurgeType, Storage,
};
use pingora_core::{Error, ErrorType, Result};
use std::any::Any;
use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Mutex;

/// The step at which the storage fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fails {
    Never,
    Begin,
    Write,
    Finish,
}

type Entry = ((Vec<u8>, Vec<u8>), Vec<u8>);

pub struct Plain {
    fails: Fails,
    entries: Mutex<HashMap<String, Entry>>,
    /// The pieces of bodies as they were given to the storage.
    pub pieces: Mutex<Vec<Bytes>>,
    /// The fills of now, and the most at one time.
    pub fills: AtomicUsize,
    pub most_fills: AtomicUsize,
}

/// Plain storage for one test.
pub fn plain(fails: Fails) -> &'static Plain {
    Box::leak(Box::new(Plain {
        fails,
        entries: Mutex::default(),
        pieces: Mutex::default(),
        fills: AtomicUsize::new(0),
        most_fills: AtomicUsize::new(0),
    }))
}

impl Plain {
    fn fail(&self, at: Fails) -> Result<()> {
        if self.fails == at {
            return Error::e_explain(ErrorType::InternalError, format!("fails at {at:?}"));
        }
        Ok(())
    }
}

fn name(key: &CacheKey) -> String {
    name_of(&key.to_compact())
}

fn name_of(key: &CompactCacheKey) -> String {
    use pingora_cache::key::CacheHashKey;
    key.combined()
}

#[async_trait]
impl Storage for Plain {
    async fn lookup(
        &'static self,
        key: &CacheKey,
        _: &SpanHandle,
    ) -> Result<Option<(CacheMeta, HitHandler)>> {
        let entries = self.entries.lock().unwrap();
        let Some(((internal, header), body)) = entries.get(&name(key)) else {
            return Ok(None);
        };
        let meta = CacheMeta::deserialize(internal, header)?;
        let body = Some(Bytes::copy_from_slice(body));
        Ok(Some((meta, Box::new(Hit { body }))))
    }

    async fn get_miss_handler(
        &'static self,
        key: &CacheKey,
        meta: &CacheMeta,
        _: &SpanHandle,
    ) -> Result<MissHandler> {
        self.fail(Fails::Begin)?;
        let fills = self.fills.fetch_add(1, Ordering::SeqCst) + 1;
        self.most_fills.fetch_max(fills, Ordering::SeqCst);
        Ok(Box::new(Fill {
            storage: self,
            name: name(key),
            meta: meta.serialize()?,
            body: Vec::new(),
        }))
    }

    async fn purge(
        &'static self,
        target: PurgeTarget<'_>,
        _: PurgeType,
        _: &SpanHandle,
    ) -> Result<PurgeOutcome> {
        let removed = self.entries.lock().unwrap().remove(&name_of(target.key()));
        Ok(match removed {
            Some(_) => PurgeOutcome::Purged(None),
            None => PurgeOutcome::NotFound,
        })
    }

    async fn update_meta(
        &'static self,
        key: &CacheKey,
        meta: &CacheMeta,
        _: &SpanHandle,
    ) -> Result<bool> {
        let mut entries = self.entries.lock().unwrap();
        let Some(entry) = entries.get_mut(&name(key)) else {
            return Ok(false);
        };
        entry.0 = meta.serialize()?;
        Ok(true)
    }

    fn as_any(&self) -> &(dyn Any + Send + Sync + 'static) {
        self
    }
}

struct Hit {
    body: Option<Bytes>,
}

#[async_trait]
impl HandleHit for Hit {
    async fn read_body(&mut self) -> Result<Option<Bytes>> {
        Ok(self.body.take().filter(|body| !body.is_empty()))
    }

    async fn finish(
        self: Box<Self>,
        _: &'static (dyn Storage + Sync),
        _: &CacheKey,
        _: &SpanHandle,
    ) -> Result<()> {
        Ok(())
    }

    fn as_any(&self) -> &(dyn Any + Send + Sync) {
        self
    }

    fn as_any_mut(&mut self) -> &mut (dyn Any + Send + Sync) {
        self
    }
}

struct Fill {
    storage: &'static Plain,
    name: String,
    meta: (Vec<u8>, Vec<u8>),
    body: Vec<u8>,
}

#[async_trait]
impl HandleMiss for Fill {
    async fn write_body(&mut self, data: Bytes, _: bool) -> Result<()> {
        self.storage.fail(Fails::Write)?;
        self.body.extend_from_slice(&data);
        self.storage.pieces.lock().unwrap().push(data);
        Ok(())
    }

    async fn finish(mut self: Box<Self>) -> Result<MissFinishType> {
        self.storage.fail(Fails::Finish)?;
        let size = self.body.len();
        let entry = (
            std::mem::take(&mut self.meta),
            std::mem::take(&mut self.body),
        );
        let name = std::mem::take(&mut self.name);
        self.storage.entries.lock().unwrap().insert(name, entry);
        Ok(MissFinishType::Created(size))
    }
}

impl Drop for Fill {
    fn drop(&mut self) {
        self.storage.fills.fetch_sub(1, Ordering::SeqCst);
    }
}
