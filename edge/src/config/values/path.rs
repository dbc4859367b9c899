//! Patterns of paths, and prefixes to take off.

use std::fmt;

use regex_automata::meta;
use regex_automata::util::syntax;

use crate::config::section::Scalar;
use crate::plan::path::normalise;

/// A pattern of a path, in the form that paths have after [`normalise`].
#[derive(Clone, Debug)]
pub enum PathPattern {
    /// `/x`: this path alone.
    Exact(String),
    /// `/x/*`: `/x`, and all below it. `/*` is empty here.
    Prefix(String),
    /// A `*` elsewhere stands for any characters but `/`, `**` for any at all.
    Glob(String, Regex),
    /// `~REGEX`, for the whole path.
    Regex(Regex),
}

impl PathPattern {
    /// Returns the text before the first wildcard.
    pub fn literal(&self) -> &str {
        match self {
            Self::Exact(path) | Self::Prefix(path) => path,
            Self::Glob(glob, _) => &glob[..glob.find('*').unwrap_or(glob.len())],
            Self::Regex(regex) => regex.literal(),
        }
    }
}

impl fmt::Display for PathPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(path) => f.write_str(path),
            Self::Prefix(path) => write!(f, "{path}/*"),
            Self::Glob(glob, _) => f.write_str(glob),
            Self::Regex(regex) => write!(f, "~{}", regex.as_str()),
        }
    }
}

impl Scalar for PathPattern {
    const WHAT: &'static str = "a path";
    const ALLOWED: &'static str =
        "`/PATH`, `/PATH/*` for it and all below, `*` within for parts of a segment, `**` for anything, or `~REGEX`";

    fn parse(text: &str) -> Result<Self, String> {
        if let Some(regex) = text.strip_prefix('~') {
            return Regex::new(regex.trim_start()).map(Self::Regex);
        }
        check_literal(text)?;
        if let Some(prefix) = text.strip_suffix("/*") {
            if !prefix.contains('*') {
                return normal(prefix).map(Self::Prefix);
            }
        }
        if !text.contains('*') {
            return normal_path(text).map(Self::Exact);
        }
        // A `*` stands for itself in a path too, so that the rest of a glob is judged as that of one.
        normal_path(text)?;
        let glob = match text.strip_suffix("/*") {
            Some(most) => format!("{}(?:/.*)?", glob_regex(most)),
            None => glob_regex(text),
        };
        Ok(Self::Glob(text.to_owned(), Regex::new(&glob)?))
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

fn check_literal(text: &str) -> Result<(), String> {
    if !text.starts_with('/') {
        return Err("it begins with `/`".into());
    }
    if text.contains(['?', '#']) {
        return Err("a query is no part of it".into());
    }
    Ok(())
}

/// Returns a path as requests have it, and says so when it was written in another form.
fn normal_path(text: &str) -> Result<String, String> {
    let normal = normalise(text.as_bytes()).map_err(|e| e.to_string())?;
    if normal.matched() != text {
        return Err(format!(
            "requests are compared in the form `{}`",
            normal.matched()
        ));
    }
    Ok(text.to_owned())
}

/// As [`normal_path`], of a prefix without its last slash.
fn normal(prefix: &str) -> Result<String, String> {
    if prefix.is_empty() {
        return Ok(String::new());
    }
    if prefix.ends_with('/') {
        return Err("it has an empty segment".into());
    }
    normal_path(prefix)
}

fn glob_regex(glob: &str) -> String {
    let mut out = String::new();
    let mut parts = glob.split('*').peekable();
    while let Some(part) = parts.next() {
        for c in part.chars() {
            if !c.is_ascii_alphanumeric() && c.is_ascii() && c != '/' {
                out.push('\\');
            }
            out.push(c);
        }
        if parts.peek().is_some_and(|next| next.is_empty()) && out_of_two(&mut parts) {
            out.push_str(".*");
        } else if parts.peek().is_some() {
            out.push_str("[^/]*");
        }
    }
    out
}

/// Takes the empty part between the two stars of `**`, unless it is what follows the last star.
fn out_of_two<'a>(parts: &mut std::iter::Peekable<std::str::Split<'a, char>>) -> bool {
    let mut ahead = parts.clone();
    ahead.next();
    if ahead.peek().is_none() {
        return false;
    }
    parts.next();
    true
}

/// A regular expression that a whole text must match, in which `.` is any character. Its size, and so the time of a search,
/// is bounded.
#[derive(Clone, Debug)]
pub struct Regex {
    text: String,
    compiled: meta::Regex,
}

/// Bytes of a compiled expression.
const REGEX_SIZE: usize = 1 << 20;

impl Regex {
    /// Compiles an expression.
    ///
    /// # Errors
    ///
    /// The reason why it is none, in one line.
    pub fn new(text: &str) -> Result<Self, String> {
        let config = meta::Config::new()
            .nfa_size_limit(Some(REGEX_SIZE))
            .hybrid_cache_capacity(256 << 10);
        // What is to be found in a value is not hidden by a line feed in it.
        let syntax = syntax::Config::new().dot_matches_new_line(true);
        let build = |text: &str| {
            let mut builder = meta::Builder::new();
            let built = builder.configure(config.clone()).syntax(syntax).build(text);
            built.map_err(|e| why(&e))
        };
        // By itself first, so that no unpaired parenthesis finds its other half in what is put around it.
        build(text)?;
        let compiled = build(&format!(r"\A(?:{text})\z"))?;
        Ok(Self {
            text: text.to_owned(),
            compiled,
        })
    }

    /// Returns the expression as it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Returns the search, which only whole texts match.
    pub(crate) fn compiled(&self) -> &meta::Regex {
        &self.compiled
    }

    /// Returns a text that every match begins with, as long as it is easily seen.
    fn literal(&self) -> &str {
        let text = self.text.strip_prefix('^').unwrap_or(&self.text);
        if text.contains('|') {
            return "";
        }
        let special = text.find(|c: char| !(c.is_ascii_alphanumeric() || "/_-~%".contains(c)));
        let end = special.unwrap_or(text.len());
        match text[end..].chars().next() {
            Some('*' | '?' | '{') => &text[..end.saturating_sub(1)],
            _ => &text[..end],
        }
    }
}

fn why(error: &meta::BuildError) -> String {
    let syntax = error.syntax_error().map(ToString::to_string);
    match (syntax, error.size_limit()) {
        (Some(syntax), _) => {
            let last = syntax.lines().last().unwrap_or("");
            last.trim_start_matches("error: ").to_owned()
        }
        (None, Some(limit)) => format!("it needs more than {limit} bytes"),
        (None, None) => error.to_string(),
    }
}

impl Scalar for Regex {
    const WHAT: &'static str = "a regular expression";
    const ALLOWED: &'static str =
        "an expression such as `/v([0-9]+)/.*`, which a whole text must match";

    fn parse(text: &str) -> Result<Self, String> {
        Self::new(text)
    }

    fn show(&self) -> String {
        self.text.clone()
    }
}

/// A prefix of whole segments, such as `/api`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathPrefix(String);

impl PathPrefix {
    /// Returns it without a slash at its end.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Scalar for PathPrefix {
    const WHAT: &'static str = "a prefix";
    const ALLOWED: &'static str = "whole segments, such as `/api`";

    fn parse(text: &str) -> Result<Self, String> {
        check_literal(text)?;
        let prefix = text.strip_suffix('/').unwrap_or(text);
        if prefix.contains('*') {
            return Err("it is no pattern".into());
        }
        if prefix.is_empty() {
            return Err("nothing would be taken off".into());
        }
        normal(prefix).map(Self)
    }

    fn show(&self) -> String {
        self.0.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_glob_that_no_request_can_fit_is_refused() {
        for good in [
            "/*.php", "/a/**", "/*/b/*", "/.*", "/a%2F*x", "/**/x", "/a*/",
        ] {
            assert!(PathPattern::parse(good).is_ok(), "{good}");
        }
        for bad in [
            "/m\u{fc}nchen/*.pdf",
            "/a%2fb/**",
            "/x//y*",
            "/p;v=1/*.txt",
            "/a/../*x",
            "/%2e*",
            "/x y/*z",
        ] {
            assert!(PathPattern::parse(bad).is_err(), "{bad}");
        }
        let why = PathPattern::parse("/m\u{fc}nchen/*.pdf").unwrap_err();
        assert_eq!(
            why,
            "requests are compared in the form `/m%C3%BCnchen/*.pdf`"
        );
    }
}
