//! Access: the host that a client names, the page that it asks from, and what it knows.

use http::header::{AUTHORIZATION, CONTENT_TYPE, COOKIE, HOST, ORIGIN};
use http::{HeaderMap, Method, Response, StatusCode};
use pingora_http::RequestHeader;
use subtle::ConstantTimeEq;

use super::answer::refuse;
use super::sessions::{Sessions, COOKIE_NAME};
use crate::config::values::Secret;
use crate::plan::{host, Admin};

/// The reason for which a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// It names a host that is not ours.
    Host,
    /// A page of another site asks.
    CrossSite,
    /// It would change something, and nothing says that no form of another site has sent it.
    Form,
    /// It knows no token.
    Unknown,
}

impl From<Refusal> for Response<Vec<u8>> {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Host => refuse(
                StatusCode::MISDIRECTED_REQUEST,
                "the host of the request is not allowed; add it to `allow_hosts`",
            ),
            Refusal::CrossSite => {
                refuse(StatusCode::FORBIDDEN, "the request comes from another site")
            }
            Refusal::Form => refuse(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "send `Content-Type: application/json`",
            ),
            Refusal::Unknown => {
                let mut response = refuse(StatusCode::UNAUTHORIZED, "a token is needed");
                let value = http::HeaderValue::from_static("Bearer");
                response
                    .headers_mut()
                    .insert(http::header::WWW_AUTHENTICATE, value);
                response
            }
        }
    }
}

/// Judges what any client must be, whatever it knows.
pub(super) fn judge(admin: &Admin, head: &RequestHeader) -> Result<(), Refusal> {
    let authority = authority(head).ok_or(Refusal::Host)?;
    let name = host::normalise(authority).ok_or(Refusal::Host)?;
    if !admin.allows(&name) {
        return Err(Refusal::Host);
    }
    if head.method == Method::GET || head.method == Method::HEAD {
        return Ok(());
    }
    let headers = &head.headers;
    // Browsers say which site a request is from; programs do not.
    let site = headers.get("sec-fetch-site");
    if site.is_some_and(|site| site != "same-origin" && site != "none") {
        return Err(Refusal::CrossSite);
    }
    let mut origins = headers.get_all(ORIGIN).iter();
    if origins.any(|origin| !is_own(origin.as_bytes(), authority)) {
        return Err(Refusal::CrossSite);
    }
    // A form cannot send it, and a script of another site must ask first, which is refused.
    if is_json(headers) || headers.contains_key("x-requested-with") {
        return Ok(());
    }
    Err(Refusal::Form)
}

fn authority(head: &RequestHeader) -> Option<&str> {
    match head.uri.authority() {
        // It counts before Host (RFC 9112 3.2.2).
        Some(authority) => Some(authority.as_str()),
        None => head.headers.get(HOST)?.to_str().ok(),
    }
}

fn is_own(origin: &[u8], authority: &str) -> bool {
    let rest = origin.strip_prefix(b"http://");
    let rest = rest.or_else(|| origin.strip_prefix(b"https://"));
    rest.is_some_and(|rest| rest.eq_ignore_ascii_case(authority.as_bytes()))
}

fn is_json(headers: &HeaderMap) -> bool {
    let Some(Ok(kind)) = headers.get(CONTENT_TYPE).map(|kind| kind.to_str()) else {
        return false;
    };
    let kind = kind.split(';').next().unwrap_or_default();
    kind.trim().eq_ignore_ascii_case("application/json")
}

/// Judges whether a client knows the token, if there is one, or has shown it before.
pub(super) fn authenticate(
    admin: &Admin,
    head: &RequestHeader,
    sessions: &Sessions,
) -> Result<(), Refusal> {
    let Some(token) = &admin.token else {
        return Ok(());
    };
    let bearer = head.headers.get(AUTHORIZATION);
    if let Some(known) = bearer.and_then(|value| bearer_of(value.as_bytes())) {
        return if matches(known, token) {
            Ok(())
        } else {
            Err(Refusal::Unknown)
        };
    }
    match cookie(&head.headers) {
        Some(session) if sessions.holds(session, token) => Ok(()),
        _ => Err(Refusal::Unknown),
    }
}

/// Compares in a time that tells nothing of the token but its length.
pub(super) fn matches(known: &[u8], Secret(token): &Secret) -> bool {
    known.ct_eq(token.as_bytes()).into()
}

fn bearer_of(value: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = value.split_at_checked(7)?;
    scheme
        .eq_ignore_ascii_case(b"bearer ")
        .then_some(token.trim_ascii())
}

/// Returns the name of the session that a client has a cookie of.
pub(super) fn cookie(headers: &HeaderMap) -> Option<&str> {
    let lines = headers.get_all(COOKIE).iter();
    let mut pairs = lines
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(';'));
    pairs.find_map(|pair| {
        let (name, value) = pair.trim().split_once('=')?;
        (name == COOKIE_NAME).then_some(value)
    })
}

#[cfg(test)]
mod tests;
