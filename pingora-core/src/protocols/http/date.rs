//! The `Date` field.

#![allow(unsafe_code)]

use std::cell::RefCell;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::header::HeaderValue;
use httpdate::HttpDate;

thread_local! {
    /// The second for which the value was made, and the value. Per thread, so that no thread
    /// writes a reference count that another one reads.
    static CACHED: RefCell<Option<(u64, HeaderValue)>> = const { RefCell::new(None) };
}

/// The current time as the value of a `Date` field (RFC 9110 5.6.7).
///
/// It is made once per second and thread; other calls read a coarse clock and clone a handle.
pub fn get_cached_date() -> HeaderValue {
    let now = unix_seconds();
    CACHED.with_borrow_mut(|cached| match cached {
        Some((second, value)) if *second == now => value.clone(),
        _ => {
            let value = date_value(now);
            *cached = Some((now, value.clone()));
            value
        }
    })
}

fn date_value(unix_seconds: u64) -> HeaderValue {
    let date = HttpDate::from(UNIX_EPOCH + Duration::from_secs(unix_seconds)).to_string();
    HeaderValue::try_from(date).unwrap_or(EPOCH)
}

/// For a date that is not a field value, which httpdate never makes.
const EPOCH: HeaderValue = HeaderValue::from_static("Thu, 01 Jan 1970 00:00:00 GMT");

/// HttpDate panics from the year 10000 on.
const LAST_SECOND: u64 = 253_402_300_799;

fn unix_seconds() -> u64 {
    coarse_seconds()
        .unwrap_or_else(|| {
            SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |now| now.as_secs())
        })
        .min(LAST_SECOND)
}

/// The kernel's time as of its last tick: some milliseconds late, at a third of the price.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn coarse_seconds() -> Option<u64> {
    let mut now = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the pointer is to a timespec of ours that lives through the call.
    let result = unsafe { libc::clock_gettime(libc::CLOCK_REALTIME_COARSE, &mut now) };
    (result == 0).then(|| u64::try_from(now.tv_sec).unwrap_or(0))
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn coarse_seconds() -> Option<u64> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_the_current_time() {
        let date = get_cached_date();
        let date = httpdate::parse_http_date(date.to_str().unwrap()).unwrap();
        let now = SystemTime::now();
        let apart = now.duration_since(date).unwrap_or_else(|e| e.duration());
        assert!(apart < Duration::from_secs(60), "{date:?} against {now:?}");
    }

    #[test]
    fn is_shared_within_a_second() {
        // The second may change between two calls, but not between each of many pairs.
        let shared = (0..100).any(|_| {
            let (a, b) = (get_cached_date(), get_cached_date());
            a.as_bytes().as_ptr() == b.as_bytes().as_ptr()
        });
        assert!(shared);
    }

    #[test]
    fn formats_known_seconds() {
        for (second, text) in [
            (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
            (784_111_777, "Sun, 06 Nov 1994 08:49:37 GMT"),
            (LAST_SECOND, "Fri, 31 Dec 9999 23:59:59 GMT"),
        ] {
            assert_eq!(date_value(second), text);
        }
    }
}
