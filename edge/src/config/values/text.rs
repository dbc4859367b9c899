//! Patterns of the values of headers, cookies and parts of queries.

use super::path::Regex;
use crate::config::section::Scalar;

/// A pattern of a text.
#[derive(Clone, Debug)]
pub enum TextPattern {
    /// `*`: it is there.
    Present,
    /// This text.
    Exact(String),
    /// `*` stands for any characters.
    Glob(String),
    /// `~REGEX`, for the whole text.
    Regex(Regex),
}

impl Scalar for TextPattern {
    const WHAT: &'static str = "a pattern";
    const ALLOWED: &'static str = "a text, `*` for any, a text with `*` in it, or `~REGEX`";

    fn parse(text: &str) -> Result<Self, String> {
        if let Some(regex) = text.strip_prefix('~') {
            return Regex::new(regex.trim_start()).map(Self::Regex);
        }
        Ok(match text {
            "*" => Self::Present,
            text if text.contains('*') => Self::Glob(text.to_owned()),
            text => Self::Exact(text.to_owned()),
        })
    }

    fn show(&self) -> String {
        match self {
            Self::Present => "*".into(),
            Self::Exact(text) | Self::Glob(text) => text.clone(),
            Self::Regex(regex) => format!("~{}", regex.as_str()),
        }
    }
}

/// Matches a text with a glob, in time of the one times the other at most.
pub(crate) fn glob_matches(glob: &[u8], text: &[u8]) -> bool {
    let (mut g, mut t) = (0, 0);
    // Where to go on when what follows the last star does not fit: one character further on.
    let mut again = None;
    while t < text.len() {
        if glob.get(g) == Some(&b'*') {
            again = Some((g + 1, t));
            g += 1;
        } else if glob.get(g) == Some(&text[t]) {
            (g, t) = (g + 1, t + 1);
        } else if let Some((after, from)) = again {
            again = Some((after, from + 1));
            (g, t) = (after, from + 1);
        } else {
            return false;
        }
    }
    glob[g..].iter().all(|b| *b == b'*')
}
