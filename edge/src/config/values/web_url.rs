//! URLs of services that are asked over HTTP.

use http::Uri;

use crate::config::section::Scalar;
use crate::data::Data;

/// An absolute URL of `http` or `https`, without user and fragment. One with a query or a user is shown to nobody.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct WebUrl(pub String);

impl Scalar for WebUrl {
    const WHAT: &'static str = "a URL";
    const ALLOWED: &'static str = "a URL such as `http://127.0.0.1:9000/allowed`";
    const SECRET: bool = true;

    /// Tells whether it has a query, where services are often sent their tokens, or a user, who has a password.
    fn is_secret(text: &str) -> bool {
        text.contains(['?', '@'])
    }

    fn parse(text: &str) -> Result<Self, String> {
        if text.contains('#') {
            return Err("a URL has no fragment here".into());
        }
        let uri: Uri = text.parse().map_err(|_| String::new())?;
        if !matches!(uri.scheme_str(), Some("http" | "https")) {
            return Err("its scheme is `http` or `https`".into());
        }
        let authority = uri.authority().ok_or_else(String::new)?;
        if authority.as_str().contains('@') {
            return Err("a URL has no user here".into());
        }
        Ok(Self(text.to_owned()))
    }

    fn show(&self) -> String {
        self.0.clone()
    }

    fn print(&self) -> Data {
        if Self::is_secret(&self.0) {
            Data::Secret(self.0.clone())
        } else {
            Data::text(&self.0)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_has_a_scheme_and_a_host_and_nothing_that_is_not_sent() {
        for good in [
            "http://127.0.0.1:9000/allowed",
            "https://a.test",
            "http://[::1]/?x=1",
        ] {
            assert_eq!(WebUrl::parse(good).unwrap().show(), good);
        }
        for bad in [
            "",
            "/allowed",
            "127.0.0.1:9000",
            "ftp://a.test/",
            "http://u@a.test/",
            "http://a.test/#x",
            "http:///x",
            "http://a b/",
        ] {
            assert!(WebUrl::parse(bad).is_err(), "{bad}");
        }
    }
}
