//! What may stand behind a body (RFC 9110 section 6.5.1).

use http::header::{HeaderMap, HeaderName};

/// Fields without which a body cannot be read, or which come too late behind it. Who merges trailers into the head, as
/// some origins do, must not be told there how long the message is, whom it is for, or who sent it.
const OF_THE_HEAD: [&str; 40] = [
    // Framing.
    "content-length",
    "trailer",
    "transfer-encoding",
    // The connection, of which another one follows.
    "connection",
    "keep-alive",
    "proxy-connection",
    "te",
    "upgrade",
    // Routing.
    "host",
    "max-forwards",
    // Modifiers of a request.
    "cache-control",
    "expect",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "pragma",
    "range",
    // Authentication.
    "authorization",
    "cookie",
    "proxy-authenticate",
    "proxy-authorization",
    "set-cookie",
    "www-authenticate",
    "forwarded",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-real-ip",
    // Controls of a response.
    "age",
    "date",
    "expires",
    "location",
    "retry-after",
    "vary",
    // The format of the content.
    "content-encoding",
    "content-range",
    "content-type",
    "content-location",
];

/// Whether a trailer of this name is passed on.
pub(crate) fn is_passed_on(name: &HeaderName) -> bool {
    !OF_THE_HEAD.contains(&name.as_str())
}

/// The trailers that are passed on.
pub(crate) fn only_passed_on(mut trailers: HeaderMap) -> HeaderMap {
    for name in OF_THE_HEAD {
        trailers.remove(name);
    }
    trailers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for name in OF_THE_HEAD {
            // A name that is not in lower case would never be met.
            assert!(!is_passed_on(&HeaderName::from_static(name)), "{name}");
        }
        for name in [
            "grpc-status",
            "grpc-message",
            "etag",
            "server-timing",
            "authentication-info",
            "content-digest",
            "x-checksum",
        ] {
            assert!(is_passed_on(&HeaderName::from_static(name)), "{name}");
        }
    }
}
