//! What a server is told of the client: the X-Forwarded fields, and Forwarded.

use std::net::IpAddr;

use http::header::{HeaderName, FORWARDED, HOST};
use pingora_core::Result;
use pingora_http::RequestHeader;

use super::facts::Facts;
use crate::config::model::{ForwardedFields, ForwardedMode};
use crate::plan::client;
use crate::plan::field_name::{begins_like, is_like};
use crate::plan::Plan;
use crate::text;

/// Another field in which proxies name the client, and which origins believe.
const REAL_IP: &str = "x-real-ip";
const PREFIX: &str = "x-forwarded-";
static FOR: HeaderName = client::FOR;
static PROTO: HeaderName = client::PROTO;
static FORWARDED_HOST: HeaderName = client::HOST;

/// What to tell of a request's client.
pub(super) struct Told {
    mode: ForwardedMode,
    /// The fields that a trusted proxy has set, if the request came from one.
    believed: Option<ForwardedFields>,
    /// The address at the other end of the connection.
    peer: Option<IpAddr>,
    client: Option<IpAddr>,
    secure: bool,
    host: ToldHost,
}

/// The host to tell.
enum ToldHost {
    None,
    /// The one in Host.
    Field,
    Other(String),
}

/// Returns the host to tell that the client of a trusted proxy asked for, if it says one.
pub(super) fn host<'a>(plan: &Plan, facts: &Facts<'a>) -> Option<&'a str> {
    let host = facts.client.host;
    host.filter(|_| plan.forwarded != ForwardedMode::Off)
}

impl Told {
    /// Finds what to tell.
    pub(super) fn of(plan: &Plan, peer: Option<IpAddr>, facts: &Facts<'_>) -> Self {
        let client = &facts.client;
        let host = match (
            host(plan, facts),
            facts.host_field,
            facts.head.uri.authority(),
        ) {
            _ if plan.forwarded == ForwardedMode::Off => ToldHost::None,
            (Some(host), ..) => ToldHost::Other(host.to_owned()),
            (None, Some(_), _) => ToldHost::Field,
            (None, None, Some(authority)) => ToldHost::Other(authority.as_str().to_owned()),
            (None, None, None) => ToldHost::None,
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
        match last {
            Some(ip) if before.is_empty() => {
                text::with_ip(ip, |text| head.append_line(&FOR, text))?
            }
            Some(ip) => head.append_line(&FOR, &list(before, ip))?,
            None => {}
        }
        let scheme: &[u8] = if self.secure { b"https" } else { b"http" };
        head.append_line(&PROTO, scheme)?;
        match self.host {
            ToldHost::None => Ok(()),
            ToldHost::Field => head.append_line_of(&FORWARDED_HOST, &HOST),
            ToldHost::Other(host) => head.append_line(&FORWARDED_HOST, host.as_bytes()),
        }
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

/// Tells whether origins take a field for what a proxy says of the client. All of the family are, X-Forwarded-Port too, and
/// X_Forwarded_For.
fn claims(name: &HeaderName) -> bool {
    match name.as_str().as_bytes() {
        [b'x', b'-' | b'_', ..] => begins_like(name, PREFIX) || is_like(name, REAL_IP),
        [b'f', ..] => *name == FORWARDED,
        _ => false,
    }
}

/// Returns a list of addresses that ends with this one.
fn list(mut before: Vec<u8>, ip: IpAddr) -> Vec<u8> {
    text::ip(ip, &mut before);
    before
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
                ("X_Real_IP", "192.0.2.66"),
                ("X_Forwarded_For", "192.0.2.66"),
                ("x-forwarded_HOST", "evil.test"),
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
                host: ToldHost::Field,
            };
            told.apply(&mut head).unwrap();
            head.settle_lines().unwrap();
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
}
