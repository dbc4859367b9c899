//! The faults that were made, and when: what a request may suffer depends on them.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The origin of this number closed its listener and its connections.
    Down(usize),
    /// The origin of this number accepts and answers nothing.
    Hung(usize),
    /// The proxy may open no more descriptors.
    Descriptors,
    /// The binary is exchanged, and the old process finishes its requests.
    Upgrade,
}

impl Fault {
    /// The time after its end in which it is still felt.
    fn wake(self) -> Duration {
        match self {
            Self::Down(_) | Self::Hung(_) | Self::Upgrade => Duration::ZERO,
            // Checks failed for lack of descriptors, and it takes some to find that out again.
            Self::Descriptors => Duration::from_secs(6),
        }
    }

    pub fn is_of(self, origin: usize) -> bool {
        matches!(self, Self::Down(number) | Self::Hung(number) if number == origin)
    }

    pub fn is_of_an_origin(self) -> bool {
        matches!(self, Self::Down(_) | Self::Hung(_))
    }
}

struct Window {
    fault: Fault,
    from: Instant,
    to: Option<Instant>,
}

#[derive(Default)]
pub struct Faults(Mutex<Vec<Window>>);

impl Faults {
    fn windows(&self) -> std::sync::MutexGuard<'_, Vec<Window>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn begin(&self, fault: Fault) {
        let mut windows = self.windows();
        let from = Instant::now();
        // No request takes so long.
        let old = Duration::from_secs(300);
        windows.retain(|one| one.to.is_none_or(|to| from.duration_since(to) < old));
        windows.push(Window {
            fault,
            from,
            to: None,
        });
    }

    pub fn end(&self, fault: Fault) {
        let mut windows = self.windows();
        for window in windows.iter_mut().filter(|window| window.fault == fault) {
            window.to.get_or_insert_with(Instant::now);
        }
    }

    /// Returns whether such a fault was felt at any time from then until now.
    pub fn since(&self, from: Instant, wanted: impl Fn(Fault) -> bool) -> bool {
        let felt = |window: &Window| window.to.is_none_or(|to| to + window.fault.wake() >= from);
        self.windows()
            .iter()
            .any(|window| wanted(window.fault) && felt(window) && window.from <= Instant::now())
    }
}
