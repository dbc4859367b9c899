//! The fields that may stand behind a body, in either direction and version (RFC 9110 section 6.5.1).

use http::header::{HeaderMap, HeaderName};
use pingora_http::internal::FieldRules;

/// Returns whether a field of this name is sent behind a body.
pub(crate) fn may_be_sent(name: &HeaderName) -> bool {
    !FieldRules::of(name).has_any(FieldRules::NOT_IN_TRAILERS)
}

/// The trailers that are sent.
pub(crate) fn to_send(mut trailers: HeaderMap) -> HeaderMap {
    let never: Vec<_> = trailers
        .keys()
        .filter(|name| !may_be_sent(name))
        .cloned()
        .collect();
    for name in never {
        trailers.remove(name);
    }
    trailers
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn what_is_sent() {
        let sent = ["grpc-status", "retry-after", "set-cookie", "x-sum", "hosts"];
        let mut trailers = HeaderMap::new();
        let never = ["content-length", "content-type", "host", "te", "upgrade"];
        for name in never.into_iter().chain(sent) {
            trailers.append(name, HeaderValue::from_static("1"));
            trailers.append(name, HeaderValue::from_static("2"));
        }
        let left = to_send(trailers);
        assert_eq!(left.keys_len(), sent.len());
        for name in sent {
            assert_eq!(left.get_all(name).iter().count(), 2, "{name}");
        }
    }
}
