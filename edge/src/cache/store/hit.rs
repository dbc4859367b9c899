//! Reading what is stored, or is being stored.

use std::any::Any;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::{Buf, Bytes};
use pingora_cache::storage::{HandleHit, Storage};
use pingora_cache::trace::SpanHandle;
use pingora_cache::CacheKey;
use pingora_core::utils::ready::ready;
use pingora_core::ErrorType::InternalError;
use pingora_core::{Error, Result};
use tokio::sync::watch;

use super::entry::Entry;
use super::fill::{End, Fill, Progress};

/// Reads a response that is stored.
pub(super) struct Whole {
    body: Source,
    /// The length of the body.
    length: usize,
    /// The bytes that the entry is counted as.
    size: usize,
    /// The chunk that comes next, and what of it is skipped.
    next: (usize, usize),
    /// Bytes that are still to be read.
    left: usize,
    /// True if other parts may be sought after the one at hand.
    in_parts: bool,
}

/// The place that a body is read from.
enum Source {
    Entry(Arc<Entry>),
    /// The only chunk; none once it was given out.
    Copy(Option<Bytes>),
}

impl Whole {
    pub(super) fn new(entry: Arc<Entry>) -> Self {
        let (length, size) = (entry.body.length, entry.size);
        Self::of(length, size, Source::Entry(entry))
    }

    /// Makes one that does without the entry, whose small body this is.
    pub(super) fn copied(entry: &Entry, body: Bytes) -> Self {
        Self::of(body.len(), entry.size, Source::Copy(Some(body)))
    }

    fn of(length: usize, size: usize, body: Source) -> Self {
        Self {
            body,
            length,
            size,
            next: (0, 0),
            left: length,
            in_parts: false,
        }
    }

    fn read(&mut self) -> Option<Bytes> {
        if self.left == 0 {
            return None;
        }
        let (index, skip) = self.next;
        let mut chunk = match &mut self.body {
            Source::Entry(entry) => entry.body.chunks.get(index)?.clone(),
            // A clone would be the first, which takes memory.
            Source::Copy(chunk) if !self.in_parts => chunk.take()?,
            Source::Copy(chunk) => chunk.clone()?,
        };
        self.next = (index + 1, 0);
        let length = (chunk.len() - skip).min(self.left);
        self.left -= length;
        if skip > 0 {
            chunk.advance(skip);
        }
        chunk.truncate(length);
        Some(chunk)
    }

    /// Returns the chunk that has the byte at a place, and where in it.
    fn place(&self, start: usize) -> Option<(usize, usize)> {
        let Source::Entry(entry) = &self.body else {
            // Of one chunk.
            return matches!(&self.body, Source::Copy(Some(_))).then_some((0, start));
        };
        let (chunks, mut index, mut skip) = (&entry.body.chunks, 0, start);
        while let Some(chunk) = chunks.get(index).filter(|chunk| chunk.len() <= skip) {
            (index, skip) = (index + 1, skip - chunk.len());
        }
        Some((index, skip))
    }
}

// Some are written as the macro would write them, but for futures that take no memory.
#[async_trait]
impl HandleHit for Whole {
    fn read_body<'life0, 'async_trait>(
        &'life0 mut self,
    ) -> Pin<Box<dyn Future<Output = Result<Option<Bytes>>> + Send + 'async_trait>>
    where
        'life0: 'async_trait,
        Self: 'async_trait,
    {
        match self.read() {
            None => ready(|| Ok(None)),
            chunk => Box::pin(std::future::ready(Ok(chunk))),
        }
    }

    fn finish<'life0, 'life1, 'async_trait>(
        self: Box<Self>,
        _: &'static (dyn Storage + Sync),
        _: &'life0 CacheKey,
        _: &'life1 SpanHandle,
    ) -> Pin<Box<dyn Future<Output = Result<()>> + Send + 'async_trait>>
    where
        'life0: 'async_trait,
        'life1: 'async_trait,
        Self: 'async_trait,
    {
        ready(|| Ok(()))
    }

    fn can_seek(&self) -> bool {
        true
    }

    fn seek(&mut self, start: usize, end: Option<usize>) -> Result<()> {
        let length = self.length;
        let end = end.map_or(length, |end| end.min(length));
        if start >= length || end < start {
            let why = format!("{start} to {end} is no part of {length} bytes");
            return Error::e_explain(InternalError, why);
        }
        let Some(place) = self.place(start) else {
            return Error::e_explain(InternalError, "a body that was read");
        };
        self.next = place;
        self.left = end - start;
        Ok(())
    }

    fn seek_multipart(&mut self, start: usize, end: Option<usize>) -> Result<()> {
        self.in_parts = true;
        self.seek(start, end)
    }

    fn get_eviction_weight(&self) -> usize {
        self.size
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
