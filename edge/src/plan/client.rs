//! The client: the peer of a connection, or the one that a trusted proxy names.
//!
//! The list of addresses is read from its end. The peer is the last proxy; as long as an address is a trusted proxy's, the
//! one before it is believed. The first that is not trusted is the client's: what stands before it is that client's own
//! word. An entry that is no address ends the search too. Where it comes to a value of Forwarded that is malformed, nothing
//! tells whose word is whose: the request is refused.

use std::net::IpAddr;

use http::{HeaderMap, HeaderName};

use super::host;
use super::networks::Networks;
use crate::config::model::ForwardedFields;

/// X-Forwarded-For: the addresses, from the client to the last proxy but one.
pub const FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// X-Forwarded-Proto: the scheme that the client used.
pub const PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
/// X-Forwarded-Host: the host that the client asked for.
pub const HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// The proxies in front of this one, and the fields in which they name the client.
#[derive(Debug)]
pub struct Trusted {
    pub(super) networks: Networks,
    /// True if those without an address are proxies too.
    pub(super) unix: bool,
    /// The fields that they set. The others are not read.
    pub fields: ForwardedFields,
}

/// The client of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Client<'a> {
    /// The address, which one on a Unix socket has not.
    pub ip: Option<IpAddr>,
    /// True if it speaks TLS.
    pub secure: bool,
    /// The host that it asked for, if a trusted proxy says so.
    pub host: Option<&'a str>,
    /// True if the peer of the connection is a trusted proxy.
    pub proxied: bool,
}

impl Trusted {
    fn has(&self, ip: IpAddr) -> bool {
        self.networks.find(ip) == Some(true)
    }

    /// Tells whether the peer of a connection is a proxy.
    fn has_peer(&self, ip: Option<IpAddr>) -> bool {
        ip.map_or(self.unix, |ip| self.has(ip))
    }
}

/// Finds the client of a request that came from `peer`; `None` when a trusted proxy names it in a field that cannot be read,
/// which is a 400.
pub fn client<'a>(
    trusted: Option<&Trusted>,
    peer: Option<IpAddr>,
    secure: bool,
    headers: &'a HeaderMap,
) -> Option<Client<'a>> {
    let ip = peer.map(|ip| ip.to_canonical());
    let direct = Client {
        ip,
        secure,
        host: None,
        proxied: false,
    };
    let Some(trusted) = trusted.filter(|trusted| trusted.has_peer(ip)) else {
        return Some(direct);
    };
    let direct = Client {
        proxied: true,
        ..direct
    };
    match trusted.fields {
        ForwardedFields::XForwarded => Some(by_x_forwarded(trusted, direct, headers)),
        ForwardedFields::Forwarded => by_forwarded(trusted, direct, headers),
    }
}

fn by_x_forwarded<'a>(
    trusted: &Trusted,
    mut client: Client<'a>,
    headers: &'a HeaderMap,
) -> Client<'a> {
    let values = headers.get_all(FOR).iter().rev();
    let entries = values.flat_map(|value| value.as_bytes().rsplit(|b| *b == b','));
    for entry in entries {
        let Some(ip) = address(entry) else { break };
        client.ip = Some(ip);
        if !trusted.has(ip) {
            break;
        }
    }
    // Of several the last is the nearest proxy's.
    let last = |name| {
        let value = headers.get_all(name).iter().next_back()?.to_str().ok()?;
        value.rsplit(',').next().map(str::trim)
    };
    client.secure = last(PROTO).and_then(scheme).unwrap_or(client.secure);
    client.host = last(HOST).filter(|text| host::normalise(text).is_some());
    client
}

fn by_forwarded<'a>(
    trusted: &Trusted,
    mut client: Client<'a>,
    headers: &'a HeaderMap,
) -> Option<Client<'a>> {
    let (mut elements, mut malformed): (Vec<Element>, _) = (Vec::new(), false);
    for value in headers.get_all(http::header::FORWARDED) {
        let read = value
            .to_str()
            .ok()
            .and_then(|text| read(text, &mut elements));
        if read.is_none() {
            // Nothing tells what stands before it from what stands in it.
            elements.clear();
            malformed = true;
        }
    }
    for element in elements.iter().rev() {
        client.secure = element.proto.and_then(scheme).unwrap_or(client.secure);
        let named = element.host.filter(|text| host::normalise(text).is_some());
        client.host = named.or(client.host);
        let Some(ip) = element.client.and_then(|text| address(text.as_bytes())) else {
            return Some(client);
        };
        client.ip = Some(ip);
        if !trusted.has(ip) {
            return Some(client);
        }
    }
    // A client can have a proxy's own word be a part of what it said itself: `for="x, for=192.0.2.1`.
    (!malformed).then_some(client)
}

fn scheme(text: &str) -> Option<bool> {
    if text.eq_ignore_ascii_case("https") {
        Some(true)
    } else if text.eq_ignore_ascii_case("http") {
        Some(false)
    } else {
        None
    }
}

/// Reads an address, with or without a port: `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`, `[2001:db8::1]:80`.
fn address(entry: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(entry).ok()?.trim();
    let port = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let bare = match text.strip_prefix('[') {
        Some(rest) => {
            let (address, after) = rest.split_once(']')?;
            let good = after.is_empty() || after.strip_prefix(':').is_some_and(port);
            good.then_some(address)?
        }
        None => match text.split_once(':') {
            Some((address, after)) if !after.contains(':') => port(after).then_some(address)?,
            _ => text,
        },
    };
    bare.parse::<IpAddr>().ok().map(|ip| ip.to_canonical())
}

/// An element of Forwarded: what one proxy says.
#[derive(Default)]
struct Element<'a> {
    client: Option<&'a str>,
    proto: Option<&'a str>,
    host: Option<&'a str>,
}

/// Reads the elements of a value of Forwarded (RFC 7239 section 4); `None` when it is malformed.
fn read<'a>(text: &'a str, elements: &mut Vec<Element<'a>>) -> Option<()> {
    for element in split(text, b',')? {
        let mut made = Element::default();
        for pair in split(element, b';')? {
            let pair = pair.trim();
            if pair.is_empty() {
                continue;
            }
            let (name, value) = pair.split_once('=')?;
            let value = match value.strip_prefix('"') {
                // Nothing that is read here has a reason for a backslash.
                Some(quoted) => quoted
                    .strip_suffix('"')
                    .filter(|v| !v.contains(['"', '\\']))?,
                None => value,
            };
            let place = if name.eq_ignore_ascii_case("for") {
                &mut made.client
            } else if name.eq_ignore_ascii_case("proto") {
                &mut made.proto
            } else if name.eq_ignore_ascii_case("host") {
                &mut made.host
            } else {
                continue;
            };
            if place.replace(value).is_some() {
                return None;
            }
        }
        elements.push(made);
    }
    Some(())
}

/// Splits at a separator outside quotes; `None` when a quote is not closed.
fn split(text: &str, separator: u8) -> Option<Vec<&str>> {
    let (mut parts, mut start, mut quoted, mut escaped) = (Vec::new(), 0, false, false);
    for (at, b) in text.bytes().enumerate() {
        match b {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b if b == separator && !quoted => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    (!quoted).then_some(parts)
}

#[cfg(test)]
mod tests;
