//! When to try for a certificate. It is told the time, in seconds since the beginning of 1970, and random numbers.

use std::time::Duration;

use serde::{Deserialize, Serialize};

const MINUTE: i64 = 60;
const HOUR: i64 = 60 * MINUTE;
/// The longest time between two tries.
const LONGEST: i64 = 24 * HOUR;

/// The kind of a failure, by which the time to the next try begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// The authority was not reached.
    Unreachable,
    /// The storage cannot be used. Whoever makes room there shall not wait for a day.
    Storage,
    /// The authority refused: it may count failures, and lock out who has too many in an hour.
    Refused,
    /// The authority says that it was asked too often.
    TooOften,
    /// The rule of certificates on demand does not allow the name.
    Denied,
    /// Nobody can tell whether that rule allows it.
    Unanswered,
}

impl Fault {
    /// Returns the seconds before the second try.
    fn first(self) -> i64 {
        match self {
            Self::Unreachable | Self::Storage | Self::Unanswered => 5,
            Self::Refused => 6 * MINUTE,
            Self::TooOften => HOUR,
            Self::Denied => MINUTE,
        }
    }

    /// Returns the most seconds between two tries.
    fn longest(self) -> i64 {
        match self {
            // A customer who is let in by now shall not wait for a day.
            Self::Storage | Self::Denied | Self::Unanswered => 10 * MINUTE,
            _ => LONGEST,
        }
    }
}

/// The tries for the certificate of a host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Course {
    /// The time of the next try.
    pub(super) next: i64,
    /// The tries that have failed since the last one that did not.
    pub(super) failures: u32,
    /// The reason of the last failure.
    pub(super) error: Option<String>,
    /// The time at which to ask the authority when it wants a renewal.
    #[serde(skip)]
    pub(super) look: i64,
    /// The time before which the certificate that was issued last is not renewed, whatever the authority wants.
    #[serde(skip)]
    pub(super) earliest: i64,
}

impl Course {
    /// Takes note of a failure.
    pub(super) fn failed(&mut self, now: i64, error: String, fault: Fault, random: u32) {
        self.next = now + back_off(self.failures, fault, random);
        self.failures = self.failures.saturating_add(1);
        self.error = Some(error);
    }

    /// Tells whether its wait is longer than any: the clock was ahead when it was noted.
    pub(super) fn is_of_a_later_clock(&self, now: i64) -> bool {
        self.next > now.saturating_add(LONGEST)
    }

    /// Takes note of a certificate, which is to be renewed at `next`.
    pub(super) fn succeeded(&mut self, next: i64) {
        *self = Self {
            next,
            ..Self::default()
        };
    }

    /// Takes note that the certificate was issued at `now`. One that is due when it comes would be ordered again at once, and
    /// without end.
    pub(super) fn issued(&mut self, now: i64, not_after: i64) {
        self.earliest = earliest(now, not_after);
        self.next = self.next.max(self.earliest);
    }
}

/// Returns the seconds to the next try after so many failures before the last one. They double up to a day, and vary by a
/// quarter, so that hosts that fail together do not try together.
fn back_off(failures: u32, fault: Fault, random: u32) -> i64 {
    let doubled = fault.first() << failures.min(20);
    let whole = doubled.min(fault.longest());
    whole - whole / 4 + share(whole / 4, random)
}

/// Returns a random part of a time.
fn share(of: i64, random: u32) -> i64 {
    ((i128::from(of) * i128::from(random)) >> 32) as i64
}

/// Returns the time at which a certificate is renewed: two thirds of its life after its beginning, or so long before its
/// end, but not in the first half of its life. It is earlier by a random part of a fiftieth of its life.
pub(super) fn renewal(
    (not_before, not_after): (i64, i64),
    before: Option<Duration>,
    random: u32,
) -> i64 {
    let life = (not_after - not_before).max(0);
    let before = before.map(|before| i64::try_from(before.as_secs()).unwrap_or(i64::MAX));
    let before = before.unwrap_or(life / 3).min(life / 2);
    let at = not_after - before - share(life / 50, random);
    at.max(not_before + life / 2)
}

/// Returns the earliest time at which a certificate that was issued at `now` is renewed: after an hour, or half of what is left of
/// a short life.
fn earliest(now: i64, not_after: i64) -> i64 {
    now + (not_after.saturating_sub(now) / 2).clamp(MINUTE, HOUR)
}

/// Returns the time of a renewal in the window that an authority suggests; `random` is the same for one certificate. It is
/// in the certificate's life, and not within an hour of its beginning: an authority that errs is not asked all the time.
pub(super) fn suggested(
    (start, end): (i64, i64),
    (not_before, not_after): (i64, i64),
    random: u32,
) -> i64 {
    let at = start.saturating_add(share(end.saturating_sub(start).max(0), random));
    let latest = not_after - (not_after - not_before) / 10;
    at.min(latest).max(not_before + HOUR)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 24 * HOUR;

    #[test]
    fn tries_that_fail_come_later_and_later_up_to_a_day() {
        let mut course = Course::default();
        let mut waits = Vec::new();
        for _ in 0..40 {
            course.failed(1000, "no".to_owned(), Fault::Unreachable, u32::MAX);
            waits.push(course.next - 1000);
        }
        assert_eq!(waits[..4], [4, 9, 19, 39]);
        assert!(waits.windows(2).all(|two| two[0] <= two[1]), "{waits:?}");
        assert_eq!(waits[39], LONGEST - 1);
        assert_eq!(course.failures, 40);
        course.succeeded(7);
        let (next, failures) = (course.next, course.failures);
        assert_eq!((next, failures, course.error), (7, 0, None));
    }

    /// Let's Encrypt locks an account out after five refused tries for a host within an hour.
    #[test]
    fn a_refusal_is_not_met_five_times_in_an_hour() {
        let (mut course, mut now, mut tries) = (Course::default(), 0, 0);
        while now < HOUR {
            tries += 1;
            course.failed(now, String::new(), Fault::Refused, 0);
            now = course.next;
        }
        assert_eq!(tries, 4);
        let mut course = Course::default();
        course.failed(0, String::new(), Fault::TooOften, 0);
        assert_eq!(course.next, 45 * MINUTE);
    }

    #[test]
    fn a_name_that_is_not_allowed_is_asked_for_again_within_minutes() {
        assert_eq!(back_off(0, Fault::Denied, u32::MAX), MINUTE - 1);
        assert_eq!(back_off(30, Fault::Denied, u32::MAX), 10 * MINUTE - 1);
    }

    #[test]
    fn waits_vary_by_a_quarter() {
        assert_eq!(back_off(3, Fault::Refused, 0), 36 * MINUTE);
        assert_eq!(back_off(3, Fault::Refused, u32::MAX), 48 * MINUTE - 1);
    }

    #[test]
    fn an_authority_may_want_a_renewal_earlier_or_later() {
        let life = (0, 90 * DAY);
        assert_eq!(suggested((70 * DAY, 72 * DAY), life, 1 << 31), 71 * DAY);
        assert_eq!(suggested((-5, -3), life, 0), HOUR);
        assert_eq!(suggested((i64::MAX, i64::MIN), life, 7), 81 * DAY);
        assert_eq!(suggested((80 * DAY, 99 * DAY), life, u32::MAX), 81 * DAY);
    }

    #[test]
    fn a_certificate_that_is_due_when_it_comes_is_not_renewed_at_once() {
        assert_eq!(earliest(DAY, 90 * DAY), DAY + HOUR);
        assert_eq!(earliest(DAY, DAY + HOUR), DAY + HOUR / 2);
        for over in [DAY, 0, i64::MIN] {
            assert_eq!(earliest(DAY, over), DAY + MINUTE);
        }
    }

    #[test]
    fn a_certificate_is_renewed_after_two_thirds_of_its_life() {
        let days = |number: i64| (0, number * DAY);
        let after = |time, before: Option<i64>| {
            let before = before.map(|days| Duration::from_secs((days * DAY) as u64));
            renewal(time, before, 0)
        };
        assert_eq!(after(days(90), None), 60 * DAY);
        assert_eq!(after(days(90), Some(10)), 80 * DAY);
        // Never in the first half, or it would be renewed again and again.
        assert_eq!(after(days(90), Some(1000)), 45 * DAY);
        assert_eq!(renewal(days(6), Some(Duration::MAX), u32::MAX), 3 * DAY);
        let early = renewal(days(90), None, u32::MAX);
        assert!((58 * DAY..59 * DAY).contains(&early), "{early}");
        assert_eq!(renewal((5, 3), None, 0), 5);
    }
}
