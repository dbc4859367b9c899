//! Shutdown: how services learn of it, and how connections that wait do.

pub(crate) mod first_bytes;
mod registry;
pub(crate) mod watch;

use std::sync::atomic::{AtomicBool, Ordering};

pub(crate) use registry::Registration;
pub use registry::{Registry, Stage};

static UPGRADING: AtomicBool = AtomicBool::new(false);

/// Returns whether this process has handed its listening sockets to a new one and shuts down for it.
pub fn upgrading() -> bool {
    UPGRADING.load(Ordering::Acquire)
}

/// Notes that the listening sockets are with a new process.
pub(crate) fn set_upgrading() {
    UPGRADING.store(true, Ordering::Release);
}
