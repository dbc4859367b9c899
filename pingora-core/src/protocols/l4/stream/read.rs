//! Reading a stream, and looking into it without taking anything.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::task::{ready, Context, Poll};

use async_trait::async_trait;
use tokio::io::{AsyncRead, ReadBuf};

use super::buffers::Pending;
use super::Stream;
use crate::protocols::Peek;

/// From this size on a read gains nothing from asking the system for more than its caller wants.
pub(super) const DIRECT_READ: usize = 16 * 1024;

thread_local! {
    /// The buffer of small reads on this thread. Taken and put back, because a virtual socket may read
    /// from another stream while it is read from.
    static SCRATCH: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

impl Stream {
    /// Puts `data` in front of what the next reads return.
    pub fn rewind(&mut self, data: &[u8]) {
        if !data.is_empty() {
            self.unread.prepend(data);
        }
    }

    #[inline(always)]
    fn poll_read_socket(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let capacity = self.read_capacity as usize;
        if buf.remaining() >= capacity.min(DIRECT_READ) {
            Pin::new(&mut self.raw).poll_read(cx, buf)
        } else {
            self.poll_read_ahead(cx, buf)
        }
    }

    /// A read of what is kept, or one that is to tell when the kernel received what it brings, or whose records are
    /// followed.
    fn poll_read_special(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let poll = if self.unread.is_empty() {
            let poll = self.poll_read_timed(cx, buf);
            self.read_waiting.note(poll)
        } else {
            let unread = self.unread.bytes();
            let n = unread.len().min(buf.remaining());
            buf.put_slice(&unread[..n]);
            self.unread.consume(n);
            Poll::Ready(Ok(()))
        };
        if self.follows_records {
            self.records.pass(&buf.filled()[before..]);
        }
        poll
    }

    fn poll_read_timed(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.rx_ts_wanted {
            self.rx_ts = ready!(self.raw.poll_read_timestamp(cx, buf))?;
            self.rx_ts_wanted = false;
            self.special = self.follows_records;
            return Poll::Ready(Ok(()));
        }
        self.poll_read_socket(cx, buf)
    }

    fn poll_read_ahead(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let capacity = self.read_capacity as usize;
        let mut scratch = SCRATCH.take();
        if scratch.len() < capacity {
            scratch.resize(capacity, 0);
        }
        let mut ahead = ReadBuf::new(&mut scratch[..capacity]);
        let poll = Pin::new(&mut self.raw).poll_read(cx, &mut ahead);
        if poll.is_ready() {
            let (now, later) = ahead
                .filled()
                .split_at(ahead.filled().len().min(buf.remaining()));
            buf.put_slice(now);
            self.unread = Pending::default();
            self.unread.append(later, 0);
        }
        SCRATCH.set(scratch);
        poll
    }

    /// Waits until at least `n` bytes are there, and shows them without taking them; the next read may show more.
    ///
    /// # Errors
    /// As [`Peek::try_peek`].
    pub(crate) async fn wait_for(&mut self, n: usize) -> io::Result<&[u8]> {
        std::future::poll_fn(|cx| self.poll_fill(cx, n)).await?;
        Ok(&self.unread.bytes()[..n])
    }

    /// Returns what is in memory of what was received, and was not taken yet.
    pub(crate) fn peeked(&self) -> &[u8] {
        self.unread.bytes()
    }

    /// Takes so many of the bytes that [`peeked`](Stream::peeked) shows.
    pub(crate) fn take_peeked(&mut self, n: usize) {
        self.unread.consume(n);
    }

    /// Reads until at least `n` bytes are in memory, so that they can be looked at.
    fn poll_fill(&mut self, cx: &mut Context<'_>, n: usize) -> Poll<io::Result<()>> {
        while self.unread.bytes().len() < n {
            let have = self.unread.bytes().len();
            // The kept bytes step aside, because reading from the socket replaces them.
            let mut kept = std::mem::take(&mut self.unread);
            let mut more = vec![0; n - have];
            let mut buf = ReadBuf::new(&mut more);
            let poll = self.poll_read_timed(cx, &mut buf);
            let poll = self.read_waiting.note(poll);
            kept.append(buf.filled(), 0);
            kept.append(self.unread.bytes(), 0);
            self.unread = kept;
            ready!(poll)?;
            if self.unread.bytes().len() == have {
                return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
            }
        }
        Poll::Ready(Ok(()))
    }
}

#[async_trait]
impl Peek for Stream {
    async fn try_peek(&mut self, buf: &mut [u8]) -> io::Result<bool> {
        std::future::poll_fn(|cx| self.poll_fill(cx, buf.len())).await?;
        buf.copy_from_slice(&self.unread.bytes()[..buf.len()]);
        Ok(true)
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.special || !this.unread.is_empty() {
            return this.poll_read_special(cx, buf);
        }
        let poll = this.poll_read_socket(cx, buf);
        this.read_waiting.note(poll)
    }
}
