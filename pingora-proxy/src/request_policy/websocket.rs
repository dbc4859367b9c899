//! WebSockets of HTTP/2 (RFC 8441), told to an origin that speaks HTTP/1.1 (RFC 6455).

use std::hash::{BuildHasher, Hasher, RandomState};

use http::{header, Method};
use pingora_core::upstreams::peer::H1UpgradePolicy;
use pingora_error::{Error, ErrorType, Result};
use pingora_http::RequestHeader;

/// The protocol that an extended CONNECT asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    WebSocket,
    Other,
}

/// What an extended CONNECT asks for; `None` for any other request.
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
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let random = || u128::from(RandomState::new().build_hasher().finish());
    let mut bits = random() << 64 | random();
    let mut key = String::with_capacity(24);
    for _ in 0..21 {
        key.push(char::from(ALPHABET[(bits & 63) as usize]));
        bits >>= 6;
    }
    // Two bits are left for the last digit, whose others are zero.
    key.push(char::from(ALPHABET[((bits & 3) << 4) as usize]));
    key.push_str("==");
    key
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
}
