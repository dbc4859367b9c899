//! Limits of time, as they are written in flags and settings.

use std::str::FromStr;
use std::time::Duration;

/// A limit, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Limit(pub(super) Option<Duration>);

impl Limit {
    /// A limit of whole seconds.
    pub(super) const fn seconds(seconds: u64) -> Self {
        Limit(Some(Duration::from_secs(seconds)))
    }
}

impl FromStr for Limit {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "off" {
            return Ok(Limit(None));
        }
        let bad = || format!("bad time '{text}': write 5, 0.5, 500ms, 5s, 1m, 1h, or off");
        let digits = text.trim_end_matches(|c: char| c.is_ascii_lowercase());
        let unit = match &text[digits.len()..] {
            "ms" => 0.001,
            "" | "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return Err(bad()),
        };
        let plain = digits.bytes().all(|b| b.is_ascii_digit() || b == b'.');
        let number: f64 = digits.parse().map_err(|_| bad())?;
        let time = Duration::try_from_secs_f64(number * unit).map_err(|_| bad())?;
        match plain && time >= Duration::from_millis(1) {
            true => Ok(Limit(Some(time))),
            false => Err(bad()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_with_and_without_a_unit() {
        for (text, millis) in [
            ("5", 5_000),
            ("0.5", 500),
            ("500ms", 500),
            ("5s", 5_000),
            ("1.5m", 90_000),
            ("2h", 7_200_000),
        ] {
            let time = Some(Duration::from_millis(millis));
            assert_eq!(text.parse(), Ok(Limit(time)), "{text}");
        }
        assert_eq!("off".parse(), Ok(Limit(None)));
        for text in [
            "",
            "0",
            "0.0001",
            "-1",
            "5x",
            "s",
            "1e3",
            "inf",
            "5 s",
            "99999999999999999999999h",
        ] {
            assert!(
                text.parse::<Limit>().is_err_and(|e| e.contains("write 5")),
                "{text}"
            );
        }
    }
}
