//! Values that are written as one scalar, and the plainest of them.

use std::path::PathBuf;

use super::node::{Kind, Node};
use super::place::Errors;
use super::secrets::names_secret;
use super::section::{Schemas, Value};
use crate::data::Data;

/// The types of what is any text at all.
pub(crate) const ANY_TEXT: [&str; 3] = ["string", "number", "boolean"];

/// A type that is written as one scalar.
pub trait Scalar: Sized {
    /// The name of the type, with its article.
    const WHAT: &'static str;
    /// The allowed values, with an example.
    const ALLOWED: &'static str;
    /// The types that YAML may take it for where it stands without quotes.
    const TYPES: &'static [&'static str] = &["string"];
    /// True if it may be one that only its owner may see, as [`Scalar::is_secret`] tells.
    const SECRET: bool = false;
    /// True if it may be the name of such a value, as [`Scalar::names_secret`] tells.
    const NAMES_SECRETS: bool = false;

    /// Tells whether only its owner may see what is written as `text`: errors do not show it, also not in the line that they
    /// are about. The reasons of [`Scalar::parse`] repeat no part of it.
    fn is_secret(_text: &str) -> bool {
        Self::SECRET
    }

    /// Tells whether it is the name of a value that only its owner may see.
    fn names_secret(&self) -> bool {
        false
    }

    /// Learns that only its owner may see it. A type that prints all that it holds needs not do so: its print is compared
    /// with the file.
    fn hide(&mut self) {}

    /// Reads it.
    ///
    /// # Errors
    ///
    /// The reason, when there is more to say than that it is none.
    fn parse(text: &str) -> Result<Self, String>;

    /// Returns the text that is read as the same value.
    fn show(&self) -> String;

    /// Returns its JSON schema.
    fn schema() -> Data {
        let of = match Self::TYPES {
            [one] => Data::text(*one),
            all => Data::List(all.iter().map(|one| Data::text(*one)).collect()),
        };
        Data::map([("type", of), ("description", Data::text(Self::ALLOWED))])
    }

    /// Returns it as it would be written in a file.
    fn print(&self) -> Data {
        Data::Text(self.show())
    }
}

impl<T: Scalar> Value for T {
    const SECRET: bool = <T as Scalar>::SECRET;
    const HOLDS_SECRETS: bool = <T as Scalar>::SECRET;

    fn decode(node: &Node, errors: &mut Errors) -> Option<Self> {
        let Kind::Scalar { text, written } = &node.kind else {
            if <T as Scalar>::SECRET {
                errors.hide(node);
            }
            if matches!(node.kind, Kind::Failed(_)) {
                return None;
            }
            let stands = node.describe();
            let why = if looks_like_braces(&node.kind) {
                "a text that begins with `{` stands in quotes"
            } else {
                ""
            };
            errors.at(
                node.place,
                expected(&stands, Self::WHAT, Self::ALLOWED, why),
            );
            return None;
        };
        let is_secret = T::is_secret(text);
        if is_secret {
            errors.hide(node);
        }
        let parsed = T::parse(text).map_err(|why| {
            // A reason may repeat a part of the value, but for a secret's.
            let why = if written.is_some() { "" } else { &why };
            let stands = if is_secret {
                "what stands here".to_owned()
            } else {
                node.describe()
            };
            errors.at(
                node.place,
                expected(&stands, Self::WHAT, Self::ALLOWED, why),
            );
        });
        let mut value = parsed.ok()?;
        if is_secret || written.is_some() {
            Scalar::hide(&mut value);
        }
        Some(value)
    }

    fn schema(_: &mut Schemas) -> Data {
        T::schema()
    }

    fn print(&self) -> Data {
        Scalar::print(self)
    }

    fn hide(&mut self) {
        Scalar::hide(self);
    }
}

/// Tells whether it is a map that YAML makes of `{host}`.
fn looks_like_braces(kind: &Kind) -> bool {
    let is_bare = |pairs: &[(String, _, Node)]| matches!(pairs, [(_, _, value)] if matches!(value.kind, Kind::Null));
    matches!(kind, Kind::Map(pairs) if is_bare(pairs))
}

fn expected(stands: &str, what: &str, allowed: &str, why: &str) -> String {
    if why.ends_with('?') {
        format!("{stands} is not {what}; {why}")
    } else if why.is_empty() {
        format!("{stands} is not {what}; expected {allowed}")
    } else {
        format!("{stands} is not {what}: {why}; expected {allowed}")
    }
}

impl Scalar for bool {
    const WHAT: &'static str = "a switch";
    const ALLOWED: &'static str = "`true` or `false`";

    fn parse(text: &str) -> Result<Self, String> {
        text.parse().map_err(|_| String::new())
    }

    fn show(&self) -> String {
        self.to_string()
    }

    fn schema() -> Data {
        Data::map([("type", Data::text("boolean"))])
    }

    fn print(&self) -> Data {
        Data::Bool(*self)
    }
}

impl Scalar for u32 {
    const WHAT: &'static str = "a number";
    const ALLOWED: &'static str = "a whole number such as `5`";

    fn parse(text: &str) -> Result<Self, String> {
        text.parse().map_err(|_| String::new())
    }

    fn show(&self) -> String {
        self.to_string()
    }

    fn schema() -> Data {
        Data::map([
            ("type", Data::text("integer")),
            ("minimum", Data::Number(0)),
        ])
    }

    fn print(&self) -> Data {
        Data::Number(u64::from(*self))
    }
}

impl Scalar for String {
    const WHAT: &'static str = "a text";
    const ALLOWED: &'static str = "a text";
    const TYPES: &'static [&'static str] = &ANY_TEXT;
    const NAMES_SECRETS: bool = true;

    fn names_secret(&self) -> bool {
        names_secret(self)
    }

    fn parse(text: &str) -> Result<Self, String> {
        Ok(text.to_owned())
    }

    fn show(&self) -> String {
        self.clone()
    }
}

impl Scalar for PathBuf {
    const WHAT: &'static str = "a file";
    const ALLOWED: &'static str = "the path of a file";

    fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() || text.contains('\0') {
            return Err(String::new());
        }
        Ok(text.into())
    }

    fn show(&self) -> String {
        self.to_string_lossy().into_owned()
    }
}
