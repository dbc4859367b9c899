//! What a server is told of the client: the X-Forwarded fields, and Forwarded.

use std::net::IpAddr;

use http::header::{HeaderName, HeaderValue, FORWARDED};
use pingora_core::{InternalError, OrErr, Result};
use pingora_http::RequestHeader;

use super::facts::Facts;
use crate::config::model::{ForwardedFields, ForwardedMode};
use crate::plan::client;
use crate::plan::Plan;

/// Another field in which proxies name the client, and which origins believe.
const REAL_IP: &str = "x-real-ip";
const PREFIX: &str = "x-forwarded-";
const HTTP: HeaderValue = HeaderValue::from_static("http");
const HTTPS: HeaderValue = HeaderValue::from_static("https");

/// What to tell of a request's client.
pub(super) struct Told {
    mode: ForwardedMode,
    /// The fields that a trusted proxy has set, if the request came from one.
    believed: Option<ForwardedFields>,
    /// The address at the other end of the connection.
    peer: Option<IpAddr>,
    client: Option<IpAddr>,
    secure: bool,
    host: Option<HeaderValue>,
}

impl Told {
    /// Finds what to tell.
    pub(super) fn of(plan: &Plan, peer: Option<IpAddr>, facts: &Facts<'_>) -> Self {
        let client = &facts.client;
        let told = client.host.map(HeaderValue::from_str);
        let host = match (told, facts.host_field, facts.head.uri.authority()) {
            _ if plan.forwarded == ForwardedMode::Off => None,
            (Some(Ok(host)), ..) => Some(host),
            (_, Some(host), _) => Some(host.clone()),
            (_, None, Some(authority)) => HeaderValue::from_str(authority.as_str()).ok(),
            (_, None, None) => None,
        };
        let trusted = plan.trusted.as_ref().filter(|_| client.proxied);
        Self {
            mode: plan.forwarded,
            believed: trusted.map(|trusted| trusted.fields),
            peer: peer.map(|ip| ip.to_canonical()),
            client: client.ip,
            secure: client.secure,
            host,
        }
    }

    /// Puts it into the head of a request, in place of what a client said.
    ///
    /// # Errors
    ///
    /// `InvalidHTTPHeader` when there is no room for more fields.
    pub(super) fn apply(self, head: &mut RequestHeader) -> Result<()> {
        if self.mode == ForwardedMode::Off {
            return Ok(());
        }
        let appends = self.mode == ForwardedMode::Append && self.believed.is_some();
        let mut names = head.headers.keys();
        let before = if names.any(claims) {
            self.clear(head, appends)
        } else {
            Vec::new()
        };
        let last = if appends { self.peer } else { self.client };
        let mut fields = head.raw_fields();
        if let Some(ip) = last {
            fields.append(client::FOR.as_str().as_bytes(), list(before, ip)?)?;
        }
        let scheme = if self.secure { HTTPS } else { HTTP };
        fields.append(client::PROTO.as_str().as_bytes(), scheme)?;
        if let Some(host) = self.host {
            fields.append(client::HOST.as_str().as_bytes(), host)?;
        }
        Ok(())
    }

    /// Takes away what was said of the client, and returns the addresses that stay.
    #[cold]
    fn clear(&self, head: &mut RequestHeader, appends: bool) -> Vec<u8> {
        let mut before = Vec::new();
        match self.believed.filter(|_| appends) {
            Some(ForwardedFields::XForwarded) => {
                for value in head.headers.get_all(client::FOR) {
                    before.extend_from_slice(value.as_bytes());
                    before.extend_from_slice(b", ");
                }
            }
            Some(ForwardedFields::Forwarded) => {
                if let Some(ip) = self.client.filter(|ip| Some(*ip) != self.peer) {
                    before = format!("{ip}, ").into_bytes();
                }
            }
            None => {}
        }
        let names: Vec<HeaderName> = head
            .headers
            .keys()
            .filter(|name| claims(name))
            .cloned()
            .collect();
        for name in names {
            head.remove_header(&name);
        }
        before
    }
}

/// Tells whether origins take a field for what a proxy says of the client. All of the family are, X-Forwarded-Port too.
fn claims(name: &HeaderName) -> bool {
    let text = name.as_str();
    match text.as_bytes().first() {
        Some(b'x') => text.starts_with(PREFIX) || text == REAL_IP,
        Some(b'f') => *name == FORWARDED,
        _ => false,
    }
}

/// Returns a list of addresses that ends with this one.
fn list(mut before: Vec<u8>, ip: IpAddr) -> Result<HeaderValue> {
    if before.is_empty() {
        return address(ip);
    }
    before.extend_from_slice(ip.to_string().as_bytes());
    HeaderValue::try_from(before).or_err(InternalError, "a list of addresses is a valid value")
}

/// An address as the value of a field. The common form is written by hand, which is a tenth of the work.
fn address(ip: IpAddr) -> Result<HeaderValue> {
    let mut text = [0; 15];
    let mut length = 0;
    let IpAddr::V4(v4) = ip else {
        let value = HeaderValue::try_from(ip.to_string());
        return value.or_err(InternalError, "an address is a valid value");
    };
    for (at, octet) in v4.octets().into_iter().enumerate() {
        if at > 0 {
            text[length] = b'.';
            length += 1;
        }
        for (unit, least) in [(100, 100), (10, 10), (1, 0)] {
            if octet >= least {
                text[length] = b'0' + octet / unit % 10;
                length += 1;
            }
        }
    }
    let value = HeaderValue::from_bytes(&text[..length]);
    value.or_err(InternalError, "an address is a valid value")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_clients_say_is_replaced_and_what_proxies_say_is_added_to() {
        let said = |mode, believed: Option<ForwardedFields>, peer: &str, client: &str| {
            let mut head = RequestHeader::build("GET", b"/", None).unwrap();
            for (name, value) in [
                ("Host", "h"),
                ("X-Forwarded-For", "192.0.2.1"),
                ("X-Forwarded-For", "10.0.0.2"),
                ("X-Forwarded-Port", "1"),
                ("X-Real-IP", "192.0.2.66"),
                ("Forwarded", "for=192.0.2.66"),
            ] {
                head.append_header(name, value).unwrap();
            }
            let told = Told {
                mode,
                believed,
                peer: Some(peer.parse().unwrap()),
                client: Some(client.parse().unwrap()),
                secure: true,
                host: Some(HeaderValue::from_static("h")),
            };
            told.apply(&mut head).unwrap();
            let mut all: Vec<_> = head
                .headers
                .iter()
                .filter(|(name, _)| claims(name))
                .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
                .collect();
            all.sort();
            all.join("\n")
        };
        let replaced = |client: &str| {
            format!("x-forwarded-for: {client}\nx-forwarded-host: h\nx-forwarded-proto: https")
        };
        use {ForwardedFields as Fields, ForwardedMode as Mode};
        let x = Some(Fields::XForwarded);
        assert_eq!(
            said(Mode::Replace, None, "10.0.0.1", "10.0.0.1"),
            replaced("10.0.0.1")
        );
        assert_eq!(
            said(Mode::Replace, x, "10.0.0.1", "192.0.2.1"),
            replaced("192.0.2.1")
        );
        assert_eq!(
            said(Mode::Append, None, "10.0.0.1", "10.0.0.1"),
            replaced("10.0.0.1")
        );
        assert_eq!(
            said(Mode::Append, x, "10.0.0.1", "192.0.2.1"),
            replaced("192.0.2.1, 10.0.0.2, 10.0.0.1")
        );
        let forwarded = Some(Fields::Forwarded);
        assert_eq!(
            said(Mode::Append, forwarded, "10.0.0.1", "192.0.2.1"),
            replaced("192.0.2.1, 10.0.0.1")
        );
        assert!(said(Mode::Off, None, "10.0.0.1", "10.0.0.1").contains("x-forwarded-port: 1"));
    }

    #[test]
    fn addresses_are_written_as_they_are_read() {
        for text in [
            "0.0.0.0",
            "1.2.3.4",
            "10.99.100.255",
            "127.0.0.1",
            "255.255.255.255",
            "::1",
            "2001:db8::ff00:42:8329",
        ] {
            let ip: IpAddr = text.parse().expect("an address");
            assert_eq!(address(ip).expect("a value"), text);
        }
        for octet in 0..=255 {
            let ip = IpAddr::from([octet, 1, octet, 2]);
            assert_eq!(address(ip).expect("a value"), ip.to_string().as_str());
        }
    }
}
