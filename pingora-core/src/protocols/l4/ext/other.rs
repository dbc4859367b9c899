//! Stand-ins for systems that have no such options: asking is `Unsupported`, and what only makes
//! things faster has no effect.

use std::io;
use std::net::SocketAddr as InetAddr;
use std::os::fd::RawFd;

use libc::c_int;
use tokio::net::TcpSocket;

use super::TCP_INFO;

pub(super) fn tcp_info(_fd: RawFd) -> io::Result<TCP_INFO> {
    Err(io::ErrorKind::Unsupported.into())
}

pub(super) fn fastopen_connect(_fd: RawFd) -> io::Result<()> {
    Ok(())
}

pub(super) fn fastopen_backlog(_fd: RawFd, _backlog: c_int) -> io::Result<()> {
    Ok(())
}

pub(super) fn socket_cookie(_fd: RawFd) -> io::Result<u64> {
    Err(io::ErrorKind::Unsupported.into())
}

pub(super) fn original_dest(_fd: RawFd, _ipv6: bool) -> io::Result<Option<InetAddr>> {
    Ok(None)
}

pub(super) fn bind_address_no_port(_socket: &TcpSocket) -> io::Result<()> {
    Ok(())
}

pub(super) fn local_port_range(_socket: &TcpSocket, _range: (u16, u16)) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}
