//! The header of the PROXY protocol, versions 1 and 2: what a load balancer puts in front of a connection to say whose
//! it is. Bytes in, addresses out; no I/O.
//!
//! See <https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt>.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The longest header that is taken, in bytes: more than any known one with what it carries besides addresses.
pub const MAX_HEADER: usize = 4096;

/// The beginning of version 1.
const V1: &[u8] = b"PROXY ";
/// The longest line of version 1 with its end (section 2.1), and the shortest.
const V1_MAX: usize = 107;
const V1_MIN: usize = 15;
/// The beginning of version 2.
const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// The bytes before the addresses in version 2: the beginning, the command, the family, the length.
const V2_MIN: usize = V2.len() + 4;

/// The addresses in a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Header {
    /// The load balancer speaks for itself (LOCAL), or does not know for whom (UNKNOWN), or for a client without an
    /// IP address: the addresses of the connection are what there is.
    Local,
    /// It speaks for a client.
    Proxied {
        /// The client's address.
        source: SocketAddr,
        /// The address to which the client had connected.
        destination: SocketAddr,
    },
}

/// The progress of reading a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// It is complete.
    Complete {
        /// The header itself.
        header: Header,
        /// The number of its bytes; what follows is the connection's own.
        length: usize,
    },
    /// It can be complete with so many bytes at the earliest, counted from its beginning; more than there are.
    Incomplete {
        /// The number of bytes.
        needed: usize,
    },
}

/// Why bytes are no header of the PROXY protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidHeader(&'static str);

impl fmt::Display for InvalidHeader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "invalid PROXY protocol header: {}", self.0)
    }
}

impl std::error::Error for InvalidHeader {}

/// Reads the header at the beginning of `bytes`, which may hold less of it or more than it.
///
/// In version 2, what follows the addresses (type-length-value fields) is skipped by the header's length.
///
/// # Errors
/// When a header cannot go on so, as soon as that is known.
pub fn parse(bytes: &[u8]) -> Result<Parsed, InvalidHeader> {
    if begins(bytes, V1) {
        return parse_v1(bytes);
    }
    if begins(bytes, V2) {
        return parse_v2(bytes);
    }
    Err(InvalidHeader("the connection does not begin with one"))
}

/// Returns whether one of them begins with the other.
fn begins(bytes: &[u8], with: &[u8]) -> bool {
    bytes.iter().zip(with).all(|(a, b)| a == b)
}

fn parse_v1(bytes: &[u8]) -> Result<Parsed, InvalidHeader> {
    let within = &bytes[..bytes.len().min(V1_MAX)];
    let Some(end) = within.iter().position(|b| *b == b'\n') else {
        if bytes.len() >= V1_MAX {
            return Err(InvalidHeader("the line is too long"));
        }
        let needed = (bytes.len() + 1).max(V1_MIN);
        return Ok(Parsed::Incomplete { needed });
    };
    let line = within[..end].strip_suffix(b"\r");
    let line = line.ok_or(InvalidHeader("the line does not end with CR LF"))?;
    // Whatever is after the beginning, if the whole line is shorter than that.
    let rest = line.strip_prefix(V1);
    let rest = rest.and_then(|rest| std::str::from_utf8(rest).ok());
    let rest = rest.ok_or(InvalidHeader("the line is not one of version 1"))?;
    Ok(Parsed::Complete {
        header: v1_addresses(rest)?,
        length: end + 1,
    })
}

fn v1_addresses(line: &str) -> Result<Header, InvalidHeader> {
    let mut words = line.split(' ');
    let family = words.next().unwrap_or_default();
    if family == "UNKNOWN" {
        return Ok(Header::Local);
    }
    let mut next = || words.next().unwrap_or_default();
    let (source, destination, from, to) = (next(), next(), next(), next());
    let address = |text: &str| match family {
        "TCP4" => text.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
        "TCP6" => text.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
        _ => None,
    };
    let addresses = (address(source), address(destination), port(from), port(to));
    let (Some(source), Some(destination), Some(from), Some(to)) = addresses else {
        return Err(InvalidHeader("an unknown family, a bad address or port"));
    };
    if words.next().is_some() {
        return Err(InvalidHeader("more than two addresses and ports"));
    }
    Ok(Header::Proxied {
        source: SocketAddr::new(source, from),
        destination: SocketAddr::new(destination, to),
    })
}

/// Digits alone, without a leading zero.
fn port(text: &str) -> Option<u16> {
    let plain = text.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    text.parse().ok().filter(|_| plain)
}

fn parse_v2(bytes: &[u8]) -> Result<Parsed, InvalidHeader> {
    // Told early, so that nobody waits for the rest of what is refused.
    let command = match bytes.get(V2.len()) {
        None | Some(0x20 | 0x21) => bytes.get(V2.len()),
        Some(_) => return Err(InvalidHeader("an unknown version or command")),
    };
    let (Some(command), Some(&[family, high, low])) = (
        command,
        bytes
            .get(V2.len() + 1..V2_MIN)
            .and_then(<[u8]>::first_chunk),
    ) else {
        return Ok(Parsed::Incomplete { needed: V2_MIN });
    };
    let length = V2_MIN + usize::from(u16::from_be_bytes([high, low]));
    if length > MAX_HEADER {
        return Err(InvalidHeader("it is too long"));
    }
    let Some(addresses) = bytes.get(V2_MIN..length) else {
        return Ok(Parsed::Incomplete { needed: length });
    };
    let header = match command {
        0x20 => Header::Local,
        _ => v2_addresses(family, addresses)?,
    };
    Ok(Parsed::Complete { header, length })
}

fn v2_addresses(family: u8, block: &[u8]) -> Result<Header, InvalidHeader> {
    /// Two paths of Unix sockets.
    const UNIX: usize = 216;
    let short = InvalidHeader("it is too short for its addresses");
    match family {
        0x00 => Ok(Header::Local),
        0x11 | 0x12 => two::<4>(block).ok_or(short),
        0x21 | 0x22 => two::<16>(block).ok_or(short),
        0x31 | 0x32 if block.len() >= UNIX => Ok(Header::Local),
        0x31 | 0x32 => Err(short),
        _ => Err(InvalidHeader("an unknown address family or protocol")),
    }
}

/// Two addresses of `N` bytes and two ports.
fn two<const N: usize>(block: &[u8]) -> Option<Header>
where
    IpAddr: From<[u8; N]>,
{
    let (source, rest) = block.split_first_chunk::<N>()?;
    let (destination, rest) = rest.split_first_chunk::<N>()?;
    let [a, b, c, d] = *rest.first_chunk()?;
    Some(Header::Proxied {
        source: SocketAddr::new((*source).into(), u16::from_be_bytes([a, b])),
        destination: SocketAddr::new((*destination).into(), u16::from_be_bytes([c, d])),
    })
}

#[cfg(test)]
mod tests;
