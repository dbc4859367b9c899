//! Addresses to listen on and to connect to, and networks of clients.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use crate::config::section::Scalar;

/// An address of a server: an IP address and a port, a name and a port, or a Unix socket.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Address {
    /// An IP address and a port.
    Ip(SocketAddr),
    /// A name to look up, and a port.
    Name(String, u16),
    /// The path of a Unix socket.
    Unix(PathBuf),
}

impl Address {
    /// Returns the port, which a Unix socket has not.
    pub fn port(&self) -> Option<u16> {
        match self {
            Self::Ip(address) => Some(address.port()),
            Self::Name(_, port) => Some(*port),
            Self::Unix(_) => None,
        }
    }

    /// Tells whether one who listens here listens at `other` too: at the same port of all addresses of its family.
    pub(crate) fn includes(&self, other: &Self) -> bool {
        let (Self::Ip(all), Self::Ip(one)) = (self, other) else {
            return false;
        };
        let alike = all.is_ipv4() == one.is_ipv4() && all.port() == one.port();
        alike && self.is_unspecified() && !other.is_unspecified()
    }

    /// Tells whether it stands for all addresses of its family.
    pub(crate) fn is_unspecified(&self) -> bool {
        matches!(self, Self::Ip(address) if address.ip().is_unspecified())
    }

    /// Tells whether it is of IPv6.
    pub(crate) fn is_ipv6(&self) -> bool {
        matches!(self, Self::Ip(address) if address.is_ipv6())
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(address) => address.fmt(f),
            Self::Name(name, port) => write!(f, "{name}:{port}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl Scalar for Address {
    const WHAT: &'static str = "an address";
    const ALLOWED: &'static str = "`IP:PORT`, `NAME:PORT` or `unix:/PATH`, such as `10.0.0.1:9000`";

    fn parse(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            if !path.starts_with('/') || path.contains('\0') {
                return Err("the path of a Unix socket begins with `/`".into());
            }
            return Ok(Self::Unix(path.into()));
        }
        if let Some((scheme, rest)) = text.split_once("://") {
            return Err(without_scheme(scheme, rest));
        }
        if let Ok(address) = text.parse::<SocketAddr>() {
            return match address.port() {
                0 => Err("the port is 0".into()),
                // No socket of IPv6 alone can be bound to one of IPv4 within IPv6.
                port => Ok(Self::Ip(match address.ip().to_canonical() {
                    ip @ IpAddr::V4(_) => SocketAddr::new(ip, port),
                    IpAddr::V6(_) => address,
                })),
            };
        }
        let Some((name, port)) = text.rsplit_once(':') else {
            return Err("it has no port".into());
        };
        if port.contains('/') {
            return Err("it has no path".into());
        }
        let port = port.parse::<u16>().ok().filter(|port| *port > 0);
        let port = port.ok_or("the port is none of 1 to 65535")?;
        if name.is_empty() {
            return Err("it has no host; `0.0.0.0` listens on every address".into());
        }
        if !is_name(name) {
            return Err("the name is no name of a host".into());
        }
        Ok(Self::Name(name.to_ascii_lowercase(), port))
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

/// Tells what an address is called that is written as a URL.
fn without_scheme(scheme: &str, rest: &str) -> String {
    let host = rest.strip_suffix('/').unwrap_or(rest);
    let port = match scheme {
        _ if host.contains(':') => "",
        "https" | "wss" => ":443",
        _ => ":80",
    };
    let meant = format!("{host}{port}");
    match Address::parse(&meant) {
        Ok(_) => format!("it is written without a scheme, as `{meant}`; TLS is set by `tls`"),
        Err(_) => "it is written without a scheme; TLS is set by `tls`".to_owned(),
    }
}

/// Tells whether it is a name of labels of letters, digits, `-` and `_`, and not a misspelt IPv4 address.
pub(super) fn is_name(name: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let digits = |label: &str| label.bytes().all(|b| b.is_ascii_digit());
    name.len() <= 253 && name.split('.').all(label) && !name.rsplit('.').next().is_some_and(digits)
}

/// The addresses that share their first bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Network {
    base: IpAddr,
    bits: u8,
}

impl Network {
    /// Returns the first address.
    pub fn base(&self) -> IpAddr {
        self.base
    }

    /// Returns the number of bits that all its addresses share.
    pub fn bits(&self) -> u8 {
        self.bits
    }

    /// Returns it as the addresses in it are compared: one of IPv4 within IPv6 is one of IPv4. No such network has less than 96
    /// bits, which its first address needs.
    fn to_canonical(self) -> Self {
        match (self.base.to_canonical(), self.bits.checked_sub(96)) {
            (base @ IpAddr::V4(_), Some(bits)) if self.base.is_ipv6() => Self { base, bits },
            _ => self,
        }
    }

    /// Tells whether an address belongs to it. An IPv4 address within IPv6 counts as what it is.
    pub fn contains(&self, address: IpAddr) -> bool {
        masked(address.to_canonical(), self.bits) == Some(self.base)
    }
}

/// Clears all but the first `bits`; `None` when the address has not so many.
fn masked(address: IpAddr, bits: u8) -> Option<IpAddr> {
    match address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX
                .checked_shl(32u32.checked_sub(bits.into())?)
                .unwrap_or(0);
            Some(Ipv4Addr::from(u32::from(v4) & mask).into())
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX
                .checked_shl(128u32.checked_sub(bits.into())?)
                .unwrap_or(0);
            Some(Ipv6Addr::from(u128::from(v6) & mask).into())
        }
    }
}

impl Scalar for Network {
    const WHAT: &'static str = "an address or network";
    const ALLOWED: &'static str =
        "an IP address or a network, such as `10.0.0.0/8`, `2001:db8::/32` or `192.0.2.7`";

    fn parse(text: &str) -> Result<Self, String> {
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| String::new())?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let bits = match bits {
            Some(bits) => bits.parse::<u8>().map_err(|_| String::new())?,
            None => most,
        };
        match masked(address, bits) {
            None => Err(format!("it has at most {most} bits")),
            Some(base) if base != address => Err(format!(
                "bits after the first {bits} are set; `{base}/{bits}`?"
            )),
            Some(base) => Ok(Self { base, bits }.to_canonical()),
        }
    }

    fn show(&self) -> String {
        format!("{}/{}", self.base, self.bits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_of_ipv4_within_ipv6_is_one_of_ipv4() {
        let show = |text: &str| Address::parse(text).map(|address| address.show());
        assert_eq!(show("[::ffff:127.0.0.1]:80"), Ok("127.0.0.1:80".into()));
        assert_eq!(show("[::ffff:0:0]:80"), Ok("0.0.0.0:80".into()));
        assert_eq!(show("[fe80::1%2]:80"), Ok("[fe80::1%2]:80".into()));
    }
}
