//! Values that only their owner may see.
//!
//! Errors, prints for people, and explanations show none of these:
//!
//! - values of keys that hold secrets, and URLs with a query or a user;
//! - values of headers, cookies and parameters whose names tell of a secret;
//! - values from the environment and from files: they are named as the file names them;
//! - what nobody reads and what may be one of these: the value of an unknown key in a section that has secrets, a value in
//!   the place of such a section, the second value of a key, and every value of a configuration that is no YAML.

use super::node::{Kind, Node};
use super::place::{shown, Errors};

/// The text in the place of a value that nobody may see.
pub(crate) const STARS: &str = "***";

/// Tells whether a header, a cookie or a parameter of this name holds a secret.
pub(crate) fn names_secret(name: &str) -> bool {
    const WHOLE: [&str; 5] = [
        "authorization",
        "proxy-authorization",
        "cookie",
        "set-cookie",
        "session",
    ];
    const PARTS: [&str; 8] = [
        "token",
        "secret",
        "passw",
        "apikey",
        "api-key",
        "api_key",
        "auth-key",
        "credential",
    ];
    let name = name.to_ascii_lowercase();
    WHOLE.contains(&&*name) || PARTS.iter().any(|part| name.contains(part))
}

/// Puts stars in the place of all words of a file but for known keys: it is no YAML, so nobody knows what they are.
pub(super) fn cover_all(text: &str, keys: &[&str]) -> String {
    let (mut out, mut rest) = (String::new(), text);
    while let Some(first) = rest.chars().next() {
        let is_word = |c: char| c.is_alphanumeric() || c == '_' || c == '-';
        let end = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
        if end == 0 {
            let plain = first.is_whitespace() || "{}[],:\"'#&|>%@!?".contains(first);
            out.push(if plain { first } else { '*' });
            rest = &rest[first.len_utf8()..];
            continue;
        }
        let (word, after) = rest.split_at(end);
        let is_key = after.starts_with(':') && keys.contains(&word);
        if is_key || word.chars().all(|c| c == '-') {
            out.push_str(word);
        } else {
            out.extend(word.chars().map(|_| '*'));
        }
        rest = after;
    }
    out
}

impl Errors {
    /// Learns of values that nobody may see: all scalars of a node.
    pub(crate) fn hide(&mut self, node: &Node) {
        match &node.kind {
            Kind::Null => {}
            Kind::Scalar {
                written: Some(stands),
                ..
            }
            | Kind::Scalar { text: stands, .. }
            | Kind::Failed(stands) => {
                if !is_reference(stands) {
                    self.secret(node.place, stands);
                }
            }
            Kind::List(items) => items.iter().for_each(|item| self.hide(item)),
            Kind::Map(pairs) => pairs.iter().for_each(|(_, _, value)| self.hide(value)),
        }
    }

    /// Describes a node that nobody reads. Where it may be a secret, or have one in it, nobody sees it.
    pub(super) fn describe_unread(
        &mut self,
        node: &Node,
        is_secret: bool,
        holds_secrets: bool,
    ) -> String {
        if is_secret || (holds_secrets && has_map(node)) {
            self.hide(node);
            if let Kind::Scalar { .. } = node.kind {
                return "what stands here".to_owned();
            }
        }
        node.describe()
    }
}

/// Tells whether a value is the name of a place that a secret is from, and nothing else: the name is none.
fn is_reference(text: &str) -> bool {
    text.starts_with("${") && text.find('}') == Some(text.len() - 1)
}

fn has_map(node: &Node) -> bool {
    match &node.kind {
        Kind::Map(_) => true,
        Kind::List(items) => items.iter().any(has_map),
        _ => false,
    }
}

/// Leaves the values from elsewhere out of an error about one of them. What compiles a plan does not know of them.
pub(super) fn without_elsewhere(message: &mut String, text: &str) {
    *message = message.replace(&shown(text), "a value from elsewhere");
    // A shorter one stands in other words too.
    if text.len() > 3 && message.contains(text) {
        *message = message.replace(text, STARS);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_of_secrets() {
        for name in [
            "Authorization",
            "x-api-key",
            "X-Vault-Token",
            "cookie",
            "client_secret",
        ] {
            assert!(names_secret(name), "{name}");
        }
        for name in [
            "host",
            "x-request-id",
            "accept",
            "cookie-policy",
            "authority",
        ] {
            assert!(!names_secret(name), "{name}");
        }
    }

    #[test]
    fn a_reference_is_no_secret_and_what_stands_beside_one_may_be() {
        assert!(is_reference("${env:A}"));
        for text in [
            "${env:A}hunter2${env:B}",
            "${env:A}x",
            "x${env:A}",
            "${",
            "",
        ] {
            assert!(!is_reference(text), "{text}");
        }
    }

    #[test]
    fn what_is_no_yaml_is_shown_by_its_shape() {
        let covered = |text| cover_all(text, &["admin", "token"]);
        assert_eq!(
            covered("admin: {token: a-b$c, x: [\"y\"]\n"),
            "admin: {token: *****, *: [\"*\"]\n"
        );
        assert_eq!(covered("- - token: ä\n"), "- - token: *\n");
        assert_eq!(covered("token"), "*****");
    }
}
