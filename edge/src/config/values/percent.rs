//! Shares of a whole.

use crate::config::section::Scalar;

/// A share of a whole, 0 % to 100 %, kept in hundredths of a percent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Percent(u32);

impl Percent {
    /// Returns a whole number of percent, up to 100.
    pub const fn whole(percent: u32) -> Self {
        assert!(percent <= 100);
        Self(percent * 100)
    }

    /// Returns the share of `whole`, rounded down.
    pub fn of(self, whole: u64) -> u64 {
        (u128::from(whole) * u128::from(self.0) / 10_000) as u64
    }

    /// Returns the share in hundredths of a percent.
    pub fn hundredths(self) -> u32 {
        self.0
    }
}

impl Scalar for Percent {
    const WHAT: &'static str = "a share";
    const ALLOWED: &'static str = "`0%` to `100%`, such as `20%` or `0.5%`";

    fn parse(text: &str) -> Result<Self, String> {
        let Some(number) = text.strip_suffix('%') else {
            return Err("it has no `%`".into());
        };
        let (whole, part) = number.split_once('.').unwrap_or((number, ""));
        let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
        if whole.is_empty() || part.len() > 2 || !digits(whole) || !digits(part) {
            return Err(String::new());
        }
        // `5` after the point is 50 hundredths.
        let part: u32 = format!("{part:0<2}").parse().map_err(|_| String::new())?;
        let whole: u32 = whole.parse().map_err(|_| String::new())?;
        let share = whole
            .checked_mul(100)
            .and_then(|share| share.checked_add(part));
        let share = share.filter(|share| *share <= 10_000);
        share.map(Self).ok_or_else(String::new)
    }

    fn show(&self) -> String {
        let (whole, part) = (self.0 / 100, self.0 % 100);
        match part {
            0 => format!("{whole}%"),
            part => format!("{}%", format!("{whole}.{part:02}").trim_end_matches('0')),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_read_and_written_alike() {
        for text in ["0%", "20%", "0.5%", "99.99%", "100%"] {
            assert_eq!(Percent::parse(text).unwrap().show(), text);
        }
        assert_eq!(Percent::parse("12.5%").unwrap().of(80), 10);
        for bad in [
            "", "%", "5", "101%", "100.01%", "1.234%", "-1%", ".5%", "1e1%",
        ] {
            assert!(Percent::parse(bad).is_err(), "{bad}");
        }
    }
}
