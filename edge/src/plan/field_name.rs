//! Names of fields, for programs that take `_` and `-` for the same (CGI, WSGI, PHP; RFC 3875 section 4.1.18).

use http::HeaderName;

/// Tells whether a name is the same as another one to such a program.
pub(crate) fn is_like(name: &HeaderName, other: &str) -> bool {
    same(name.as_str().as_bytes(), other.as_bytes())
}

/// Tells whether a name begins like this to such a program.
pub(crate) fn begins_like(name: &HeaderName, start: &str) -> bool {
    let begin = name.as_str().as_bytes().get(..start.len());
    begin.is_some_and(|begin| same(begin, start.as_bytes()))
}

fn same(one: &[u8], other: &[u8]) -> bool {
    let dash = |b: &u8| if *b == b'_' { b'-' } else { *b };
    one.len() == other.len() && one.iter().map(dash).eq(other.iter().map(dash))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_the_same_with_lines_and_dashes() {
        let name = |text: &str| HeaderName::from_bytes(text.as_bytes()).unwrap();
        for same in ["x-remote-user", "X_Remote_User", "x-remote_USER"] {
            assert!(is_like(&name(same), "x-remote-user"), "{same}");
            assert!(is_like(&name(same), "x_remote-user"), "{same}");
            assert!(begins_like(&name(same), "x-remote-"), "{same}");
        }
        for other in ["x-remote-users", "xremote-user", "x.remote-user", "x"] {
            assert!(!is_like(&name(other), "x-remote-user"), "{other}");
        }
        for other in ["x-remot", "x_remoted", "remote-x"] {
            assert!(!begins_like(&name(other), "x-remote-"), "{other}");
        }
    }
}
