//! Counts of at least one.

use crate::config::section::Scalar;
use crate::data::Data;

/// A number from 1 on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Count(pub u32);

impl Scalar for Count {
    const WHAT: &'static str = "a count";
    const ALLOWED: &'static str = "a whole number from 1 on, such as `5`";

    fn parse(text: &str) -> Result<Self, String> {
        let count = text.parse::<u32>().ok().filter(|count| *count > 0);
        count.map(Self).ok_or_else(String::new)
    }

    fn show(&self) -> String {
        self.0.to_string()
    }

    fn schema() -> Data {
        Data::map([
            ("type", Data::text("integer")),
            ("minimum", Data::Number(1)),
        ])
    }

    fn print(&self) -> Data {
        Data::Number(u64::from(self.0))
    }
}
