//! A request head in the form that HTTP/2 wants (RFC 9113 sections 8.2.2 and 8.3.1).

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Method, Request, Uri, Version};
use pingora_error::ErrorType::InvalidHTTPHeader;
use pingora_error::{Error, OrErr, Result};
use pingora_http::{Names, RequestHeader};

/// Fields that speak of a connection, which HTTP/2 does not allow.
static OF_CONNECTION: [HeaderName; 6] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    HeaderName::from_static("http2-settings"),
];

/// Translates a head: Host becomes `:authority`, and fields of the connection go.
///
/// # Errors
/// `InvalidHTTPHeader` when the target or the authority has no form in HTTP/2.
pub(super) fn translate(req: RequestHeader, tls: bool) -> Result<Request<()>> {
    if !req.raw_path_is_utf8() {
        return Error::e_explain(InvalidHTTPHeader, "a target that is not UTF-8");
    }
    let of_connection = req.may_have(
        Names::CONNECTION
            .or(Names::KEEP_ALIVE)
            .or(Names::PROXY_CONNECTION)
            .or(Names::TRANSFER_ENCODING)
            .or(Names::UPGRADE)
            .or(Names::TE),
    );
    let connect = req.method == Method::CONNECT;
    let target = connect.then(|| req.raw_path().to_vec());
    let mut parts = http::request::Parts::from(req);
    if of_connection {
        strip(&mut parts.headers);
    }
    let host = parts.headers.remove(header::HOST);
    let authority = match (parts.uri.authority(), host, target) {
        (Some(authority), _, _) => Some(authority.clone()),
        (None, Some(host), _) if !host.is_empty() => Some(authority(host.as_bytes())?),
        (None, _, Some(target)) => Some(authority(&target)?),
        _ => None,
    };
    let extended = parts.extensions.get::<h2::ext::Protocol>().is_some();
    parts.version = Version::HTTP_2;
    match authority {
        Some(authority) if connect && !extended => {
            let mut uri = http::uri::Parts::default();
            uri.authority = Some(authority);
            parts.uri = Uri::from_parts(uri).or_err(InvalidHTTPHeader, "target of CONNECT")?;
        }
        Some(authority) => {
            let mut uri = std::mem::take(&mut parts.uri).into_parts();
            uri.authority = Some(authority);
            uri.path_and_query
                .get_or_insert(PathAndQuery::from_static("/"));
            uri.scheme.get_or_insert(match tls {
                true => Scheme::HTTPS,
                false => Scheme::HTTP,
            });
            parts.uri = Uri::from_parts(uri).or_err(InvalidHTTPHeader, "request target")?;
        }
        None if extended => {
            return Error::e_explain(InvalidHTTPHeader, "an extended CONNECT to no authority")
        }
        // h2 takes a request without an authority for one of HTTP/1.1 alone.
        None => parts.version = Version::HTTP_11,
    }
    Ok(Request::from_parts(parts, ()))
}

fn authority(bytes: &[u8]) -> Result<Authority> {
    Authority::try_from(bytes).or_err(InvalidHTTPHeader, "Host is no authority")
}

fn strip(headers: &mut HeaderMap) {
    for name in &OF_CONNECTION {
        headers.remove(name);
    }
    let trailers = headers
        .get_all(header::TE)
        .iter()
        .flat_map(|te| te.as_bytes().split(|b| *b == b','))
        .any(|coding| coding.trim_ascii().eq_ignore_ascii_case(b"trailers"));
    if headers.remove(header::TE).is_some() && trailers {
        // It takes the place of the one that went.
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
    }
}
