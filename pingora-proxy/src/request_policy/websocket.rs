//! WebSockets of HTTP/1.1 (RFC 6455) and of HTTP/2 (RFC 8441), told by the one to the other.
//!
//! Between the client's session and the link to the origin a handshake has the form of HTTP/1.1, whatever the two sides
//! speak: filters see one form of it.

use std::hash::{BuildHasher, Hasher, RandomState};

use base64::prelude::{Engine as _, BASE64_STANDARD};
use http::{header, HeaderValue, Method, StatusCode};
use pingora_core::upstreams::peer::H1UpgradePolicy;
use pingora_error::{Error, ErrorType, Result};
use pingora_http::internal::FieldRules;
use pingora_http::{RequestHeader, ResponseHeader};
use sha1::{Digest, Sha1};

/// The protocol that an extended CONNECT asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    WebSocket,
    Other,
}

/// Returns what an extended CONNECT asks for; `None` for any other request.
pub(crate) fn asked(req: &RequestHeader) -> Option<Asked> {
    let protocol = req.extensions.get::<h2::ext::Protocol>()?;
    match req.method == Method::CONNECT {
        true if protocol.as_str().eq_ignore_ascii_case("websocket") => Some(Asked::WebSocket),
        true => Some(Asked::Other),
        false => None,
    }
}

/// Makes the copy of an extended CONNECT a GET, whose target is then brought to origin-form like any other.
pub(crate) fn begin(req: &mut RequestHeader) {
    req.set_method(Method::GET);
    req.extensions_mut().remove::<h2::ext::Protocol>();
}

/// Makes it the handshake of RFC 6455 section 4.1.
///
/// # Errors
/// `HTTPStatus` 501 when the peer's policy lets no upgrade through.
pub(crate) fn complete(req: &mut RequestHeader, policy: H1UpgradePolicy) -> Result<()> {
    if policy == H1UpgradePolicy::Deny {
        return Error::e_explain(ErrorType::HTTPStatus(501), "no upgrade is let through");
    }
    req.remove_header(&header::CONTENT_LENGTH);
    req.insert_header("Upgrade", "websocket")?;
    req.insert_header("Connection", "Upgrade")?;
    req.insert_header("Sec-WebSocket-Key", key())?;
    if !req.headers.contains_key(header::SEC_WEBSOCKET_VERSION) {
        req.insert_header("Sec-WebSocket-Version", "13")?;
    }
    Ok(())
}

/// Sixteen bytes that differ from request to request, in base64. They keep no secret: they show that the origin
/// has understood the handshake.
fn key() -> String {
    let random = || u128::from(RandomState::new().build_hasher().finish());
    let bits = random() << 64 | random();
    BASE64_STANDARD.encode(bits.to_ne_bytes())
}

/// Returns what Sec-WebSocket-Accept has to be in the answer to a handshake (RFC 6455 section 4.2.2); `None` for a
/// request that has no key.
pub(crate) fn accept(req: &RequestHeader) -> Option<HeaderValue> {
    let key = req.headers.get(header::SEC_WEBSOCKET_KEY)?;
    let mut hash = Sha1::new();
    hash.update(key.as_bytes().trim_ascii());
    hash.update(b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    HeaderValue::try_from(BASE64_STANDARD.encode(hash.finalize())).ok()
}

/// Returns whether an origin has understood the handshake whose answer has to be `accept`.
pub(crate) fn is_accepted(resp: &ResponseHeader, accept: &HeaderValue) -> bool {
    let mut accepts = resp.headers.get_all(header::SEC_WEBSOCKET_ACCEPT).iter();
    let first = accepts.next().map(|value| value.as_bytes().trim_ascii());
    first == Some(accept.as_bytes()) && accepts.next().is_none()
}

/// Makes a handshake the extended CONNECT of RFC 8441 section 5, for an origin that speaks HTTP/2.
pub(crate) fn extend(req: &mut RequestHeader) {
    req.set_method(Method::CONNECT);
    req.extensions_mut()
        .insert(h2::ext::Protocol::from_static("websocket"));
    let of_http1 = FieldRules::HTTP1_HANDSHAKE.fields();
    for name in of_http1.chain([header::UPGRADE, header::CONNECTION, header::CONTENT_LENGTH]) {
        req.remove_header(&name);
    }
}

/// Makes an origin's success at it the answer of HTTP/1.1.
///
/// # Errors
/// Those of setting fields.
pub(crate) fn switched(resp: &mut ResponseHeader, accept: &HeaderValue) -> Result<()> {
    resp.set_status(StatusCode::SWITCHING_PROTOCOLS)?;
    resp.remove_header(&header::CONTENT_LENGTH);
    resp.insert_header("Upgrade", "websocket")?;
    resp.insert_header("Connection", "Upgrade")?;
    resp.insert_header("Sec-WebSocket-Accept", accept.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_sixteen_bytes_and_each_is_another() {
        let keys: std::collections::HashSet<String> = (0..100).map(|_| key()).collect();
        assert_eq!(keys.len(), 100);
        for key in keys {
            assert_eq!(key.len(), 24);
            assert!(key.ends_with("=="), "{key}");
            assert!("AQgw".contains(&key[21..22]), "{key}");
        }
    }

    /// The example of RFC 6455 section 1.3.
    #[test]
    fn an_answer_fits_one_key() {
        let mut req = RequestHeader::build("GET", b"/", None).unwrap();
        assert_eq!(accept(&req), None);
        req.insert_header("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")
            .unwrap();
        let expected = accept(&req).unwrap();
        assert_eq!(expected, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        let mut resp = ResponseHeader::build(101, None).unwrap();
        assert!(!is_accepted(&resp, &expected));
        resp.append_header("Sec-WebSocket-Accept", expected.clone())
            .unwrap();
        assert!(is_accepted(&resp, &expected));
        resp.append_header("Sec-WebSocket-Accept", expected.clone())
            .unwrap();
        assert!(!is_accepted(&resp, &expected));
    }
}
