//! Reading what is stored, or is being stored.

use std::any::Any;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use pingora_cache::storage::{HandleHit, Storage};
use pingora_cache::trace::SpanHandle;
use pingora_cache::CacheKey;
use pingora_core::ErrorType::InternalError;
use pingora_core::{Error, Result};
use tokio::sync::watch;

use super::entry::Entry;
use super::fill::{End, Fill, Progress};

/// Reads a response that is stored.
pub(super) struct Whole {
    entry: Arc<Entry>,
    /// The chunk that comes next, and what of it is skipped.
    next: (usize, usize),
    /// Bytes that are still to be read.
    left: usize,
}

impl Whole {
    pub(super) fn new(entry: Arc<Entry>) -> Self {
        Self {
            next: (0, 0),
            left: entry.body.length,
            entry,
        }
    }

    fn read(&mut self) -> Option<Bytes> {
        if self.left == 0 {
            return None;
        }
        let (index, skip) = self.next;
        let chunk = self.entry.body.chunks.get(index)?;
        self.next = (index + 1, 0);
        let length = (chunk.len() - skip).min(self.left);
        self.left -= length;
        Some(if length == chunk.len() {
            chunk.clone()
        } else {
            chunk.slice(skip..skip + length)
        })
    }
}

#[async_trait]
impl HandleHit for Whole {
    async fn read_body(&mut self) -> Result<Option<Bytes>> {
        Ok(self.read())
    }

    async fn finish(
        self: Box<Self>,
        _: &'static (dyn Storage + Sync),
        _: &CacheKey,
        _: &SpanHandle,
    ) -> Result<()> {
        Ok(())
    }

    fn can_seek(&self) -> bool {
        true
    }

    fn seek(&mut self, start: usize, end: Option<usize>) -> Result<()> {
        let body = &self.entry.body;
        let end = end.map_or(body.length, |end| end.min(body.length));
        if start >= body.length || end < start {
            let why = format!("{start} to {end} is no part of {} bytes", body.length);
            return Error::e_explain(InternalError, why);
        }
        let (mut index, mut skip) = (0, start);
        while let Some(chunk) = body.chunks.get(index).filter(|chunk| chunk.len() <= skip) {
            (index, skip) = (index + 1, skip - chunk.len());
        }
        self.next = (index, skip);
        self.left = end - start;
        Ok(())
    }

    fn get_eviction_weight(&self) -> usize {
        self.entry.size
    }

    fn as_any(&self) -> &(dyn Any + Send + Sync) {
        self
    }

    fn as_any_mut(&mut self) -> &mut (dyn Any + Send + Sync) {
        self
    }
}

/// Reads a response as it is stored.
pub(super) struct Reader {
    progress: watch::Receiver<Progress>,
    next: usize,
}

impl Reader {
    pub(super) fn new(fill: &Fill) -> Self {
        Self {
            progress: fill.follow(),
            next: 0,
        }
    }
}

#[async_trait]
impl HandleHit for Reader {
    /// # Cancel safety
    ///
    /// Nothing is lost: a chunk counts as read when it is returned.
    async fn read_body(&mut self) -> Result<Option<Bytes>> {
        let cut = || Error::explain(InternalError, "what is being stored ended before its end");
        loop {
            {
                let progress = self.progress.borrow_and_update();
                if let Some(chunk) = progress.chunks.get(self.next) {
                    self.next += 1;
                    return Ok(Some(chunk.clone()));
                }
                match progress.end {
                    End::Open => {}
                    End::Whole => return Ok(None),
                    End::Failed => return Err(cut()),
                }
            }
            self.progress.changed().await.map_err(|_| cut())?;
        }
    }

    async fn finish(
        self: Box<Self>,
        _: &'static (dyn Storage + Sync),
        _: &CacheKey,
        _: &SpanHandle,
    ) -> Result<()> {
        Ok(())
    }

    fn should_count_access(&self) -> bool {
        false
    }

    fn as_any(&self) -> &(dyn Any + Send + Sync) {
        self
    }

    fn as_any_mut(&mut self) -> &mut (dyn Any + Send + Sync) {
        self
    }
}
