//! Changes to a request on its way upstream, and to its response.

use std::borrow::Cow;

use http::HeaderName;

use super::path::{encode, has_dots, is_literal, normalise, BadPath};
use super::request::{is_uri_byte, Request};
use super::search::{Scratch, Search};
use crate::config::secrets::STARS;
use crate::config::values::{Part, Template, Variable};

/// A change to the path that goes upstream.
#[derive(Debug)]
pub(super) enum Rewrite {
    /// Takes these segments off.
    Strip(String),
    /// Makes another path.
    Template {
        /// The expression that the path must match.
        regex: Option<Search>,
        path: Template,
        /// If unset, the query stays as it is.
        query: Option<Template>,
        /// True if only its owner may see it.
        is_hidden: bool,
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
            is_hidden: to.is_hidden(),
        }
    }

    /// Tells whether only its owner may see what it makes.
    pub(super) fn is_hidden(&self) -> bool {
        matches!(
            self,
            Self::Template {
                is_hidden: true,
                ..
            }
        )
    }

    /// Tells whether its own text has a segment `.` or `..`.
    pub(super) fn has_dots(&self) -> bool {
        let Self::Template { path, .. } = self else {
            return false;
        };
        let text = |part: &Part| match part {
            Part::Text(text) => text.clone(),
            Part::Variable(_) => "x".to_owned(),
        };
        has_dots(&path.parts().iter().map(text).collect::<String>())
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

    /// Returns what the key of a cache needs of a target that it has made; nothing where that follows from the URL, of whose
    /// query the key knows what counts.
    pub(super) fn keyed<'t>(&self, target: &'t [u8]) -> Option<&'t [u8]> {
        let Self::Template { path, query, .. } = self else {
            return None;
        };
        if query.as_ref().is_some_and(has_more_than_url) {
            return Some(target);
        }
        let end = target.iter().position(|b| *b == b'?');
        has_more_than_url(path).then(|| &target[..end.unwrap_or(target.len())])
    }

    pub(super) fn target<'a>(
        &self,
        request: &Request<'a>,
        scratch: &mut Scratch,
    ) -> Result<Cow<'a, str>, BadPath> {
        let old = request.path.as_str();
        match self {
            Self::Strip(prefix) => Ok(request.target(request.path.strip(prefix).unwrap_or(old))),
            Self::Template {
                regex, path, query, ..
            } => {
                let groups = match regex
                    .as_ref()
                    .map(|regex| regex.groups(request.path.matched(), scratch))
                {
                    None => Vec::new(),
                    Some(Some(groups)) => groups,
                    Some(None) => return Ok(request.target(old)),
                };
                let made = fill(path, request, &groups, in_path);
                if has_dots(&made) {
                    // It would lead out of what the template says, and past the rules of other routes.
                    return Err(BadPath::FilledDots);
                }
                let mut target = normalise(made.as_bytes())?.as_str().to_owned();
                let query = match query {
                    Some(query) => Some(Cow::Owned(fill(query, request, &groups, in_query))),
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
            Self::Template {
                is_hidden: true, ..
            } => format!("rewrite to {STARS}"),
            Self::Template { path, query, .. } => match query {
                Some(query) => format!("rewrite to {}?{}", path.show(), query.show()),
                None => format!("rewrite to {}", path.show()),
            },
        }
    }
}

/// Tells whether a byte of a variable stands for itself in a path. Only what comes from the path has segments: any other
/// value is a part of one.
fn in_path(variable: &Variable, b: u8) -> bool {
    is_literal(b) || (b == b'/' && matches!(variable, Variable::Path | Variable::Group(_)))
}

/// Tells whether a byte of a variable stands for itself in a query. Only what was a query has parameters: any other value is a
/// part of one.
fn in_query(variable: &Variable, b: u8) -> bool {
    let separates = b"&+#".contains(&b);
    is_uri_byte(b) && (!separates || matches!(variable, Variable::Query | Variable::Uri))
}

/// Tells whether a template has anything in it that is not of the URL. One parameter of the query is: the key may be without
/// it.
fn has_more_than_url(template: &Template) -> bool {
    use Variable::{Group, Host, Path, Query, Scheme, Uri};
    template.parts().iter().any(|part| match part {
        Part::Text(_) => false,
        Part::Variable(variable) => {
            !matches!(variable, Group(_) | Host | Path | Query | Scheme | Uri)
        }
    })
}

/// Fills in a template. What is not `allowed` of a variable's bytes is encoded; encodings of paths and queries stay.
fn fill(
    template: &Template,
    request: &Request,
    groups: &[&str],
    allowed: impl Fn(&Variable, u8) -> bool,
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
            if (encoded && *b == b'%') || (*b != b'%' && allowed(variable, *b)) {
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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change<'a> {
    /// Take all of this name away.
    Remove(&'a HeaderName),
    /// Put this value in place of all.
    Set(&'a HeaderName, &'a [u8]),
    /// Put this value beside the others.
    Add(&'a HeaderName, &'a [u8]),
}

impl HeaderEdits {
    /// Tells whether any value has the id of the request in it.
    pub(super) fn has_id(&self) -> bool {
        self.0.iter().any(|edit| match edit {
            HeaderEdit::Remove(_) => false,
            HeaderEdit::Set(_, value) | HeaderEdit::Add(_, value) => value.has_id(),
        })
    }

    /// Fills in the values for a request that are not the same for all.
    pub(crate) fn values(&self, request: &Request<'_>) -> Values {
        let mut values = Values::default();
        for edit in &self.0 {
            if let HeaderEdit::Set(_, value) | HeaderEdit::Add(_, value) = edit {
                if fixed(value).is_none() {
                    values.add(value, request);
                }
            }
        }
        values
    }

    /// Returns the changes with these values, in the order in which to make them.
    pub(crate) fn with<'e>(&'e self, values: &'e Values) -> impl Iterator<Item = Change<'e>> {
        let mut rest = &values.0[..];
        let mut value = move |template: &'e Template| {
            fixed(template).unwrap_or_else(|| {
                let (value, after) = first(rest);
                rest = after;
                value
            })
        };
        self.0.iter().map(move |edit| match edit {
            HeaderEdit::Remove(name) => Change::Remove(name),
            HeaderEdit::Set(name, template) => Change::Set(name, value(template)),
            HeaderEdit::Add(name, template) => Change::Add(name, value(template)),
        })
    }
}

/// The values of changes that were filled in for a request, each behind its length.
#[derive(Default)]
pub(crate) struct Values(Vec<u8>);

impl Values {
    fn add(&mut self, template: &Template, request: &Request<'_>) {
        // Grown once: the usual value is an address or a name.
        self.0.reserve(64);
        let start = self.0.len();
        self.0.extend_from_slice(&0usize.to_ne_bytes());
        let begin = self.0.len();
        request.fill_into(template, &mut self.0);
        let length = self.0.len() - begin;
        self.0[start..begin].copy_from_slice(&length.to_ne_bytes());
    }
}

/// Parts the first value from what follows.
fn first(values: &[u8]) -> (&[u8], &[u8]) {
    let parted = values
        .split_first_chunk()
        .and_then(|(length, rest)| rest.split_at_checked(usize::from_ne_bytes(*length)));
    parted.unwrap_or_default()
}

/// Returns the text of a template that has nothing to fill in.
#[inline]
fn fixed(template: &Template) -> Option<&[u8]> {
    match template.parts() {
        [] => Some(b""),
        [Part::Text(text)] => Some(text.as_bytes()),
        _ => None,
    }
}
