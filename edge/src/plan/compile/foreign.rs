//! Words of other proxies' files, which would stand for themselves here.

use super::Compiler;
use crate::config::section::Scalar;
use crate::config::values::{Part, Template};
use crate::config::At;

/// Variables of an nginx.conf, and what they are called here.
const VARIABLES: [(&str, &str); 12] = [
    ("args", "query"),
    ("host", "host"),
    ("http_host", "header.host"),
    ("query_string", "query"),
    ("remote_addr", "client_ip"),
    ("request_id", "request_id"),
    ("request_method", "method"),
    ("request_uri", "uri"),
    ("scheme", "scheme"),
    ("server_name", "host"),
    ("ssl_client_s_dn", "tls_client.subject"),
    ("uri", "path"),
];

/// Families of such variables.
const FAMILIES: [(&str, &str); 3] = [
    ("arg_", "query."),
    ("cookie_", "cookie."),
    ("http_", "header."),
];

impl Compiler<'_> {
    /// Refuses variables as nginx writes them, and its groups where an address has them. A value from the environment, from
    /// a file or of a secret is taken as it is: a message would tell a part of it.
    pub(super) fn check_foreign(&mut self, template: &At<Template>, with_groups: bool) {
        if template.value.is_hidden() {
            return;
        }
        let texts = template.value.parts().iter().filter_map(|part| match part {
            Part::Text(text) => Some(&**text),
            Part::Variable(_) => None,
        });
        let found = texts.flat_map(|text| text.split('$').skip(1));
        for (written, meant) in found.filter_map(|after| foreign(after, with_groups)) {
            let example = Template::ALLOWED;
            let message = format!(
                "`${written}` would stand for itself; did you mean {{{meant}}}? Expected {example}"
            );
            self.errors.at(template.place, message);
        }
    }
}

/// Returns the variable that a text behind a `$` begins with, and its name here.
fn foreign(after: &str, with_groups: bool) -> Option<(&str, String)> {
    let braced = after.strip_prefix('{').unwrap_or(after);
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let end = braced.find(|c| !is_part(c)).unwrap_or(braced.len());
    let name = &braced[..end];
    if with_groups && name.len() == 1 && name.bytes().all(|b| b.is_ascii_digit()) {
        return Some((name, name.to_owned()));
    }
    if let Some((_, meant)) = VARIABLES.iter().find(|(known, _)| *known == name) {
        return Some((name, (*meant).to_owned()));
    }
    let of = |(before, here): &(&str, &str)| {
        let rest = name.strip_prefix(before).filter(|rest| !rest.is_empty())?;
        let rest = if *here == "header." {
            rest.replace('_', "-")
        } else {
            rest.to_owned()
        };
        Some((name, format!("{here}{rest}")))
    };
    FAMILIES.iter().find_map(of)
}

#[cfg(test)]
mod tests {
    use super::foreign;

    #[test]
    fn variables_of_nginx_are_known() {
        for (text, meant) in [
            ("host$request_uri", "host"),
            ("{host}/x", "host"),
            ("1/x", "1"),
            ("http_user_agent;", "header.user-agent"),
            ("arg_q", "query.q"),
            ("cookie_a_b", "cookie.a_b"),
        ] {
            let found = foreign(text, true).map(|(_, meant)| meant);
            assert_eq!(found.as_deref(), Some(meant), "{text}");
        }
        for text in ["", " 5", "hosts", "10", "{1}x2", "http_", "money"] {
            let allowed = text == "{1}x2";
            assert_eq!(foreign(text, allowed).is_some(), allowed, "{text}");
        }
        assert!(foreign("1", false).is_none());
    }
}
