//! Responses that the proxy makes when it has none to pass on.

use std::sync::OnceLock;

use http::header::{self, HeaderValue};
use http::StatusCode;
use once_cell::sync::Lazy;
use pingora_http::ResponseHeader;

use super::date::get_cached_date;
use super::SERVER_NAME;

/// A 400 that is made once and copied.
///
/// Its `Date` is a placeholder: whoever sends it puts [`get_cached_date`] there.
pub static HTTP_400_RESPONSE: Lazy<ResponseHeader> =
    Lazy::new(|| empty_response(StatusCode::BAD_REQUEST, PLACEHOLDER));

/// A 502 that is made once and copied.
///
/// Its `Date` is a placeholder: whoever sends it puts [`get_cached_date`] there.
pub static HTTP_502_RESPONSE: Lazy<ResponseHeader> =
    Lazy::new(|| empty_response(StatusCode::BAD_GATEWAY, PLACEHOLDER));

/// The example date of RFC 9110 5.6.7, which nobody takes for a real one.
const PLACEHOLDER: HeaderValue = HeaderValue::from_static("Sun, 06 Nov 1994 08:49:37 GMT");

/// The value of the `Server` field, if it was chosen.
static NAME: OnceLock<Option<&'static str>> = OnceLock::new();

/// Chooses what the `Server` field of responses that the proxy itself makes says in this process; `None` leaves it out.
/// Unless it is chosen it is [`SERVER_NAME`].
///
/// The first choice counts, and it is to be made before the first such response.
pub fn name_server(name: Option<&'static str>) {
    // An error says that the choice is made.
    let _ = NAME.set(name);
}

/// The header of a response with status `code`, without a body and not to be stored by anyone.
///
/// A `code` that is no status code (below 100 or above 999) means that the caller does not know
/// what happened, and becomes 500.
pub fn gen_error_response(code: u16) -> ResponseHeader {
    let status = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    empty_response(status, get_cached_date())
}

fn empty_response(status: StatusCode, date: HeaderValue) -> ResponseHeader {
    let fields = [
        (header::DATE, date),
        (header::CONTENT_LENGTH, HeaderValue::from_static("0")),
        (
            header::CACHE_CONTROL,
            HeaderValue::from_static("private, no-store"),
        ),
    ];
    // `build` refuses only what is no status code, and `insert_header` only invalid names and
    // values and a full map: neither can be here.
    #[allow(clippy::unwrap_used)]
    let mut response = ResponseHeader::build(status, Some(fields.len() + 1)).unwrap();
    let server = NAME.get().copied().unwrap_or(Some(SERVER));
    let server = server.and_then(|name| Some((header::SERVER, HeaderValue::from_str(name).ok()?)));
    for (name, value) in server.into_iter().chain(fields) {
        #[allow(clippy::unwrap_used)]
        response.insert_header(name, value).unwrap();
    }
    response
}

// Evaluated by the compiler, which is where it would fail.
const SERVER: &str = match std::str::from_utf8(SERVER_NAME) {
    Ok(name) => name,
    Err(_) => panic!("SERVER_NAME is ASCII"),
};

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(response: &ResponseHeader) -> Vec<(String, String)> {
        let mut fields: Vec<_> = response
            .headers
            .iter()
            .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_string()))
            .collect();
        fields.sort();
        fields
    }

    #[test]
    fn has_no_body_and_is_not_stored() {
        for code in [100, 200, 400, 404, 502, 999] {
            let response = gen_error_response(code);
            assert_eq!(response.status, code);
            assert_eq!(response.version, http::Version::HTTP_11);
            let names: Vec<_> = fields(&response).into_iter().map(|(n, _)| n).collect();
            assert_eq!(names, ["cache-control", "content-length", "date", "server"]);
            assert_eq!(response.headers["content-length"], "0");
            assert_eq!(response.headers["cache-control"], "private, no-store");
            assert_eq!(response.headers["server"], "Pingora");
        }
    }

    #[test]
    fn what_is_no_status_code_is_an_internal_error() {
        for code in [0, 1, 99, 1000, u16::MAX] {
            assert_eq!(gen_error_response(code).status, 500, "{code}");
        }
    }

    #[test]
    fn the_shared_ones_carry_a_placeholder() {
        for (response, status) in [(&HTTP_400_RESPONSE, 400), (&HTTP_502_RESPONSE, 502)] {
            assert_eq!(response.status, status);
            assert_eq!(response.headers["date"], "Sun, 06 Nov 1994 08:49:37 GMT");
        }
    }
}
