//! Whom a request target names: the authority of its absolute-form (RFC 9112 section 3.2.2).
//!
//! A proxy routes by the authority it reads, and so does whoever receives the request next. Where the two
//! could read different ones, a request passes the checks made for one host and reaches another. So
//! this module tells three cases apart: a target that names no authority, one that plainly names one, and one of
//! which parsers are known to disagree, which is to be refused.

/// The authority of a request target.
#[derive(Debug, PartialEq, Eq)]
pub enum RawTargetAuthority<'a> {
    /// The target names none: it is in origin-form, authority-form or asterisk-form.
    None,
    /// The target is in absolute-form.
    Absolute {
        /// The scheme, in the letter case received, without its colon.
        scheme: &'a [u8],
        /// Host and port, and for schemes other than HTTP's user information too. Empty only for schemes that
        /// allow it, as `file` does.
        authority: &'a [u8],
        /// All that follows the authority; may be empty, or begin with `?`.
        path_and_query: &'a [u8],
    },
    /// The target names an authority that others may read differently, or seems to name one.
    AmbiguousAuthority,
}

impl<'a> RawTargetAuthority<'a> {
    /// The authority of an absolute-form.
    pub fn authority(&self) -> Option<&'a [u8]> {
        match self {
            RawTargetAuthority::Absolute { authority, .. } => Some(authority),
            RawTargetAuthority::None | RawTargetAuthority::AmbiguousAuthority => None,
        }
    }
}

/// Returns whether a scheme is `http`, `https`, `ws` or `wss`, in any letter case.
pub fn is_http_family_scheme(scheme: &[u8]) -> bool {
    [&b"http"[..], b"https", b"ws", b"wss"]
        .iter()
        .any(|known| known.eq_ignore_ascii_case(scheme))
}

/// Finds the authority in the bytes of a request target.
///
/// The target is ambiguous when
/// - something other than a scheme (RFC 3986 section 3.1) stands before `://`,
/// - a scheme of the HTTP family is not followed by `//`: "http:host" and `http:\\host` have a host for
///   browsers, but none by the RFC,
/// - the authority has a byte that it cannot have: a control character, space, DEL, a backslash (which some
///   parsers take for a slash), or one of `"<>^{|}` and the backtick,
/// - it has more than one `@`; or any, in the HTTP family, where user information is an error and serves to
///   disguise the host (RFC 9110 section 4.2.4),
/// - it does not fall into a host and a port: brackets that do not enclose the host, more than one colon
///   outside of them, a port that is no number,
/// - its host is empty, in the HTTP family (RFC 9110 section 4.2.1).
///
/// Bytes of 0x80 and above are taken for part of a host, as are percent-encodings whether well-formed or not.
pub fn raw_target_authority(target: &[u8]) -> RawTargetAuthority<'_> {
    if target.starts_with(b"/") {
        return RawTargetAuthority::None;
    }
    let Some((scheme, rest)) = split_at_first(target, b':') else {
        return RawTargetAuthority::None;
    };
    let is_http = is_http_family_scheme(scheme);
    let Some(rest) = rest.strip_prefix(b"//") else {
        return if is_http {
            RawTargetAuthority::AmbiguousAuthority
        } else {
            RawTargetAuthority::None
        };
    };
    let end = rest
        .iter()
        .position(|b| matches!(b, b'/' | b'?' | b'#'))
        .unwrap_or(rest.len());
    let (authority, path_and_query) = rest.split_at(end);
    if is_scheme(scheme) && is_plain(authority, is_http) {
        RawTargetAuthority::Absolute {
            scheme,
            authority,
            path_and_query,
        }
    } else {
        RawTargetAuthority::AmbiguousAuthority
    }
}

fn is_scheme(scheme: &[u8]) -> bool {
    scheme.first().is_some_and(u8::is_ascii_alphabetic)
        && scheme
            .iter()
            .all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(b))
}

/// Returns whether everyone who parses an authority finds the same host and port in it.
fn is_plain(authority: &[u8], is_http: bool) -> bool {
    let is_allowed = |b: &u8| *b > b' ' && *b != 0x7f && !b"\"<>\\^`{|}".contains(b);
    if !authority.iter().all(is_allowed) {
        return false;
    }
    let host_and_port = match split_at_first(authority, b'@') {
        Some(_) if is_http => return false,
        Some((user, _)) if user.iter().any(|b| b"[]".contains(b)) => return false,
        Some((_, host_and_port)) if host_and_port.contains(&b'@') => return false,
        Some((_, host_and_port)) => host_and_port,
        None => authority,
    };
    let (host, port) = match host_and_port.strip_prefix(b"[") {
        Some(bracketed) => match split_at_first(bracketed, b']') {
            Some((host, [])) => (host, None),
            Some((host, [b':', port @ ..])) => (host, Some(port)),
            _ => return false,
        },
        None => match split_at_first(host_and_port, b':') {
            Some((host, port)) => (host, Some(port)),
            None => (host_and_port, None),
        },
    };
    (!host.is_empty() || !is_http)
        && !host.iter().any(|b| b"[]".contains(b))
        && port.is_none_or(|port| port.iter().all(u8::is_ascii_digit))
}

/// Returns what stands before and after the first `at`.
fn split_at_first(bytes: &[u8], at: u8) -> Option<(&[u8], &[u8])> {
    let mut parts = bytes.splitn(2, |b| *b == at);
    Some((parts.next()?, parts.next()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use RawTargetAuthority::{Absolute, AmbiguousAuthority};

    #[test]
    fn absolute_forms() {
        for (target, scheme, authority, path_and_query) in [
            ("http://host:80/p", "http", "host:80", "/p"),
            ("http://host", "http", "host", ""),
            ("HTTPS://Host?x", "HTTPS", "Host", "?x"),
            ("http://host#x", "http", "host", "#x"),
            ("ws://h:/", "ws", "h:", "/"),
            ("http://[::1]:80/", "http", "[::1]:80", "/"),
            ("http://[::1]", "http", "[::1]", ""),
            ("http://h/\\", "http", "h", "/\\"),
            ("http://h/@a:b", "http", "h", "/@a:b"),
            ("http://h?a@b", "http", "h", "?a@b"),
            ("http://h%41;x,y/", "http", "h%41;x,y", "/"),
            ("http://\u{e9}/", "http", "\u{e9}", "/"),
            ("a+b-.1://h/", "a+b-.1", "h", "/"),
            ("file:///x", "file", "", "/x"),
            ("foo://", "foo", "", ""),
            ("ftp://u:p@h:21/p", "ftp", "u:p@h:21", "/p"),
        ] {
            let expected = Absolute {
                scheme: scheme.as_bytes(),
                authority: authority.as_bytes(),
                path_and_query: path_and_query.as_bytes(),
            };
            let found = raw_target_authority(target.as_bytes());
            assert_eq!(found, expected, "{target}");
            assert_eq!(found.authority(), Some(authority.as_bytes()), "{target}");
        }
    }

    #[test]
    fn targets_without_authority() {
        for target in [
            "",
            "/",
            "*",
            "/p?q",
            "//h/p",
            "/http://h/",
            "/\\h",
            "host:443",
            "host",
            "h/p",
            "urn:x",
            "foo:bar",
            "[::1]:443",
            ":h",
            "#",
            "\\\\h\\p",
        ] {
            let found = raw_target_authority(target.as_bytes());
            assert_eq!(found, RawTargetAuthority::None, "{target}");
            assert_eq!(found.authority(), None, "{target}");
        }
    }

    #[test]
    fn ambiguous_targets() {
        for target in [
            "http:",
            "http:host",
            "https:/host",
            "http:\\\\h/",
            "http:///p",
            "http://",
            "http://:80/",
            "http://h\\x/",
            "http://\\h/",
            "http://u@h/",
            "http://u@h@i/",
            "http://@h/",
            "ftp://u@h@i/",
            "ftp://[u]@h/",
            "http://h h/",
            "http://h\t/",
            "http://h\x7f/",
            "http://h\0/",
            "http://h|i/",
            "http://[::1/",
            "http://::1]/",
            "http://[::1]x/",
            "http://[[::1]]/",
            "http://a[::1]/",
            "http://h:abc/",
            "http://h:80:90/",
            "http://[]/",
            "http://[::1]:x/",
            "://h/",
            "1http://h/",
            "ht tp://h/",
            "p?x=http://h/",
            "?http://h",
            " http://h/",
            "foo://h:1:2/",
        ] {
            let found = raw_target_authority(target.as_bytes());
            assert_eq!(found, AmbiguousAuthority, "{target}");
            assert_eq!(found.authority(), None, "{target}");
        }
    }

    #[test]
    fn http_family() {
        for (scheme, expected) in [
            ("http", true),
            ("HTTPS", true),
            ("ws", true),
            ("Wss", true),
            ("", false),
            ("httpx", false),
            ("ftp", false),
            ("http:", false),
        ] {
            assert_eq!(
                is_http_family_scheme(scheme.as_bytes()),
                expected,
                "{scheme}"
            );
        }
    }
}
