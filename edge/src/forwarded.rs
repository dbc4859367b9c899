//! The X-Forwarded fields, by which an upstream is told who asks.

use std::net::IpAddr;

use http::header::{HeaderValue, HOST};
use pingora_core::{InternalError, OrErr, Result};
use pingora_http::RequestHeader;
use pingora_proxy::Session;

const PREFIX: &str = "x-forwarded-";
const FOR: &str = "x-forwarded-for";
const PROTO: &str = "x-forwarded-proto";
const FORWARDED_HOST: &str = "x-forwarded-host";

/// Treatment of the X-Forwarded fields, by which an upstream is told who asks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Forwarded {
    /// Those of a client, which may claim anything, are replaced.
    #[default]
    Replace,
    /// Those of a client are believed and added to: for a proxy that only other proxies can reach.
    Append,
    /// They pass as they are, and none is added.
    Pass,
}

impl Forwarded {
    /// Says who asks, and by which scheme, `http` or `https`. What stands there is a client's claim, which counts only
    /// where clients are trusted. The request is changed as it was received: it is not copied for that, and has the
    /// fields at each try.
    ///
    /// # Errors
    ///
    /// `InvalidHTTPHeader` when the request has no room for more fields.
    pub fn apply(self, session: &mut Session, scheme: &'static str) -> Result<()> {
        if self == Self::Pass {
            return Ok(());
        }
        let client = session.client_addr().and_then(|addr| addr.as_inet());
        let client = client.map(|addr| addr.ip().to_canonical());
        let request = session.req_header_mut();
        let mut names = request.headers.keys();
        if names.any(|name| name.as_str().starts_with(PREFIX)) {
            return self.claims(request, client, scheme);
        }
        let host = host(request);
        let mut fields = request.raw_fields();
        if let Some(ip) = client {
            fields.append(FOR.as_bytes(), address(ip)?)?;
        }
        fields.append(PROTO.as_bytes(), HeaderValue::from_static(scheme))?;
        if let Some(host) = host {
            fields.append(FORWARDED_HOST.as_bytes(), host)?;
        }
        Ok(())
    }

    /// The same for a request that has such fields.
    #[cold]
    fn claims(
        self,
        request: &mut RequestHeader,
        client: Option<IpAddr>,
        scheme: &'static str,
    ) -> Result<()> {
        if self == Self::Replace {
            let names = request.headers.keys();
            let claims = names.filter(|name| name.as_str().starts_with(PREFIX));
            // Origins believe others of the family too, such as X-Forwarded-Port.
            for name in claims.cloned().collect::<Vec<_>>() {
                request.remove_header(&name);
            }
        }
        if let Some(ip) = client {
            let mut all = Vec::new();
            for earlier in request.headers.get_all(FOR) {
                all.extend_from_slice(earlier.as_bytes());
                all.extend_from_slice(b", ");
            }
            all.extend_from_slice(address(ip)?.as_bytes());
            request.insert_header(FOR, all)?;
        }
        if !request.headers.contains_key(PROTO) {
            request.insert_header(PROTO, scheme)?;
        }
        match host(request) {
            Some(host) if !request.headers.contains_key(FORWARDED_HOST) => {
                request.insert_header(FORWARDED_HOST, host)
            }
            _ => Ok(()),
        }
    }
}

/// The host that a request is for.
fn host(request: &RequestHeader) -> Option<HeaderValue> {
    match request.headers.get(HOST) {
        Some(host) => Some(host.clone()),
        None => HeaderValue::try_from(request.uri.authority()?.as_str()).ok(),
    }
}

/// An address as the value of a field. The common form is written by hand, which is a tenth of the work.
pub(crate) fn address(ip: IpAddr) -> Result<HeaderValue> {
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
