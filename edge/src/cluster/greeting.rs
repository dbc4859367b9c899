//! The header of the PROXY protocol, which tells a server who its client is.
//!
//! It is the first that is sent on a connection, before TLS. A connection that has had one is used again for a header that
//! is the same, and no other: the hash of the header is part of what the framework keeps connections by.

use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, LazyLock};

use async_trait::async_trait;
use pingora_core::connectors::l4::{BindTo, Connect};
use pingora_core::protocols::l4::ext;
use pingora_core::protocols::l4::socket::SocketAddr as Socket;
use pingora_core::protocols::l4::stream::Stream;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_core::ErrorType::ConnectError;
use pingora_core::{Error, Result};
use tokio::io::{AsyncWrite, AsyncWriteExt};

use super::random::Random;
use crate::config::model::ProxyVersion;
use crate::plan;

/// The first bytes of version 2.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// Version 2, a connection of the proxy itself.
const LOCAL: u8 = 0x20;
/// Version 2, a connection for a client.
const PROXY: u8 = 0x21;

/// Nobody outside of the process knows which headers share a hash.
static SEED: LazyLock<RandomState> = LazyLock::new(RandomState::new);

/// A header, and how it is sent.
#[derive(Debug)]
pub(crate) struct Greeting {
    header: Vec<u8>,
    from: Vec<IpAddr>,
}

impl Greeting {
    /// Tells of a client, and of the address that it connected to; of a client that has no address, only that there is one.
    pub(crate) fn of(
        plan: &plan::Greeting,
        client: Option<SocketAddr>,
        to: Option<SocketAddr>,
    ) -> Arc<Self> {
        let addresses = client.map(|client| pair(client, to));
        let header = match plan.version {
            ProxyVersion::V1 => text(addresses),
            ProxyVersion::V2 => binary(PROXY, addresses),
        };
        Arc::new(Self::with(plan, header))
    }

    /// Tells that the proxy itself asks.
    pub(crate) fn own(plan: &plan::Greeting) -> Arc<Self> {
        let header = match plan.version {
            ProxyVersion::V1 => text(None),
            ProxyVersion::V2 => binary(LOCAL, None),
        };
        Arc::new(Self::with(plan, header))
    }

    fn with(plan: &plan::Greeting, header: Vec<u8>) -> Self {
        let from = plan.from.clone();
        Self { header, from }
    }

    /// Has connections to a peer begin with it.
    pub(crate) fn open(self: &Arc<Self>, peer: &mut HttpPeer) {
        // 0 is for those without one. What tells the peer from others already goes on doing so.
        peer.group_key = SEED.hash_one((&self.header, peer.group_key)) | 1;
        peer.options.custom_l4 = Some(self.clone());
    }

    /// Returns the address to connect from, if any is told for the family of `to`.
    fn bind_to(&self, to: &SocketAddr) -> Option<BindTo> {
        let same = |ip: &&IpAddr| ip.is_ipv4() == to.is_ipv4();
        let count = self.from.iter().filter(same).count();
        if count == 0 {
            return None;
        }
        let index = Random::default().below(count as u64) as usize;
        let ip = self.from.iter().filter(same).nth(index)?;
        let mut bind_to = BindTo::default();
        bind_to.addr = Some(SocketAddr::new(*ip, 0));
        Some(bind_to)
    }
}

#[async_trait]
impl Connect for Greeting {
    async fn connect(&self, to: &Socket) -> Result<Stream> {
        match to {
            Socket::Inet(to) => {
                let bind_to = self.bind_to(to);
                let mut stream = ext::connect(to, bind_to.as_ref()).await?;
                self.send(&mut stream).await?;
                Ok(stream.into())
            }
            Socket::Unix(to) => {
                let path = to.as_pathname().unwrap_or(Path::new(""));
                let mut stream = ext::connect_uds(path).await?;
                self.send(&mut stream).await?;
                Ok(stream.into())
            }
        }
    }
}

impl Greeting {
    async fn send(&self, stream: &mut (impl AsyncWrite + Unpin)) -> Result<()> {
        let sent = stream.write_all(&self.header).await;
        sent.map_err(|e| Error::because(ConnectError, "while the PROXY header was sent", e))
    }
}

/// Brings two addresses to one family.
fn pair(client: SocketAddr, to: Option<SocketAddr>) -> (SocketAddr, SocketAddr) {
    let canonical =
        |address: SocketAddr| SocketAddr::new(address.ip().to_canonical(), address.port());
    let client = canonical(client);
    let unknown = || match client {
        SocketAddr::V4(_) => SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0),
        SocketAddr::V6(_) => SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), 0),
    };
    let to = to.map_or_else(unknown, canonical);
    let mapped = |address: SocketAddr| match address.ip() {
        IpAddr::V4(ip) => SocketAddr::new(ip.to_ipv6_mapped().into(), address.port()),
        IpAddr::V6(_) => address,
    };
    if client.is_ipv4() == to.is_ipv4() {
        (client, to)
    } else {
        (mapped(client), mapped(to))
    }
}

fn text(addresses: Option<(SocketAddr, SocketAddr)>) -> Vec<u8> {
    let Some((client, to)) = addresses else {
        return b"PROXY UNKNOWN\r\n".to_vec();
    };
    let family = if client.is_ipv4() { "TCP4" } else { "TCP6" };
    let (from, at) = (client.ip(), to.ip());
    let (port, at_port) = (client.port(), to.port());
    format!("PROXY {family} {from} {at} {port} {at_port}\r\n").into_bytes()
}

fn binary(command: u8, addresses: Option<(SocketAddr, SocketAddr)>) -> Vec<u8> {
    let mut body = Vec::new();
    let mut family = 0;
    if let Some((client, to)) = addresses {
        // Over TCP.
        family = if client.is_ipv4() { 0x11 } else { 0x21 };
        for ip in [client.ip(), to.ip()] {
            match ip {
                IpAddr::V4(ip) => body.extend(ip.octets()),
                IpAddr::V6(ip) => body.extend(ip.octets()),
            }
        }
        body.extend(client.port().to_be_bytes());
        body.extend(to.port().to_be_bytes());
    }
    let mut header = SIGNATURE.to_vec();
    header.extend([command, family]);
    // 36 at most.
    header.extend((body.len() as u16).to_be_bytes());
    header.extend(body);
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(version: ProxyVersion, client: Option<&str>, to: Option<&str>) -> Vec<u8> {
        let plan = plan::Greeting {
            version,
            from: Vec::new(),
        };
        let parse = |text: &str| text.parse().unwrap();
        Greeting::of(&plan, client.map(parse), to.map(parse))
            .header
            .clone()
    }

    #[test]
    fn version_1_is_a_line() {
        for (client, to, line) in [
            (
                Some("192.0.2.1:5"),
                Some("192.0.2.9:80"),
                "TCP4 192.0.2.1 192.0.2.9 5 80",
            ),
            (
                Some("[::ffff:192.0.2.1]:5"),
                Some("192.0.2.9:80"),
                "TCP4 192.0.2.1 192.0.2.9 5 80",
            ),
            (
                Some("[2001:db8::1]:5"),
                Some("[::1]:80"),
                "TCP6 2001:db8::1 ::1 5 80",
            ),
            (
                Some("192.0.2.1:5"),
                Some("[::1]:80"),
                "TCP6 ::ffff:192.0.2.1 ::1 5 80",
            ),
            (Some("192.0.2.1:0"), None, "TCP4 192.0.2.1 0.0.0.0 0 0"),
            (None, Some("192.0.2.9:80"), "UNKNOWN"),
        ] {
            let line = format!("PROXY {line}\r\n");
            assert_eq!(
                String::from_utf8(of(ProxyVersion::V1, client, to)).unwrap(),
                line
            );
        }
    }

    #[test]
    fn version_2_is_binary() {
        let v4 = of(ProxyVersion::V2, Some("192.0.2.1:5"), Some("192.0.2.9:80"));
        assert_eq!(v4[..12], *SIGNATURE);
        assert_eq!(
            v4[12..],
            [0x21, 0x11, 0, 12, 192, 0, 2, 1, 192, 0, 2, 9, 0, 5, 0, 80]
        );
        let v6 = of(
            ProxyVersion::V2,
            Some("[2001:db8::1]:5"),
            Some("192.0.2.9:80"),
        );
        assert_eq!(v6[12..16], [0x21, 0x21, 0, 36]);
        assert_eq!(
            v6[32..48],
            Ipv4Addr::new(192, 0, 2, 9).to_ipv6_mapped().octets()
        );
        assert_eq!(of(ProxyVersion::V2, None, None)[12..], [0x21, 0, 0, 0]);
        let plan = plan::Greeting {
            version: ProxyVersion::V2,
            from: Vec::new(),
        };
        assert_eq!(Greeting::own(&plan).header[12..], [0x20, 0, 0, 0]);
    }

    #[test]
    fn connections_are_kept_by_client() {
        let key = |client: &str| {
            let mut peer = HttpPeer::new("127.0.0.1:1", false, String::new());
            let plan = plan::Greeting {
                version: ProxyVersion::V1,
                from: Vec::new(),
            };
            Greeting::of(&plan, Some(client.parse().unwrap()), None).open(&mut peer);
            pingora_core::upstreams::peer::Peer::reuse_hash(&peer)
        };
        assert_eq!(key("192.0.2.1:5"), key("192.0.2.1:5"));
        assert_ne!(key("192.0.2.1:5"), key("192.0.2.1:6"));
        let plain = HttpPeer::new("127.0.0.1:1", false, String::new());
        assert_ne!(
            key("192.0.2.1:5"),
            pingora_core::upstreams::peer::Peer::reuse_hash(&plain)
        );
    }
}
