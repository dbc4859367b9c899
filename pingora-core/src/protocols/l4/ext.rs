//! Socket options and connecting: what the standard library and tokio leave out.
//!
//! Functions that take a raw descriptor are safe to call with any number: the system refuses one that
//! is not an open socket.
#![allow(unsafe_code)] // getsockopt, setsockopt and names of sockets given by number

#[cfg(target_os = "linux")]
#[path = "ext/linux.rs"]
mod os;
#[cfg(not(target_os = "linux"))]
#[path = "ext/other.rs"]
mod os;

use std::fmt;
use std::io;
use std::mem::{size_of, MaybeUninit};
use std::net::SocketAddr as InetAddr;
use std::os::fd::{FromRawFd, IntoRawFd, RawFd};
use std::path::Path;
use std::time::Duration;

use libc::{c_int, c_void, socklen_t};
use pingora_error::{
    Error,
    ErrorType::{self, BindError, ConnectError, SocketError},
    OrErr, Result,
};
use socket2::{SockAddr, SockRef};
use tokio::net::{TcpSocket, TcpStream, UnixStream};

use super::bind_to::BindTo;
use super::connect_error::connect_error;

/// `struct tcp_info` of Linux, as far as `tcpi_rcv_wnd` (Linux 6.2); the names are the kernel's, and
/// times are in microseconds unless `linux/tcp.h` says otherwise.
///
/// An older kernel fills a part of it, and the rest is zero.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
pub struct TCP_INFO {
    pub tcpi_state: u8,
    pub tcpi_ca_state: u8,
    pub tcpi_retransmits: u8,
    pub tcpi_probes: u8,
    pub tcpi_backoff: u8,
    pub tcpi_options: u8,
    pub tcpi_snd_wscale_4_rcv_wscale_4: u8,
    pub tcpi_delivery_rate_app_limited: u8,
    pub tcpi_rto: u32,
    pub tcpi_ato: u32,
    pub tcpi_snd_mss: u32,
    pub tcpi_rcv_mss: u32,
    pub tcpi_unacked: u32,
    pub tcpi_sacked: u32,
    pub tcpi_lost: u32,
    pub tcpi_retrans: u32,
    pub tcpi_fackets: u32,
    pub tcpi_last_data_sent: u32,
    pub tcpi_last_ack_sent: u32,
    pub tcpi_last_data_recv: u32,
    pub tcpi_last_ack_recv: u32,
    pub tcpi_pmtu: u32,
    pub tcpi_rcv_ssthresh: u32,
    pub tcpi_rtt: u32,
    pub tcpi_rttvar: u32,
    pub tcpi_snd_ssthresh: u32,
    pub tcpi_snd_cwnd: u32,
    pub tcpi_advmss: u32,
    pub tcpi_reordering: u32,
    pub tcpi_rcv_rtt: u32,
    pub tcpi_rcv_space: u32,
    pub tcpi_total_retrans: u32,
    pub tcpi_pacing_rate: u64,
    pub tcpi_max_pacing_rate: u64,
    pub tcpi_bytes_acked: u64,
    pub tcpi_bytes_received: u64,
    pub tcpi_segs_out: u32,
    pub tcpi_segs_in: u32,
    pub tcpi_notsent_bytes: u32,
    pub tcpi_min_rtt: u32,
    pub tcpi_data_segs_in: u32,
    pub tcpi_data_segs_out: u32,
    pub tcpi_delivery_rate: u64,
    pub tcpi_busy_time: u64,
    pub tcpi_rwnd_limited: u64,
    pub tcpi_sndbuf_limited: u64,
    pub tcpi_delivered: u32,
    pub tcpi_delivered_ce: u32,
    pub tcpi_bytes_sent: u64,
    pub tcpi_bytes_retrans: u64,
    pub tcpi_dsack_dups: u32,
    pub tcpi_reord_seen: u32,
    pub tcpi_rcv_ooopack: u32,
    pub tcpi_snd_wnd: u32,
    pub tcpi_rcv_wnd: u32,
}

// What the kernel writes must fit, and what it does not write must be zero.
// SAFETY: integers only, so every bit pattern is a value.
unsafe impl Pod for TCP_INFO {}

impl TCP_INFO {
    /// All zeros.
    ///
    /// # Safety
    /// There is nothing to uphold; it is `unsafe` for the sake of programs written against it.
    pub unsafe fn new() -> Self {
        zeroed()
    }

    /// The size of the structure in bytes, as `getsockopt` wants it.
    pub fn len() -> socklen_t {
        size_of::<Self>() as socklen_t
    }
}

/// A type of which every bit pattern is a value.
///
/// # Safety
/// The type must be such a type.
unsafe trait Pod: Copy {}
// SAFETY: integers, and C structures of integers.
unsafe impl Pod for c_int {}
// SAFETY: as above.
unsafe impl Pod for u32 {}
// SAFETY: as above.
unsafe impl Pod for u64 {}
// SAFETY: as above.
unsafe impl Pod for libc::linger {}

fn zeroed<T: Pod>() -> T {
    // SAFETY: `Pod` says that all zeros are a value.
    unsafe { MaybeUninit::zeroed().assume_init() }
}

fn getsockopt<T: Pod>(fd: RawFd, level: c_int, name: c_int) -> io::Result<T> {
    let mut value: T = zeroed();
    let mut len = size_of::<T>() as socklen_t;
    // SAFETY: `value` is `len` writable bytes, and any bytes are a `T`.
    let rc = unsafe {
        libc::getsockopt(
            fd,
            level,
            name,
            (&raw mut value).cast::<c_void>(),
            &raw mut len,
        )
    };
    match rc {
        0 => Ok(value),
        _ => Err(io::Error::last_os_error()),
    }
}

fn setsockopt<T: Pod>(fd: RawFd, level: c_int, name: c_int, value: T) -> io::Result<()> {
    // SAFETY: `value` is that many readable bytes.
    let rc = unsafe {
        libc::setsockopt(
            fd,
            level,
            name,
            (&raw const value).cast::<c_void>(),
            size_of::<T>() as socklen_t,
        )
    };
    match rc {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// The local or the remote address of a socket.
pub(super) fn socket_name(fd: RawFd, peer: bool) -> io::Result<SockAddr> {
    // SAFETY: both calls fill the storage, write the length they filled, and return an error otherwise.
    let ((), addr) = unsafe {
        SockAddr::try_init(|storage, len| {
            let rc = if peer {
                libc::getpeername(fd, storage.cast(), len)
            } else {
                libc::getsockname(fd, storage.cast(), len)
            };
            match rc {
                0 => Ok(()),
                _ => Err(io::Error::last_os_error()),
            }
        })
    }?;
    Ok(addr)
}

fn is_ipv6(fd: RawFd) -> io::Result<bool> {
    Ok(socket_name(fd, false)?.is_ipv6())
}

fn option_size(val: usize, what: &'static str) -> Result<c_int> {
    c_int::try_from(val).or_err(SocketError, what)
}

/// The kernel's statistics of a TCP connection.
///
/// # Errors
/// When `fd` is no TCP socket; always on systems other than Linux (`Unsupported`).
pub fn get_tcp_info(fd: RawFd) -> io::Result<TCP_INFO> {
    os::tcp_info(fd)
}

/// Sets the size of the receive buffer (`SO_RCVBUF`) to `val` bytes; Linux doubles it for its own use.
///
/// # Errors
/// `SocketError` when the system refuses.
pub fn set_recv_buf(fd: RawFd, val: usize) -> Result<()> {
    const WHAT: &str = "setting the receive buffer size";
    setsockopt(
        fd,
        libc::SOL_SOCKET,
        libc::SO_RCVBUF,
        option_size(val, WHAT)?,
    )
    .or_err(SocketError, WHAT)
}

/// Sets the size of the send buffer (`SO_SNDBUF`) to `val` bytes; Linux doubles it for its own use.
///
/// # Errors
/// `SocketError` when the system refuses.
pub fn set_snd_buf(fd: RawFd, val: usize) -> Result<()> {
    const WHAT: &str = "setting the send buffer size";
    setsockopt(
        fd,
        libc::SOL_SOCKET,
        libc::SO_SNDBUF,
        option_size(val, WHAT)?,
    )
    .or_err(SocketError, WHAT)
}

/// The size of the receive buffer (`SO_RCVBUF`) in bytes, as the system accounts it.
///
/// # Errors
/// When `fd` is no socket.
pub fn get_recv_buf(fd: RawFd) -> io::Result<usize> {
    getsockopt::<c_int>(fd, libc::SOL_SOCKET, libc::SO_RCVBUF).map(|v| v.max(0) as usize)
}

/// The size of the send buffer (`SO_SNDBUF`) in bytes, as the system accounts it.
///
/// # Errors
/// When `fd` is no socket.
pub fn get_snd_buf(fd: RawFd) -> io::Result<usize> {
    getsockopt::<c_int>(fd, libc::SOL_SOCKET, libc::SO_SNDBUF).map(|v| v.max(0) as usize)
}

/// Lets `connect` return at once and the first write carry its data with the SYN (RFC 7413,
/// `TCP_FASTOPEN_CONNECT`); without effect on systems other than Linux.
///
/// # Errors
/// `SocketError` when the system refuses.
pub fn set_tcp_fastopen_connect(fd: RawFd) -> Result<()> {
    os::fastopen_connect(fd).or_err(SocketError, "setting TCP_FASTOPEN_CONNECT")
}

/// Accepts data in the SYN of new connections (RFC 7413), for at most `backlog` of them that are not
/// established yet; without effect on systems other than Linux.
///
/// # Errors
/// `SocketError` when the system refuses.
pub fn set_tcp_fastopen_backlog(fd: RawFd, backlog: usize) -> Result<()> {
    const WHAT: &str = "setting TCP_FASTOPEN";
    os::fastopen_backlog(fd, option_size(backlog, WHAT)?).or_err(SocketError, WHAT)
}

/// Marks the packets of a connection with a differentiated services code point (RFC 2474), 0 to 63.
///
/// # Errors
/// `SocketError` when `value` is larger, or the system refuses.
pub fn set_dscp(fd: RawFd, value: u8) -> Result<()> {
    if value > 63 {
        return Error::e_explain(SocketError, format!("DSCP {value} is not within 0..=63"));
    }
    // The lower two bits of the field are ECN's.
    let tos = c_int::from(value) << 2;
    let set = if is_ipv6(fd).or_err(SocketError, "setting the DSCP")? {
        setsockopt(fd, libc::IPPROTO_IPV6, libc::IPV6_TCLASS, tos)
    } else {
        setsockopt(fd, libc::IPPROTO_IP, libc::IP_TOS, tos)
    };
    set.or_err(SocketError, "setting the DSCP")
}

/// The kernel's identifier of the socket (`SO_COOKIE`).
///
/// # Errors
/// When `fd` is no socket; always on systems other than Linux (`Unsupported`).
pub fn get_socket_cookie(fd: RawFd) -> io::Result<u64> {
    os::socket_cookie(fd)
}

/// The address that a client had connected to before netfilter redirected the connection, or `None`
/// for a socket that is not TCP, and always on systems other than Linux.
///
/// # Errors
/// `SocketError` when there was no redirection that the kernel tracks.
pub fn get_original_dest(fd: RawFd) -> Result<Option<InetAddr>> {
    let Ok(name) = socket_name(fd, false) else {
        return Ok(None);
    };
    if name.as_socket().is_none() {
        return Ok(None);
    }
    os::original_dest(fd, name.is_ipv6()).or_err(SocketError, "asking for the original destination")
}

/// When to probe a silent TCP connection, and when to give it up.
#[derive(Clone, Debug)]
pub struct TcpKeepalive {
    /// The silence after which the first probe is sent; whole seconds.
    pub idle: Duration,
    /// The time between probes; whole seconds.
    pub interval: Duration,
    /// The number of probes without an answer that end the connection.
    pub count: usize,
    /// The time for which sent data may stay unacknowledged before the connection ends (`TCP_USER_TIMEOUT`, RFC
    /// 5482); whole milliseconds, zero for the system's default.
    #[cfg(target_os = "linux")]
    pub user_timeout: Duration,
}

impl fmt::Display for TcpKeepalive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}/{:?}/{}", self.idle, self.interval, self.count)?;
        #[cfg(target_os = "linux")]
        write!(f, "/{:?}", self.user_timeout)?;
        Ok(())
    }
}

/// Turns on keepalive probes on a connection.
///
/// # Errors
/// `SocketError` when the system refuses a value.
pub fn set_tcp_keepalive(stream: &TcpStream, ka: &TcpKeepalive) -> Result<()> {
    keepalive(SockRef::from(stream), ka).or_err(SocketError, "setting TCP keepalive")
}

pub(crate) fn keepalive(socket: SockRef<'_>, ka: &TcpKeepalive) -> io::Result<()> {
    let count = u32::try_from(ka.count).map_err(|_| io::ErrorKind::InvalidInput)?;
    let probes = socket2::TcpKeepalive::new()
        .with_time(ka.idle)
        .with_interval(ka.interval)
        .with_retries(count);
    socket.set_tcp_keepalive(&probes)?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(ka.user_timeout))?;
    Ok(())
}

/// Has closing the socket send a reset, so that the other side does not take what it got for complete.
///
/// A descriptor that is no socket is left alone.
pub(crate) fn reset_on_close(fd: RawFd) {
    let linger = libc::linger {
        l_onoff: 1,
        l_linger: 0,
    };
    if let Err(e) = setsockopt(fd, libc::SOL_SOCKET, libc::SO_LINGER, linger) {
        log::debug!("setting SO_LINGER: {e}");
    }
}

/// Connects to `addr`, from the address and ports that `bind_to` names, if any.
///
/// # Errors
/// `BindError` when the local address cannot be used, otherwise what connecting ran into
/// (`ConnectRefused`, `ConnectNoRoute`, `ConnectTimedout`, else `ConnectError`).
///
/// # Cancel safety
/// Dropping the future closes the socket.
pub async fn connect(addr: &InetAddr, bind_to: Option<&BindTo>) -> Result<TcpStream> {
    let stream = start_connect(addr, bind_to, |_| Ok(()))?;
    finish_connect(&stream)
        .await
        .map_err(|e| connect_error(e, addr, stream.local_addr().ok()))?;
    Ok(stream)
}

/// Sends the SYN: the stream is connected once [`finish_connect`] says so.
pub(crate) fn start_connect(
    addr: &InetAddr,
    bind_to: Option<&BindTo>,
    tweak: impl Fn(&TcpSocket) -> Result<()>,
) -> Result<TcpStream> {
    let range = bind_to.and_then(BindTo::port_range);
    match try_start(addr, bind_to, range, &tweak) {
        Err((e, _)) if may_leave_range(&e, bind_to) => {
            log::debug!("connecting to {addr} without the local port range: {e}");
            try_start(addr, bind_to, None, &tweak)
        }
        result => result,
    }
    .map_err(|(e, etype)| match etype {
        None => connect_error(e, addr, bind_to.and_then(|b| b.addr)),
        Some(Cause::Tweak(e)) => e,
        Some(Cause::Setup(etype, what)) => {
            Error::because(etype, format!("{what} to connect to {addr}"), e)
        }
    })
}

/// The step that failed before `connect`; `None` stands for `connect` itself.
enum Cause {
    Setup(ErrorType, String),
    Tweak(Box<Error>),
}

type StartError = (io::Error, Option<Cause>);

fn may_leave_range(e: &io::Error, bind_to: Option<&BindTo>) -> bool {
    bind_to.is_some_and(BindTo::will_fallback)
        // The range has no free port, or the kernel does not know of ranges.
        && (e.kind() == io::ErrorKind::AddrNotAvailable
            || e.raw_os_error() == Some(libc::ENOPROTOOPT)
            || e.kind() == io::ErrorKind::Unsupported)
}

fn try_start(
    addr: &InetAddr,
    bind_to: Option<&BindTo>,
    range: Option<(u16, u16)>,
    tweak: &impl Fn(&TcpSocket) -> Result<()>,
) -> Result<TcpStream, StartError> {
    let setup = |etype, what: &str| {
        let what = what.to_owned();
        move |e| (e, Some(Cause::Setup(etype, what)))
    };
    let socket = match addr {
        InetAddr::V4(_) => TcpSocket::new_v4(),
        InetAddr::V6(_) => TcpSocket::new_v6(),
    }
    .map_err(setup(SocketError, "making a socket"))?;

    if let Some(local) = bind_to.and_then(|b| b.addr) {
        bind(&socket, local, range).map_err(setup(BindError, &format!("binding to {local}")))?;
    } else if let Some(range) = range {
        os::local_port_range(&socket, range).map_err(setup(BindError, "limiting local ports"))?;
    }
    tweak(&socket).map_err(|e| {
        let kind = io::Error::from(io::ErrorKind::InvalidInput);
        (kind, Some(Cause::Tweak(e)))
    })?;

    // SAFETY: the descriptor was just given up by its only owner.
    let socket = unsafe { socket2::Socket::from_raw_fd(socket.into_raw_fd()) };
    match socket.connect(&(*addr).into()) {
        Ok(()) => {}
        Err(e) if e.raw_os_error() == Some(libc::EINPROGRESS) => {}
        Err(e) => return Err((e, None)),
    }
    // After connect: a socket that is neither connected nor connecting reports a hang-up.
    TcpStream::from_std(socket.into()).map_err(setup(SocketError, "registering a socket"))
}

fn bind(socket: &TcpSocket, local: InetAddr, range: Option<(u16, u16)>) -> io::Result<()> {
    if local.port() == 0 {
        // The port is then chosen by connect, per destination, and not reserved for all of them.
        os::bind_address_no_port(socket)?;
    } else {
        socket.set_reuseaddr(true)?;
    }
    if let Some(range) = range {
        os::local_port_range(socket, range)?;
    }
    socket.bind(local)
}

/// Waits until a connection that [`start_connect`] began is established.
pub(crate) async fn finish_connect(stream: &TcpStream) -> io::Result<()> {
    stream.writable().await?;
    match stream.take_error()? {
        Some(e) => Err(e),
        None => Ok(()),
    }
}

/// Connects to the Unix socket at `path`.
///
/// # Errors
/// `ConnectRefused` when nobody listens there, else `ConnectError`.
///
/// # Cancel safety
/// Dropping the future closes the socket.
pub async fn connect_uds(path: &Path) -> Result<UnixStream> {
    UnixStream::connect(path).await.map_err(|e| {
        let etype = match e.kind() {
            io::ErrorKind::ConnectionRefused => ErrorType::ConnectRefused,
            _ => ConnectError,
        };
        Error::because(etype, format!("connecting to {}", path.display()), e)
    })
}

/// Returns whether bytes lie in the receive queue of a socket, those included that no reactor has reported yet.
pub(crate) fn has_unread(fd: RawFd) -> bool {
    let mut byte = [MaybeUninit::<u8>::uninit()];
    let peeked = with_socket(fd, |socket| {
        socket.recv_with_flags(&mut byte, libc::MSG_PEEK | libc::MSG_DONTWAIT)
    });
    peeked.is_some_and(|n| n > 0)
}

/// Returns whether both directions of a connection have ended: by a reset, or because a Unix socket was closed.
pub(crate) fn is_hung_up(fd: RawFd) -> bool {
    let mut asked = libc::pollfd {
        fd,
        events: 0,
        revents: 0,
    };
    // SAFETY: one structure, valid for the call, which does not wait.
    let found = unsafe { libc::poll(&raw mut asked, 1, 0) };
    found > 0 && asked.revents & (libc::POLLHUP | libc::POLLERR) != 0
}

/// Returns what `f` says of the socket `fd`; `None` when it fails, as it does for what is no open socket.
fn with_socket<T>(fd: RawFd, f: impl FnOnce(SockRef<'_>) -> io::Result<T>) -> Option<T> {
    if fd < 0 {
        return None;
    }
    // SAFETY: the number is not -1, and it is borrowed only for calls which the system checks.
    let fd = unsafe { std::os::fd::BorrowedFd::borrow_raw(fd) };
    f(SockRef::from(&fd)).ok()
}

#[cfg(test)]
mod tests;

/// Nanoseconds since some moment in the past, by a clock that never goes back; never 0.
pub(super) fn uptime() -> u64 {
    let mut now = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the pointer is to a timespec of ours that lives through the call, which cannot fail for this clock.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut now) };
    (now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64).max(1)
}
