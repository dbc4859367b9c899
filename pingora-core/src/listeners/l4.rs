//! Listening sockets.

use std::fs::Permissions;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use socket2::{Domain, Protocol, SockAddr, SockRef, Socket, Type};

use super::accept::{steer, Steer};
use super::inherited;
use crate::listeners::fds::ListenFds;
use crate::protocols::l4::ext;
use crate::protocols::TcpKeepalive;

/// As many connections as the system lets wait to be accepted.
const BACKLOG: i32 = 65535;
/// The manner of listening, beside the address and its options.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Manner {
    /// Connections that may wait to be accepted; the system cuts it to its own limit.
    pub(super) backlog: Option<u32>,
    /// True if an address in use is an error at once, also during an upgrade.
    pub(super) at_once: bool,
}

impl Manner {
    fn backlog(self) -> i32 {
        let told = self.backlog.map(|n| i32::try_from(n).unwrap_or(i32::MAX));
        told.unwrap_or(BACKLOG)
    }
}

/// The number of tries, and the time between two, for an address that an old process may be about to leave.
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
    /// True if an IPv6 socket takes no IPv4 connections (`IPV6_V6ONLY`); the system's default when
    /// unset, and of no effect on an IPv4 one.
    pub ipv6_only: Option<bool>,
    /// TCP Fast Open (RFC 7413) with a queue of so many connections.
    pub tcp_fastopen: Option<usize>,
    /// Probes for dead connections.
    pub tcp_keepalive: Option<TcpKeepalive>,
    /// The differentiated services code point of packets sent, 0 to 63 (RFC 2474).
    pub dscp: Option<u8>,
    /// True if other sockets may listen on the same address (`SO_REUSEPORT`).
    pub so_reuseport: Option<bool>,
    /// The size of the send buffer in bytes.
    pub tcp_snd_buf: Option<usize>,
    /// The size of the receive buffer in bytes.
    pub tcp_recv_buf: Option<usize>,
}

/// The sockets that listen at an address; they leave the table of sockets when they close.
pub(super) struct Listening {
    pub(super) bind: String,
    pub(super) unix: bool,
    /// The one that listened first.
    pub(super) socket: Arc<Socket>,
    /// Those that share its address (`SO_REUSEPORT`), in the order in which they listened.
    more: Vec<Arc<Socket>>,
    /// The number of the first sockets that came from elsewhere.
    inherited: usize,
    /// The number of the first sockets that somebody keeps who is no old process.
    kept: usize,
    manner: Manner,
    /// The file for a lock between the processes that have these sockets.
    traveller: OnceLock<OwnedFd>,
    fds: Option<ListenFds>,
}

impl Drop for Listening {
    fn drop(&mut self) {
        if let Some(fds) = &self.fds {
            fds.lock().remove(&self.bind, self.socket.as_raw_fd());
        }
    }
}

impl Listening {
    /// All sockets.
    pub(super) fn sockets(&self) -> impl Iterator<Item = &Arc<Socket>> {
        std::iter::once(&self.socket).chain(&self.more)
    }

    /// Those in whose queues nothing may be left: no new process has them, nor does somebody who keeps them.
    pub(super) fn own(&self) -> impl Iterator<Item = &Arc<Socket>> {
        let handed_on = |socket: &Socket| match &self.fds {
            Some(fds) => fds.lock().was_handed_on(socket.as_raw_fd()),
            None => false,
        };
        let own = self.sockets().skip(self.kept);
        own.filter(move |socket| !handed_on(socket))
    }

    /// Returns whether another process may go on accepting at one of the sockets: the old one, to which an upgrade that fails
    /// leaves them.
    pub(super) fn is_shared(&self, socket: &Socket) -> bool {
        let is_it = |one: &Arc<Socket>| one.as_raw_fd() == socket.as_raw_fd();
        let inherited = self.sockets().take(self.inherited).any(is_it);
        let is_giver_there = |fds: &ListenFds| fds.lock().is_giver_there();
        inherited && self.fds.as_ref().is_some_and(is_giver_there)
    }

    /// Returns whether another process can come to have these sockets.
    pub(super) fn can_be_handed_on(&self) -> bool {
        self.fds.is_some()
    }

    /// The file that travels with the sockets: an inherited one, or what `new` makes.
    ///
    /// # Errors
    /// Those of `new`.
    pub(super) fn traveller(
        &self,
        new: impl FnOnce() -> io::Result<OwnedFd>,
    ) -> io::Result<&OwnedFd> {
        if let Some(file) = self.traveller.get() {
            return Ok(file);
        }
        let claim = |fds| inherited::claim_traveller(fds, &self.bind, &self.socket);
        let file = match self.fds.as_ref().and_then(claim) {
            Some(file) => file,
            None => new()?,
        };
        let file = self.traveller.get_or_init(|| file);
        if let Some(fds) = &self.fds {
            let socket = self.socket.as_raw_fd();
            fds.lock()
                .add_traveller(&self.bind, socket, file.as_raw_fd());
        }
        Ok(file)
    }

    /// Takes other options for the same address: for what is accepted from now on.
    ///
    /// # Errors
    /// The system's error; some of the options may be set then.
    pub(super) fn alter(&mut self, address: &ServerAddress, manner: Manner) -> io::Result<()> {
        for socket in self.sockets() {
            apply(address, socket)?;
            socket.listen(manner.backlog())?;
        }
        if let ServerAddress::Uds(path, permissions) = address {
            std::fs::set_permissions(path, permissions_of(permissions))?;
        }
        self.manner = manner;
        Ok(())
    }

    /// Listens on so many sockets in all, among which the kernel spreads new connections; there are
    /// never fewer than were inherited.
    ///
    /// # Errors
    /// One line, unless the sockets were inherited: then they are used as they are, and it is told in
    /// the log.
    pub(super) fn share(&mut self, address: &ServerAddress, sockets: usize) -> Result<(), String> {
        let bind = &self.bind;
        if let ServerAddress::Tcp(_, Some(options)) = address {
            if options.so_reuseport == Some(false) {
                return Err(format!(
                    "cannot listen on {bind} by the accept strategy reuseport: its option so_reuseport is false"
                ));
            }
        }
        while self.more.len() + 1 < sockets {
            match beside(&self.socket, address, self.manner) {
                Ok(socket) => {
                    if let Some(fds) = &self.fds {
                        let first = self.socket.as_raw_fd();
                        fds.lock().add_more(bind, first, socket.as_raw_fd());
                    }
                    self.more.push(Arc::new(socket));
                }
                Err(e) if self.inherited > 0 => {
                    log::warn!("{bind}: no further sockets for its workers: {e}");
                    break;
                }
                Err(e) => return Err(format!("cannot listen on {bind} once more: {e}")),
            }
        }
        // An old process may have steered them all to one socket, for a successor that knew of one only.
        if !self.more.is_empty() {
            if let Err(e) = steer(&self.socket, Steer::Spread) {
                log::debug!("{bind}: {e}");
            }
        }
        Ok(())
    }
}

/// A socket that listens at the same address.
fn beside(first: &Socket, address: &ServerAddress, manner: Manner) -> io::Result<Socket> {
    // The first one was bound without it, so that no other program could share its address by chance.
    first.set_reuse_port(true)?;
    let name = first.local_addr()?;
    let socket = Socket::new(name.domain(), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    if name.is_ipv6() {
        socket.set_only_v6(first.only_v6()?)?;
    }
    apply(address, &socket)?;
    socket.set_nonblocking(true)?;
    socket.bind(&name)?;
    socket.listen(manner.backlog())?;
    Ok(socket)
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
    manner: Manner,
    fds: Option<&ListenFds>,
) -> Result<Listening, String> {
    let bind = address.as_ref();
    let unix = matches!(address, ServerAddress::Uds(..));
    let failed = |e: io::Error| format!("cannot listen on {bind}: {e}");
    let mut retries = match fds {
        Some(fds) if !manner.at_once && fds.lock().is_upgrade() => RETRIES,
        _ => 0,
    };
    let (mut inherited, mut kept) = (0, 0);
    let mut sockets = loop {
        if let Some(fds) = fds {
            let sockets = inherited::claim(fds, bind, unix)?;
            if !sockets.is_empty() {
                for socket in &sockets {
                    apply(address, socket).map_err(failed)?;
                    if manner.backlog.is_some() {
                        socket.listen(manner.backlog()).map_err(failed)?;
                    }
                }
                log::info!("listening on {bind}, taken over");
                inherited = sockets.len();
                kept = fds.lock().kept(bind);
                break sockets;
            }
        }
        match new_socket(address, manner).await {
            Ok(socket) => {
                if let Some(fds) = fds {
                    fds.lock().add_owned(bind, socket.as_raw_fd());
                }
                log::info!("listening on {bind}");
                break vec![socket];
            }
            Err(e) if e.kind() == io::ErrorKind::AddrInUse && retries > 0 => {
                log::warn!("{}; trying again", failed(e));
                retries -= 1;
                tokio::time::sleep(RETRY_PAUSE).await;
            }
            Err(e) => return Err(failed(e)),
        }
    };
    for socket in &sockets {
        socket.set_nonblocking(true).map_err(failed)?;
    }
    Ok(Listening {
        bind: bind.to_owned(),
        unix,
        // Both ways out of the loop give at least one.
        socket: Arc::new(sockets.remove(0)),
        more: sockets.into_iter().map(Arc::new).collect(),
        inherited,
        kept,
        manner,
        traveller: OnceLock::new(),
        fds: fds.cloned(),
    })
}

async fn new_socket(address: &ServerAddress, manner: Manner) -> io::Result<Socket> {
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
            socket.listen(manner.backlog())?;
            Ok(socket)
        }
        ServerAddress::Uds(path, permissions) => {
            let path = Path::new(path);
            let name = SockAddr::unix(path)?;
            remove_stale(path, &name)?;
            let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
            socket.bind(&name)?;
            // Nobody can connect before it listens.
            std::fs::set_permissions(path, permissions_of(permissions))?;
            socket.listen(manner.backlog())?;
            Ok(socket)
        }
    }
}

fn permissions_of(permissions: &Option<Permissions>) -> Permissions {
    let told = permissions.clone();
    told.unwrap_or_else(|| Permissions::from_mode(0o666))
}

/// Finds out whether the system takes the options of an address, on a socket that nobody uses.
///
/// # Errors
/// One line that names the address and what is in the way.
pub(super) fn try_options(address: &ServerAddress, of: &Socket) -> Result<(), String> {
    let tried = of.local_addr().and_then(|name| {
        if name.is_unix() {
            return Ok(());
        }
        let socket = Socket::new(name.domain(), Type::STREAM, Some(Protocol::TCP))?;
        apply(address, &socket)
    });
    tried.map_err(|e| format!("cannot listen on {}: {e}", address.as_ref()))
}

/// Removes the file of a Unix socket that was closed; leaves what another process listens at.
pub(super) fn remove_closed(path: &str) {
    let path = Path::new(path);
    let removed = SockAddr::unix(path).and_then(|name| remove_stale(path, &name));
    if let Err(e) = removed {
        log::debug!("{} is left: {e}", path.display());
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
