//! Rates of requests.

use std::time::Duration;

use crate::config::section::Scalar;

/// A number of requests in a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Rate {
    /// The number of requests.
    pub count: u32,
    /// The time.
    pub period: Duration,
}

/// The longest time of a rate.
const LONGEST: Duration = Duration::from_secs(86_400);

impl Scalar for Rate {
    const WHAT: &'static str = "a rate";
    const ALLOWED: &'static str =
        "a number of requests and a time of at most a day, such as `100/s`, `5/m` or `20/10s`";

    fn parse(text: &str) -> Result<Self, String> {
        let (count, period) = text.split_once('/').ok_or("it has no time")?;
        let count = count.trim().parse::<u32>().map_err(|_| String::new())?;
        if count == 0 {
            return Err("no request would pass".into());
        }
        let period = period.trim();
        let period = match period.bytes().next() {
            Some(b'0'..=b'9') => Duration::parse(period)?,
            Some(_) => Duration::parse(&format!("1{period}"))?,
            None => return Err("it has no time".into()),
        };
        if period > LONGEST {
            return Err("the time is longer than a day".into());
        }
        Ok(Self { count, period })
    }

    fn show(&self) -> String {
        let period = self.period.show();
        let unit = period.strip_prefix('1').filter(|unit| {
            // `10s` is no unit, and neither is `1m30s`.
            unit.bytes().all(|b| b.is_ascii_alphabetic())
        });
        format!("{}/{}", self.count, unit.unwrap_or(&period))
    }
}
