//! Values that errors, the dashboard and the log must not show.

use std::fmt;

use crate::config::section::{Scalar, ANY_TEXT};
use crate::data::Data;

/// A text that only its owner may see.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Secret(pub String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

impl Scalar for Secret {
    const WHAT: &'static str = "a secret";
    const TYPES: &'static [&'static str] = &ANY_TEXT;
    const ALLOWED: &'static str = "a text, best from `${file:/PATH}` or `${env:NAME}`";
    const SECRET: bool = true;

    fn parse(text: &str) -> Result<Self, String> {
        Ok(Self(text.to_owned()))
    }

    fn show(&self) -> String {
        self.0.clone()
    }

    fn print(&self) -> Data {
        Data::Secret(self.0.clone())
    }
}
