//! Times as logs write them, in UTC.

use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

const MONTHS: [&str; 12] = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
];

/// A second of the calendar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Utc {
    year: i64,
    /// 1 to 12.
    month: u32,
    day: u32,
    second_of_day: u32,
}

impl Utc {
    /// The present second.
    pub fn now() -> Self {
        Utc::at(unix_seconds(SystemTime::now()))
    }

    /// The second that is so many after the beginning of 1970.
    pub fn at(unix: i64) -> Self {
        let (days, second) = (unix.div_euclid(86_400), unix.rem_euclid(86_400));
        // Years that begin in March, so that the leap day is the last one; 400 of them are always as long.
        let days = days + 719_468;
        let (era, day) = (days.div_euclid(146_097), days.rem_euclid(146_097));
        let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
        let day_of_year = day - (365 * year + year / 4 - year / 100);
        let month = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * month + 2) / 5 + 1;
        let month = if month < 10 { month + 3 } else { month - 9 };
        Utc {
            year: era * 400 + year + i64::from(month <= 2),
            month: month as u32,
            day: day as u32,
            second_of_day: second as u32,
        }
    }

    /// `27/Nov/2026:13:17:04 +0000`, as in access logs.
    pub fn common_log(self) -> impl fmt::Display {
        CommonLog(self)
    }

    /// `2026-11-27`.
    pub fn date(self) -> impl fmt::Display {
        Date(self)
    }

    fn time(self) -> (u32, u32, u32) {
        let second = self.second_of_day;
        (second / 3600, second / 60 % 60, second % 60)
    }
}

/// Reads a time as OpenSSL writes it, `Nov 27 13:17:04 2026 GMT`, in seconds since the beginning of 1970.
pub fn read_openssl_time(text: &str) -> Option<i64> {
    let mut words = text.split_whitespace();
    let month = words.next()?;
    let month = MONTHS.iter().position(|name| *name == month)? as i64 + 1;
    let day: i64 = words.next()?.parse().ok()?;
    let mut time = words.next()?.split(':').map(str::parse::<i64>);
    let mut part = || time.next()?.ok();
    let (hour, minute, second) = (part()?, part()?, part()?);
    let year: i64 = words.next()?.parse().ok()?;
    // As in `Utc::at`, the other way round.
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let day_of_year = (153 * month + 2) / 5 + day - 1;
    let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + day_of_year - 719_468;
    Some(days * 86_400 + hour * 3_600 + minute * 60 + second)
}

/// Seconds since the beginning of 1970.
pub fn unix_seconds(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
    })
}

struct CommonLog(Utc);

impl fmt::Display for CommonLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Utc {
            year, month, day, ..
        } = self.0;
        let (hour, minute, second) = self.0.time();
        let month = MONTHS[month as usize - 1];
        write!(
            f,
            "{day:02}/{month}/{year:04}:{hour:02}:{minute:02}:{second:02} +0000"
        )
    }
}

struct Date(Utc);

impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Utc {
            year, month, day, ..
        } = self.0;
        write!(f, "{year:04}-{month:02}-{day:02}")
    }
}

/// `2026-11-27T13:17:04Z` (RFC 3339).
impl fmt::Display for Utc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (hour, minute, second) = self.time();
        let date = self.date();
        write!(f, "{date}T{hour:02}:{minute:02}:{second:02}Z")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_the_calendar() {
        for (unix, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (-1, "1969-12-31T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (951_868_800, "2000-03-01T00:00:00Z"),
            (1_709_164_800, "2024-02-29T00:00:00Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
            (1_795_785_424, "2026-11-27T13:17:04Z"),
            (253_402_300_799, "9999-12-31T23:59:59Z"),
        ] {
            assert_eq!(Utc::at(unix).to_string(), text);
        }
        let time = Utc::at(1_795_785_424).common_log().to_string();
        assert_eq!(time, "27/Nov/2026:13:17:04 +0000");
    }

    #[test]
    fn times_are_read_as_openssl_writes_them() {
        for unix in (-40_000..80_000).map(|day| day * 86_400 + 47_824) {
            let Utc {
                year, month, day, ..
            } = Utc::at(unix);
            let month = MONTHS[month as usize - 1];
            let text = format!("{month} {day:2} 13:17:04 {year} GMT");
            assert_eq!(read_openssl_time(&text), Some(unix), "{text}");
        }
        for text in [
            "",
            "Nov",
            "Nov 27",
            "Now 27 13:17:04 2026 GMT",
            "Nov 27 13:17 2026 GMT",
        ] {
            assert_eq!(read_openssl_time(text), None, "{text}");
        }
    }

    #[test]
    fn every_day_follows_the_one_before() {
        let mut last = Utc::at(-200_000 * 86_400);
        for day in -199_999..200_000 {
            let next = Utc::at(day * 86_400);
            let ends_month = next.day == 1;
            assert!(ends_month || (next.day, next.month) == (last.day + 1, last.month));
            assert!(!ends_month || last.day >= 28 && next.month == last.month % 12 + 1);
            last = next;
        }
    }
}
