//! Request targets: from the bytes of a request line to a `Uri`, and back.

use crate::authority::{raw_target_authority, RawTargetAuthority};
use bytes::Bytes;
use http::uri::{InvalidUri, PathAndQuery};
use http::Uri;
use pingora_error::{Error, ErrorType::InvalidHTTPHeader, OrErr, Result};

/// A request target as `http` sees it, and as it was received where the two differ.
pub(crate) struct Target {
    /// Path and query, with U+FFFD where the bytes are no UTF-8.
    pub(crate) uri: Uri,
    /// The target itself when `uri` does not give it back.
    pub(crate) raw: Option<Box<[u8]>>,
}

impl Target {
    /// Reads a request target in any form of RFC 9112 section 3.2.
    ///
    /// A fragment, which has no place in a target, is dropped. The `Uri` of an absolute-form has its path
    /// and query alone: whom a request is for is told by [`raw_target_authority`] and the Host field,
    /// and a `Uri` with a host next to a Host field that differs would be a second opinion. The `Uri` of
    /// the authority-form, and of what has no form at all, is `/`.
    pub(crate) fn parse(mut target: Bytes) -> Result<Target> {
        if let Some(refused) = target.iter().find(|b| **b <= b' ' || **b == 0x7f) {
            // Written to an HTTP/1 connection it would end the target, or the request line.
            return Error::e_explain(
                InvalidHTTPHeader,
                format!("byte {refused:#04x} in request target"),
            );
        }
        if let Some(fragment) = target.iter().position(|b| *b == b'#') {
            target.truncate(fragment);
        }
        let is_origin = matches!(&target[..], [] | [b'/', ..] | b"*");
        let path = match is_origin {
            true => target.clone(),
            false => path_of(&target),
        };
        let is_utf8 = target.is_ascii() || std::str::from_utf8(&target).is_ok();
        let uri = uri(path).or_err_with(InvalidHTTPHeader, || {
            format!("invalid request target {}", target.escape_ascii())
        })?;
        let raw = match is_origin && is_utf8 {
            true => None,
            false => Some(target[..].into()),
        };
        Ok(Target { uri, raw })
    }
}

/// Path and query of a target that does not begin with its path.
fn path_of(target: &Bytes) -> Bytes {
    let path = match raw_target_authority(target) {
        RawTargetAuthority::Absolute { path_and_query, .. } => path_and_query,
        _ if target.starts_with(b"?") => &target[..],
        _ => b"",
    };
    match path {
        [] => Bytes::from_static(b"/"),
        [b'/', ..] => target.slice_ref(path),
        _ => [b"/", path].concat().into(),
    }
}

fn uri(path: Bytes) -> Result<Uri, InvalidUri> {
    let path = match std::str::from_utf8(&path) {
        Ok("") => PathAndQuery::from_static("/"),
        Ok(_) => PathAndQuery::from_maybe_shared(path)?,
        Err(_) => PathAndQuery::try_from(String::from_utf8_lossy(&path).into_owned())?,
    };
    Ok(path.into())
}
