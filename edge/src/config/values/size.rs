//! Sizes in bytes.

use crate::config::section::Scalar;

/// A number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Size(pub u64);

/// Units from the largest on.
const UNITS: [(&str, u64); 4] = [
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("B", 1),
];

impl Size {
    /// Returns it for memory of this machine.
    pub fn bytes(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl Scalar for Size {
    const WHAT: &'static str = "a size";
    const ALLOWED: &'static str =
        "a whole number with a unit (`B`, `KiB`, `MiB`, `GiB`), such as `64KiB`";

    fn parse(text: &str) -> Result<Self, String> {
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at(digits);
        let unit = unit.trim_start();
        if digits > 0 && unit.is_empty() {
            return Err("it has no unit".into());
        }
        let found = UNITS
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case(unit));
        let Some((_, factor)) = found else {
            let first = unit.get(..1).unwrap_or("").to_ascii_uppercase();
            let meant = UNITS.iter().find(|(name, _)| name.starts_with(&first));
            return Err(match meant {
                Some((name, _)) if digits > 0 => format!("did you mean `{number}{name}`?"),
                _ => String::new(),
            });
        };
        let bytes = number
            .parse::<u64>()
            .ok()
            .and_then(|n| n.checked_mul(*factor));
        bytes.map(Self).ok_or_else(String::new)
    }

    fn show(&self) -> String {
        let fits = |(_, factor): &&(&str, u64)| self.0 >= *factor && self.0.is_multiple_of(*factor);
        match UNITS.iter().find(fits) {
            Some((name, factor)) => format!("{}{name}", self.0 / factor),
            None => "0B".into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_they_are_shown() {
        for (text, bytes, shown) in [
            ("64KiB", 65536, "64KiB"),
            ("1536 mib", 1536 << 20, "1536MiB"),
            ("2048MiB", 2 << 30, "2GiB"),
            ("1000B", 1000, "1000B"),
            ("0B", 0, "0B"),
        ] {
            let size = Size::parse(text).unwrap();
            assert_eq!((size.0, &*size.show()), (bytes, shown), "{text}");
            assert_eq!(Size::parse(&size.show()), Ok(size));
        }
        for (text, why) in [
            ("5", "it has no unit"),
            ("5MB", "did you mean `5MiB`?"),
            ("5k", "did you mean `5KiB`?"),
            ("MiB", ""),
            ("-1B", ""),
            ("1.5GiB", ""),
            ("99999999999GiB", ""),
        ] {
            assert_eq!(Size::parse(text), Err(why.to_owned()), "{text}");
        }
    }
}
