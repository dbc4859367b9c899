//! The trailers of a request on its way to the upstream.

use http::header::{HeaderMap, HeaderName};
use pingora_http::internal::FieldRules;

fn is_of_the_head(name: &HeaderName) -> bool {
    FieldRules::of(name).has_any(FieldRules::NOT_IN_REQUEST_TRAILERS)
}

/// Removes from the trailers of a request what belongs into its head.
pub(crate) fn strip_trailers(trailers: &mut HeaderMap) {
    let late: Vec<_> = trailers
        .keys()
        .filter(|name| is_of_the_head(name))
        .cloned()
        .collect();
    for name in late {
        log::debug!("a trailer that belongs into the head of a request is dropped: {name}");
        trailers.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn what_passes() {
        let late = [
            "authorization",
            "cf-ipcountry",
            "if-match",
            "proxy-authorization",
            "sec-websocket-key",
            "x-forwarded-user",
            "x-real-ip",
        ];
        let pass = [
            "content-digest",
            "etag",
            "server-timing",
            "x-checksum",
            "x-forward",
        ];
        let mut trailers = HeaderMap::new();
        for name in late.into_iter().chain(pass) {
            trailers.append(name, HeaderValue::from_static("1"));
            trailers.append(name, HeaderValue::from_static("2"));
        }
        strip_trailers(&mut trailers);
        assert_eq!(trailers.keys_len(), pass.len());
        for name in pass {
            assert_eq!(trailers.get_all(name).iter().count(), 2, "{name}");
        }
    }
}
