//! The end of a socket: what waits in its queue is served, and nothing new comes to wait.

use std::io;
use std::os::fd::AsFd;

use socket2::Socket;

/// Lets no new connection begin at a socket; those that wait to be accepted stay. It is so for every process that has the
/// socket, and for as long as there is one: a process may be killed before it could take it back.
pub(super) fn refuse_new(socket: &Socket, unix: bool) -> io::Result<()> {
    if unix {
        socket.shutdown(std::net::Shutdown::Read)
    } else {
        drop_syns(socket)
    }
}

/// Drops segments that begin a connection (SYN without ACK): their clients ask again, and then
/// find the port closed instead of a connection that is reset. Segments that complete a handshake
/// pass.
#[cfg(target_os = "linux")]
pub(in crate::listeners) fn drop_syns(socket: &Socket) -> io::Result<()> {
    use socket2::SockFilter;
    const FLAGS: u32 = 13; // The offset of the flags in a TCP header.
    const SYN: u32 = 0x02;
    const ACK: u32 = 0x10;
    let op = |class: u32, how: u32| (class | how) as u16;
    socket.attach_filter(&[
        SockFilter::new(op(libc::BPF_LD, libc::BPF_B | libc::BPF_ABS), 0, 0, FLAGS),
        SockFilter::new(
            op(libc::BPF_ALU, libc::BPF_AND | libc::BPF_K),
            0,
            0,
            SYN | ACK,
        ),
        SockFilter::new(op(libc::BPF_JMP, libc::BPF_JEQ | libc::BPF_K), 0, 1, SYN),
        SockFilter::new(op(libc::BPF_RET, libc::BPF_K), 0, 0, 0),
        SockFilter::new(op(libc::BPF_RET, libc::BPF_K), 0, 0, u32::MAX),
    ])
}

#[cfg(not(target_os = "linux"))]
pub(in crate::listeners) fn drop_syns(_socket: &Socket) -> io::Result<()> {
    Ok(())
}

/// The choice of the socket that gets new connections, among those that share an address.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Steer {
    /// The one that listened first.
    First,
    /// Each, by a hash of the addresses.
    Spread,
}

/// Says which of the sockets that share an address with this one get new connections (`SO_REUSEPORT`).
///
/// # Errors
/// The system's error: that it cannot, for one.
#[cfg(target_os = "linux")]
pub(crate) fn steer(socket: impl AsFd, to: Steer) -> io::Result<()> {
    use nix::sys::socket::{setsockopt, sockopt};
    // What the program returns is the index of a socket; where there is none of that index, the
    // kernel goes by its hash.
    let k = match to {
        Steer::First => 0,
        Steer::Spread => u32::MAX,
    };
    let code = (libc::BPF_RET | libc::BPF_K) as u16;
    let (jt, jf) = (0, 0);
    let mut program = [libc::sock_filter { code, jt, jf, k }];
    let program = libc::sock_fprog {
        len: 1,
        filter: program.as_mut_ptr(),
    };
    setsockopt(&socket, sockopt::AttachReusePortCbpf, &program).map_err(io::Error::from)
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn steer(_socket: impl AsFd, _to: Steer) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}
