//! The address of a TCP or Unix socket.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::net::SocketAddr as InetAddr;
use std::os::fd::RawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::SocketAddr as UnixAddr;
use std::str::FromStr;

use pingora_error::{Error, ErrorType::SocketError, OrErr};

use super::ext;

/// The address of a socket: an IP address with a port, or a Unix socket.
///
/// As text, an IP address is `ip:port`; a Unix socket is its path when shown, and `unix:` with its path
/// when parsed.
#[derive(Clone, Debug)]
pub enum SocketAddr {
    /// IPv4 or IPv6.
    Inet(InetAddr),
    /// A Unix socket, by path, abstract name, or without either.
    Unix(UnixAddr),
}

impl SocketAddr {
    /// The IP address and port, or `None` for a Unix socket.
    pub fn as_inet(&self) -> Option<&InetAddr> {
        match self {
            SocketAddr::Inet(addr) => Some(addr),
            SocketAddr::Unix(_) => None,
        }
    }

    /// The Unix socket, or `None` for an IP address.
    pub fn as_unix(&self) -> Option<&UnixAddr> {
        match self {
            SocketAddr::Inet(_) => None,
            SocketAddr::Unix(addr) => Some(addr),
        }
    }

    /// Sets the port of an IP address; a Unix socket has none and stays as it is.
    pub fn set_port(&mut self, port: u16) {
        if let SocketAddr::Inet(addr) = self {
            addr.set_port(port);
        }
    }

    /// The address of the open socket `fd`: the remote one with `peer_addr`, else the local one.
    ///
    /// Returns `None` when `fd` is no socket, is not connected, or is of another family.
    pub fn from_raw_fd(fd: RawFd, peer_addr: bool) -> Option<SocketAddr> {
        let addr = ext::socket_name(fd, peer_addr).ok()?;
        if let Some(inet) = addr.as_socket() {
            return Some(SocketAddr::Inet(inet));
        }
        if !addr.is_unix() {
            return None;
        }
        // socket2 has no value for an unnamed socket; the standard library's is the empty path.
        let unix = addr
            .as_unix()
            .or_else(|| UnixAddr::from_pathname("").ok())?;
        Some(SocketAddr::Unix(unix))
    }
}

/// Returns what makes a Unix address equal to another: its kind, and its path or name.
fn unix_name(addr: &UnixAddr) -> (u8, &[u8]) {
    if let Some(path) = addr.as_pathname() {
        return (2, path.as_os_str().as_bytes());
    }
    #[cfg(target_os = "linux")]
    if let Some(name) = std::os::linux::net::SocketAddrExt::as_abstract_name(addr) {
        return (1, name);
    }
    (0, &[])
}

impl fmt::Display for SocketAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SocketAddr::Inet(addr) => addr.fmt(f),
            SocketAddr::Unix(addr) => match unix_name(addr) {
                (2, path) => write!(f, "{}", String::from_utf8_lossy(path)),
                // The usual way to write the abstract name space.
                (1, name) => write!(f, "@{}", name.escape_ascii()),
                _ => f.write_str("(unnamed)"),
            },
        }
    }
}

impl Ord for SocketAddr {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (SocketAddr::Inet(a), SocketAddr::Inet(b)) => a.cmp(b),
            (SocketAddr::Unix(a), SocketAddr::Unix(b)) => unix_name(a).cmp(&unix_name(b)),
            (SocketAddr::Inet(_), SocketAddr::Unix(_)) => Ordering::Less,
            (SocketAddr::Unix(_), SocketAddr::Inet(_)) => Ordering::Greater,
        }
    }
}

impl PartialOrd for SocketAddr {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for SocketAddr {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for SocketAddr {}

impl Hash for SocketAddr {
    fn hash<H: Hasher>(&self, state: &mut H) {
        match self {
            SocketAddr::Inet(addr) => {
                state.write_u8(0);
                addr.hash(state);
            }
            SocketAddr::Unix(addr) => {
                state.write_u8(1);
                unix_name(addr).hash(state);
            }
        }
    }
}

impl FromStr for SocketAddr {
    type Err = Box<Error>;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        match s.strip_prefix("unix:") {
            Some(path) => UnixAddr::from_pathname(path)
                .or_err_with(SocketError, || format!("not a Unix socket path: {path:?}"))
                .map(SocketAddr::Unix),
            None => s
                .parse()
                .or_err_with(SocketError, || format!("not a socket address: {s:?}"))
                .map(SocketAddr::Inet),
        }
    }
}

impl std::net::ToSocketAddrs for SocketAddr {
    type Iter = std::iter::Once<InetAddr>;

    /// The address itself.
    ///
    /// # Errors
    /// `InvalidInput` for a Unix socket, which has no IP address.
    fn to_socket_addrs(&self) -> std::io::Result<Self::Iter> {
        match self {
            SocketAddr::Inet(addr) => Ok(std::iter::once(*addr)),
            SocketAddr::Unix(_) => Err(std::io::Error::new(
                std::io::ErrorKind::InvalidInput,
                "a Unix socket has no IP address",
            )),
        }
    }
}

impl From<InetAddr> for SocketAddr {
    fn from(addr: InetAddr) -> Self {
        SocketAddr::Inet(addr)
    }
}

impl From<UnixAddr> for SocketAddr {
    fn from(addr: UnixAddr) -> Self {
        SocketAddr::Unix(addr)
    }
}

impl TryFrom<tokio::net::unix::SocketAddr> for SocketAddr {
    type Error = String;

    /// # Errors
    /// When the address has no path, which happens to be all that can be carried over.
    fn try_from(addr: tokio::net::unix::SocketAddr) -> Result<Self, Self::Error> {
        let path = addr
            .as_pathname()
            .ok_or_else(|| format!("a Unix socket address without a path: {addr:?}"))?;
        UnixAddr::from_pathname(path)
            .map(SocketAddr::Unix)
            .map_err(|e| e.to_string())
    }
}

#[cfg(test)]
mod tests;
