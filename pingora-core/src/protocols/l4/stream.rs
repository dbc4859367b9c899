//! The stream at the bottom of every connection.
//!
//! While a connection is idle it holds no buffer: small reads go through a buffer of the thread, and only
//! what the caller had no room for is kept; small writes are collected in one that is freed when it
//! has been sent.

mod buffers;
mod digests;
mod raw;
mod read;
mod records;
mod waiting;
mod write;

use std::io;
use std::net::SocketAddr as InetAddr;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::SystemTime;

use async_trait::async_trait;
use once_cell::sync::OnceCell;
use pingora_error::{ErrorType::SocketError, OrErr, Result};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpStream, UnixStream};

use super::ext::{has_unread, set_tcp_keepalive, TcpKeepalive};
use super::permit::ConnectGuard;
use super::tracer::Tracer;
use super::virt::{VirtualSockOpt, VirtualSocketStream};
use crate::protocols::http::ConnectionSettings;
use crate::protocols::raw_connect::ProxyDigest;
use crate::protocols::{GetSocketDigest, Shutdown, SocketDigest, Ssl, UniqueID, UniqueIDType};
use buffers::Pending;
use raw::RawStream;
use records::Records;
use waiting::Waiting;

/// The number of bytes that a small read asks the system for, unless [`L4BufferSettings`] say otherwise.
pub const DEFAULT_L4_READ_BUFFER_SIZE: usize = 64 * 1024;

/// The number of bytes of small writes that are collected before they are sent, unless [`L4BufferSettings`] say
/// otherwise: about what fits in one packet.
pub const DEFAULT_L4_WRITE_BUFFER_SIZE: usize = 1460;

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
    /// Those of the endpoint that accepted it, if it has some.
    http: Option<Arc<ConnectionSettings>>,
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
    /// Dropped after the socket is closed, which is why it stands behind it.
    guard: Option<Box<ConnectGuard>>,
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
            http: None,
            tracer: None,
            established_ts: SystemTime::now(),
            rx_ts: None,
            rx_ts_wanted: false,
            follows_records: false,
            special: false,
            records: Records::default(),
            guard: None,
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

    /// Has the connection hold a place of a limit until it is closed.
    pub(crate) fn set_guard(&mut self, guard: Option<ConnectGuard>) {
        self.guard = guard.map(Box::new);
    }

    /// Returns the key of the limit of which the connection holds a place.
    pub(crate) fn limit_key(&self) -> Option<u64> {
        self.guard.as_ref().map(|guard| guard.key())
    }

    /// Gives the connection the settings of its endpoint.
    pub(crate) fn set_http(&mut self, settings: Arc<ConnectionSettings>) {
        self.http = Some(settings);
    }

    /// Returns the settings of the endpoint that accepted it.
    pub(crate) fn http(&self) -> Option<&ConnectionSettings> {
        self.http.as_deref()
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
impl Shutdown for Stream {
    async fn shutdown(&mut self) {
        if let Err(e) = AsyncWriteExt::shutdown(self).await {
            log::debug!("closing a connection: {e}");
        }
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

#[cfg(test)]
mod tests;
