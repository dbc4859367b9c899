//! The time, in milliseconds since the process first asked for it.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// Returns the time. It is never 0, which stands for no time.
pub(super) fn now() -> u64 {
    millis(elapsed()).saturating_add(1)
}

/// Returns the time in microseconds, which is never 0 either.
pub(super) fn micros() -> u64 {
    u64::try_from(elapsed().as_micros())
        .unwrap_or(u64::MAX)
        .saturating_add(1)
}

/// Returns whole milliseconds.
pub(super) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn elapsed() -> Duration {
    #[cfg(test)]
    if let Some(told) = told::TIME.get() {
        return told;
    }
    static STARTED: OnceLock<Instant> = OnceLock::new();
    STARTED.get_or_init(Instant::now).elapsed()
}

/// A clock that goes when a test says so, for the thread of that test.
#[cfg(test)]
pub(super) mod told {
    use std::cell::Cell;
    use std::time::Duration;

    thread_local! {
        pub(super) static TIME: Cell<Option<Duration>> = const { Cell::new(None) };
    }

    /// Has the clock of this thread stand still until it is dropped.
    pub(crate) struct Stopped(());

    impl Drop for Stopped {
        fn drop(&mut self) {
            TIME.set(None);
        }
    }

    /// Stops the clock of this thread at its beginning.
    pub(crate) fn stop() -> Stopped {
        TIME.set(Some(Duration::ZERO));
        Stopped(())
    }

    /// Puts the stopped clock of this thread forward.
    pub(crate) fn pass(time: Duration) {
        TIME.set(TIME.get().map(|now| now + time));
    }
}
