//! The origin that a request is for: the target's authority and `Host` must agree.
//!
//! Parties that choose different ones of several authorities can be played against each other
//! (request smuggling, cache poisoning), so a request that leaves a choice is refused.

use http::{header, Method, Uri, Version};
use pingora_error::{Error, ErrorType, Result};
use pingora_http::internal::{is_valid_host, split_port};
use pingora_http::RequestHeader;

pub use pingora_http::authority::{
    is_http_family_scheme, raw_target_authority, RawTargetAuthority,
};

/// Checks that a request names exactly one authority.
///
/// - At most one `Host`, and it is empty or a `uri-host [":" port]` (RFC 9112 3.2).
/// - HTTP/1.1 has a `Host`, whatever its target (RFC 9112 3.2).
/// - The authority of a target in absolute form, of CONNECT, or of `:authority` is a
///   `uri-host [":" port]` too, without userinfo (RFC 9110 4.2.4), and is the same as `Host`
///   if there is one (RFC 9112 3.2.2, RFC 9113 8.3.1). Case does not matter, nor whether the
///   default port of the scheme is written.
///
/// # Errors
///
/// `InvalidHTTPHeader`, with the rule that was broken as its context.
pub fn validate_request_authority(req: &RequestHeader) -> Result<()> {
    check(req).or_else(|reason| Error::e_explain(ErrorType::InvalidHTTPHeader, reason))
}

fn check(req: &RequestHeader) -> Result<(), &'static str> {
    let mut hosts = req.headers.get_all(header::HOST).into_iter();
    let host = hosts.next().map(|value| value.as_bytes());
    if hosts.next().is_some() {
        return Err("more than one Host");
    }
    match host {
        Some(host) if !host.is_empty() && !is_valid_host(host) => return Err("malformed Host"),
        None if req.version == Version::HTTP_11 => return Err("no Host in HTTP/1.1"),
        _ => {}
    }

    let Some(target) = target_authority(req)? else {
        return Ok(());
    };
    if !is_valid_host(target.authority) {
        return Err("malformed authority of the target");
    }
    match host {
        Some(host) if !target.is_same_as(host) => Err("Host is not the target's authority"),
        _ => Ok(()),
    }
}

/// Returns whether Host says the same as the authority of a parsed target, if that has one.
pub fn agrees(target: &Uri, host: &[u8]) -> bool {
    parsed_authority(target).is_none_or(|target| target.is_same_as(host))
}

/// The authority that the request line or the pseudo fields name.
struct Target<'a> {
    authority: &'a [u8],
    default_port: Option<&'static [u8]>,
}

fn target_authority(req: &RequestHeader) -> Result<Option<Target<'_>>, &'static str> {
    if req.version > Version::HTTP_11 {
        return Ok(parsed_authority(&req.uri));
    }
    let raw = req.raw_path();
    if req.method == Method::CONNECT {
        return Ok(Some(Target {
            authority: raw,
            default_port: None,
        }));
    }
    match raw_target_authority(raw) {
        RawTargetAuthority::None => Ok(None),
        RawTargetAuthority::AmbiguousAuthority => Err("ambiguous authority of the target"),
        RawTargetAuthority::Absolute {
            scheme, authority, ..
        } => Ok(Some(Target {
            authority,
            default_port: default_port(scheme),
        })),
    }
}

fn parsed_authority(uri: &Uri) -> Option<Target<'_>> {
    let scheme = uri.scheme_str();
    uri.authority().map(|authority| Target {
        authority: authority.as_str().as_bytes(),
        default_port: scheme.and_then(|scheme| default_port(scheme.as_bytes())),
    })
}

impl Target<'_> {
    fn is_same_as(&self, host: &[u8]) -> bool {
        let (name, port) = split_port(self.authority);
        let (host_name, host_port) = split_port(host);
        let significant = |port| Some(port).filter(|port: &&[u8]| !port.is_empty());
        let port = significant(port).or(self.default_port);
        let host_port = significant(host_port).or(self.default_port);
        name.eq_ignore_ascii_case(host_name) && port == host_port
    }
}

fn default_port(scheme: &[u8]) -> Option<&'static [u8]> {
    let is = |known: &[u8]| scheme.eq_ignore_ascii_case(known);
    if is(b"http") || is(b"ws") {
        Some(b"80")
    } else if is(b"https") || is(b"wss") {
        Some(b"443")
    } else {
        None
    }
}

#[cfg(test)]
mod tests;
