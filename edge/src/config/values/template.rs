//! Texts with variables in them.

use http::HeaderName;

use super::braces;
use crate::config::section::{closest, list, Scalar, ANY_TEXT};
use crate::data::Data;

/// A text with variables, such as `https://{host}{uri}`. `{{` stands for a brace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    parts: Vec<Part>,
    /// True if only its owner may see it.
    is_hidden: bool,
}

/// A part of a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// This text.
    Text(String),
    /// The value of a variable.
    Variable(Variable),
}

/// A variable: a fact of the request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Variable {
    /// The address of the client.
    ClientIp,
    /// The host that the request is for, without its port.
    Host,
    /// The method.
    Method,
    /// The path in its normal form.
    Path,
    /// The query, without `?`.
    Query,
    /// Path and query.
    Uri,
    /// `http` or `https`.
    Scheme,
    /// The id of the request.
    RequestId,
    /// The subject of the client's certificate.
    TlsSubject,
    /// The names in the client's certificate, with commas between them.
    TlsSan,
    /// The SHA-256 fingerprint of the client's certificate.
    TlsFingerprint,
    /// A header of the request.
    Header(HeaderName),
    /// A cookie of the request.
    Cookie(String),
    /// A parameter of the query.
    Param(String),
    /// The status of the answer, in pages of errors.
    Status,
    /// The status in words, in pages of errors.
    Reason,
    /// A group of the expression of a rewrite.
    Group(usize),
}

const NAMES: [(&str, Variable); 13] = [
    ("client_ip", Variable::ClientIp),
    ("host", Variable::Host),
    ("method", Variable::Method),
    ("path", Variable::Path),
    ("query", Variable::Query),
    ("uri", Variable::Uri),
    ("scheme", Variable::Scheme),
    ("request_id", Variable::RequestId),
    ("status", Variable::Status),
    ("reason", Variable::Reason),
    ("tls_client.subject", Variable::TlsSubject),
    ("tls_client.san", Variable::TlsSan),
    ("tls_client.fingerprint", Variable::TlsFingerprint),
];

impl Variable {
    fn parse(name: &str) -> Result<Self, String> {
        if let Some((_, variable)) = NAMES.iter().find(|(known, _)| *known == name) {
            return Ok(variable.clone());
        }
        match name.split_once('.') {
            Some(("header", header)) => match HeaderName::from_bytes(header.as_bytes()) {
                Ok(header) => return Ok(Self::Header(header)),
                Err(_) => return Err(format!("`{header}` is no name of a header")),
            },
            Some(("cookie", cookie)) if !cookie.is_empty() => {
                return Ok(Self::Cookie(cookie.to_owned()))
            }
            Some(("query", param)) if !param.is_empty() => {
                return Ok(Self::Param(param.to_owned()))
            }
            _ => {}
        }
        if let Ok(group) = name.parse::<u8>() {
            return Ok(Self::Group(group.into()));
        }
        let mut names: Vec<_> = NAMES.iter().map(|(name, _)| *name).collect();
        if let Some(meant) = closest(name, &names) {
            return Err(format!(
                "there is no variable {{{name}}}; did you mean {{{meant}}}?"
            ));
        }
        names.extend(["header.NAME", "cookie.NAME", "query.NAME"]);
        Err(format!(
            "there is no variable {{{name}}}; there are {}",
            list(&names)
        ))
    }

    fn show(&self) -> String {
        match self {
            Self::Header(name) => format!("header.{name}"),
            Self::Cookie(name) => format!("cookie.{name}"),
            Self::Param(name) => format!("query.{name}"),
            Self::Group(number) => number.to_string(),
            plain => {
                let found = NAMES.iter().find(|(_, variable)| variable == plain);
                found.map_or("", |(name, _)| name).to_owned()
            }
        }
    }
}

impl Template {
    /// Returns the parts, in order.
    pub fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// Tells whether it has the id of the request in it.
    pub(crate) fn has_id(&self) -> bool {
        self.parts.contains(&Part::Variable(Variable::RequestId))
    }

    /// Reads a text in which all stands for itself but known variables.
    pub(crate) fn lenient(text: &str) -> Self {
        let (mut parts, mut literal, mut rest) = (Vec::new(), String::new(), text);
        while let Some(at) = rest.find('{') {
            literal.push_str(&rest[..at]);
            rest = &rest[at..];
            let inside = rest[1..].split(['{', '}', '\n']).next().unwrap_or("");
            let closed = rest[1 + inside.len()..].starts_with('}');
            match Variable::parse(inside) {
                Ok(variable) if closed && !matches!(variable, Variable::Group(_)) => {
                    parts.push(Part::Text(std::mem::take(&mut literal)));
                    parts.push(Part::Variable(variable));
                    rest = &rest[inside.len() + 2..];
                }
                _ => {
                    literal.push('{');
                    rest = &rest[1..];
                }
            }
        }
        literal.push_str(rest);
        parts.push(Part::Text(literal));
        Self::of(parts)
    }

    /// Makes one of parts.
    pub(crate) fn of(parts: Vec<Part>) -> Self {
        Self {
            parts,
            is_hidden: false,
        }
    }

    /// Tells whether only its owner may see it.
    pub(crate) fn is_hidden(&self) -> bool {
        self.is_hidden
    }

    /// Returns the variables.
    pub fn variables(&self) -> impl Iterator<Item = &Variable> {
        self.parts.iter().filter_map(|part| match part {
            Part::Variable(variable) => Some(variable),
            Part::Text(_) => None,
        })
    }
}

impl Scalar for Template {
    const WHAT: &'static str = "a text with variables";
    const TYPES: &'static [&'static str] = &ANY_TEXT;
    const ALLOWED: &'static str = "a text such as `https://{host}{uri}`; `{{` is a brace";

    fn parse(text: &str) -> Result<Self, String> {
        let parts = braces::split(text, Part::Text, |name| {
            Variable::parse(name).map(Part::Variable)
        })?;
        if text
            .chars()
            .any(|c| c.is_control() && c != '\n' && c != '\t')
        {
            return Err("it holds a control character".into());
        }
        Ok(Self::of(parts))
    }

    fn hide(&mut self) {
        self.is_hidden = true;
    }

    fn print(&self) -> Data {
        if self.is_hidden {
            Data::Secret(self.show())
        } else {
            Data::Text(self.show())
        }
    }

    fn show(&self) -> String {
        let part = |part: &Part| match part {
            Part::Text(text) => braces::plain(text),
            Part::Variable(variable) => format!("{{{}}}", variable.show()),
        };
        self.parts.iter().map(part).collect()
    }
}
