//! When a certificate is valid, in words.

use std::time::SystemTime;

use log::Level;

use crate::calendar::{unix_seconds, Utc};

const DAY: i64 = 86_400;
/// Days before the end from which it is a warning.
#[cfg_attr(
    not(any(feature = "rustls", feature = "openssl", feature = "boringssl")),
    allow(dead_code, reason = "no certificate is read")
)]
const SOON: i64 = 14;

/// When a certificate is valid, in seconds since the beginning of 1970, and whether it is a server's at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Validity {
    pub(super) not_before: i64,
    pub(super) not_after: i64,
    pub(super) of_authority: bool,
}

#[cfg_attr(
    not(any(feature = "rustls", feature = "openssl", feature = "boringssl")),
    allow(dead_code, reason = "no certificate is read")
)]
impl Validity {
    /// Returns what is to be known of it at the time `now`, as the rest of a sentence.
    pub(super) fn text(&self, now: i64) -> String {
        let date = |unix| Utc::at(unix).date();
        let mut text = if now > self.not_after {
            format!("has expired on {}: clients refuse it", date(self.not_after))
        } else if now < self.not_before {
            format!(
                "is not valid before {}: clients refuse it",
                date(self.not_before)
            )
        } else {
            let days = (self.not_after - now) / DAY;
            format!("is valid until {}, for {days} days", date(self.not_after))
        };
        if self.of_authority {
            text.push_str("; it is a CA's own, which most clients refuse from a server");
        }
        text
    }

    /// Logs what is to be known of the certificate in a file now: as a warning if it is not valid, or not for long.
    pub(super) fn tell(&self, file: &str) {
        let now = unix_seconds(SystemTime::now());
        let text = self.text(now);
        log::log!(self.level(now), "the certificate in {file} {text}");
    }

    /// Returns how much it matters at the time `now`.
    fn level(&self, now: i64) -> Level {
        let well = (self.not_before..=self.not_after.saturating_sub(SOON * DAY)).contains(&now);
        match well && !self.of_authority {
            true => Level::Info,
            false => Level::Warn,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_state_has_its_words_and_its_weight() {
        let valid = Validity {
            not_before: 100 * DAY,
            not_after: 200 * DAY,
            of_authority: false,
        };
        for (day, text, level) in [
            (99, "is not valid before 1970-04-11", Level::Warn),
            (100, "is valid until 1970-07-20, for 100 days", Level::Info),
            (186, "for 14 days", Level::Info),
            (187, "for 13 days", Level::Warn),
            (200, "for 0 days", Level::Warn),
            (201, "has expired on 1970-07-20", Level::Warn),
        ] {
            let said = valid.text(day * DAY);
            assert!(said.contains(text), "{said}");
            assert_eq!(valid.level(day * DAY), level, "{said}");
        }
        let ca = Validity {
            of_authority: true,
            ..valid
        };
        assert!(ca.text(150 * DAY).contains("a CA's own"));
        assert_eq!(ca.level(150 * DAY), Level::Warn);
    }
}
