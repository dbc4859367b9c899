//! Patterns of the values of headers, cookies and parts of queries.

use super::path::Regex;
use crate::config::secrets::STARS;
use crate::config::section::{Scalar, ANY_TEXT};
use crate::data::Data;

/// A pattern of a text.
#[derive(Clone, Debug)]
pub struct TextPattern {
    /// Its test.
    pub test: TextTest,
    /// True if only its owner may see it.
    is_hidden: bool,
}

/// The tests of patterns.
#[derive(Clone, Debug)]
pub enum TextTest {
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
    const TYPES: &'static [&'static str] = &ANY_TEXT;
    const ALLOWED: &'static str = "a text, `*` for any, a text with `*` in it, or `~REGEX`";

    fn parse(text: &str) -> Result<Self, String> {
        let test = match text.strip_prefix('~') {
            Some(regex) => TextTest::Regex(Regex::new(regex.trim_start())?),
            None if text == "*" => TextTest::Present,
            None if text.contains('*') => TextTest::Glob(text.to_owned()),
            None => TextTest::Exact(text.to_owned()),
        };
        Ok(Self {
            test,
            is_hidden: false,
        })
    }

    fn show(&self) -> String {
        match &self.test {
            TextTest::Present => "*".into(),
            TextTest::Exact(text) | TextTest::Glob(text) => text.clone(),
            TextTest::Regex(regex) => format!("~{}", regex.as_str()),
        }
    }

    fn hide(&mut self) {
        // That something is there is no secret.
        self.is_hidden = !matches!(self.test, TextTest::Present);
    }

    fn print(&self) -> Data {
        if self.is_hidden {
            Data::Secret(self.show())
        } else {
            Data::Text(self.show())
        }
    }
}

impl TextPattern {
    /// Returns it for people who may not know its secrets.
    pub(crate) fn shown(&self) -> String {
        if self.is_hidden {
            STARS.to_owned()
        } else {
            self.show()
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
