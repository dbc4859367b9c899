//! The facts of a request, in the form in which a plan asks for them.

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use http::header::{HeaderValue, HOST};
use pingora_core::protocols::l4::socket::SocketAddr as Socket;
use pingora_http::authority::{is_http_family_scheme, raw_target_authority, RawTargetAuthority};
use pingora_http::RequestHeader;
use pingora_proxy::Session;

use crate::cluster::Greeting;
use crate::plan::client::{client, Client};
use crate::plan::{self, host, path, ClientCertificate, Plan, Request};

/// The facts of a request, each found once: what routes, rules and templates see is the same, and is what goes upstream.
pub(super) struct Facts<'s> {
    pub(super) head: &'s RequestHeader,
    pub(super) client: Client<'s>,
    pub(super) host: Cow<'s, str>,
    /// The field that it stands in, if it does.
    pub(super) host_field: Option<&'s HeaderValue>,
    pub(super) path: path::NormalPath<'s>,
    pub(super) raw_path: &'s [u8],
    pub(super) query: Option<Cow<'s, str>>,
    /// The certificate that the client has shown to the site, once that is known.
    pub(super) tls_client: Option<&'s ClientCertificate>,
}

/// Returns the address at the other end of the connection.
pub(super) fn peer(session: &Session) -> Option<IpAddr> {
    let address = session.client_addr()?.as_inet()?;
    Some(address.ip())
}

/// Makes what tells a server of a client. The port is known of one that is the peer of the connection alone.
pub(super) fn greeting(
    plan: &plan::Greeting,
    session: &Session,
    client: Option<IpAddr>,
) -> Arc<Greeting> {
    if session.subrequest_ctx.is_some() {
        // No client asks for what is fetched in the background.
        return Greeting::own(plan);
    }
    let inet = |address: Option<&Socket>| address.and_then(Socket::as_inet).copied();
    let peer = inet(session.client_addr());
    let client = client.map(|ip| {
        let same = peer.filter(|peer| peer.ip().to_canonical() == ip);
        SocketAddr::new(ip, same.map_or(0, |peer| peer.port()))
    });
    Greeting::of(plan, client, inet(session.server_addr()))
}

/// Tells whether TLS is spoken on the connection.
fn is_secure(session: &Session) -> bool {
    let digest = session.digest();
    digest.is_some_and(|digest| digest.ssl_digest.is_some())
}

impl<'s> Facts<'s> {
    /// Finds them; `None` for a request without a client, a host or a path that can be told, which is a 400.
    pub(super) fn of(plan: &Plan, session: &'s Session) -> Option<Self> {
        let head = session.req_header();
        let (raw_path, raw_query) = split(target_of(head)?);
        let host_field = head.headers.get(HOST);
        Some(Self {
            head,
            client: client(
                plan.trusted.as_ref(),
                peer(session),
                is_secure(session),
                &head.headers,
            )?,
            host: host_of(head, host_field)?,
            host_field,
            path: path::normalise(raw_path).ok()?,
            raw_path,
            query: raw_query.map(path::normal_query),
            tls_client: None,
        })
    }

    /// Returns them as a plan asks for them, with the id of the request.
    pub(super) fn request<'a>(&'a self, id: &'a str) -> Request<'a> {
        Request {
            method: &self.head.method,
            secure: self.client.secure,
            host: &self.host,
            authority: self
                .head
                .uri
                .authority()
                .map(|authority| authority.as_str()),
            path: &self.path,
            query: self.query.as_deref(),
            headers: &self.head.headers,
            client: self.client.ip,
            tls_client: self.tls_client,
            id,
        }
    }

    /// Returns path and query in the forms that routes and rules have seen.
    pub(super) fn target(&self) -> Vec<u8> {
        let mut target = self.path.as_str().as_bytes().to_vec();
        if let Some(query) = &self.query {
            target.push(b'?');
            target.extend_from_slice(query.as_bytes());
        }
        target
    }

    /// Returns path and query for upstream where nothing rewrites them, unless they are what was received.
    pub(super) fn normal_target(&self) -> Option<Vec<u8>> {
        let path = self.path.as_str().as_bytes();
        let is_received = path == self.raw_path && !matches!(self.query, Some(Cow::Owned(_)));
        if is_received && self.head.raw_path().starts_with(b"/") {
            return None;
        }
        Some(self.target())
    }
}

/// Returns the host of a request in its normal form: empty when it names none, as one of HTTP/1.0 may, and `None` when
/// what it names is none.
fn host_of<'h>(head: &'h RequestHeader, field: Option<&'h HeaderValue>) -> Option<Cow<'h, str>> {
    let text = match (head.uri.authority(), field) {
        // It counts before Host (RFC 9112 3.2.2).
        (Some(authority), _) => authority.as_str(),
        (None, Some(host)) => host.to_str().ok()?,
        (None, None) => return Some(Cow::Borrowed("")),
    };
    host::normalise(text)
}

/// Returns path and query, also of a target in absolute form; `None` for one that has no path to choose a route by, or names
/// its site in a way that others read differently (RFC 9112 section 3.2).
fn target_of(head: &RequestHeader) -> Option<&[u8]> {
    let raw = head.raw_path();
    if raw.starts_with(b"/") {
        return Some(raw);
    }
    let is_absolute = match raw_target_authority(raw) {
        RawTargetAuthority::Absolute { scheme, .. } => is_http_family_scheme(scheme),
        _ => false,
    };
    let target = head.uri.path_and_query().filter(|_| is_absolute)?;
    Some(target.as_str().as_bytes())
}

fn split(target: &[u8]) -> (&[u8], Option<&[u8]>) {
    match target.iter().position(|b| *b == b'?') {
        Some(at) => (&target[..at], Some(&target[at + 1..])),
        None => (target, None),
    }
}
