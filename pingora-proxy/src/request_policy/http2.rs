//! The fields that a request loses on its way between HTTP/2 and HTTP/1.1.

use http::header::{self, HeaderMap, HeaderValue};
use http::uri::Authority;
use http::{Method, Version};
use pingora_core::protocols::http::authority::agrees;
use pingora_error::Result;
use pingora_http::authority::is_http_family_scheme;
use pingora_http::internal::{MessageHead, Names};
use pingora_http::RequestHeader;

use super::refusal::refusal;

/// Returns whether [`from_h2`] and what follows it have nothing to refuse in a request: it came over HTTP/2, which has
/// checked all but what is looked at here.
pub(super) fn is_plain(req: &RequestHeader) -> bool {
    let scheme = req.uri.scheme_str().unwrap_or_default();
    req.version == Version::HTTP_2
        && req.method != Method::CONNECT
        && is_http_family_scheme(scheme.as_bytes())
        && !req.may_have(Names::HOST)
}

/// Makes the copy of a request that came over HTTP/2 fit for any upstream. Called before the target is brought
/// into origin-form.
///
/// Towards HTTP/1.1 the crumbs of Cookie become one field (RFC 9113 section 8.2.3), and so does a repeated
/// Content-Length.
///
/// # Errors
///
/// `InvalidHTTPHeader` of the downstream when `:authority` and Host name different sites (RFC 9113 section
/// 8.3.1), the path is in no form of HTTP, or there is a Transfer-Encoding: an HTTP/1.1 origin could read
/// another request in it than the one that was sent.
pub(crate) fn from_h2(req: &mut RequestHeader) -> Result<()> {
    if req.headers.contains_key(header::TRANSFER_ENCODING) {
        return Err(refusal("Transfer-Encoding in HTTP/2"));
    }
    let mut hosts = req.headers.get_all(header::HOST).iter();
    if hosts.any(|host| !agrees(&req.uri, host.as_bytes())) {
        return Err(refusal(":authority and Host differ"));
    }
    if req.method != Method::CONNECT {
        let path = req.raw_path();
        let whole = path == b"*" && req.method == Method::OPTIONS;
        if !whole && !path.starts_with(b"/") {
            return Err(refusal("path in no form of HTTP"));
        }
    }
    if req.version == Version::HTTP_2 {
        return Ok(());
    }
    join_cookies(req)?;
    one_length(req)
}

/// Makes sure that the request can be said in HTTP/2. Called on the copy when the application is done with it, and
/// its Host is checked.
///
/// # Errors
///
/// `InvalidHTTPHeader` of the downstream when the target is not UTF-8, or Host is no authority of a URI.
pub(crate) fn check_for_h2(req: &RequestHeader) -> Result<()> {
    if !req.raw_path_is_utf8() {
        return Err(refusal("target that is not UTF-8, to be sent in HTTP/2"));
    }
    let host = req.headers.get(header::HOST).map(HeaderValue::as_bytes);
    match host {
        None | Some(b"") => Ok(()),
        Some(host) => match Authority::try_from(host) {
            Ok(_) => Ok(()),
            Err(_) => Err(refusal("Host that is no authority, to be sent in HTTP/2")),
        },
    }
}

/// Says in HTTP/1.1 that a request has no body, where its client said so by the end of the stream: of methods that
/// mean to bring content an origin may ask for the length (RFC 9110 section 8.6).
///
/// # Errors
/// Those of setting a field.
pub(crate) fn say_empty(req: &mut RequestHeader) -> Result<()> {
    match req.method {
        Method::POST | Method::PUT | Method::PATCH => {
            req.insert_header(header::CONTENT_LENGTH, HeaderValue::from_static("0"))
        }
        _ => Ok(()),
    }
}

fn join_cookies(req: &mut RequestHeader) -> Result<()> {
    let mut crumbs = req.headers.get_all(header::COOKIE).iter();
    if crumbs.nth(1).is_none() {
        return Ok(());
    }
    let crumbs: Vec<&[u8]> = req
        .headers
        .get_all(header::COOKIE)
        .iter()
        .map(HeaderValue::as_bytes)
        .collect();
    let cookie = crumbs.join(&b"; "[..]);
    req.insert_header(header::COOKIE, cookie)
}

/// Equal lengths may be repeated; which one counts is then not for an origin to decide.
fn one_length(req: &mut RequestHeader) -> Result<()> {
    let mut lengths = req.headers.get_all(header::CONTENT_LENGTH).iter();
    let Some(first) = lengths.next().cloned() else {
        return Ok(());
    };
    let mut repeated = false;
    for length in lengths {
        if *length != first {
            return Err(refusal("lengths that differ"));
        }
        repeated = true;
    }
    if repeated {
        req.insert_header(header::CONTENT_LENGTH, first)
    } else {
        Ok(())
    }
}

/// Returns whether the request is of gRPC, which works with trailers only.
pub(super) fn is_grpc(headers: &HeaderMap) -> bool {
    let content_type = headers.get(header::CONTENT_TYPE);
    content_type.is_some_and(|t| {
        t.as_bytes()
            .to_ascii_lowercase()
            .starts_with(b"application/grpc")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(method: &str, uri: &str, fields: &[(&'static str, &str)]) -> RequestHeader {
        let mut req = RequestHeader::build(method, b"/", None).unwrap();
        req.set_uri(uri.parse().unwrap());
        for (name, value) in fields {
            req.append_header(*name, *value).unwrap();
        }
        req
    }

    #[test]
    fn crumbs_and_repeated_lengths_become_one_field() {
        let fields = [
            ("cookie", "a=1"),
            ("content-length", "5"),
            ("cookie", "b=2; c=3"),
            ("content-length", "5"),
            ("cookie", "d=4"),
        ];
        let mut req = request("POST", "http://a/", &fields);
        from_h2(&mut req).unwrap();
        let all = |name| {
            let values = req.headers.get_all(name).iter();
            values.map(|v| v.to_str().unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(all(header::COOKIE), ["a=1; b=2; c=3; d=4"]);
        assert_eq!(all(header::CONTENT_LENGTH), ["5"]);

        let mut kept = request("POST", "http://a/", &fields);
        kept.set_version(Version::HTTP_2);
        from_h2(&mut kept).unwrap();
        assert_eq!(kept.headers.get_all(header::COOKIE).iter().count(), 3);
    }

    #[test]
    fn what_two_parties_could_read_differently_is_refused() {
        let refused = [
            request("GET", "http://a.test/", &[("host", "b.test")]),
            request("GET", "https://a.test/", &[("host", "a.test:80")]),
            request(
                "GET",
                "http://a.test/",
                &[("host", "a.test"), ("host", "b.test")],
            ),
            request("GET", "http://a.test/", &[("transfer-encoding", "chunked")]),
            request(
                "POST",
                "http://a.test/",
                &[("content-length", "5"), ("content-length", "6")],
            ),
            request(
                "POST",
                "http://a.test/",
                &[
                    ("content-length", "5"),
                    ("content-length", "5"),
                    ("content-length", "6"),
                ],
            ),
            request("GET", "*", &[]),
        ];
        for mut req in refused {
            assert!(from_h2(&mut req).is_err(), "{req:?}");
        }
        let fine = [
            request("GET", "http://a.test/", &[("host", "A.test")]),
            request("GET", "http://a.test/", &[("host", "a.test:80")]),
            request("GET", "https://a.test:443/", &[("host", "a.test")]),
            request("OPTIONS", "*", &[]),
            request("GET", "/path", &[("host", "a.test")]),
        ];
        for mut req in fine {
            assert!(from_h2(&mut req).is_ok(), "{req:?}");
        }
    }

    #[test]
    fn what_cannot_be_said_in_http2_is_refused() {
        let mut req = request("GET", "/", &[("host", "a.test:80")]);
        assert!(check_for_h2(&req).is_ok());
        req.set_raw_path(b"/\xe4").unwrap();
        assert!(check_for_h2(&req).is_err());
        assert!(check_for_h2(&request("GET", "/", &[("host", "")])).is_ok());
        assert!(check_for_h2(&request("GET", "/", &[("host", "a[b")])).is_err());
    }
}
