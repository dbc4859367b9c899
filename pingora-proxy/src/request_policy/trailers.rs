//! What a request may say behind its body on its way to the upstream.

use http::header::{HeaderMap, HeaderName};

/// Fields that come too late behind a body (RFC 9110 section 6.5.1): the controls and conditions of a request, its
/// credentials, the format of its content; and those by which proxies tell an origin who asks for what. An origin that
/// merges trailers into the head would believe the client in place of the proxy.
const OF_THE_HEAD: [&str; 27] = [
    "authorization",
    "cache-control",
    "client-ip",
    "content-encoding",
    "content-location",
    "content-range",
    "content-type",
    "cookie",
    "early-data",
    "expect",
    "forwarded",
    "http2-settings",
    "max-forwards",
    "origin",
    "pragma",
    "priority",
    "range",
    "referer",
    "true-client-ip",
    "via",
    "x-client-ip",
    "x-http-method",
    "x-http-method-override",
    "x-method-override",
    "x-original-url",
    "x-real-ip",
    "x-rewrite-url",
];

/// Families of such fields.
const FAMILIES: [&str; 5] = ["cf-", "if-", "proxy-", "sec-", "x-forwarded-"];

fn is_of_the_head(name: &HeaderName) -> bool {
    let name = name.as_str();
    OF_THE_HEAD.contains(&name) || FAMILIES.iter().any(|family| name.starts_with(family))
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
            "if-match",
            "proxy-authorization",
            "sec-websocket-key",
            "x-forwarded-user",
        ];
        let pass = [
            "content-digest",
            "etag",
            "server-timing",
            "x-checksum",
            "x-forward",
        ];
        let mut trailers = HeaderMap::new();
        for name in OF_THE_HEAD.into_iter().chain(late).chain(pass) {
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
