//! Socket options of Linux alone.

use std::io;
use std::mem::size_of;
use std::net::SocketAddr as InetAddr;
use std::os::fd::{AsRawFd, RawFd};

use libc::{c_int, socklen_t};
use socket2::SockAddr;
use tokio::net::TcpSocket;

use super::{getsockopt, setsockopt, TCP_INFO};

// linux/in.h, since Linux 6.3.
const IP_LOCAL_PORT_RANGE: c_int = 51;

pub(super) fn tcp_info(fd: RawFd) -> io::Result<TCP_INFO> {
    getsockopt(fd, libc::IPPROTO_TCP, libc::TCP_INFO)
}

pub(super) fn fastopen_connect(fd: RawFd) -> io::Result<()> {
    setsockopt(fd, libc::IPPROTO_TCP, libc::TCP_FASTOPEN_CONNECT, 1)
}

pub(super) fn fastopen_backlog(fd: RawFd, backlog: c_int) -> io::Result<()> {
    setsockopt(fd, libc::IPPROTO_TCP, libc::TCP_FASTOPEN, backlog)
}

pub(super) fn socket_cookie(fd: RawFd) -> io::Result<u64> {
    getsockopt(fd, libc::SOL_SOCKET, libc::SO_COOKIE)
}

pub(super) fn original_dest(fd: RawFd, ipv6: bool) -> io::Result<Option<InetAddr>> {
    let (level, name) = if ipv6 {
        (libc::SOL_IPV6, libc::IP6T_SO_ORIGINAL_DST)
    } else {
        (libc::SOL_IP, libc::SO_ORIGINAL_DST)
    };
    // SAFETY: a getsockopt that succeeds has filled in an address of `len` bytes.
    let ((), addr) = unsafe {
        SockAddr::try_init(|storage, len| {
            *len = size_of::<libc::sockaddr_storage>() as socklen_t;
            match libc::getsockopt(fd, level, name, storage.cast(), len) {
                0 => Ok(()),
                _ => Err(io::Error::last_os_error()),
            }
        })
    }?;
    Ok(addr.as_socket())
}

pub(super) fn bind_address_no_port(socket: &TcpSocket) -> io::Result<()> {
    // Of level IP on IPv6 sockets too.
    setsockopt(
        socket.as_raw_fd(),
        libc::IPPROTO_IP,
        libc::IP_BIND_ADDRESS_NO_PORT,
        1,
    )
}

pub(super) fn local_port_range(socket: &TcpSocket, (low, high): (u16, u16)) -> io::Result<()> {
    let value = u32::from(high) << 16 | u32::from(low);
    setsockopt(
        socket.as_raw_fd(),
        libc::IPPROTO_IP,
        IP_LOCAL_PORT_RANGE,
        value,
    )
}
