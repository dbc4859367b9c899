//! Conditional requests (RFC 9110 section 13): may the answer be "not modified"?

use http::header::{self, AsHeaderName, HeaderMap};
use http::{Method, StatusCode};
use httpdate::HttpDate;
use pingora_error::{ErrorType, OkOrErr, Result};
use pingora_http::internal::{MessageHead, Names};
use pingora_http::{RequestHeader, ResponseHeader};

/// Returns whether `req` is answered by a 304 in place of `resp`, which is what it would get without its
/// preconditions.
///
/// That is so for GET and HEAD and a successful `resp` (RFC 9110 13.2.1) if `If-None-Match` names
/// the response's entity tag or is `*` or, without an `If-None-Match`, if `Last-Modified` is not
/// later than `If-Modified-Since` (13.2.2). A date that cannot be parsed is no precondition.
pub fn not_modified_filter(req: &RequestHeader, resp: &ResponseHeader) -> bool {
    if !resp.status.is_success() || !matches!(req.method, Method::GET | Method::HEAD) {
        return false;
    }
    // Most requests have no condition.
    if !req.may_have(Names::IF_NONE_MATCH.or(Names::IF_MODIFIED_SINCE)) {
        return false;
    }
    if req.may_have(Names::IF_NONE_MATCH) {
        // The representation exists, so `*` matches it even if it has no tag.
        let target = resp.headers.get(header::ETAG);
        let target = target.map_or(&b""[..], |tag| tag.as_bytes());
        let mut tags = req.headers.get_all(header::IF_NONE_MATCH).into_iter();
        return tags.any(|listed| weak_validate_etag(listed.as_bytes(), target));
    }
    let Ok(Some(since)) = req_header_as_http_date(req, header::IF_MODIFIED_SINCE) else {
        return false;
    };
    let modified = resp_header_as_http_date(resp, header::LAST_MODIFIED);
    matches!(modified, Ok(Some(modified)) if modified <= since)
}

/// Returns whether `input_etag_header`, a list of entity tags or `*`, has one that matches `target_etag`
/// by weak comparison (RFC 9110 8.8.3.2).
///
/// An empty target has no tag and matches only `*`.
pub fn weak_validate_etag(input_etag_header: &[u8], target_etag: &[u8]) -> bool {
    if input_etag_header.trim_ascii() == b"*" {
        return true;
    }
    let target = opaque_tag(target_etag.trim_ascii());
    !target.is_empty() && EntityTags(input_etag_header).any(|tag| opaque_tag(tag) == target)
}

fn opaque_tag(tag: &[u8]) -> &[u8] {
    tag.strip_prefix(b"W/").unwrap_or(tag)
}

/// The members of a list of entity tags. A quoted one may contain commas.
struct EntityTags<'a>(&'a [u8]);

impl<'a> Iterator for EntityTags<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let list = self.0.trim_ascii_start();
        if list.is_empty() {
            return None;
        }
        let mut quoted = false;
        let end = list.iter().position(|&byte| {
            quoted ^= byte == b'"';
            byte == b',' && !quoted
        });
        let (tag, rest) = match end {
            Some(end) => (&list[..end], &list[end + 1..]),
            None => (list, &b""[..]),
        };
        self.0 = rest;
        Some(tag.trim_ascii_end())
    }
}

/// Makes a 304 of the header of a successful response.
///
/// Fields that describe the content go, as there is none (RFC 9110 15.4.5); those that tell a cache about
/// the stored response stays.
pub fn to_304(resp: &mut ResponseHeader) {
    // `set_status` refuses only what is no status code.
    let _ = resp.set_status(StatusCode::NOT_MODIFIED);
    for name in [
        header::CONTENT_LENGTH,
        header::TRANSFER_ENCODING,
        header::TRAILER,
        header::CONTENT_TYPE,
        header::CONTENT_ENCODING,
        header::CONTENT_LANGUAGE,
        header::CONTENT_RANGE,
    ] {
        resp.remove_header(&name);
    }
}

/// The date in a field of a request; `None` if the field is absent.
///
/// # Errors
///
/// `InvalidHTTPHeader` if the field is there more than once or is no HTTP date.
pub fn req_header_as_http_date<H>(req: &RequestHeader, header_name: H) -> Result<Option<HttpDate>>
where
    H: AsHeaderName,
{
    http_date(&req.headers, header_name)
}

/// The date in a field of a response; `None` if the field is absent.
///
/// # Errors
///
/// `InvalidHTTPHeader` if the field is there more than once or is no HTTP date.
pub fn resp_header_as_http_date<H>(
    resp: &ResponseHeader,
    header_name: H,
) -> Result<Option<HttpDate>>
where
    H: AsHeaderName,
{
    http_date(&resp.headers, header_name)
}

fn http_date<H: AsHeaderName>(headers: &HeaderMap, name: H) -> Result<Option<HttpDate>> {
    let mut values = headers.get_all(name).into_iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    let single = values.next().is_none().then_some(value);
    single
        .and_then(|value| value.to_str().ok()?.trim().parse().ok())
        .map(Some)
        .or_err(ErrorType::InvalidHTTPHeader, "not an HTTP date")
}

#[cfg(test)]
mod tests;
