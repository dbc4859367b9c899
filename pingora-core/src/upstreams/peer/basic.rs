//! A peer for any protocol.

use std::fmt;
use std::os::unix::net::SocketAddr as UnixAddr;
use std::path::Path;

use pingora_error::{ErrorType::SocketError, OrErr, Result};

use super::reuse::{stable_hash, trust_hash};
use super::{Peer, PeerOptions};
use crate::protocols::l4::bind_to::BindTo;
use crate::protocols::l4::socket::SocketAddr;

/// An address with options; connections are told apart by the address, and with TLS by what was verified.
#[derive(Clone, Debug)]
pub struct BasicPeer {
    /// The address to connect to.
    pub _address: SocketAddr,
    /// The server name to ask for in the TLS handshake; TLS is used when it is not empty.
    pub sni: String,
    /// The options of the connection.
    pub options: PeerOptions,
}

impl BasicPeer {
    /// A peer without TLS at `address`, which is `ip:port` or `unix:path`.
    ///
    /// # Panics
    /// When `address` is neither.
    pub fn new(address: &str) -> Self {
        match address.parse() {
            Ok(addr) => Self::at(addr),
            Err(e) => panic!("BasicPeer::new: {e}"),
        }
    }

    /// A peer without TLS at the Unix socket `path`.
    ///
    /// # Errors
    /// `SocketError` when the path is too long for a socket, or has a zero byte.
    pub fn new_uds<P: AsRef<Path>>(path: P) -> Result<Self> {
        let addr = UnixAddr::from_pathname(&path).or_err_with(SocketError, || {
            format!("not a Unix socket path: {:?}", path.as_ref())
        })?;
        Ok(Self::at(addr.into()))
    }

    fn at(addr: SocketAddr) -> Self {
        BasicPeer {
            _address: addr,
            sni: String::new(),
            options: PeerOptions::new(),
        }
    }
}

impl fmt::Display for BasicPeer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

impl Peer for BasicPeer {
    fn address(&self) -> &SocketAddr {
        &self._address
    }

    fn tls(&self) -> bool {
        !self.sni.is_empty()
    }

    fn bind_to(&self) -> Option<&BindTo> {
        None
    }

    fn sni(&self) -> &str {
        &self.sni
    }

    fn reuse_hash(&self) -> u64 {
        if !self.tls() {
            return stable_hash(&self._address);
        }
        let options = &self.options;
        let checks = (options.verify_cert, options.verify_hostname);
        let ca = options.ca.as_ref().map(trust_hash);
        let offered = (&options.curves, options.second_keyshare);
        let name = (&self.sni, &options.alternative_cn);
        stable_hash((&self._address, name, checks, ca, offered))
    }

    fn get_peer_options(&self) -> Option<&PeerOptions> {
        Some(&self.options)
    }
}
