//! Fields that a header loses on its way through the proxy: hop-by-hop fields, and a target or Host that
//! an origin could read in two ways. Functions of the header alone, without I/O.
//!
//! # Requests
//!
//! [`apply`] works on the copy that goes upstream, as the peer's [`HttpUpstreamRequestPolicy`]
//! says. With `strip_hop_by_hop`:
//!
//! | field | what becomes of it |
//! |---|---|
//! | Connection | removed, or written anew for what is kept |
//! | Keep-Alive, Proxy-Connection, HTTP2-Settings | removed |
//! | Proxy-Authorization | removed: its credentials are meant for this proxy (RFC 9110 section 11.7.2) |
//! | TE | `trailers` is kept if the client may say so (RFC 9110 section 10.1.4): trailers of a response are relayed;
//! everything else is removed |
//! | Upgrade | as `h1_upgrade` says |
//! | Transfer-Encoding | kept towards HTTP/1.1, where the session frames the body by it |
//!
//! Towards HTTP/2 all of them are removed whatever the policy says, but for `TE: trailers`
//! (RFC 9113 section 8.2.2). gRPC is sent with it, whoever the client is: it has to be, as a
//! translated request of gRPC-web comes from a client that knows nothing of trailers.
//!
//! With `strip_connection_nominated`, fields that Connection names are removed as well. A request
//! that names a field which tells the origin who asks for what (Host, Content-Length, the
//! `X-Forwarded-` family and its kin) is refused: no honest client does that, and to obey would
//! hide from the origin what a proxy in front has said.
//!
//! Max-Forwards of TRACE and OPTIONS says how many hops are left; [`count_hop`] takes one away, and for
//! [`is_last_hop`] the proxy answers itself.
//!
//! # Responses
//!
//! [`strip_response`] has no switches: hop-by-hop fields of an origin describe a connection that
//! the client does not have. Proxy-Authenticate and Trailer pass, as they are for the client.

mod host;
mod http2;
mod max_forwards;
mod refusal;
#[cfg(test)]
mod tests;
mod trailers;
pub(crate) mod websocket;

use http::header::{self, HeaderMap, HeaderName};
use http::{Method, StatusCode, Version};
use pingora_core::limits::LIMITS;
use pingora_core::upstreams::peer::{H1UpgradePolicy, HttpUpstreamRequestPolicy};
use pingora_error::Result;
use pingora_http::internal::{FieldRules, MessageHead, Names};
use pingora_http::{RequestHeader, ResponseHeader};

pub(crate) use host::{name_host, origin_form, reconcile_host};
pub(crate) use http2::{check_for_h2, from_h2, say_empty};
pub(crate) use max_forwards::{count_hop, is_last_hop};
pub(crate) use trailers::strip_trailers;

use refusal::refusal;

/// The fields of a request that a proxy deals with by name.
const BY_NAME: Names = Names::HOP_BY_HOP.or(Names::FOR_THIS_PROXY);

/// Returns whether a received request is like most: nothing in it can be refused on its way to an upstream, and it does
/// not ask to leave HTTP.
#[inline]
pub(crate) fn is_plain(req: &RequestHeader) -> bool {
    let index = req.index();
    let named = Names::CONNECTION.or(Names::UPGRADE);
    let stays = !index.has_any(named)
        || index.has_only(Names::CONNECTION, named) && index.connection().is_some();
    stays && (host::is_origin_form(req) || http2::is_plain(req))
}

/// Makes `req` fit for the next hop: removes, keeps or refuses hop-by-hop fields.
///
/// `req` is the copy for the upstream, its version already the upstream's; `received` is the
/// version in which the client sent it.
///
/// # Errors
///
/// `InvalidHTTPHeader` of the downstream when `policy` strips what Connection names and Connection
/// has too many elements, a malformed one (if the policy refuses those) or names a protected field.
pub(crate) fn apply(
    req: &mut RequestHeader,
    policy: &HttpUpstreamRequestPolicy,
    received: Version,
) -> Result<()> {
    if !req.may_have(BY_NAME) {
        return Ok(());
    }
    if policy.strip_connection_nominated && req.may_have(Names::CONNECTION) {
        for name in nominated(&req.headers, policy.reject_malformed_connection_nominations)? {
            req.remove_header(&name);
        }
    }
    // Decided after the removal: a handshake of which Connection named a part is no longer one.
    let upgrade = req.may_have(Names::UPGRADE) && keeps_upgrade(req, policy.h1_upgrade, received);
    let to_h2 = req.version == Version::HTTP_2;
    if !policy.strip_hop_by_hop && !to_h2 {
        return match policy.h1_upgrade {
            H1UpgradePolicy::Preserve => Ok(()),
            _ if upgrade => Ok(()),
            _ => withdraw_upgrade(req),
        };
    }

    let trailers = req.may_have(Names::TE)
        && !upgrade
        && (accepts_trailers(&req.headers, received) || (to_h2 && http2::is_grpc(&req.headers)));
    let kept = match (to_h2, upgrade) {
        (true, _) => Names::default(),
        (false, true) => Names::UPGRADE.or(Names::TRANSFER_ENCODING),
        (false, false) => Names::TRANSFER_ENCODING,
    };
    req.remove_any(BY_NAME.without(kept));
    if upgrade {
        req.insert_header("Connection", "Upgrade")?;
    } else if trailers {
        req.insert_header("TE", "trailers")?;
        if !to_h2 {
            req.insert_header("Connection", "TE")?;
        }
    }
    Ok(())
}

/// Removes from `resp`, on its way to a client of version `to`, what speaks of the connection to
/// the origin.
///
/// A 101 keeps Connection and Upgrade, which are its message, and a 426 keeps Upgrade, which it
/// must have (RFC 9110 section 15.5.22). Transfer-Encoding stays for HTTP/1.1, where the session
/// frames the body by it, and so does Content-Length, whatever Connection says.
pub(crate) fn strip_response(resp: &mut ResponseHeader, to: Version) {
    if !resp.may_have(Names::HOP_BY_HOP) {
        return;
    }
    // Connection only says what most origins have it say: whether the connection is kept.
    let index = resp.index();
    if index.has_only(Names::CONNECTION, Names::HOP_BY_HOP) && index.connection().is_some() {
        resp.remove_any(Names::CONNECTION);
        return;
    }
    if resp.may_have(Names::CONNECTION) {
        let named: Vec<HeaderName> = elements(&resp.headers, header::CONNECTION)
            .filter_map(extension)
            .filter(|name| name != header::CONTENT_LENGTH)
            .collect();
        for name in named {
            resp.remove_header(&name);
        }
    }
    let kept = match resp.status {
        _ if to == Version::HTTP_2 => Names::default(),
        StatusCode::SWITCHING_PROTOCOLS => Names::CONNECTION
            .or(Names::UPGRADE)
            .or(Names::TRANSFER_ENCODING),
        StatusCode::UPGRADE_REQUIRED => Names::UPGRADE.or(Names::TRANSFER_ENCODING),
        _ => Names::TRANSFER_ENCODING,
    };
    resp.remove_any(Names::HOP_BY_HOP.without(kept));
}

/// The extension fields that Connection names, after the checks that [`apply`] documents.
fn nominated(headers: &HeaderMap, reject_malformed: bool) -> Result<Vec<HeaderName>> {
    let mut names = Vec::new();
    for (n, option) in elements(headers, header::CONNECTION).enumerate() {
        if n >= LIMITS.connection_options {
            return Err(refusal("too many options in Connection"));
        }
        if option.starts_with(b":") {
            return Err(refusal("Connection names a pseudo-header"));
        }
        if !is_token(option) {
            if reject_malformed {
                return Err(refusal("malformed option in Connection"));
            }
            continue;
        }
        if let Some(name) = extension(option) {
            if FieldRules::of(&name).has_any(FieldRules::PROTECTED) {
                return Err(refusal("Connection names a protected field"));
            }
            names.push(name);
        }
    }
    Ok(names)
}

/// Returns whether Connection names a field of the request which therefore does not reach the upstream. What it answers
/// is no answer to the request as the client sent it, and has no place in a cache.
pub(crate) fn withdraws_fields(req: &RequestHeader) -> bool {
    req.may_have(Names::CONNECTION)
        && elements(&req.headers, header::CONNECTION)
            .filter_map(extension)
            .any(|name| req.values_of(&name).next().is_some())
}

/// The field that a connection option names, unless it is one that is dealt with by name.
fn extension(option: &[u8]) -> Option<HeaderName> {
    // The two that nearly all clients send, before anything is built for them.
    if option.eq_ignore_ascii_case(b"keep-alive") || option.eq_ignore_ascii_case(b"close") {
        return None;
    }
    let name = HeaderName::from_bytes(option).ok()?;
    (!Names::only(&name).has_any(BY_NAME)).then_some(name)
}

/// Returns whether an Upgrade field may stay, together with its connection option.
fn keeps_upgrade(req: &RequestHeader, policy: H1UpgradePolicy, received: Version) -> bool {
    // RFC 9110 section 7.8: ignored in HTTP/1.0 and without the connection option; HTTP/2 has none.
    let offered = received == Version::HTTP_11
        && req.version == Version::HTTP_11
        && elements(&req.headers, header::CONNECTION).any(|o| o.eq_ignore_ascii_case(b"upgrade"));
    offered
        && match policy {
            H1UpgradePolicy::Deny => false,
            H1UpgradePolicy::Preserve => true,
            H1UpgradePolicy::WebSocketOnly => is_websocket_handshake(req),
        }
}

/// Returns whether an upstream will be asked to leave HTTP/1.1, as its policy says.
pub(crate) fn leaves_http(received: &RequestHeader, policy: H1UpgradePolicy) -> bool {
    received.method == Method::CONNECT || keeps_upgrade(received, policy, received.version)
}

/// RFC 6455 section 4.1: a GET for `websocket` alone, with a key and a version. One with a body is
/// none: its bytes could be read as the first frames, or as a request of their own.
pub(crate) fn is_websocket_handshake(req: &RequestHeader) -> bool {
    let headers = &req.headers;
    let mut protocols = elements(headers, header::UPGRADE);
    let mut keys = headers.get_all(header::SEC_WEBSOCKET_KEY).iter();
    req.method == Method::GET
        && protocols
            .next()
            .is_some_and(|p| p.eq_ignore_ascii_case(b"websocket"))
        && protocols.next().is_none()
        && keys.next().is_some_and(|key| !key.is_empty())
        && keys.next().is_none()
        && headers.contains_key(header::SEC_WEBSOCKET_VERSION)
        && !headers.contains_key(header::TRANSFER_ENCODING)
        && headers
            .get(header::CONTENT_LENGTH)
            .is_none_or(|length| length == "0")
}

/// Takes Upgrade out of a header of which all else is left alone.
fn withdraw_upgrade(req: &mut RequestHeader) -> Result<()> {
    if !req.may_have(Names::UPGRADE) {
        return Ok(());
    }
    req.remove_any(Names::UPGRADE);
    if !req.may_have(Names::CONNECTION) {
        return Ok(());
    }
    let rest: Vec<&[u8]> = elements(&req.headers, header::CONNECTION)
        .filter(|option| !option.eq_ignore_ascii_case(b"upgrade"))
        .collect();
    let rest = rest.join(&b", "[..]);
    if rest.is_empty() {
        req.remove_any(Names::CONNECTION);
        return Ok(());
    }
    req.insert_header("Connection", rest)
}

/// Returns whether the client takes trailers: `TE: trailers`, in HTTP/1.1 backed by its connection option.
fn accepts_trailers(headers: &HeaderMap, received: Version) -> bool {
    let named = || elements(headers, header::CONNECTION).any(|o| o.eq_ignore_ascii_case(b"te"));
    elements(headers, header::TE).any(|coding| coding.eq_ignore_ascii_case(b"trailers"))
        && (received == Version::HTTP_2 || (received == Version::HTTP_11 && named()))
}

/// The elements of a comma-separated field, over all its lines, without the empty ones
/// (RFC 9110 section 5.6.1.2).
fn elements(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &[u8]> {
    headers
        .get_all(name)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .map(|element| element.trim_ascii())
        .filter(|element| !element.is_empty())
}

/// RFC 9110 section 5.6.2.
fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty()
        && bytes
            .iter()
            .all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(b))
}
