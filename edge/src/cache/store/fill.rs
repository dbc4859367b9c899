//! A response that is being stored, and read meanwhile.
//!
//! ```text
//! Open --write--> Open ... --last--> Whole --finish--> an entry, unless it was purged meanwhile
//!   +--dropped before its end--> Failed: its readers fail, and nothing is stored
//! ```

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use pingora_cache::storage::streaming_write::U64WriteId;
use pingora_cache::storage::{HandleMiss, MissFinishType};
use pingora_cache::CacheMeta;
use pingora_core::ErrorType::InternalError;
use pingora_core::{Error, Result};
use tokio::sync::watch;

use super::entry::{Body, Entry, Meta, Name, CHUNK};
use super::Store;

/// A response that is being stored.
pub(super) struct Fill {
    id: u64,
    pub(super) tag: U64WriteId,
    pub(super) name: Arc<Name>,
    pub(super) meta: CacheMeta,
    purged: AtomicBool,
    progress: watch::Sender<Progress>,
}

/// The part of a body that has come.
#[derive(Default)]
pub(super) struct Progress {
    pub(super) chunks: Vec<Bytes>,
    pub(super) end: End,
}

/// The end of a body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum End {
    /// More is to come.
    #[default]
    Open,
    /// All has come.
    Whole,
    /// No more will come, and something is missing.
    Failed,
}

impl Fill {
    pub(super) fn new(id: u64, name: Name, meta: CacheMeta) -> Self {
        Self {
            id,
            tag: id.into(),
            name: Arc::new(name),
            meta,
            purged: AtomicBool::new(false),
            progress: watch::Sender::new(Progress::default()),
        }
    }

    /// Keeps it from being stored, and from being found.
    pub(super) fn purge(&self) {
        self.purged.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_purged(&self) -> bool {
        self.purged.load(Ordering::Relaxed)
    }

    pub(super) fn follow(&self) -> watch::Receiver<Progress> {
        self.progress.subscribe()
    }
}

/// Writes a response into the storage.
pub(super) struct Writer {
    store: &'static Store,
    fill: Arc<Fill>,
    /// The bytes that are taken for it.
    reserved: usize,
}

impl Writer {
    /// Begins to write.
    ///
    /// # Errors
    ///
    /// `InternalError` when other fills leave no room.
    pub(super) fn new(store: &'static Store, fill: Arc<Fill>) -> Result<Self> {
        let mut writer = Self {
            store,
            reserved: 0,
            fill,
        };
        writer.reserve(writer.fill.name.size(&writer.fill.meta))?;
        Ok(writer)
    }

    fn reserve(&mut self, bytes: usize) -> Result<()> {
        if !self.store.reserve(bytes) {
            return Error::e_explain(
                InternalError,
                "the cache has no room for what comes at once",
            );
        }
        self.reserved += bytes;
        Ok(())
    }
}

#[async_trait]
impl HandleMiss for Writer {
    async fn write_body(&mut self, data: Bytes, eof: bool) -> Result<()> {
        if !data.is_empty() {
            self.reserve(data.len() + CHUNK)?;
        }
        self.fill.progress.send_modify(|progress| {
            if !data.is_empty() {
                progress.chunks.push(data);
            }
            if eof {
                progress.end = End::Whole;
            }
        });
        Ok(())
    }

    async fn finish(mut self: Box<Self>) -> Result<MissFinishType> {
        self.fill
            .progress
            .send_modify(|progress| progress.end = End::Whole);
        let fill = &self.fill;
        let body = Body::of(&fill.progress.borrow().chunks);
        let size = fill.name.size(&fill.meta) + body.size();
        let created = MissFinishType::Created(body.length);
        if fill.is_purged() {
            return Ok(created);
        }
        let entry = Arc::new(Entry {
            id: fill.id,
            name: fill.name.clone(),
            meta: Meta::of(&fill.meta)?,
            size,
            body: Arc::new(body),
            used: AtomicBool::new(false),
        });
        // What was reserved for pieces that were put together is more than what is left of it.
        self.store.release(self.reserved.saturating_sub(size));
        self.reserved = 0;
        self.store.insert(entry);
        // It was purged between the look and the insertion.
        if self.fill.is_purged() {
            let name = &self.fill.name;
            self.store.purge_url(name.url_hash(), name.url());
        }
        Ok(created)
    }

    fn streaming_write_tag(&self) -> Option<&[u8]> {
        Some(self.fill.tag.as_bytes())
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.fill.progress.send_if_modified(|progress| {
            let open = progress.end == End::Open;
            if open {
                progress.end = End::Failed;
            }
            open
        });
        let shard = self.store.shard(self.fill.name.url_hash());
        shard.end(&self.fill);
        self.store.release(self.reserved);
    }
}
