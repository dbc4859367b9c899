//! One target, one Host: what a request asks for, said to the origin in one way only.
//!
//! A target can name its authority (`GET http://a/ HTTP/1.1`, `:authority` in HTTP/2) and Host can
//! name another. The copy of the request is brought to one form before the application sees it, a
//! target in origin-form and the authority in Host; so what the application then sets in either
//! place is what it wants, Host first, and is checked once more.

use http::header;
use http::{Method, Uri};
use pingora_error::Result;
use pingora_http::authority::{is_http_family_scheme, raw_target_authority, RawTargetAuthority};
use pingora_http::internal::is_valid_host;
use pingora_http::internal::{MessageHead, Names};
use pingora_http::RequestHeader;

use super::refusal::refusal;

/// Moves an authority in the target into Host and leaves the target in origin-form, as an origin
/// expects it (RFC 9112 section 3.2.1). Called on the copy before `upstream_request_filter`.
///
/// The target's authority replaces a Host that differs (RFC 9112 section 3.2.2). `CONNECT` keeps
/// its target.
///
/// # Errors
///
/// `InvalidHTTPHeader` of the downstream when the target is in none of the forms of RFC 9112
/// section 3.2, its scheme is not of the HTTP family, or its authority is empty, malformed or has
/// user information (RFC 9110 section 4.2.4).
#[inline]
pub(crate) fn origin_form(req: &mut RequestHeader) -> Result<()> {
    if is_origin_form(req) {
        Ok(())
    } else {
        into_origin_form(req, false)
    }
}

/// Returns whether the target is in origin-form already.
#[inline]
pub(super) fn is_origin_form(req: &RequestHeader) -> bool {
    req.raw_path().starts_with(b"/")
        && req.uri.authority().is_none()
        && req.method != Method::CONNECT
}

/// With `keeps_host`, a Host that is there stays.
fn into_origin_form(req: &mut RequestHeader, keeps_host: bool) -> Result<()> {
    if req.method == Method::CONNECT {
        return connect_host(req);
    }
    // As parsed parts: from HTTP/2, or set by the application.
    if let Some(authority) = req.uri.authority() {
        if req
            .uri
            .scheme_str()
            .is_some_and(|s| !is_http_family_scheme(s.as_bytes()))
        {
            return Err(refusal("target of a foreign scheme"));
        }
        let authority = authority.as_str().as_bytes().to_vec();
        let path = req.uri.path_and_query().cloned();
        if !keeps_host || !req.headers.contains_key(header::HOST) {
            set_host(req, &authority)?;
        }
        // An empty path of a parsed URI reads as "/".
        req.set_uri(path.map_or_else(|| Uri::from_static("/"), Uri::from));
        return Ok(());
    }
    let target = req.raw_path();
    if target.starts_with(b"/") || target == b"*" {
        return Ok(());
    }
    let RawTargetAuthority::Absolute {
        scheme,
        authority,
        path_and_query,
    } = raw_target_authority(target)
    else {
        return Err(refusal("target in no form of HTTP"));
    };
    if !is_http_family_scheme(scheme) {
        return Err(refusal("target of a foreign scheme"));
    }
    let authority = authority.to_vec();
    let path = match path_and_query {
        // RFC 9112 section 3.2.4: the last proxy turns an empty path of OPTIONS into "*".
        b"" if req.method == Method::OPTIONS => b"*".to_vec(),
        path if path.starts_with(b"/") => path.to_vec(),
        query => [b"/", query].concat(),
    };
    if !keeps_host || !req.headers.contains_key(header::HOST) {
        set_host(req, &authority)?;
    }
    req.set_raw_path(&path)
}

/// Makes sure that the request says in one way which site it is for. Called on the copy after
/// `upstream_request_filter`.
///
/// An authority that the application put into the target goes to Host, as in [`origin_form`], if there is none: it may
/// mean no more by it than the path.
/// A request without Host, as HTTP/1.0 allows, gets an empty one (RFC 9112 section 3.2).
///
/// # Errors
///
/// As [`origin_form`], and when there are several Host fields or a malformed one.
pub(crate) fn reconcile_host(req: &mut RequestHeader) -> Result<()> {
    if !is_origin_form(req) {
        into_origin_form(req, true)?;
    }
    if check_host(req)? {
        return Ok(());
    }
    req.insert_header("Host", "")
}

/// Gives a request of a custom protocol, whose target and Host are its own matter, a Host where it has none.
pub(crate) fn name_host(req: &mut RequestHeader) -> Result<()> {
    if req.headers.contains_key(header::HOST) {
        return Ok(());
    }
    let authority = req.uri.authority().map(|authority| authority.to_string());
    req.insert_header("Host", authority.unwrap_or_default())
}

/// Returns whether there is a Host; an error unless it is the only one and well-formed.
fn check_host(req: &RequestHeader) -> Result<bool> {
    if req.index().has_valid_host() {
        return Ok(true);
    }
    let Some(host) = req.headers.get(header::HOST) else {
        return Ok(false);
    };
    if req.index().may_list(Names::HOST)
        && req.headers.get_all(header::HOST).iter().nth(1).is_some()
    {
        return Err(refusal("several Host fields"));
    }
    if !host.is_empty() && !is_valid_host(host.as_bytes()) {
        return Err(refusal("malformed Host"));
    }
    Ok(true)
}

/// RFC 9112 section 3.2.3: the target of CONNECT is an authority, and Host repeats it.
fn connect_host(req: &mut RequestHeader) -> Result<()> {
    let authority = match req.uri.authority() {
        Some(authority) => authority.as_str().as_bytes().to_vec(),
        None => req.raw_path().to_vec(),
    };
    set_host(req, &authority)
}

/// Makes `authority` the only Host.
fn set_host(req: &mut RequestHeader, authority: &[u8]) -> Result<()> {
    if !is_valid_host(authority) {
        return Err(refusal("malformed authority in the target"));
    }
    let mut hosts = req.headers.get_all(header::HOST).iter();
    if hosts.next().is_some_and(|host| host == authority) && hosts.next().is_none() {
        return Ok(());
    }
    req.insert_header("Host", authority)
}
