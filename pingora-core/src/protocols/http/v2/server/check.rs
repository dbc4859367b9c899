//! The rules for a request at the border (RFC 9113 section 8), also where the `h2` crate checks them.

use h2::Reason;
use http::header::{HeaderMap, HOST, TE};
use http::Method;
use pingora_http::internal::{MessageHead, Names};
use pingora_http::RequestHeader;

use super::super::padding::is_padded;
use crate::protocols::http::authority::validate_request_authority;
use crate::protocols::http::v1::proto::framing;

/// Returns whether a malformed string stood here before it came past the guard of the transport.
fn is_replaced(string: &str) -> bool {
    !string.is_empty() && string.bytes().all(|b| b == b'&')
}

/// Checks a request's head, and says what its Content-Length promises. `ended`: no body follows.
///
/// # Errors
/// The reason why the request is malformed. Its stream is to be reset with PROTOCOL_ERROR, and nothing but it
/// (RFC 9113 section 8.1.1).
pub(super) fn request(request: &RequestHeader, ended: bool) -> Result<Option<u64>, &'static str> {
    fields(&request.headers)?;
    if request.may_have(Names::TE) {
        let others = |te: &http::HeaderValue| !te.as_bytes().eq_ignore_ascii_case(b"trailers");
        if request.headers.get_all(TE).iter().any(others) {
            return Err("TE other than trailers");
        }
    }
    let authority = request.uri.authority().map_or("", |a| a.as_str());
    if is_replaced(request.method.as_str()) || is_replaced(authority) {
        return Err("malformed pseudo-header field");
    }
    validate_request_authority(request).map_err(|_| "malformed or contradicting authority")?;
    let target = request.uri.path();
    let in_form = match request.method {
        Method::CONNECT => request.uri.authority().is_some(),
        // RFC 9113 section 8.3.1: an absolute path, or an asterisk for OPTIONS.
        Method::OPTIONS if target == "*" => true,
        _ => target.starts_with('/'),
    };
    // RFC 9110 section 4.2.1: an http URI has a host.
    let named = request.uri.authority().is_some() || request.headers.contains_key(HOST);
    if !in_form || !named {
        return Err("malformed :path or no authority");
    }
    let promised = framing::content_length(request).map_err(|_| "malformed Content-Length")?;
    if framing::length_is_repeated(request) || (ended && promised.is_some_and(|n| n > 0)) {
        return Err("Content-Length that is repeated or without its body");
    }
    Ok(promised)
}

/// Checks the fields after a request's body.
///
/// # Errors
/// PROTOCOL_ERROR for the stream.
pub(super) fn trailers(trailers: &HeaderMap) -> Result<(), Reason> {
    fields(trailers).map_err(|_| Reason::PROTOCOL_ERROR)
}

fn fields(fields: &HeaderMap) -> Result<(), &'static str> {
    let malformed = fields.iter().any(|(name, value)| {
        let value = value.as_bytes();
        // RFC 9113 section 8.2.1. The `http` crate's types have neither upper case nor CR, LF or NUL; the
        // check does not depend on it.
        Names::only(name).has_any(Names::OF_CONNECTION)
            || is_replaced(name.as_str())
            || name
                .as_str()
                .bytes()
                .any(|b| b.is_ascii_uppercase() || b <= b' ' || b >= 0x7f || b == b':')
            || value.iter().any(|b| matches!(b, b'\r' | b'\n' | 0))
            || is_padded(value)
    });
    if malformed {
        Err("malformed field, or one of a connection")
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
