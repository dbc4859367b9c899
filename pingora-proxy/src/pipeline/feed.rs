//! The source of a client's response while that is being stored: the storage as it fills.

use std::collections::VecDeque;
use std::task::{ready, Context, Poll};

use pingora_cache::HttpCache;
use pingora_core::protocols::http::HttpTask;
use pingora_error::ErrorType::InternalError;
use pingora_error::{Error, Result};

use crate::duplex::Source;
use crate::upstream::{Hit, Lent, Share};

/// The body of a response that is being stored.
///
/// ```text
/// stored:  |--- written by the fill ------------|
/// client:  |--- read from the storage ---|
/// ```
///
/// When the storage takes no more, the client gets what it has, and after it what comes.
pub(super) struct Feed {
    reader: Hit,
    /// Bytes that were stored.
    stored: usize,
    /// Bytes that the storage has returned.
    read: usize,
    fill: Fill,
    /// The messages that came after the storage had failed.
    rest: VecDeque<HttpTask>,
    queued: usize,
}

/// The state of the fill.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fill {
    Flowing,
    Complete,
    /// Nothing more is stored.
    Failed,
}

/// The bytes that are queued for a client after the storage has failed, before the upstream is read no further.
const QUEUE: usize = 64 * 1024;

impl Feed {
    /// Reads what is stored of a response by its storage, if that can be read while it is written.
    pub(super) fn of(cache: &mut HttpCache) -> Option<Feed> {
        let reader = cache.miss_body_reader()?;
        let reader = std::mem::replace(reader, Box::new(Lent));
        Some(Feed {
            reader: Hit::body(reader, Share::Whole(None)),
            stored: 0,
            read: 0,
            fill: Fill::Flowing,
            rest: VecDeque::new(),
            queued: 0,
        })
    }

    /// A piece of the body was stored; it was the last one if so.
    pub(super) fn stored(&mut self, length: usize, end: bool) {
        self.stored += length;
        if end {
            self.fill = Fill::Complete;
        }
    }

    /// A message that could not be stored: it follows what could.
    pub(super) fn follow(&mut self, task: HttpTask) {
        self.fill = Fill::Failed;
        if let HttpTask::Body(Some(body), _) = &task {
            self.queued += body.len();
        }
        self.rest.push_back(task);
    }

    /// Returns whether more may come: a storage takes all, a client takes its time.
    pub(super) fn has_room(&self) -> bool {
        self.queued < QUEUE
    }

    /// Returns the reader to the cache, which ends the hit.
    pub(super) async fn finish(self, cache: &mut HttpCache) -> Result<()> {
        let (Some(reader), Some(slot)) = (self.reader.into_handler(), cache.miss_body_reader())
        else {
            return Ok(());
        };
        *slot = reader;
        cache.finish_hit_handler().await
    }

    fn next_of_rest(&mut self) -> Poll<Result<HttpTask>> {
        // The upstream, which is polled beside this, brings more.
        let Some(task) = self.rest.pop_front() else {
            return Poll::Pending;
        };
        if let HttpTask::Body(Some(body), _) = &task {
            self.queued -= body.len();
        }
        Poll::Ready(Ok(task))
    }
}

impl Source for Feed {
    fn poll_task(&mut self, cx: &mut Context<'_>) -> Poll<Result<HttpTask>> {
        if self.fill == Fill::Failed && self.read == self.stored {
            return self.next_of_rest();
        }
        let mut task = ready!(self.reader.poll_task(cx))?;
        if task.is_end() {
            // A reader cannot tell the end of a response from that of one that was given up.
            let whole = self.fill == Fill::Complete && self.read == self.stored;
            return Poll::Ready(if whole {
                Ok(task)
            } else {
                Error::e_explain(InternalError, "the storage ended before the response")
            });
        }
        if let HttpTask::Body(Some(body), _) = &mut task {
            if self.fill == Fill::Failed {
                // A storage may fail after it has taken a piece, which follows.
                body.truncate(self.stored.saturating_sub(self.read));
            }
            self.read += body.len();
        }
        Poll::Ready(Ok(task))
    }
}

#[cfg(test)]
mod tests;
