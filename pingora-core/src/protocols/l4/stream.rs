//! The stream at the bottom of every connection.
//!
//! While a connection is idle it holds no buffer: small reads go through a buffer of the thread, and only
//! what the caller had no room for is kept; small writes are collected in one that is freed when it
//! has been sent.

mod raw;
mod records;

use std::cell::Cell;
use std::io;
use std::net::SocketAddr as InetAddr;
use std::os::fd::{AsRawFd, RawFd};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{ready, Context, Poll};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use once_cell::sync::OnceCell;
use pingora_error::{ErrorType::SocketError, OrErr, Result};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

use super::ext::{has_unread, set_tcp_keepalive, uptime, TcpKeepalive};
use super::socket::SocketAddr;
use super::tracer::Tracer;
use super::virt::{VirtualSockOpt, VirtualSocketStream};
use crate::protocols::raw_connect::ProxyDigest;
use crate::protocols::{
    GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl,
    TimingDigest, UniqueID, UniqueIDType,
};
use raw::RawStream;
use records::Records;

/// The number of bytes that a small read asks the system for, unless [`L4BufferSettings`] say otherwise.
pub const DEFAULT_L4_READ_BUFFER_SIZE: usize = 64 * 1024;

/// The number of bytes of small writes that are collected before they are sent, unless [`L4BufferSettings`] say
/// otherwise: about what fits in one packet.
pub const DEFAULT_L4_WRITE_BUFFER_SIZE: usize = 1460;

/// From this size on a read gains nothing from asking the system for more than its caller wants.
const DIRECT_READ: usize = 16 * 1024;

/// The sizes of a connection's buffers in bytes; `None` is the default size, zero is no buffer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct L4BufferSettings {
    /// For reads: [`DEFAULT_L4_READ_BUFFER_SIZE`] when `None`.
    pub read: Option<usize>,
    /// For writes: [`DEFAULT_L4_WRITE_BUFFER_SIZE`] when `None`.
    pub write: Option<usize>,
}

impl L4BufferSettings {
    /// Buffers of these sizes.
    pub fn new(read: usize, write: usize) -> Self {
        L4BufferSettings {
            read: Some(read),
            write: Some(write),
        }
    }

    /// No buffers: every read and write is a system call.
    pub fn unbuffered() -> Self {
        Self::new(0, 0)
    }

    /// The same with a read buffer of `read` bytes.
    pub fn read(self, read: usize) -> Self {
        L4BufferSettings {
            read: Some(read),
            ..self
        }
    }

    /// The same with a write buffer of `write` bytes.
    pub fn write(self, write: usize) -> Self {
        L4BufferSettings {
            write: Some(write),
            ..self
        }
    }

    /// The size of the read buffer.
    pub fn read_capacity(&self) -> usize {
        self.read.unwrap_or(DEFAULT_L4_READ_BUFFER_SIZE)
    }

    /// The size of the write buffer.
    pub fn write_capacity(&self) -> usize {
        self.write.unwrap_or(DEFAULT_L4_WRITE_BUFFER_SIZE)
    }
}

/// Bytes in memory, consumed from the front; a pointer that is null while there are none.
#[derive(Debug, Default)]
struct Pending(Option<Box<Held>>);

#[derive(Debug, Default)]
struct Held {
    data: Vec<u8>,
    pos: usize,
}

impl Pending {
    fn bytes(&self) -> &[u8] {
        match &self.0 {
            Some(held) => &held.data[held.pos..],
            None => &[],
        }
    }

    fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    fn consume(&mut self, n: usize) {
        if let Some(held) = &mut self.0 {
            held.pos += n;
            if held.pos >= held.data.len() {
                self.0 = None;
            }
        }
    }

    fn prepend(&mut self, front: &[u8]) {
        let data = [front, self.bytes()].concat();
        self.0 = (!data.is_empty()).then(|| Box::new(Held { data, pos: 0 }));
    }

    /// Appends `back`, after making room for `capacity` bytes if there are none yet.
    fn append(&mut self, back: &[u8], capacity: usize) {
        if back.is_empty() {
            return;
        }
        let data = &mut self.0.get_or_insert_default().data;
        if data.is_empty() {
            data.reserve_exact(capacity.max(back.len()));
        }
        data.extend_from_slice(back);
    }
}

/// The time that one direction has waited, in nanoseconds; looks at the clock only when it begins or ends to wait.
#[derive(Debug, Default)]
struct Waiting {
    /// On the clock of [`uptime`]; 0 while it does not wait.
    since: u64,
    total: u64,
}

impl Waiting {
    #[inline]
    fn note<T>(&mut self, poll: Poll<T>) -> Poll<T> {
        if self.waits() != poll.is_pending() {
            let now = uptime();
            match std::mem::take(&mut self.since) {
                0 => self.since = now,
                since => self.total += now.saturating_sub(since),
            }
        }
        poll
    }

    fn waits(&self) -> bool {
        self.since != 0
    }

    fn total(&self) -> Duration {
        Duration::from_nanos(self.total)
    }
}

thread_local! {
    /// The buffer of small reads on this thread. Taken and put back, because a virtual socket may read
    /// from another stream while it is read from.
    static SCRATCH: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// A TCP, Unix or virtual connection, accepted or made.
///
/// Plain writes shorter than the write buffer are sent by a flush or when the buffer is full; longer and
/// vectored ones go to the socket at once, after what was buffered.
#[derive(Debug)]
pub struct Stream {
    raw: RawStream,
    unread: Pending,
    unsent: Pending,
    read_capacity: u32,
    write_capacity: u32,
    read_waiting: Waiting,
    write_waiting: Waiting,
    /// The remote address, where it came for free.
    peer: Option<InetAddr>,
    socket_digest: OnceCell<Arc<SocketDigest>>,
    proxy_digest: Option<Arc<ProxyDigest>>,
    /// Told when the connection ends.
    pub tracer: Option<Tracer>,
    /// When the connection was accepted or made.
    pub established_ts: SystemTime,
    /// When the kernel received the first bytes, once they were read, if
    /// [`set_rx_timestamp`](Stream::set_rx_timestamp) was called before.
    pub rx_ts: Option<SystemTime>,
    rx_ts_wanted: bool,
    /// True if what is read is TLS, whose records are followed.
    follows_records: bool,
    /// True if a read is more than a read: one of the two above.
    special: bool,
    records: Records,
}

impl Stream {
    fn over(raw: RawStream, peer: Option<InetAddr>) -> Self {
        let buffers = L4BufferSettings::default();
        Stream {
            raw,
            unread: Pending::default(),
            unsent: Pending::default(),
            read_capacity: buffers.read_capacity() as u32,
            write_capacity: buffers.write_capacity() as u32,
            read_waiting: Waiting::default(),
            write_waiting: Waiting::default(),
            peer,
            socket_digest: OnceCell::new(),
            proxy_digest: None,
            tracer: None,
            established_ts: SystemTime::now(),
            rx_ts: None,
            rx_ts_wanted: false,
            follows_records: false,
            special: false,
            records: Records::default(),
        }
    }

    /// A TCP connection whose remote address is known; small packets are not held back.
    pub(crate) fn with_peer(tcp: TcpStream, peer: InetAddr) -> Self {
        Stream::over(RawStream::Tcp(tcp), Some(peer))
    }

    /// A TCP connection that was just accepted.
    pub(crate) fn accepted(tcp: TcpStream, peer: InetAddr) -> Self {
        if let Err(e) = tcp.set_nodelay(true) {
            // The client is gone already, which the first read will tell better.
            log::debug!("setting TCP_NODELAY for {peer}: {e}");
        }
        Stream::with_peer(tcp, peer)
    }

    /// Moves the registration of an idle connection to the reactor of the calling task.
    ///
    /// # Errors
    /// When the system refuses; the connection is then closed.
    ///
    /// # Panics
    /// When called outside a tokio runtime.
    pub(crate) fn reregister(&mut self) -> io::Result<()> {
        self.raw.reregister()
    }

    /// Sets the sizes of the buffers, for what is read and written from now on.
    pub(crate) fn set_buffer_settings(&mut self, settings: L4BufferSettings) {
        let size = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        self.read_capacity = size(settings.read_capacity());
        self.write_capacity = size(settings.write_capacity());
    }

    /// The remote address, where it is known without asking the system.
    pub(crate) fn known_peer(&self) -> Option<&InetAddr> {
        self.peer.as_ref()
    }

    /// Sends small packets at once (`TCP_NODELAY`); without effect on a Unix socket.
    ///
    /// # Errors
    /// `SocketError` when the socket refuses.
    pub fn set_nodelay(&mut self) -> Result<()> {
        match &self.raw {
            RawStream::Tcp(tcp) => tcp.set_nodelay(true),
            RawStream::Virtual(v) => v.set_socket_option(VirtualSockOpt::NoDelay),
            RawStream::Unix(_) | RawStream::Closed => Ok(()),
        }
        .or_err(SocketError, "setting TCP_NODELAY")
    }

    /// Probes the connection while it is silent; without effect on a Unix socket.
    ///
    /// # Errors
    /// `SocketError` when the socket refuses.
    pub fn set_keepalive(&mut self, ka: &TcpKeepalive) -> Result<()> {
        match &self.raw {
            RawStream::Tcp(tcp) => set_tcp_keepalive(tcp, ka),
            RawStream::Virtual(v) => v
                .set_socket_option(VirtualSockOpt::KeepAlive(ka.clone()))
                .or_err(SocketError, "setting keepalive on a virtual socket"),
            RawStream::Unix(_) | RawStream::Closed => Ok(()),
        }
    }

    /// Has the kernel note when it receives data, for [`rx_ts`](Stream::rx_ts); TCP on Linux, without
    /// effect elsewhere.
    ///
    /// # Errors
    /// `SocketError` when the system refuses.
    pub fn set_rx_timestamp(&mut self) -> Result<()> {
        self.rx_ts_wanted = self
            .raw
            .enable_rx_timestamp()
            .or_err(SocketError, "turning on receive timestamps")?;
        self.special |= self.rx_ts_wanted;
        Ok(())
    }

    /// Follows, from now on, the records of the TLS library that reads this connection.
    #[allow(dead_code)] // Not without a TLS backend.
    pub(crate) fn follow_records(&mut self) {
        self.follows_records = true;
        self.special = true;
    }

    /// Returns whether the peer has sent something that no read has brought: it lies in the receive queue, or here, or
    /// is a part of a TLS record, of which the library shows nothing until it has the rest.
    pub(crate) fn has_more(&self) -> bool {
        !self.unread.is_empty() || self.records.is_within() || has_unread(self.raw.as_raw_fd())
    }

    /// Returns whether the last read ended within a TLS record.
    pub(crate) fn is_within_record(&self) -> bool {
        self.records.is_within()
    }

    /// Puts `data` in front of what the next reads return.
    pub fn rewind(&mut self, data: &[u8]) {
        if !data.is_empty() {
            self.unread.prepend(data);
        }
    }

    /// Returns whether bytes came, or the end, while nobody was reading: by what the reactor knows, without a lock or
    /// a waker, and without a system call while it knows of nothing. `None` where only a read can tell.
    pub(crate) fn probe(&self) -> Option<Poll<io::Result<usize>>> {
        if !self.unread.is_empty() {
            return Some(Poll::Ready(Ok(self.unread.bytes().len())));
        }
        self.raw.probe()
    }

    /// Waits until a read may bring something or fail. This is no wait for data in the sense of
    /// [`get_read_pending_time`](GetTimingDigest::get_read_pending_time), since nothing is expected.
    pub(crate) fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.unread.is_empty() {
            self.raw.poll_readable(cx)
        } else {
            Poll::Ready(())
        }
    }

    /// Waits until a read may bring something or fail, as the beginning of that read.
    pub(crate) fn poll_read_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let poll = self.poll_readable(cx);
        self.read_waiting.note(poll)
    }

    /// Returns whether it is closed by being dropped.
    pub(crate) fn is_socket(&self) -> bool {
        self.raw.is_socket()
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

    /// Has the connection be one from `source` to `destination`, as the load balancer says from which it comes.
    pub(crate) fn set_proxied(&mut self, source: InetAddr, destination: InetAddr) {
        let by = self
            .get_socket_digest()
            .and_then(|digest| digest.peer_addr().cloned());
        let mut digest = SocketDigest::from_raw_fd(self.as_raw_fd());
        digest.set_proxied(source.into(), destination.into(), by);
        self.set_socket_digest(digest);
        self.peer = Some(source);
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

    /// Sends what is kept back.
    #[inline]
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.unsent.is_empty() {
            Poll::Ready(Ok(()))
        } else {
            self.poll_send_kept(cx)
        }
    }

    fn poll_send_kept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.unsent.is_empty() {
            match ready!(Pin::new(&mut self.raw).poll_write(cx, self.unsent.bytes()))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                n => self.unsent.consume(n),
            }
        }
        Poll::Ready(Ok(()))
    }

    fn poll_write_buffered(
        &mut self,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        let capacity = self.write_capacity as usize;
        if self.unsent.bytes().len() + data.len() > capacity {
            ready!(self.poll_send(cx))?;
        }
        if data.len() >= capacity {
            return Pin::new(&mut self.raw).poll_write(cx, data);
        }
        self.unsent.append(data, capacity);
        Poll::Ready(Ok(data.len()))
    }
}

impl From<TcpStream> for Stream {
    fn from(s: TcpStream) -> Self {
        Stream::over(RawStream::Tcp(s), None)
    }
}

impl From<UnixStream> for Stream {
    fn from(s: UnixStream) -> Self {
        Stream::over(RawStream::Unix(s), None)
    }
}

impl From<VirtualSocketStream> for Stream {
    fn from(s: VirtualSocketStream) -> Self {
        Stream::over(RawStream::Virtual(s), None)
    }
}

impl AsRawFd for Stream {
    /// The socket, or -1 where there is none.
    fn as_raw_fd(&self) -> RawFd {
        self.raw.as_raw_fd()
    }
}

impl UniqueID for Stream {
    fn id(&self) -> UniqueIDType {
        match &self.raw {
            RawStream::Virtual(v) => v.id(),
            raw => raw.as_raw_fd(),
        }
    }
}

impl Ssl for Stream {}

#[async_trait]
impl Peek for Stream {
    async fn try_peek(&mut self, buf: &mut [u8]) -> io::Result<bool> {
        std::future::poll_fn(|cx| self.poll_fill(cx, buf.len())).await?;
        buf.copy_from_slice(&self.unread.bytes()[..buf.len()]);
        Ok(true)
    }
}

#[async_trait]
impl Shutdown for Stream {
    async fn shutdown(&mut self) {
        if let Err(e) = AsyncWriteExt::shutdown(self).await {
            log::debug!("closing a connection: {e}");
        }
    }
}

impl GetTimingDigest for Stream {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        vec![Some(TimingDigest {
            established_ts: self.established_ts,
            ..TimingDigest::default()
        })]
    }

    fn get_read_pending_time(&self) -> Duration {
        self.read_waiting.total()
    }

    fn get_write_pending_time(&self) -> Duration {
        self.write_waiting.total()
    }
}

impl GetProxyDigest for Stream {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        self.proxy_digest.clone()
    }

    fn set_proxy_digest(&mut self, digest: ProxyDigest) {
        self.proxy_digest = Some(Arc::new(digest));
    }
}

impl GetSocketDigest for Stream {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        let fd = match &self.raw {
            RawStream::Virtual(_) | RawStream::Closed => return self.socket_digest.get().cloned(),
            raw => raw.as_raw_fd(),
        };
        let digest = self.socket_digest.get_or_init(|| {
            let mut digest = SocketDigest::from_raw_fd(fd);
            if let Some(peer) = self.peer {
                digest.peer_addr = OnceCell::with_value(Some(SocketAddr::Inet(peer)));
            }
            Arc::new(digest)
        });
        Some(digest.clone())
    }

    fn set_socket_digest(&mut self, socket_digest: SocketDigest) {
        self.socket_digest = OnceCell::with_value(Arc::new(socket_digest));
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if let Some(tracer) = &self.tracer {
            tracer.0.on_disconnected();
        }
        if let Some(digest) = self.socket_digest.get() {
            // Whoever still has it must not ask about the next connection of this number.
            if Arc::strong_count(digest) > 1 {
                digest.detach();
            }
        }
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

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        let poll = self.poll_write_buffered(cx, data);
        self.write_waiting.note(poll)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        let poll = match this.poll_send(cx) {
            Poll::Ready(Ok(())) => Pin::new(&mut this.raw).poll_write_vectored(cx, bufs),
            Poll::Ready(Err(e)) => Poll::Ready(Err(e)),
            Poll::Pending => Poll::Pending,
        };
        this.write_waiting.note(poll)
    }

    fn is_write_vectored(&self) -> bool {
        self.raw.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        // After each write of a head: nothing is kept back, and sockets themselves have nothing to flush.
        if this.unsent.is_empty() && !this.write_waiting.waits() && this.raw.is_socket() {
            return Poll::Ready(Ok(()));
        }
        let poll = match this.poll_send(cx) {
            Poll::Ready(Ok(())) => Pin::new(&mut this.raw).poll_flush(cx),
            other => other,
        };
        this.write_waiting.note(poll)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let poll = match this.poll_send(cx) {
            Poll::Ready(Ok(())) => Pin::new(&mut this.raw).poll_shutdown(cx),
            other => other,
        };
        this.write_waiting.note(poll)
    }
}

#[cfg(test)]
mod tests;
