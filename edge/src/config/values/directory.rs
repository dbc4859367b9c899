//! Authorities that issue certificates.

use http::Uri;

use crate::config::section::{did_you_mean, Scalar};

/// The names of well-known directories.
const KNOWN: [(&str, &str); 2] = [
    (
        "letsencrypt",
        "https://acme-v02.api.letsencrypt.org/directory",
    ),
    (
        "letsencrypt-staging",
        "https://acme-staging-v02.api.letsencrypt.org/directory",
    ),
];

/// The URL of a directory of ACME (RFC 8555 section 7.1.1).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Directory(pub String);

impl Default for Directory {
    fn default() -> Self {
        Self(KNOWN[0].1.to_owned())
    }
}

impl Scalar for Directory {
    const WHAT: &'static str = "a directory of ACME";
    const ALLOWED: &'static str =
        "`letsencrypt`, `letsencrypt-staging`, or a URL such as `https://ca.example.org/acme/directory`";

    fn parse(text: &str) -> Result<Self, String> {
        if let Some((_, url)) = KNOWN.iter().find(|(name, _)| *name == text) {
            return Ok(Self((*url).to_owned()));
        }
        if !text.contains("://") {
            return Err(did_you_mean(text, &KNOWN.map(|(name, _)| name)));
        }
        let uri: Uri = text.parse().map_err(|_| String::new())?;
        if uri.scheme_str() != Some("https") {
            // RFC 8555 section 6.1.
            return Err("ACME is spoken over `https` only".into());
        }
        Ok(Self(text.to_owned()))
    }

    fn show(&self) -> String {
        let known = KNOWN.iter().find(|(_, url)| *url == self.0);
        known.map_or_else(|| self.0.clone(), |(name, _)| (*name).to_owned())
    }
}

/// The address of a mailbox.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Mailbox(pub String);

impl Scalar for Mailbox {
    const WHAT: &'static str = "a mailbox";
    const ALLOWED: &'static str = "one such as `admin@example.org`";

    fn parse(text: &str) -> Result<Self, String> {
        // It stands in a URL of `mailto`.
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"@.-_+".contains(&b);
        let good = text
            .split_once('@')
            .is_some_and(|(user, host)| !user.is_empty() && host.contains('.'));
        if good && text.bytes().all(plain) && text.matches('@').count() == 1 {
            Ok(Self(text.to_owned()))
        } else {
            Err(String::new())
        }
    }

    fn show(&self) -> String {
        self.0.clone()
    }
}
