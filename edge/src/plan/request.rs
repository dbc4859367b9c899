//! The facts of a request that routes and templates ask for.

use std::borrow::Cow;
use std::net::IpAddr;

use http::{header, HeaderMap, HeaderName, Method};

use super::path::{encode, normal_query, NormalPath};
use super::tls::ClientCertificate;
use crate::config::values::{Part, Template, Variable};
use crate::text;

/// A request, as far as a plan looks at it.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The method.
    pub method: &'a Method,
    /// True if the client speaks TLS.
    pub secure: bool,
    /// The host, in the form of [`host::normalise`](super::host::normalise).
    pub host: &'a str,
    /// The authority that its target tells, with the port: that of HTTP/2, which has no Host.
    pub authority: Option<&'a str>,
    /// The path, in the form of [`path::normalise`](super::path::normalise).
    pub path: &'a NormalPath<'a>,
    /// The query, without `?`.
    pub query: Option<&'a str>,
    /// The headers.
    pub headers: &'a HeaderMap,
    /// The address of the client, which one on a Unix socket has not.
    pub client: Option<IpAddr>,
    /// The certificate that the client has shown to this site, if it has.
    pub tls_client: Option<&'a ClientCertificate>,
    /// The id of the request.
    pub id: &'a str,
}

impl<'a> Request<'a> {
    /// Returns the values of a header. Host is the authority where there is none, as the two are one (RFC 9113 section 8.3.1).
    pub(super) fn header(&self, name: &HeaderName) -> impl Iterator<Item = Cow<'a, [u8]>> {
        let lines = self.headers.get_all(name).iter();
        let whole = match self.authority {
            Some(authority) if *name == header::HOST && !self.headers.contains_key(name) => {
                Some(Cow::Borrowed(authority.as_bytes()))
            }
            _ => cookie_of_many(self.headers, name).map(Cow::Owned),
        };
        let is_whole = whole.is_some();
        let lines = lines.map(|value| Cow::Borrowed(value.as_bytes()));
        whole.into_iter().chain(lines.filter(move |_| !is_whole))
    }

    /// Returns the values of a cookie.
    pub(super) fn cookie<'n>(&self, name: &'n str) -> impl Iterator<Item = &'a [u8]> + use<'a, 'n> {
        let headers = self.headers.get_all(header::COOKIE).iter();
        let pairs = headers.flat_map(|value| value.as_bytes().split(|b| *b == b';'));
        pairs.filter_map(move |pair| {
            let (key, value) = split_at(pair.trim_ascii(), b'=')?;
            (key == name.as_bytes()).then_some(value)
        })
    }

    /// Returns the decoded values of a parameter of the query; one without `=` is empty.
    pub(super) fn param<'n>(
        &self,
        name: &'n str,
    ) -> impl Iterator<Item = Cow<'a, [u8]>> + use<'a, 'n> {
        let pairs = self.query.unwrap_or("").as_bytes().split(|b| *b == b'&');
        pairs
            .filter(|pair| !pair.is_empty())
            .filter_map(move |pair| {
                let (key, value) = split_at(pair, b'=').unwrap_or((pair, b""));
                (*decoded(key) == *name.as_bytes()).then(|| decoded(value))
            })
    }

    /// Fills in a template. Bytes that may not stand in a header are left out.
    pub fn fill(&self, template: &Template) -> Vec<u8> {
        let mut out = Vec::new();
        self.fill_into(template, &mut out);
        out
    }

    /// Appends a template that is filled in like that.
    pub(super) fn fill_into(&self, template: &Template, out: &mut Vec<u8>) {
        for part in template.parts() {
            match (part, self.client) {
                (Part::Text(text), _) => out.extend_from_slice(text.as_bytes()),
                (Part::Variable(Variable::ClientIp), Some(ip)) => text::ip(ip, out),
                (Part::Variable(variable), _) => {
                    out.extend(self.value(variable).iter().filter(|b| is_field_byte(**b)))
                }
            }
        }
    }

    /// Fills in a template that is an address, with these groups of an expression. Bytes of variables that may not stand in
    /// one are encoded.
    pub fn fill_uri(&self, template: &Template, groups: &[&str]) -> String {
        let mut out = String::new();
        for part in template.parts() {
            let value = match part {
                Part::Text(text) => {
                    out.push_str(&normal_query(text.as_bytes()));
                    continue;
                }
                Part::Variable(Variable::Group(group)) => {
                    Cow::Borrowed(groups.get(*group).unwrap_or(&"").as_bytes())
                }
                Part::Variable(variable) => self.value(variable),
            };
            for b in value.iter() {
                if is_uri_byte(*b) {
                    out.push(char::from(*b));
                } else {
                    encode(*b, &mut out);
                }
            }
        }
        out
    }

    /// Returns a path with the query of the request.
    pub(super) fn target(&self, path: &'a str) -> Cow<'a, str> {
        match self.query {
            Some(query) => Cow::Owned(format!("{path}?{query}")),
            None => Cow::Borrowed(path),
        }
    }

    pub(super) fn value(&self, variable: &Variable) -> Cow<'a, [u8]> {
        let first = |value: Option<&'a [u8]>| Cow::Borrowed(value.unwrap_or(b""));
        match variable {
            Variable::ClientIp => self
                .client
                .map_or(Cow::Borrowed(b""), |ip| ip.to_string().into_bytes().into()),
            Variable::Host => Cow::Borrowed(self.host.as_bytes()),
            Variable::Method => Cow::Borrowed(self.method.as_str().as_bytes()),
            Variable::Path => Cow::Borrowed(self.path.as_str().as_bytes()),
            Variable::Query => Cow::Borrowed(self.query.unwrap_or("").as_bytes()),
            Variable::Uri => match self.query {
                Some(query) => format!("{}?{query}", self.path.as_str())
                    .into_bytes()
                    .into(),
                None => Cow::Borrowed(self.path.as_str().as_bytes()),
            },
            Variable::Scheme => Cow::Borrowed(if self.secure { b"https" } else { b"http" }),
            Variable::RequestId => Cow::Borrowed(self.id.as_bytes()),
            Variable::TlsSubject => self.tls_client.map_or(Cow::Borrowed(b""), |client| {
                client.subject.as_bytes().into()
            }),
            Variable::TlsSan => self.tls_client.map_or(Cow::Borrowed(b""), |client| {
                client.san.join(",").into_bytes().into()
            }),
            Variable::TlsFingerprint => self.tls_client.map_or(Cow::Borrowed(b""), |client| {
                client.fingerprint.as_bytes().into()
            }),
            Variable::Header(name) => self.header(name).next().unwrap_or_default(),
            Variable::Cookie(name) => first(self.cookie(name).next()),
            Variable::Param(name) => self.param(name).next().unwrap_or_default(),
            // Of a rewrite and of pages of errors, which fill them in themselves.
            Variable::Group(_) | Variable::Status | Variable::Reason => Cow::Borrowed(b""),
        }
    }
}

/// Returns the value of Cookie if it is in several lines, as HTTP/2 may have it (RFC 9113 section 8.2.3).
pub(crate) fn cookie_of_many(headers: &HeaderMap, name: &HeaderName) -> Option<Vec<u8>> {
    if *name != header::COOKIE {
        return None;
    }
    let mut lines = headers.get_all(name).iter().map(|line| line.as_bytes());
    let (first, second) = (lines.next()?, lines.next()?);
    let mut whole = [first, second].join(&b"; "[..]);
    for line in lines {
        whole.extend_from_slice(b"; ");
        whole.extend_from_slice(line);
    }
    Some(whole)
}

/// Tells whether a request of HTTP/1.1 offers an upgrade to a WebSocket.
pub(crate) fn asks_for_websocket(headers: &HeaderMap) -> bool {
    let mut upgrades = headers.get_all(header::UPGRADE).iter();
    upgrades.any(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket"))
}

fn split_at(bytes: &[u8], separator: u8) -> Option<(&[u8], &[u8])> {
    let at = bytes.iter().position(|b| *b == separator)?;
    Some((&bytes[..at], &bytes[at + 1..]))
}

/// Decodes a part of a query: `%XX` and `+`. What is no encoding stands for itself.
pub(super) fn decoded(part: &[u8]) -> Cow<'_, [u8]> {
    if !part.iter().any(|b| matches!(b, b'%' | b'+')) {
        return Cow::Borrowed(part);
    }
    let (mut out, mut rest) = (Vec::with_capacity(part.len()), part);
    let digit = |b: u8| char::from(b).to_digit(16);
    while let [first, after @ ..] = rest {
        rest = after;
        let pair = match after {
            [high, low, ..] if *first == b'%' => digit(*high).zip(digit(*low)),
            _ => None,
        };
        match (pair, first) {
            (Some((high, low)), _) => {
                // Two digits of four bits each.
                out.push((high << 4 | low) as u8);
                rest = &after[2..];
            }
            (None, b'+') => out.push(b' '),
            (None, b) => out.push(*b),
        }
    }
    Cow::Owned(out)
}

pub(super) fn is_field_byte(b: u8) -> bool {
    b == b'\t' || (b >= b' ' && b != 0x7f)
}

pub(super) fn is_uri_byte(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b"-._~:/?#[]@!$&'()*+,;=%".contains(&b)
}
