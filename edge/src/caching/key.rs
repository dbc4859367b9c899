//! The key of a request, and the keys that an unsafe request makes invalid (RFC 9111 sections 2 and 4.4).

use http::{header, Method, Uri};
use pingora_cache::CacheKey;
use pingora_http::{RequestHeader, ResponseHeader};

/// Returns the key under which the response to a GET for this target is stored; `None` without a host.
///
/// The method is not in it, so that a PURGE and an unsafe request find what a GET has stored.
pub fn key(request: &RequestHeader) -> Option<CacheKey> {
    let path = request
        .uri
        .path_and_query()
        .map_or("/", |path| path.as_str());
    Some(of(&authority(request)?, path))
}

fn of(authority: &str, path: &str) -> CacheKey {
    // With its length in front, no end of the authority can be taken for the beginning of the path.
    CacheKey::new(format!("{}:{authority}{path}", authority.len()), "")
}

/// The host that the request is for, in lower case and without the default port.
fn authority(request: &RequestHeader) -> Option<String> {
    let host = request.headers.get(header::HOST);
    let said = match request.uri.authority() {
        Some(authority) => authority.as_str(),
        None => host?.to_str().ok()?,
    };
    Some(canonical(said)).filter(|authority| !authority.is_empty())
}

fn canonical(authority: &str) -> String {
    let lower = authority.to_ascii_lowercase();
    match lower.strip_suffix(":80") {
        Some(host) => host.to_owned(),
        None => lower,
    }
}

/// Returns the keys of what a response makes invalid: after a success of an unsafe method its own target, and what
/// Location and Content-Location name at the same origin.
pub fn invalidated(request: &RequestHeader, response: &ResponseHeader) -> Vec<CacheKey> {
    const SAFE: [Method; 4] = [Method::GET, Method::HEAD, Method::OPTIONS, Method::TRACE];
    let succeeded = response.status.is_success() || response.status.is_redirection();
    if SAFE.contains(&request.method) || !succeeded {
        return Vec::new();
    }
    let Some(authority) = authority(request) else {
        return Vec::new();
    };
    let target = request
        .uri
        .path_and_query()
        .map_or("/", |path| path.as_str());
    let mut keys = vec![of(&authority, target)];
    for name in [header::LOCATION, header::CONTENT_LOCATION] {
        let reference = response
            .headers
            .get(name)
            .and_then(|value| value.to_str().ok());
        let path =
            reference.and_then(|reference| at_origin(reference, &["http"], &authority, target));
        keys.extend(path.map(|path| of(&authority, &path)));
    }
    keys
}

/// Returns the path and query of a reference, if it is to this origin, by one of these schemes. A relative one with dot segments is not resolved.
pub fn at_origin(
    reference: &str,
    schemes: &[&str],
    authority: &str,
    target: &str,
) -> Option<String> {
    let reference = reference.split('#').next()?;
    if reference.contains("://") {
        let uri = reference.parse::<Uri>().ok()?;
        let same = uri
            .scheme_str()
            .is_some_and(|scheme| schemes.contains(&scheme))
            && uri
                .authority()
                .is_some_and(|other| canonical(other.as_str()) == authority);
        return same.then(|| uri.path_and_query().map_or("/", |p| p.as_str()).to_owned());
    }
    if reference.starts_with("//") || reference.is_empty() {
        return None;
    }
    if reference.starts_with('/') {
        return Some(reference.to_owned());
    }
    if reference
        .split('/')
        .any(|segment| matches!(segment, "." | ".."))
    {
        return None;
    }
    let path = target.split('?').next().unwrap_or_default();
    let folder = path.rfind('/').map_or("/", |slash| &path[..=slash]);
    Some(format!("{folder}{reference}"))
}
