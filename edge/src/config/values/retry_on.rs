//! Failures that a request is tried again for.

use super::StatusRange;
use crate::config::section::{did_you_mean, Scalar};

/// A failure that a request is tried again for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RetryOn {
    /// No connection.
    Connect,
    /// A connection that breaks off, or an answer that is none.
    Reset,
    /// An answer that does not come in time.
    Timeout,
    /// An answer with one of these statuses.
    Status(StatusRange),
}

const WORDS: [&str; 3] = ["connect", "reset", "timeout"];

impl Scalar for RetryOn {
    const WHAT: &'static str = "something that a request is tried again for";
    const TYPES: &'static [&'static str] = &["string", "integer"];
    const ALLOWED: &'static str =
        "`connect`, `reset`, `timeout`, a status such as `503`, a class such as `5xx`, or a range such as `502-504`";

    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "connect" => Ok(Self::Connect),
            "reset" => Ok(Self::Reset),
            "timeout" => Ok(Self::Timeout),
            text if text.starts_with(|c: char| c.is_ascii_digit()) => {
                StatusRange::parse(text).map(Self::Status)
            }
            text => Err(did_you_mean(text, &WORDS)),
        }
    }

    fn show(&self) -> String {
        match self {
            Self::Connect => WORDS[0].to_owned(),
            Self::Reset => WORDS[1].to_owned(),
            Self::Timeout => WORDS[2].to_owned(),
            Self::Status(range) => range.show(),
        }
    }
}
