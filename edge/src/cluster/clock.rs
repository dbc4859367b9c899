//! The time, in milliseconds since the process first asked for it.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// Returns the time. It is never 0, which stands for no time.
pub(super) fn now() -> u64 {
    static STARTED: OnceLock<Instant> = OnceLock::new();
    millis(STARTED.get_or_init(Instant::now).elapsed()).saturating_add(1)
}

/// Returns the time in microseconds, which is never 0 either.
pub(super) fn micros() -> u64 {
    static STARTED: OnceLock<Instant> = OnceLock::new();
    let elapsed = STARTED.get_or_init(Instant::now).elapsed();
    u64::try_from(elapsed.as_micros())
        .unwrap_or(u64::MAX)
        .saturating_add(1)
}

/// Returns whole milliseconds.
pub(super) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
