//! A connection that speaks HTTP/1.x: the I/O around [`proto`](super::proto), for both roles.

use std::cell::RefCell;
use std::fmt::{self, Display, Formatter};
use std::io::{self, IoSlice};
use std::os::fd::RawFd;
use std::pin::{pin, Pin};
use std::task::{ready, Context, Poll};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use http::HeaderMap;
use pingora_error::ErrorType::{
    ConnectionClosed, H1Error, InvalidHTTPHeader, ReadError, ReadTimedout, WriteError,
    WriteTimedout,
};
use pingora_error::{BError, Error, Result};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::proto::decode::{front, Decoded};
use super::proto::head::{Found, Limits, Scanner};
use super::proto::out::Out;
use super::proto::state::{Reading, Writing};
use super::proto::Refusal;
use super::send::Role;
use super::timer::{due_in, Timer};
use crate::limits::LIMITS;
use crate::protocols::l4::stream::Stream as L4Stream;
use crate::protocols::tls::transport;
use crate::protocols::{Stream, UniqueID};

/// Bytes asked for at once while a long body is read.
const BODY_READ: usize = 64 * 1024;
/// A body that is certain to be at least this much longer is read into a buffer of the connection.
const LONG_BODY: u64 = 16 * 1024;
/// Bytes asked for at once while what is read has to wait for its reader. The stream below reads ahead for
/// those who ask for less.
const LITTLE: usize = 16 * 1024;
/// Bytes that a read into the worker's buffer can bring.
const SCRATCH: usize = 32 * 1024;

thread_local! {
    /// Lent to a connection inside one poll of a read: an idle connection holds no buffer.
    static LENT: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// A piece of a message's body.
#[derive(Debug)]
pub(super) enum Piece {
    /// Bytes, never none.
    Data(Bytes),
    /// The end, with the trailer fields if there are any.
    End(Option<Box<HeaderMap>>),
}

/// One connection, in either role.
pub(super) struct Conn {
    pub(super) role: Role,
    pub(super) stream: Stream,
    /// Received and not yet consumed.
    pub(super) buf: BytesMut,
    pub(super) reading: Reading,
    pub(super) writing: Writing,
    pub(super) out: Out,
    /// The peer has closed its direction.
    pub(super) eof: bool,
    pub(super) scanner: Scanner,
    /// True if reads bring little, because what they bring would have to be kept.
    pub(super) little: bool,
    /// The last read took all there was: the next one has to wait, most likely.
    drained: bool,
    /// So many bytes were written that a flush has not followed yet.
    unflushed: usize,
    /// Nothing is written after what is queued: a FIN follows it.
    fin: bool,
    pub(super) timer: Timer,
    read_due: Option<Instant>,
    write_due: Option<Instant>,
    /// The number of bytes that the peer has to take by then.
    write_owed: usize,
}

/// The deadline for a peer to take what is written.
#[derive(Clone, Copy, Debug)]
pub(super) enum WriteDeadline {
    /// So long for anything at all: each byte that it takes gives it as long again.
    Silence(Duration),
    /// So many bytes a second, and at least a second.
    Rate(usize),
}

impl Display for WriteDeadline {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            WriteDeadline::Silence(timeout) => write!(f, "nothing for {timeout:?}"),
            WriteDeadline::Rate(rate) => write!(f, "less than {rate} bytes/s"),
        }
    }
}

impl WriteDeadline {
    /// For how long to wait when so many bytes are to be taken, and for how many of them.
    fn terms(self, bytes: usize) -> (Duration, usize) {
        match self {
            WriteDeadline::Silence(timeout) => (timeout, 1),
            WriteDeadline::Rate(rate) => {
                let secs = bytes.div_ceil(rate.max(1)).max(1);
                (Duration::from_secs(secs as u64), bytes)
            }
        }
    }
}

impl Conn {
    pub(super) fn new(stream: Stream, role: Role) -> Self {
        Conn {
            role,
            stream,
            buf: BytesMut::new(),
            reading: Reading::Head,
            writing: Writing::Head,
            out: Out::default(),
            eof: false,
            scanner: Scanner::default(),
            little: false,
            drained: false,
            unflushed: 0,
            fin: false,
            timer: Timer::default(),
            read_due: None,
            write_due: None,
            write_owed: 0,
        }
    }

    /// Makes ready for the next message in each direction.
    pub(super) fn next_exchange(&mut self) {
        self.reading = Reading::Head;
        self.writing = Writing::Head;
        self.scanner = Scanner::default();
        self.little = false;
        self.read_due = None;
        self.write_due = None;
        if self.buf.is_empty() {
            self.buf = BytesMut::new();
        }
    }

    /// Reads once, and says how much came; 0 is the end.
    ///
    /// # Errors
    /// `ReadError`; `ReadTimedout` when nothing came for `timeout`, counted from the first poll that
    /// had to wait.
    #[inline]
    pub(super) fn poll_fill(
        &mut self,
        cx: &mut Context<'_>,
        timeout: Option<Duration>,
    ) -> Poll<Result<usize>> {
        match self.poll_read(cx) {
            Poll::Ready(Ok(n)) => {
                self.read_due = None;
                self.eof |= n == 0;
                Poll::Ready(Ok(n))
            }
            Poll::Ready(Err(e)) => {
                self.reading = Reading::Broken;
                Poll::Ready(Error::e_because(ReadError, "while reading", e))
            }
            Poll::Pending => {
                if let Some(timeout) = timeout {
                    let due = *self.read_due.get_or_insert_with(|| due_in(timeout));
                    if self.timer.is_over(cx, due) {
                        self.reading = Reading::Broken;
                        return Poll::Ready(Error::e_explain(
                            ReadTimedout,
                            format!("nothing was received for {timeout:?}"),
                        ));
                    }
                }
                Poll::Pending
            }
        }
    }

    /// [`Conn::poll_fill`], with the deadline of the reads before it.
    pub(super) fn poll_fill_more(
        &mut self,
        cx: &mut Context<'_>,
        timeout: Option<Duration>,
    ) -> Poll<Result<usize>> {
        let due = self.read_due;
        let filled = self.poll_fill(cx, timeout);
        if filled.is_ready() {
            self.read_due = due;
        }
        filled
    }

    /// Starts a deadline that later reads share, rather than one of their own each.
    pub(super) fn read_by(&mut self, timeout: Duration) {
        self.read_due = Some(due_in(timeout));
    }

    /// Makes the deadline of the reads at most `timeout` from now.
    pub(super) fn read_sooner(&mut self, timeout: Duration) {
        let due = due_in(timeout);
        self.read_due = Some(self.read_due.map_or(due, |old| old.min(due)));
    }

    /// Returns whether the deadline that [`Conn::read_by`] or an earlier wait set is over.
    pub(super) fn read_overdue(&mut self, cx: &mut Context<'_>) -> bool {
        match self.read_due {
            Some(due) => self.timer.is_over(cx, due),
            None => false,
        }
    }

    /// Wakes the task in `period`, or earlier.
    pub(super) fn wake_in(&mut self, cx: &mut Context<'_>, period: Duration) {
        // It is not over yet, so that nothing is missed by not looking.
        let _ = self.timer.is_over(cx, due_in(period));
    }

    pub(super) fn read_deadline_is_unset(&self) -> bool {
        self.read_due.is_none()
    }

    pub(super) fn stop_read_deadline(&mut self) {
        self.read_due = None;
    }

    /// One read of a peer of which nothing is expected.
    pub(super) fn poll_unexpected(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if let Some(socket) = self.stream.as_any().downcast_ref::<L4Stream>() {
            ready!(socket.poll_readable(cx));
        }
        self.poll_read(cx)
    }

    /// One read, without a deadline.
    #[inline]
    pub(super) fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if std::mem::take(&mut self.drained) {
            // To wait needs no buffer.
            if let Some(socket) = self.stream.as_any_mut().downcast_mut::<L4Stream>() {
                ready!(socket.poll_read_ready(cx));
            }
        }
        self.poll_read_now(cx)
    }

    fn poll_read_now(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let long = match &self.reading {
            Reading::Body(decoder) => decoder.remaining() > LONG_BODY,
            Reading::Raw => true,
            _ => false,
        };
        if long && !self.little {
            self.poll_read_own(cx)
        } else {
            self.poll_read_lent(cx)
        }
    }

    fn poll_read_own(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.buf.reserve(BODY_READ);
        let read = pin!(self.stream.read_buf(&mut self.buf));
        std::future::Future::poll(read, cx)
    }

    fn poll_read_lent(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        LENT.with(|lent| {
            let Ok(mut lent) = lent.try_borrow_mut() else {
                // A stream that itself reads HTTP: the buffer is in use below us.
                return self.poll_read_own(cx);
            };
            if lent.is_empty() {
                lent.resize(SCRATCH, 0);
            }
            let most = if self.little { LITTLE } else { SCRATCH };
            let mut into = ReadBuf::new(&mut lent[..most]);
            ready!(Pin::new(&mut self.stream).poll_read(cx, &mut into))?;
            let filled = into.filled();
            self.drained = filled.len() < most;
            if self.buf.is_empty() && self.buf.capacity() < filled.len() {
                self.buf = piece(filled);
            } else {
                self.buf.extend_from_slice(filled);
            }
            Poll::Ready(Ok(filled.len()))
        })
    }

    /// Returns whether something can be taken from what was received, without a read.
    pub(super) fn has_buffered(&self) -> bool {
        !self.buf.is_empty() && !self.reading.is_over()
    }

    /// Looks for the end of a head in what was received.
    #[inline]
    pub(super) fn scan(&mut self, limits: &Limits) -> Result<Option<Found>, Refusal> {
        if self.buf.is_empty() {
            return Ok(None);
        }
        self.scanner.scan(&self.buf, limits)
    }

    /// Takes a head that [`Conn::scan`] found.
    pub(super) fn take_head(&mut self, found: Found) -> Bytes {
        let mut head = front(&mut self.buf, found.end);
        self.scanner = Scanner::default();
        if found.start > 0 {
            head.advance(found.start);
        }
        head
    }

    /// The next piece of the body. After the end, it says so again.
    ///
    /// # Errors
    /// Those of [`Conn::poll_fill`]; `ConnectionClosed` when the body is cut short; `H1Error` when it is
    /// malformed. After an error the connection is of no use.
    pub(super) fn poll_body(
        &mut self,
        cx: &mut Context<'_>,
        timeout: Option<Duration>,
    ) -> Poll<Result<Piece>> {
        loop {
            match &mut self.reading {
                Reading::Head | Reading::Done | Reading::Ended => {
                    return Poll::Ready(Ok(Piece::End(None)))
                }
                Reading::Broken => {
                    return Poll::Ready(Error::e_explain(ReadError, "the connection has failed"))
                }
                Reading::Raw if !self.buf.is_empty() => {
                    let all = self.buf.len();
                    return Poll::Ready(Ok(Piece::Data(front(&mut self.buf, all))));
                }
                Reading::Raw if self.eof => self.reading = Reading::Ended,
                Reading::Raw => {
                    ready!(self.poll_fill(cx, timeout))?;
                }
                Reading::Body(decoder) => match decoder.decode(&mut self.buf) {
                    Ok(Decoded::Data(data)) => {
                        if decoder.is_done() {
                            self.reading = Reading::Done;
                        }
                        return Poll::Ready(Ok(Piece::Data(data)));
                    }
                    Ok(Decoded::End(trailers)) => {
                        self.reading = Reading::Done;
                        return Poll::Ready(Ok(Piece::End(trailers)));
                    }
                    Ok(Decoded::NeedMore) if self.eof => match decoder.eof() {
                        Ok(()) => self.reading = Reading::Ended,
                        Err(_) => {
                            self.reading = Reading::Broken;
                            return Poll::Ready(Error::e_explain(
                                ConnectionClosed,
                                "the connection closed in the middle of a body",
                            ));
                        }
                    },
                    Ok(Decoded::NeedMore) => {
                        ready!(self.poll_fill(cx, timeout))?;
                    }
                    Err(refusal) => {
                        self.reading = Reading::Broken;
                        return Poll::Ready(Error::e_because(
                            H1Error,
                            "invalid message body",
                            refusal,
                        ));
                    }
                },
            }
        }
    }

    /// Writes what is queued.
    ///
    /// # Errors
    /// `WriteError`; `WriteTimedout` when the peer took less than `deadline` asks for.
    pub(super) fn poll_flush(
        &mut self,
        cx: &mut Context<'_>,
        deadline: Option<WriteDeadline>,
    ) -> Poll<Result<()>> {
        match self.poll_write(cx) {
            Poll::Ready(Ok(())) => {
                self.write_due = None;
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(e)) => {
                self.write_failed();
                Poll::Ready(Error::e_because(WriteError, "while writing", e))
            }
            Poll::Pending => {
                let Some(deadline) = deadline else {
                    return Poll::Pending;
                };
                let due = *self.write_due.get_or_insert_with(|| {
                    let (timeout, owed) = deadline.terms(self.out.len() + self.unflushed);
                    self.write_owed = owed;
                    due_in(timeout)
                });
                if !self.timer.is_over(cx, due) {
                    return Poll::Pending;
                }
                self.write_failed();
                Poll::Ready(Error::e_explain(
                    WriteTimedout,
                    format!("the peer took too little: {deadline}"),
                ))
            }
        }
    }

    fn write_failed(&mut self) {
        self.writing = Writing::Broken;
        self.out.clear();
        self.unflushed = 0;
        self.fin = false;
    }

    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.out.is_empty() {
            let stream = Pin::new(&mut self.stream);
            // Also for a single slice: a plain write may be buffered, which all this is gathered for already.
            let n = ready!(match self.out.single() {
                Some(all) => stream.poll_write_vectored(cx, &[IoSlice::new(all)]),
                None => stream.poll_write_vectored(cx, &self.out.slices()),
            })?;
            if n == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.out.advance(n);
            self.unflushed += n;
            self.write_owed = self.write_owed.saturating_sub(n);
            if self.write_owed == 0 {
                // What was asked for was taken: the peer has its time again.
                self.write_due = None;
            }
        }
        if self.unflushed > 0 {
            ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
            self.unflushed = 0;
        }
        if self.fin {
            ready!(Pin::new(&mut self.stream).poll_shutdown(cx))?;
            self.fin = false;
        }
        Poll::Ready(Ok(()))
    }

    /// Closes the direction to the peer once everything queued has left.
    pub(super) fn close_after_flush(&mut self) {
        self.fin = true;
    }

    /// Drops what ties the connection to the task that used it last.
    pub(super) fn rest(&mut self) {
        self.timer = Timer::default();
    }

    /// Returns whether everything queued has left.
    #[inline]
    pub(super) fn is_flushed(&self) -> bool {
        self.out.is_empty() && self.unflushed == 0 && !self.fin
    }

    /// The socket under the stream; `None` for streams of other kinds, whose number may be anything.
    pub(super) fn socket(&self) -> Option<RawFd> {
        Some(transport(&*self.stream)?.id())
    }

    /// Returns whether the peer has sent something that no read has brought. What streams of other kinds keep is not
    /// known.
    pub(super) fn has_more(&self) -> bool {
        transport(&*self.stream).is_some_and(L4Stream::has_more)
    }

    /// Has the end of the connection be a reset, so that the peer takes nothing for complete.
    pub(super) fn reset_on_close(&self) {
        if let Some(socket) = self.socket() {
            crate::protocols::l4::ext::reset_on_close(socket);
        }
    }

    /// Ends the connection so that the peer gets all that was written: FIN, then what it still sends is
    /// read and dropped for a while, since bytes that arrive at a closed socket would make the kernel
    /// reset the connection and the peer lose its answer (RFC 9112 section 9.6).
    ///
    /// It takes `linger` at most, and ends earlier when the peer has sent `linger_bytes` meanwhile: to read for nothing
    /// costs as much as to read for an answer.
    pub(super) async fn close(&mut self, linger: Duration) {
        self.reading = Reading::Ended;
        self.read_by(linger);
        let mut open = true;
        let mut left = LIMITS.linger_bytes;
        std::future::poll_fn(|cx| loop {
            if open {
                match Pin::new(&mut self.stream).poll_shutdown(cx) {
                    Poll::Ready(Ok(())) if !self.eof => open = false,
                    Poll::Ready(_) => return Poll::Ready(()),
                    Poll::Pending if self.read_overdue(cx) => return Poll::Ready(()),
                    Poll::Pending => return Poll::Pending,
                }
            }
            self.buf.clear();
            match self.poll_read(cx) {
                Poll::Ready(Ok(n)) if n > 0 => {
                    left = left.saturating_sub(n);
                    if left == 0 || self.read_overdue(cx) {
                        return Poll::Ready(());
                    }
                }
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending if self.read_overdue(cx) => return Poll::Ready(()),
                Poll::Pending => return Poll::Pending,
            }
        })
        .await;
    }
}

/// Bytes that are cut from a block of the worker: many heads share one, so that a head is no allocation of its own.
/// Who keeps a slice of a head for long keeps its block.
fn piece(bytes: &[u8]) -> BytesMut {
    const BLOCK: usize = 4096;
    thread_local! {
        static REST: RefCell<BytesMut> = RefCell::new(BytesMut::with_capacity(BLOCK));
    }
    if bytes.len() > BLOCK / 4 {
        return BytesMut::from(bytes);
    }
    REST.with(|rest| {
        let mut rest = rest.borrow_mut();
        // The same block from its beginning, if nothing of it is kept; else another one.
        rest.reserve(bytes.len());
        rest.extend_from_slice(bytes);
        rest.split()
    })
}

/// Returns whether all that went wrong is that TLS ended without its farewell, as many ends of a tunnel do.
pub(super) fn is_truncation(e: &Error) -> bool {
    let cause = e.root_cause().downcast_ref::<io::Error>();
    // Where the library tells it by an error of its own, that has no kind.
    let kinds = [io::ErrorKind::UnexpectedEof, io::ErrorKind::Other];
    e.etype == ReadError && cause.is_some_and(|cause| kinds.contains(&cause.kind()))
}

/// The error of a refused head.
pub(crate) fn refused_head(refusal: Refusal) -> BError {
    // The cause says the reason: here it would be said twice.
    Error::because(InvalidHTTPHeader, "invalid message head", refusal)
}
