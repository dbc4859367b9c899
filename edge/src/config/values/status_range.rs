//! Ranges of status codes.

use crate::config::section::Scalar;

/// Status codes from one to another, both among them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct StatusRange {
    from: u16,
    to: u16,
}

impl StatusRange {
    /// Returns the range of `from` to `to`.
    pub const fn new(from: u16, to: u16) -> Self {
        Self { from, to }
    }

    /// Tells whether a status is in it.
    #[inline]
    pub fn has(self, status: u16) -> bool {
        (self.from..=self.to).contains(&status)
    }
}

impl StatusRange {
    /// Tells whether all of it is in another one.
    pub(crate) fn is_in(self, other: Self) -> bool {
        other.has(self.from) && other.has(self.to)
    }
}

impl Scalar for StatusRange {
    const WHAT: &'static str = "a status or a range of them";
    const TYPES: &'static [&'static str] = &["string", "integer"];
    const ALLOWED: &'static str = "a status from 200 to 599, such as `503`, a class such as `5xx`, or a range such as `500-504`";

    fn parse(text: &str) -> Result<Self, String> {
        let status = |text: &str| {
            let digits = text.len() == 3 && text.bytes().all(|b| b.is_ascii_digit());
            let status = text.parse::<u16>().ok().filter(|_| digits);
            status.filter(|status| (200..600).contains(status))
        };
        let class = text
            .strip_suffix("xx")
            .and_then(|class| status(&format!("{class}00")));
        let range = match (class, text.split_once('-')) {
            (Some(from), _) => Some((from, from + 99)),
            (None, Some((from, to))) => status(from).zip(status(to)),
            (None, None) => status(text).map(|status| (status, status)),
        };
        match range {
            Some((from, to)) if from > to => Err("it ends before it begins".into()),
            Some((from, to)) => Ok(Self { from, to }),
            None => Err(String::new()),
        }
    }

    fn show(&self) -> String {
        let Self { from, to } = self;
        if from == to {
            from.to_string()
        } else if from % 100 == 0 && from + 99 == *to {
            format!("{}xx", from / 100)
        } else {
            format!("{from}-{to}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_and_written_alike() {
        for text in ["200", "5xx", "500-504", "200-399"] {
            assert_eq!(StatusRange::parse(text).unwrap().show(), text);
        }
        let class = StatusRange::parse("4xx").unwrap();
        assert!(class.has(400) && class.has(499) && !class.has(399) && !class.has(500));
        for bad in [
            "", "xx", "1xx", "6xx", "50", "5000", "504-500", "500-", "-500", "+50",
        ] {
            assert!(StatusRange::parse(bad).is_err(), "{bad}");
        }
    }
}
