//! Parts that both roles share.

use http::header::{HeaderMap, HeaderValue, CONNECTION, EXPECT};
use http::{StatusCode, Version};
use pingora_http::internal::{MessageHead, Names};
use pingora_http::{RequestHeader, ResponseHeader};

/// The end of a line.
pub const CRLF: &[u8; 2] = b"\r\n";
/// The delimiter between the name of a field and its value.
pub const HEADER_KV_DELIMITER: &[u8; 2] = b": ";

/// The number that a Content-Length value states; `None` when it is absent or no plain decimal number.
pub fn header_value_content_length(header_value: Option<&HeaderValue>) -> Option<usize> {
    let mut one = HeaderMap::with_capacity(1);
    one.insert(http::header::CONTENT_LENGTH, header_value?.clone());
    let length = super::proto::framing::content_length(&one).ok()??;
    usize::try_from(length).ok()
}

/// Returns whether the client waits for a 100 before it sends the body (RFC 9110 section 10.1.1).
pub fn is_expect_continue_req(req: &RequestHeader) -> bool {
    req.version >= Version::HTTP_11
        && req
            .headers
            .get(EXPECT)
            .is_some_and(|v| v.as_bytes().eq_ignore_ascii_case(b"100-continue"))
}

/// Returns whether the request asks to leave HTTP on this connection (RFC 9110 section 7.8): HTTP/1.1 with
/// Upgrade, and Connection naming it.
pub fn is_upgrade_req(req: &RequestHeader) -> bool {
    req.version == Version::HTTP_11 && req.may_have(Names::UPGRADE) && names_upgrade(&req.headers)
}

fn names_upgrade(headers: &HeaderMap) -> bool {
    headers
        .get_all(CONNECTION)
        .iter()
        .flat_map(|line| line.as_bytes().split(|b| *b == b','))
        .any(|option| option.trim_ascii().eq_ignore_ascii_case(b"upgrade"))
}

/// Returns whether the response agrees to leave HTTP: a 101.
pub fn is_upgrade_resp(header: &ResponseHeader) -> bool {
    header.status == StatusCode::SWITCHING_PROTOCOLS
}
