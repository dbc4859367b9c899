//! A response that a storage has.

use std::any::Any;
use std::future::Future;
use std::ops::Range;
use std::pin::Pin;
use std::task::{ready, Context, Poll};

use async_trait::async_trait;
use bytes::Bytes;
use pingora_cache::key::CacheKey;
use pingora_cache::storage::{HandleHit, HitHandler};
use pingora_cache::trace::SpanHandle;
use pingora_cache::Storage;
use pingora_core::protocols::http::HttpTask;
use pingora_error::ErrorType::InternalError;
use pingora_error::{BError, Error, Result};
use pingora_http::ResponseHeader;

use crate::duplex::Source;
use crate::range::RangeBodyFilter;
use crate::MultiRangeInfo;

/// The messages of a stored response: its header, if it has one, and what is sent of its body.
///
/// It has the handler to itself, so that a read that waits stays the same from poll to poll, and is woken.
pub(crate) struct Hit {
    header: Option<(Box<ResponseHeader>, bool)>,
    share: Share,
    reading: Reading,
    ended: bool,
}

/// The part of a stored body that is sent.
pub(crate) enum Share {
    /// The bytes that the handler reads, as many as are known to come.
    Whole(Option<usize>),
    /// One long part, read piece by piece: a storage in memory would copy all of it at once.
    Windows(Windows),
    /// Several parts, which the handler seeks.
    Parts(Parts),
    /// The bytes of it that a filter leaves.
    Cut(RangeBodyFilter),
}

/// A part of a body that the handler seeks window by window.
pub(crate) struct Windows {
    /// The window that comes next begins here.
    next: usize,
    end: usize,
    /// Bytes that the one before still lacks.
    left: usize,
}

impl Windows {
    /// Bytes that are read at once.
    pub(crate) const SIZE: usize = 64 * 1024;

    pub(crate) fn new(part: Range<usize>) -> Self {
        Windows {
            next: part.start,
            end: part.end,
            left: 0,
        }
    }

    /// Has the handler seek the next window when the one before is complete.
    fn seek(&mut self, handler: &mut HitHandler) -> Result<()> {
        if self.left > 0 || self.next == self.end {
            return Ok(());
        }
        let end = self.end.min(self.next + Self::SIZE);
        handler.seek_multipart(self.next, Some(end))?;
        (self.left, self.next) = (end - self.next, end);
        Ok(())
    }
}

/// Parts that are read one after the other.
pub(crate) struct Parts {
    info: MultiRangeInfo,
    /// The part that comes next.
    next: usize,
    /// Bytes that the one before still lacks.
    left: usize,
}

impl Parts {
    pub(crate) fn new(info: MultiRangeInfo) -> Self {
        Parts {
            info,
            next: 0,
            left: 0,
        }
    }
}

type Read = (HitHandler, Result<Option<Bytes>>);

enum Reading {
    Idle(HitHandler),
    Busy(Pin<Box<dyn Future<Output = Read> + Send>>),
    /// A read has panicked.
    Lost,
}

impl Hit {
    /// The body only.
    pub(crate) fn body(handler: HitHandler, share: Share) -> Self {
        Hit {
            header: None,
            share,
            reading: Reading::Idle(handler),
            ended: false,
        }
    }

    /// Puts a header in front, which is all of the response if it is the `end`.
    pub(crate) fn with_header(mut self, header: Box<ResponseHeader>, end: bool) -> Self {
        self.header = Some((header, end));
        self.ended = end;
        self
    }

    /// Returns the handler, unless it is reading.
    pub(crate) fn into_handler(self) -> Option<HitHandler> {
        match self.reading {
            Reading::Idle(handler) => Some(handler),
            Reading::Busy(_) | Reading::Lost => None,
        }
    }

    fn piece(&mut self, (frame, end): (Bytes, bool)) -> HttpTask {
        self.ended = end;
        HttpTask::Body(Some(frame), end)
    }

    /// Begins the next of several parts when the one before is complete. Returns what stands before it or after the
    /// last, and whether it is that.
    fn next_part(&mut self) -> Result<Option<(Bytes, bool)>> {
        let Share::Parts(parts) = &mut self.share else {
            return Ok(None);
        };
        if parts.left > 0 {
            return Ok(None);
        }
        let Some(range) = parts.info.ranges.get(parts.next) else {
            return Ok(Some((parts.info.end().into(), true)));
        };
        let Reading::Idle(handler) = &mut self.reading else {
            return Ok(None);
        };
        if !range.is_empty() {
            handler.seek_multipart(range.start, Some(range.end))?;
        }
        let header = parts.info.part_header(range);
        (parts.next, parts.left) = (parts.next + 1, range.len());
        Ok(Some((header.into(), false)))
    }

    /// Returns the part of a piece that is sent, and whether nothing follows.
    fn share(&mut self, piece: Bytes) -> (Option<Bytes>, bool) {
        let mut piece = Some(piece).filter(|piece| !piece.is_empty());
        let end = match &mut self.share {
            Share::Whole(None) => false,
            Share::Whole(Some(left)) => {
                take(&mut piece, left);
                *left == 0
            }
            Share::Windows(windows) => {
                take(&mut piece, &mut windows.left);
                windows.left == 0 && windows.next == windows.end
            }
            Share::Parts(parts) => {
                take(&mut piece, &mut parts.left);
                false
            }
            Share::Cut(filter) => {
                filter.filter(&mut piece);
                filter.is_satisfied()
            }
        };
        (piece, end)
    }

    /// The handler has no more.
    fn end(&mut self) -> Result<HttpTask> {
        let complete = match &self.share {
            Share::Whole(left) => left.is_none_or(|left| left == 0),
            // They end by their last byte.
            Share::Windows(_) | Share::Parts(_) => false,
            Share::Cut(filter) => filter.is_transparent() || filter.is_satisfied(),
        };
        if !complete {
            let why = "a stored body ended early";
            return Error::e_explain(InternalError, why);
        }
        self.ended = true;
        Ok(HttpTask::Body(None, true))
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>>> {
        loop {
            match &mut self.reading {
                Reading::Idle(handler) => {
                    if let Share::Windows(windows) = &mut self.share {
                        windows.seek(handler)?;
                    }
                    let reading = std::mem::replace(&mut self.reading, Reading::Lost);
                    if let Reading::Idle(mut handler) = reading {
                        self.reading = Reading::Busy(Box::pin(async move {
                            let piece = handler.read_body().await;
                            (handler, piece)
                        }));
                    }
                }
                Reading::Busy(read) => {
                    let (handler, piece) = ready!(read.as_mut().poll(cx));
                    self.reading = Reading::Idle(handler);
                    return Poll::Ready(piece);
                }
                Reading::Lost => return Poll::Ready(Err(lent())),
            }
        }
    }
}

impl Source for Hit {
    /// The next message.
    ///
    /// # Errors
    /// Those of the storage, and of a body that is shorter than its header says.
    fn poll_task(&mut self, cx: &mut Context<'_>) -> Poll<Result<HttpTask>> {
        if let Some((header, end)) = self.header.take() {
            return Poll::Ready(Ok(HttpTask::Header(header, end)));
        }
        if self.ended {
            return Poll::Ready(Ok(HttpTask::Done));
        }
        if let Some(frame) = self.next_part()? {
            return Poll::Ready(Ok(self.piece(frame)));
        }
        let piece = ready!(self.poll_read(cx))?;
        let Some(piece) = piece else {
            return Poll::Ready(self.end());
        };
        match self.share(piece) {
            (None, false) => {
                // A storage may have gigabytes before the part at hand: others are served in between.
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            (piece, end) => {
                self.ended = end;
                Poll::Ready(Ok(HttpTask::Body(piece, end)))
            }
        }
    }
}

/// Leaves no more of a piece than is `left`.
fn take(piece: &mut Option<Bytes>, left: &mut usize) {
    if let Some(some) = piece {
        some.truncate(*left);
        *left -= some.len();
        if some.is_empty() {
            *piece = None;
        }
    }
}

/// Stands in the cache for a handler that a [`Hit`] reads.
pub(crate) struct Lent;

#[async_trait]
impl HandleHit for Lent {
    async fn read_body(&mut self) -> Result<Option<Bytes>> {
        Err(lent())
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

fn lent() -> BError {
    Error::explain(InternalError, "the stored body is being read already")
}

#[cfg(test)]
mod tests;
