//! Durations.

use std::time::Duration;

use crate::config::section::Scalar;

/// Units from the largest on, in milliseconds.
const UNITS: [(&str, u64); 5] = [
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1000),
    ("ms", 1),
];

impl Scalar for Duration {
    const WHAT: &'static str = "a duration";
    const ALLOWED: &'static str =
        "numbers with a unit (`ms`, `s`, `m`, `h`, `d`), such as `500ms`, `10s` or `1m30s`";

    fn parse(text: &str) -> Result<Self, String> {
        let (mut total, mut rest) = (0u64, text);
        while !rest.is_empty() {
            let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
            let letters = rest[digits..]
                .bytes()
                .take_while(u8::is_ascii_alphabetic)
                .count();
            let (number, unit) = (&rest[..digits], &rest[digits..digits + letters]);
            if digits > 0 && rest[digits..].starts_with(['.', ',']) {
                return Err("its numbers are whole: `1s500ms`, and not `1.5s`".into());
            }
            if digits > 0 && letters == 0 {
                return Err("it has no unit".into());
            }
            let factor = UNITS
                .iter()
                .find(|(name, _)| *name == unit)
                .map(|(_, factor)| *factor);
            let part = number
                .parse::<u64>()
                .ok()
                .zip(factor)
                .and_then(|(n, factor)| n.checked_mul(factor));
            total = part
                .and_then(|part| total.checked_add(part))
                .ok_or_else(String::new)?;
            rest = &rest[digits + letters..];
        }
        match total {
            0 => Err("it must be longer than nothing".into()),
            _ => Ok(Self::from_millis(total)),
        }
    }

    fn show(&self) -> String {
        let (mut rest, mut out) = (self.as_millis() as u64, String::new());
        for (unit, factor) in UNITS {
            if rest >= factor {
                out.push_str(&format!("{}{unit}", rest / factor));
                rest %= factor;
            }
        }
        out
    }
}
