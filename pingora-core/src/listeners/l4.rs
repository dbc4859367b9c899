//! Listening sockets.

use std::fs::Permissions;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use socket2::{Domain, Protocol, SockAddr, SockRef, Socket, Type};

use super::inherited;
use crate::protocols::l4::ext;
use crate::protocols::TcpKeepalive;
use crate::server::ListenFds;

/// As many connections as the system lets wait to be accepted.
const BACKLOG: i32 = 65535;
/// How often, and how long apart, an address is tried that an old process may be about to leave.
const RETRIES: usize = 30;
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// An address to listen on.
#[derive(Clone, Debug)]
pub enum ServerAddress {
    /// TCP, as `127.0.0.1:80`, `[::]:80` or `localhost:80`, with socket options.
    Tcp(String, Option<TcpSocketOptions>),
    /// The path of a Unix socket, with its permissions: 0666 when unset.
    Uds(String, Option<Permissions>),
}

impl AsRef<str> for ServerAddress {
    fn as_ref(&self) -> &str {
        match self {
            ServerAddress::Tcp(address, _) => address,
            ServerAddress::Uds(path, _) => path,
        }
    }
}

/// Options of a listening TCP socket and the connections that it accepts.
///
/// All but `ipv6_only` and `so_reuseport` are set on inherited sockets too.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct TcpSocketOptions {
    /// Whether an IPv6 socket takes no IPv4 connections (`IPV6_V6ONLY`); the system's default when
    /// unset, and of no effect on an IPv4 one.
    pub ipv6_only: Option<bool>,
    /// TCP Fast Open (RFC 7413) with a queue of so many connections.
    pub tcp_fastopen: Option<usize>,
    /// Probes for dead connections.
    pub tcp_keepalive: Option<TcpKeepalive>,
    /// The differentiated services code point of packets sent, 0 to 63 (RFC 2474).
    pub dscp: Option<u8>,
    /// Whether other sockets may listen on the same address (`SO_REUSEPORT`).
    pub so_reuseport: Option<bool>,
    /// The size of the send buffer in bytes.
    pub tcp_snd_buf: Option<usize>,
    /// The size of the receive buffer in bytes.
    pub tcp_recv_buf: Option<usize>,
}

/// A socket that listens; leaves the table of sockets when it closes.
pub(super) struct Listening {
    pub(super) bind: String,
    pub(super) unix: bool,
    pub(super) socket: Arc<Socket>,
    fds: Option<ListenFds>,
}

impl Drop for Listening {
    fn drop(&mut self) {
        if let Some(fds) = &self.fds {
            fds.lock().remove(&self.bind, self.socket.as_raw_fd());
        }
    }
}

/// Listens on an address: on the inherited socket if there is one, else on a new one.
///
/// An address in use is an error at once, except during an upgrade, where the old process may be
/// about to leave it: then it is tried for 30 s more.
///
/// # Errors
/// One line that names the address and what is in the way.
pub(super) async fn listen(
    address: &ServerAddress,
    fds: Option<&ListenFds>,
) -> Result<Listening, String> {
    let bind = address.as_ref();
    let unix = matches!(address, ServerAddress::Uds(..));
    let failed = |e: io::Error| format!("cannot listen on {bind}: {e}");
    let mut retries = match fds {
        Some(fds) if fds.lock().is_upgrade() => RETRIES,
        _ => 0,
    };
    let socket = loop {
        if let Some(fds) = fds {
            if let Some(socket) = inherited::claim(fds, bind, unix)? {
                apply(address, &socket).map_err(failed)?;
                log::info!("listening on {bind}, taken over");
                break socket;
            }
        }
        match new_socket(address).await {
            Ok(socket) => {
                if let Some(fds) = fds {
                    fds.lock().add_owned(bind, socket.as_raw_fd());
                }
                log::info!("listening on {bind}");
                break socket;
            }
            Err(e) if e.kind() == io::ErrorKind::AddrInUse && retries > 0 => {
                log::warn!("{}; trying again", failed(e));
                retries -= 1;
                tokio::time::sleep(RETRY_PAUSE).await;
            }
            Err(e) => return Err(failed(e)),
        }
    };
    socket.set_nonblocking(true).map_err(failed)?;
    Ok(Listening {
        bind: bind.to_owned(),
        unix,
        socket: Arc::new(socket),
        fds: fds.cloned(),
    })
}

async fn new_socket(address: &ServerAddress) -> io::Result<Socket> {
    match address {
        ServerAddress::Tcp(name, options) => {
            let addr = resolve(name).await?;
            let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
            // Connections of an earlier process may still be in TIME-WAIT.
            socket.set_reuse_address(true)?;
            if let Some(options) = options {
                match options.ipv6_only {
                    Some(only) if addr.is_ipv6() => socket.set_only_v6(only)?,
                    Some(_) => log::warn!("ipv6_only has no effect on {name}"),
                    None => {}
                }
                if let Some(on) = options.so_reuseport {
                    socket.set_reuse_port(on)?;
                }
            }
            // Before the handshakes: they announce the size of the receive buffer.
            apply(address, &socket)?;
            socket.bind(&addr.into())?;
            socket.listen(BACKLOG)?;
            Ok(socket)
        }
        ServerAddress::Uds(path, permissions) => {
            let path = Path::new(path);
            let name = SockAddr::unix(path)?;
            remove_stale(path, &name)?;
            let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
            socket.bind(&name)?;
            let permissions = permissions
                .clone()
                .unwrap_or_else(|| Permissions::from_mode(0o666));
            // Nobody can connect before it listens.
            std::fs::set_permissions(path, permissions)?;
            socket.listen(BACKLOG)?;
            Ok(socket)
        }
    }
}

async fn resolve(name: &str) -> io::Result<SocketAddr> {
    if let Ok(addr) = name.parse() {
        return Ok(addr);
    }
    let mut found = tokio::net::lookup_host(name).await?;
    found
        .next()
        .ok_or_else(|| io::Error::new(io::ErrorKind::AddrNotAvailable, "no such address"))
}

/// Sets what can be set at any time. On the listening socket, and not on each connection: they
/// come with the options of the socket that accepted them.
fn apply(address: &ServerAddress, socket: &Socket) -> io::Result<()> {
    let ServerAddress::Tcp(name, options) = address else {
        return Ok(());
    };
    socket.set_tcp_nodelay(true)?;
    let Some(options) = options else {
        return Ok(());
    };
    let fd = socket.as_raw_fd();
    let refused = |e: Box<pingora_error::Error>| io::Error::other(e.to_string());
    if let Some(size) = options.tcp_recv_buf {
        ext::set_recv_buf(fd, size).map_err(refused)?;
    }
    if let Some(size) = options.tcp_snd_buf {
        ext::set_snd_buf(fd, size).map_err(refused)?;
    }
    if let Some(queue) = options.tcp_fastopen {
        ext::set_tcp_fastopen_backlog(fd, queue).map_err(refused)?;
    }
    if let Some(keepalive) = &options.tcp_keepalive {
        ext::keepalive(SockRef::from(socket), keepalive)?;
    }
    if let Some(dscp) = options.dscp {
        ext::set_dscp(fd, dscp).map_err(refused)?;
        // IPv4 connections of an IPv6 socket have a field of their own.
        if let Err(e) = socket.set_tos_v4(u32::from(dscp) << 2) {
            log::debug!("{name}: no DSCP on IPv4 connections: {e}");
        }
    }
    Ok(())
}

/// Removes the socket that an earlier process left.
///
/// # Errors
/// `AddrInUse` when a process listens there, `AlreadyExists` when there is no socket but another
/// thing.
fn remove_stale(path: &Path, name: &SockAddr) -> io::Result<()> {
    let file = match std::fs::symlink_metadata(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    if !file.file_type().is_socket() {
        return Err(io::Error::new(
            io::ErrorKind::AlreadyExists,
            "there is something else than a socket",
        ));
    }
    let probe = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    probe.set_nonblocking(true)?;
    match probe.connect(name) {
        Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => std::fs::remove_file(path),
        // One that is in the way of nobody, or one that nobody may see.
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => Err(e),
        // Connected, or a queue that is full.
        _ => Err(io::ErrorKind::AddrInUse.into()),
    }
}
