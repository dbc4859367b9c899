//! Request targets: from the bytes of a request line to a `Uri`, and back.

use crate::authority::{raw_target_authority, RawTargetAuthority};
use bytes::Bytes;
use http::uri::{Authority, PathAndQuery};
use http::Uri;
use pingora_error::{Error, ErrorType::InvalidHTTPHeader, OrErr, Result};

/// A request target as `http` sees it, and as it was received where the two differ.
pub(crate) struct Target {
    /// Path and query, with U+FFFD where the bytes are no UTF-8.
    pub(crate) uri: Uri,
    /// The target itself when `uri` does not give it back.
    pub(crate) raw: Option<Box<[u8]>>,
}

/// The treatment of a fragment.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fragment {
    Dropped,
    Refused,
}

impl Target {
    /// Reads a request target that an application gives, in any form of RFC 9112 section 3.2: a fragment, which has no
    /// place in one, is dropped.
    pub(crate) fn parse(target: Bytes) -> Result<Target> {
        Target::read(target, Fragment::Dropped)
    }

    /// Reads a request target that was received, for which a fragment is an error: others may take it for a part of
    /// the path.
    pub(crate) fn received(target: Bytes) -> Result<Target> {
        Target::read(target, Fragment::Refused)
    }

    /// The `Uri` of an absolute-form has its path
    /// and query alone: whom a request is for is told by [`raw_target_authority`] and the Host field,
    /// and a `Uri` with a host next to a Host field that differs would be a second opinion. The `Uri` of
    /// the authority-form, and of what has no form at all, is `/`.
    fn read(mut target: Bytes, of_fragment: Fragment) -> Result<Target> {
        if target[..] == *b"/" {
            return Ok(Target::root());
        }
        let found = Bytewise::of(&target);
        if found.refused {
            // Written to an HTTP/1 connection it would end the target, or the request line.
            return Error::e_explain(
                InvalidHTTPHeader,
                "space or control character in request target",
            );
        }
        if found.fragment {
            if of_fragment == Fragment::Refused {
                return Error::e_explain(InvalidHTTPHeader, "fragment in request target");
            }
            let fragment = target.iter().position(|b| *b == b'#');
            target.truncate(fragment.unwrap_or(target.len()));
        }
        let is_utf8 = found.ascii || std::str::from_utf8(&target).is_ok();
        let is_path = matches!(&target[..], [b'/', ..] | b"*");
        let (path, raw) = match is_path {
            _ if target.is_empty() => (Bytes::from_static(b"/"), None),
            true if is_utf8 => (target, None),
            true => (lossy(&target), Some(target[..].into())),
            false => (path_of(&target), Some(target[..].into())),
        };
        let uri = PathAndQuery::from_maybe_shared(path)
            .or_err(InvalidHTTPHeader, "invalid request target")?
            .into();
        Ok(Target { uri, raw })
    }
}

impl Target {
    /// The target `/`, whose copies share nothing.
    pub(crate) fn root() -> Target {
        Target {
            uri: Uri::from_static("/"),
            raw: None,
        }
    }
}

/// The findings of one pass over the bytes of a target, which the compiler can make a pass over vectors.
struct Bytewise {
    refused: bool,
    fragment: bool,
    ascii: bool,
}

impl Bytewise {
    fn of(target: &[u8]) -> Self {
        let (mut refused, mut fragment, mut all) = (false, false, 0);
        for b in target {
            refused |= *b <= b' ' || *b == 0x7f;
            fragment |= *b == b'#';
            all |= *b;
        }
        Bytewise {
            refused,
            fragment,
            ascii: all.is_ascii(),
        }
    }
}

/// Path and query of a target that does not begin with its path.
fn path_of(target: &[u8]) -> Bytes {
    let path = match raw_target_authority(target) {
        RawTargetAuthority::Absolute { path_and_query, .. } => path_and_query,
        _ if target.starts_with(b"?") => target,
        _ => b"",
    };
    match path {
        [b'/', ..] => lossy(path),
        _ => lossy(&[b"/", path].concat()),
    }
}

fn lossy(path: &[u8]) -> Bytes {
    Bytes::from(String::from_utf8_lossy(path).into_owned())
}

/// Makes a copy of a URI that shares no memory with it.
pub(crate) fn detach(uri: &Uri) -> Uri {
    let copy = |part: &str| Bytes::copy_from_slice(part.as_bytes());
    let mut parts = uri.clone().into_parts();
    if let Some(path) = &mut parts.path_and_query {
        if let Ok(copied) = PathAndQuery::from_maybe_shared(copy(path.as_str())) {
            *path = copied;
        }
    }
    if let Some(authority) = &mut parts.authority {
        if let Ok(copied) = Authority::from_maybe_shared(copy(authority.as_str())) {
            *authority = copied;
        }
    }
    // Its parts were those of a URI.
    Uri::from_parts(parts).unwrap_or_else(|_| uri.clone())
}
