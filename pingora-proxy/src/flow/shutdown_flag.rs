//! The flag of a proxy that shuts down, which each request loads before its head is read and after.

// The model in `loom/` is made of this very file.
#[cfg(loom)]
use loom::sync::atomic::{AtomicBool, Ordering};
#[cfg(not(loom))]
use std::sync::atomic::{AtomicBool, Ordering};

/// See the module.
pub(crate) struct ShutdownFlag(AtomicBool);

impl ShutdownFlag {
    pub(crate) fn new() -> Self {
        ShutdownFlag(AtomicBool::new(false))
    }

    /// Returns whether it is set: one load of a line that nobody writes before the end.
    pub(crate) fn is_set(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }

    /// Sets it. Connections that wait are woken after that, so that whoever is woken finds it set.
    pub(crate) fn set(&self) {
        self.0.store(true, Ordering::Release);
    }
}
