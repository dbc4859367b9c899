//! Paths that the proxy itself asks servers for.

use http::uri::PathAndQuery;

use crate::config::section::Scalar;
use crate::data::Data;

/// A path, with a query if there is a `?` in it. One with a query is shown to nobody, since services are often sent their
/// tokens there.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RequestTarget(pub String);

impl RequestTarget {
    /// Returns it as people may see it: without its query.
    pub(crate) fn visible(target: &str) -> String {
        match target.split_once('?') {
            Some((path, _)) => format!("{path}?{}", crate::config::secrets::STARS),
            None => target.to_owned(),
        }
    }
}

impl Scalar for RequestTarget {
    const WHAT: &'static str = "a path";
    const ALLOWED: &'static str = "one such as `/healthz` or `/verify?service=a`";
    const SECRET: bool = true;

    fn is_secret(text: &str) -> bool {
        text.contains('?')
    }

    fn parse(text: &str) -> Result<Self, String> {
        if !text.starts_with('/') {
            return Err("it begins with `/`".into());
        }
        let is_sent = text.bytes().all(|b| b.is_ascii_graphic() && b != b'#');
        if !is_sent || text.parse::<PathAndQuery>().is_err() {
            return Err("it is of visible ASCII characters but `#`".into());
        }
        Ok(Self(text.to_owned()))
    }

    fn show(&self) -> String {
        self.0.clone()
    }

    fn print(&self) -> Data {
        Data::text(Self::visible(&self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_what_a_request_line_may_hold() {
        for good in ["/", "/healthz", "/verify?rd=https://a.test/&token=x"] {
            assert_eq!(RequestTarget::parse(good).unwrap().show(), good);
        }
        for bad in ["", "healthz", "http://a/", "/a b", "/a#b", "/ä", "/a\nb"] {
            assert!(RequestTarget::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn nobody_sees_its_query() {
        assert_eq!(RequestTarget::visible("/a?token=x"), "/a?***");
        let printed = RequestTarget("/a?token=x".into()).print();
        assert_eq!(printed, Data::text("/a?***"), "it can be read back");
        assert!(RequestTarget::parse("/a?***").is_ok());
        assert_eq!(RequestTarget::visible("/a"), "/a");
    }
}
