//! Digests: what is worth knowing about a connection after its layers are hidden behind
//! [`Stream`](super::Stream).

use std::io;
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use once_cell::sync::OnceCell;

use super::l4::ext;
use super::l4::socket::SocketAddr;
use super::raw_connect::ProxyDigest;
use super::tls::digest::SslDigest;

/// All that is known about a connection, layer by layer.
#[derive(Clone, Debug, Default)]
pub struct Digest {
    /// The digest of the TLS handshake; `None` on a plain connection.
    pub ssl_digest: Option<Arc<SslDigest>>,
    /// When the layers were established, the lowest first; `None` for a layer that does not know.
    pub timing_digest: Vec<Option<TimingDigest>>,
    /// The answer of the proxy that the connection was tunnelled through, if it was.
    pub proxy_digest: Option<Arc<ProxyDigest>>,
    /// The addresses and the state of the socket; `None` where there is no socket.
    pub socket_digest: Option<Arc<SocketDigest>>,
}

/// A session that can tell about the connection under it.
pub trait ProtoDigest {
    /// The digest of the connection; the provided method knows of none.
    fn get_digest(&self) -> Option<&Digest> {
        None
    }
}

/// When a layer of a connection was established.
#[derive(Clone, Debug)]
pub struct TimingDigest {
    /// The time at which it was ready for use.
    pub established_ts: SystemTime,
    /// The time for which its handshake took, where that was measured.
    pub establishment_duration: Option<Duration>,
    /// The time for which the handshake waited for a thread of the offload pool, where there is one.
    pub offload_wait_duration: Option<Duration>,
}

impl Default for TimingDigest {
    fn default() -> Self {
        TimingDigest {
            established_ts: SystemTime::UNIX_EPOCH,
            establishment_duration: None,
            offload_wait_duration: None,
        }
    }
}

const DETACHED: RawFd = -1;

/// The addresses and the state of a socket, asked of the system when they are first wanted.
///
/// It does not keep the socket open. Addresses that were asked for, or were known before the connection
/// closed, stay; everything else is then no longer to be had.
#[derive(Debug)]
pub struct SocketDigest {
    fd: AtomicI32,
    /// The remote address, once it was asked for; `Some(None)` when the system does not tell.
    pub peer_addr: OnceCell<Option<SocketAddr>>,
    /// The local address, once it was asked for; `Some(None)` when the system does not tell.
    pub local_addr: OnceCell<Option<SocketAddr>>,
    /// The address the client had connected to before a redirection in the kernel (Linux,
    /// `SO_ORIGINAL_DST`), once it was asked for; `Some(None)` when there was none.
    pub original_dst: OnceCell<Option<SocketAddr>>,
    /// Boxed, as most connections have none.
    proxy_addr: Option<Box<SocketAddr>>,
}

impl SocketDigest {
    /// A digest of the socket `raw_fd`, which the caller keeps open for as long as the digest is asked.
    pub fn from_raw_fd(raw_fd: RawFd) -> SocketDigest {
        SocketDigest {
            fd: AtomicI32::new(raw_fd),
            peer_addr: OnceCell::new(),
            local_addr: OnceCell::new(),
            original_dst: OnceCell::new(),
            proxy_addr: None,
        }
    }

    /// Takes the addresses of a connection from what the load balancer `by`, which it comes from, says of it.
    pub(crate) fn set_proxied(
        &mut self,
        source: SocketAddr,
        destination: SocketAddr,
        by: Option<SocketAddr>,
    ) {
        self.peer_addr = OnceCell::with_value(Some(source));
        self.local_addr = OnceCell::with_value(Some(destination));
        self.proxy_addr = by.map(Box::new);
    }

    /// The address of the load balancer that told the other addresses by the PROXY protocol
    /// ([`ProxyProtocol`](crate::listeners::ProxyProtocol)); `None` when they are the connection's own.
    pub fn proxy_addr(&self) -> Option<&SocketAddr> {
        self.proxy_addr.as_deref()
    }

    /// The socket, unless its owner has closed it.
    fn fd(&self) -> io::Result<RawFd> {
        match self.fd.load(Ordering::Acquire) {
            DETACHED => Err(io::ErrorKind::NotConnected.into()),
            fd => Ok(fd),
        }
    }

    /// Notes that the socket is about to be closed, so that its number is not taken for that of
    /// another connection later. The addresses are looked up a last time.
    pub(crate) fn detach(&self) {
        self.peer_addr();
        self.local_addr();
        self.fd.store(DETACHED, Ordering::Release);
    }

    fn address<'a>(
        &self,
        cell: &'a OnceCell<Option<SocketAddr>>,
        peer: bool,
    ) -> Option<&'a SocketAddr> {
        cell.get_or_init(|| SocketAddr::from_raw_fd(self.fd().ok()?, peer))
            .as_ref()
    }

    /// The remote address, or `None` when the socket is not connected or not one of a known family.
    pub fn peer_addr(&self) -> Option<&SocketAddr> {
        self.address(&self.peer_addr, true)
    }

    /// The local address, or `None` when the socket is not one of a known family.
    pub fn local_addr(&self) -> Option<&SocketAddr> {
        self.address(&self.local_addr, false)
    }

    fn is_inet(&self) -> bool {
        self.local_addr().is_some_and(|a| a.as_inet().is_some())
    }

    /// The kernel's statistics of this TCP connection (Linux), or `None` when there are none.
    pub fn tcp_info(&self) -> Option<ext::TCP_INFO> {
        self.is_inet()
            .then(|| ext::get_tcp_info(self.fd().ok()?).ok())?
    }

    /// The size of the receive buffer in bytes, or `None` when this is no TCP connection.
    pub fn get_recv_buf(&self) -> Option<usize> {
        self.is_inet()
            .then(|| ext::get_recv_buf(self.fd().ok()?).ok())?
    }

    /// The size of the send buffer in bytes, or `None` when this is no TCP connection.
    pub fn get_snd_buf(&self) -> Option<usize> {
        self.is_inet()
            .then(|| ext::get_snd_buf(self.fd().ok()?).ok())?
    }

    /// The kernel's identifier of the socket (Linux, `SO_COOKIE`), unique while the system runs.
    ///
    /// # Errors
    /// When the socket is closed, or the system has no such identifiers.
    pub fn socket_cookie(&self) -> io::Result<u64> {
        ext::get_socket_cookie(self.fd()?)
    }

    /// The address that the client had connected to before netfilter redirected it (Linux), if it did.
    pub fn original_dst(&self) -> Option<&SocketAddr> {
        self.original_dst
            .get_or_init(|| {
                if !self.is_inet() {
                    return None;
                }
                let addr = ext::get_original_dest(self.fd().ok()?).ok()??;
                Some(SocketAddr::Inet(addr))
            })
            .as_ref()
    }
}

/// A connection that knows when it was established and how long it waited.
pub trait GetTimingDigest {
    /// When each layer was established, the lowest first.
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>>;

    /// The total time that reads have waited for data; zero where it is not measured.
    fn get_read_pending_time(&self) -> Duration {
        Duration::ZERO
    }

    /// The total time that writes have waited for room; zero where it is not measured.
    fn get_write_pending_time(&self) -> Duration {
        Duration::ZERO
    }
}

/// A connection that may have been tunnelled through a proxy.
pub trait GetProxyDigest {
    /// The proxy's answer, or `None` when there was no proxy.
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>>;

    /// Records the proxy's answer; the provided method drops it.
    fn set_proxy_digest(&mut self, _digest: ProxyDigest) {}
}

/// A connection that may have a socket.
pub trait GetSocketDigest {
    /// The digest of the socket, or `None` where there is none.
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>>;

    /// Replaces the digest of the socket; the provided method drops it.
    fn set_socket_digest(&mut self, _socket_digest: SocketDigest) {}
}
