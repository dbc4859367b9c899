//! Time limits.

use std::time::Duration;

use crate::config::section::Scalar;

/// A time limit, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TimeLimit(pub Option<Duration>);

impl TimeLimit {
    /// No limit.
    pub const OFF: Self = Self(None);

    /// Returns a limit of whole seconds.
    pub const fn seconds(seconds: u64) -> Self {
        Self(Some(Duration::from_secs(seconds)))
    }

    /// Returns the shorter one of this and another.
    pub fn within(self, other: Option<Duration>) -> Option<Duration> {
        match (self.0, other) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        }
    }
}

impl Scalar for TimeLimit {
    const WHAT: &'static str = "a time limit";
    const ALLOWED: &'static str =
        "numbers with a unit (`ms`, `s`, `m`, `h`, `d`), such as `500ms` or `1m30s`, or `off`";

    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "off" => Ok(Self::OFF),
            time => Duration::parse(time).map(|time| Self(Some(time))),
        }
    }

    fn show(&self) -> String {
        self.0.map_or_else(|| "off".to_owned(), |time| time.show())
    }
}
