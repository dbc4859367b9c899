//! Endpoints behind a load balancer that speaks the PROXY protocol.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use pingora_error::{
    BError, Error,
    ErrorType::{InternalError, InvalidHTTPHeader, ReadError},
    OrErr, Result,
};

use crate::limits::LIMITS;
use crate::protocols::l4::proxy_protocol::{parse, Header, Parsed};
use crate::protocols::l4::stream::Stream as L4Stream;

/// Takes the addresses of clients from the PROXY protocol, versions 1 and 2, of load balancers that are trusted; for
/// [`ListenerConfig::proxy_protocol`](super::ListenerConfig::proxy_protocol).
///
/// A connection from one of the trusted sources has to begin with a header, before TLS if there is TLS. Without one,
/// with one that is malformed, or when it takes too long, the connection is closed. The addresses that the header
/// tells become those of the connection: in the digest, and so in
/// [`Session::client_addr`](crate::protocols::http::ServerSession::client_addr) and
/// [`Session::server_addr`](crate::protocols::http::ServerSession::server_addr). The load balancer's own is
/// [`SocketDigest::proxy_addr`](crate::protocols::SocketDigest::proxy_addr). Where the load balancer speaks for itself
/// (LOCAL), or for a client that it does not name (UNKNOWN), the addresses stay what they are.
///
/// **A connection from elsewhere is served as it is.** Nothing that it sends is taken for a header, so that nobody can
/// claim another's address; whoever wants no such connections turns them away by a
/// [`ConnectionFilter`](super::ConnectionFilter), which sees the address of the connection itself.
///
/// The clients of a Unix socket are trusted: its permissions say who they are.
///
/// ```
/// use pingora_core::listeners::{ListenerConfig, ProxyProtocol};
///
/// let balancers = ProxyProtocol::from_sources(["10.0.0.0/8", "2001:db8::7"])?;
/// let endpoint = ListenerConfig::tcp("0.0.0.0:443").proxy_protocol(balancers);
/// # Ok::<(), Box<pingora_core::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct ProxyProtocol {
    trusted: Vec<Network>,
    pub(super) timeout: Duration,
}

impl ProxyProtocol {
    /// Trusts these sources: IP addresses, and networks as `10.0.0.0/8`. With none, it trusts Unix sockets alone.
    ///
    /// # Errors
    /// `InternalError` when one of them is neither.
    pub fn from_sources<S: AsRef<str>>(sources: impl IntoIterator<Item = S>) -> Result<Self> {
        let trusted = sources.into_iter().map(|source| source.as_ref().parse());
        Ok(ProxyProtocol {
            trusted: trusted.collect::<Result<_>>()?,
            timeout: LIMITS.client_proxy_header,
        })
    }

    /// Sets how long the header may take from when the connection is accepted, 5 s otherwise.
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.timeout = limit;
        self
    }

    /// Returns whether a connection from there begins with a header; `None` is a Unix socket.
    pub(super) fn trusts(&self, peer: Option<&SocketAddr>) -> bool {
        match peer {
            None => true,
            Some(peer) => self.trusted.iter().any(|network| network.has(peer.ip())),
        }
    }
}

/// Addresses with the same beginning. An IPv4 address is that which IPv6 maps it to.
#[derive(Clone, Copy, Debug)]
struct Network {
    base: u128,
    mask: u128,
}

fn bits(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().to_bits(),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

impl Network {
    fn has(self, ip: IpAddr) -> bool {
        bits(ip) & self.mask == self.base
    }
}

impl FromStr for Network {
    type Err = BError;

    fn from_str(text: &str) -> Result<Self> {
        let refused = || {
            let why = format!("not an IP address, nor a network such as 10.0.0.0/8: {text:?}");
            Error::explain(InternalError, why).into_in()
        };
        let (address, length) = match text.split_once('/') {
            Some((address, length)) => (address, Some(length)),
            None => (text, None),
        };
        let ip: IpAddr = address.parse().map_err(|_| refused())?;
        let (most, before) = match ip {
            IpAddr::V4(_) => (32, Ipv6Addr::BITS - 32),
            IpAddr::V6(_) => (128, 0),
        };
        let digits = |length: &&str| length.bytes().all(|b| b.is_ascii_digit());
        let length = match length {
            None => Some(most),
            Some(length) => Some(length).filter(digits).and_then(|l| l.parse().ok()),
        };
        let length: u32 = length.filter(|l| *l <= most).ok_or_else(refused)?;
        let free = Ipv6Addr::BITS - before - length;
        let mask = u128::MAX.checked_shl(free).unwrap_or(0);
        Ok(Network {
            base: bits(ip) & mask,
            mask,
        })
    }
}

/// Reads the header at the beginning of a connection, and has the connection take the addresses that it tells.
/// `begun` says that something of it has come.
pub(super) async fn read_header(stream: &mut L4Stream, begun: &AtomicBool) -> Result<()> {
    let mut needed = 1;
    loop {
        let more = stream.wait_for(needed).await;
        more.or_err(ReadError, "before the end of the PROXY protocol header")?;
        begun.store(true, Ordering::Relaxed);
        let parsed = parse(stream.peeked());
        match parsed.or_err(InvalidHTTPHeader, "reading the first bytes")? {
            Parsed::Incomplete { needed: more } => needed = more,
            Parsed::Complete { header, length } => {
                stream.take_peeked(length);
                if let Header::Proxied {
                    source,
                    destination,
                } = header
                {
                    stream.set_proxied(source, destination);
                }
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests;
