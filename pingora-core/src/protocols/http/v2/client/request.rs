//! A request head in the form that HTTP/2 wants (RFC 9113 sections 8.2.2 and 8.3.1).

use http::header::{self, HeaderValue};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Method, Request, Uri, Version};
use pingora_error::ErrorType::InvalidHTTPHeader;
use pingora_error::{Error, OrErr, Result};
use pingora_http::internal::{MessageHead, Names};
use pingora_http::RequestHeader;

use super::super::padding;
use crate::protocols::http::v1::proto::framing;

/// Translates a head: Host becomes `:authority`, and fields of the connection go.
///
/// # Errors
/// `InvalidHTTPHeader` when the target or the authority has no form in HTTP/2.
pub(super) fn translate(mut req: RequestHeader, tls: bool) -> Result<Request<()>> {
    if !req.raw_path_is_utf8() {
        return Error::e_explain(InvalidHTTPHeader, "a target that is not UTF-8");
    }
    strip(&mut req)?;
    let connect = req.method == Method::CONNECT;
    let target = connect.then(|| req.raw_path().to_vec());
    let mut parts = http::request::Parts::from(req);
    let host = parts.headers.remove(header::HOST);
    padding::trim(&mut parts.headers);
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
            uri.scheme
                .get_or_insert(if tls { Scheme::HTTPS } else { Scheme::HTTP });
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

/// Takes out what speaks of the connection; of TE, `trailers` stays.
fn strip(req: &mut RequestHeader) -> Result<()> {
    let trailers = req.may_have(Names::TE)
        && framing::members(&req.headers, header::TE)
            .any(|coding| coding.eq_ignore_ascii_case(b"trailers"));
    req.remove_any(Names::HOP_BY_HOP);
    if trailers {
        req.insert_header(header::TE, HeaderValue::from_static("trailers"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_the_connection_go() {
        for (field, value, left) in [
            ("Connection", "close, x-mine", None),
            ("Keep-Alive", "timeout=5", None),
            ("Proxy-Connection", "keep-alive", None),
            ("Transfer-Encoding", "chunked", None),
            ("Upgrade", "h2c", None),
            ("HTTP2-Settings", "AAMAAABkAAQAAP__", None),
            ("TE", "deflate;q=0.5", None),
            ("TE", "gzip , Trailers", Some("trailers")),
            ("Trailer", "x-sum", Some("x-sum")),
            ("X-Configured", " a b\t", Some("a b")),
            ("Proxy-Authorization", "Basic eDp5", Some("Basic eDp5")),
        ] {
            let mut request = RequestHeader::build(Method::GET, b"/", None).unwrap();
            request.append_header("Host", "a").unwrap();
            request.append_header(field, value).unwrap();
            let sent = translate(request, false).unwrap();
            let value = sent.headers().get(field).map(|v| v.to_str().unwrap());
            assert_eq!(value, left, "{field}");
            assert_eq!(sent.headers().len(), usize::from(left.is_some()), "{field}");
        }
    }
}
