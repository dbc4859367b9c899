//! Answers, and what all of them say to a browser.

use http::header::{self, HeaderName};
use http::{HeaderValue, Response, StatusCode};
use serde_json::{json as value, Value};

/// The fields of every answer. Nothing is kept by a cache, loads a thing from elsewhere, or stands in a frame.
const GUARDS: [(HeaderName, &str); 8] = [
    (header::CACHE_CONTROL, "no-store"),
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
         base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    ),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "no-referrer"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (header::VARY, "Cookie, Authorization"),
];

/// Adds the fields that every answer has.
pub(super) fn guarded(mut response: Response<Vec<u8>>) -> Response<Vec<u8>> {
    for (name, value) in GUARDS {
        response
            .headers_mut()
            .insert(name, HeaderValue::from_static(value));
    }
    response
}

/// Makes an answer of this type.
pub(super) fn of(
    status: StatusCode,
    kind: &'static str,
    body: impl Into<Vec<u8>>,
) -> Response<Vec<u8>> {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    let kind = HeaderValue::from_static(kind);
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

/// Answers in plain text.
pub(super) fn text(status: StatusCode, text: impl Into<Vec<u8>>) -> Response<Vec<u8>> {
    of(status, "text/plain; charset=utf-8", text)
}

/// Answers with a JSON document.
pub(super) fn json(status: StatusCode, document: &Value) -> Response<Vec<u8>> {
    of(status, "application/json", format!("{document}\n"))
}

/// Answers that a request is not served, and why.
pub(super) fn refuse(status: StatusCode, why: &str) -> Response<Vec<u8>> {
    json(status, &value!({ "error": why }))
}
