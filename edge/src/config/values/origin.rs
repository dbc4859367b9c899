//! Origins of the web, as browsers name them in `Origin`.

use http::Uri;

use crate::config::section::Scalar;

/// The origins that may read a site.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WebOrigin {
    /// Every origin.
    Any,
    /// This one.
    Exact(String),
    /// The scheme with `://`, and what hosts end with: a dot and a name, and a port if there is one.
    Below(&'static str, String),
}

impl WebOrigin {
    /// Tells whether the value of `Origin` names it.
    pub fn matches(&self, origin: &[u8]) -> bool {
        match self {
            Self::Any => true,
            Self::Exact(exact) => exact.as_bytes() == origin,
            Self::Below(scheme, end) => {
                let host = origin.strip_prefix(scheme.as_bytes());
                let label = host.and_then(|host| host.strip_suffix(end.as_bytes()));
                let plain = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
                label.is_some_and(|label| !label.is_empty() && label.iter().all(plain))
            }
        }
    }
}

impl Scalar for WebOrigin {
    const WHAT: &'static str = "an origin";
    const ALLOWED: &'static str =
        "`SCHEME://HOST` or `SCHEME://HOST:PORT` as browsers send it, such as `https://app.example.org`, \
         `https://*.example.org`, or `*` for every one";

    fn parse(text: &str) -> Result<Self, String> {
        if text == "*" {
            return Ok(Self::Any);
        }
        let (scheme, rest) = match text.split_once("://") {
            Some(("https", rest)) => ("https://", rest),
            Some(("http", rest)) => ("http://", rest),
            Some(_) => return Err("its scheme is `http` or `https`".into()),
            None => return Err("it has no scheme".into()),
        };
        if rest.contains('/') {
            return Err("an origin has no path".into());
        }
        if rest.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(format!("did you mean `{}`?", text.to_ascii_lowercase()));
        }
        let below = rest.strip_prefix("*.");
        let uri = format!("{scheme}{}", below.unwrap_or(rest)).parse::<Uri>();
        let authority = uri.ok().and_then(|uri| uri.into_parts().authority);
        let authority = authority.filter(|a| !a.as_str().contains(['@', '*']));
        let authority = authority.ok_or_else(String::new)?;
        let usual = if scheme == "https://" { 443 } else { 80 };
        if authority.port_u16() == Some(usual) {
            return Err(format!("browsers leave out the port {usual}"));
        }
        Ok(match below {
            Some(below) => Self::Below(scheme, format!(".{below}")),
            None => Self::Exact(text.to_owned()),
        })
    }

    fn show(&self) -> String {
        match self {
            Self::Any => "*".into(),
            Self::Exact(origin) => origin.clone(),
            Self::Below(scheme, end) => format!("{scheme}*{end}"),
        }
    }
}
