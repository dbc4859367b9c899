//! Changes to a request on its way upstream, and to its response.

use std::borrow::Cow;

use http::{HeaderName, HeaderValue};

use super::path::{encode, is_literal, normalise, BadPath};
use super::request::{is_uri_byte, Request};
use super::search::{Scratch, Search};
use crate::config::values::{Part, Template, Variable};

/// A change to the path that goes upstream.
#[derive(Debug)]
pub(super) enum Rewrite {
    /// Takes these segments off.
    Strip(String),
    /// Makes another path.
    Template {
        /// What the path must match.
        regex: Option<Search>,
        path: Template,
        /// If unset, the query stays as it is.
        query: Option<Template>,
    },
}

impl Rewrite {
    /// Makes a rewrite; a query begins at the first `?` of the template's own text.
    pub(super) fn template(regex: Option<Search>, to: &Template) -> Self {
        let (mut path, mut query): (Vec<Part>, Option<Vec<Part>>) = (Vec::new(), None);
        for part in to.parts() {
            match (part, &mut query) {
                (Part::Text(text), None) if text.contains('?') => {
                    let (before, after) = text.split_once('?').unwrap_or((text, ""));
                    path.push(Part::Text(before.to_owned()));
                    query = Some(vec![Part::Text(after.to_owned())]);
                }
                (Part::Variable(Variable::Uri), None) => path.push(Part::Variable(Variable::Path)),
                (part, None) => path.push(part.clone()),
                (part, Some(query)) => query.push(part.clone()),
            }
        }
        Self::Template {
            regex,
            path: Template::of(path),
            query: query.map(Template::of),
        }
    }

    /// Tells whether it has the id of the request in it.
    pub(super) fn has_id(&self) -> bool {
        match self {
            Self::Strip(_) => false,
            Self::Template { path, query, .. } => {
                path.has_id() || query.as_ref().is_some_and(Template::has_id)
            }
        }
    }

    pub(super) fn target<'a>(
        &self,
        request: &Request<'a>,
        scratch: &mut Scratch,
    ) -> Result<Cow<'a, str>, BadPath> {
        let old = request.path.as_str();
        match self {
            Self::Strip(prefix) => Ok(request.target(request.path.strip(prefix).unwrap_or(old))),
            Self::Template { regex, path, query } => {
                let groups = match regex
                    .as_ref()
                    .map(|regex| regex.groups(request.path.matched(), scratch))
                {
                    None => Vec::new(),
                    Some(Some(groups)) => groups,
                    Some(None) => return Ok(request.target(old)),
                };
                let made = fill(path, request, &groups, |b| is_literal(b) || b == b'/');
                // What a variable brought in may be a dot segment.
                let mut target = normalise(made.as_bytes())?.as_str().to_owned();
                let query = match query {
                    Some(query) => Some(Cow::Owned(fill(query, request, &groups, is_uri_byte))),
                    None => request.query.map(Cow::Borrowed),
                };
                if let Some(query) = query.filter(|query| !query.is_empty()) {
                    target.push('?');
                    target.push_str(&query);
                }
                Ok(Cow::Owned(target))
            }
        }
    }

    /// Tells in words what it does.
    pub(super) fn show(&self) -> String {
        use crate::config::section::Scalar;
        match self {
            Self::Strip(prefix) => format!("strip_prefix {prefix}"),
            Self::Template { path, query, .. } => match query {
                Some(query) => format!("rewrite to {}?{}", path.show(), query.show()),
                None => format!("rewrite to {}", path.show()),
            },
        }
    }
}

/// Fills in a template. What is not `allowed` of a variable's bytes is encoded; encodings of paths and queries stay.
fn fill(
    template: &Template,
    request: &Request,
    groups: &[&str],
    allowed: impl Fn(u8) -> bool,
) -> String {
    let mut out = String::new();
    for part in template.parts() {
        let variable = match part {
            Part::Text(text) => {
                out.push_str(text);
                continue;
            }
            Part::Variable(variable) => variable,
        };
        let value = match variable {
            Variable::Group(group) => Cow::Borrowed(groups.get(*group).unwrap_or(&"").as_bytes()),
            other => request.value(other),
        };
        let encoded = matches!(
            variable,
            Variable::Group(_) | Variable::Path | Variable::Uri | Variable::Query
        );
        for b in value.iter() {
            if (encoded && *b == b'%') || (*b != b'%' && allowed(*b)) {
                out.push(char::from(*b));
            } else {
                encode(*b, &mut out);
            }
        }
    }
    out
}

/// Changes to headers, in order.
#[derive(Clone, Debug, Default)]
pub struct HeaderEdits(pub Vec<HeaderEdit>);

/// A change to a header.
#[derive(Clone, Debug)]
pub enum HeaderEdit {
    /// Takes all of this name away.
    Remove(HeaderName),
    /// Puts one in place of all of this name.
    Set(HeaderName, Template),
    /// Puts one beside those of this name.
    Add(HeaderName, Template),
}

/// A change to a header, for one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change<'a> {
    /// Take all of this name away.
    Remove(&'a HeaderName),
    /// Put this value in place of all.
    Set(&'a HeaderName, HeaderValue),
    /// Put this value beside the others.
    Add(&'a HeaderName, HeaderValue),
}

impl HeaderEdits {
    /// Tells whether any value has the id of the request in it.
    pub(super) fn has_id(&self) -> bool {
        self.0.iter().any(|edit| match edit {
            HeaderEdit::Remove(_) => false,
            HeaderEdit::Set(_, value) | HeaderEdit::Add(_, value) => value.has_id(),
        })
    }

    /// Returns the changes for a request, in the order in which to make them.
    pub fn changes<'e, 'r, 'f>(
        &'e self,
        request: &'r Request<'f>,
    ) -> impl Iterator<Item = Change<'e>> + use<'e, 'r, 'f> {
        // Each value is a copy of its own length: what shares memory counts references.
        let mut filled = Vec::new();
        let mut value = move |template: &Template| {
            filled.clear();
            let text = match template.parts() {
                [] => b"",
                [Part::Text(text)] => text.as_bytes(),
                _ => {
                    request.fill_into(template, &mut filled);
                    &filled[..]
                }
            };
            // Filled-in templates hold no byte that a value may not have.
            HeaderValue::from_bytes(text).ok()
        };
        self.0.iter().filter_map(move |edit| match edit {
            HeaderEdit::Remove(name) => Some(Change::Remove(name)),
            HeaderEdit::Set(name, template) => {
                value(template).map(|value| Change::Set(name, value))
            }
            HeaderEdit::Add(name, template) => {
                value(template).map(|value| Change::Add(name, value))
            }
        })
    }
}
