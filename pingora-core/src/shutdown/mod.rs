//! Shutdown: how services learn of it, and how connections that wait do.

pub(crate) mod first_bytes;
mod registry;
pub(crate) mod watch;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::time::Duration;

pub(crate) use registry::Registration;
pub use registry::{Registry, Stage};

use crate::limits::LIMITS;
use crate::worker::spawn_housekeeping;

static UPGRADING: AtomicBool = AtomicBool::new(false);

/// Returns whether this process has handed its listening sockets to a new one and shuts down for it.
pub(crate) fn upgrading() -> bool {
    UPGRADING.load(Ordering::Acquire)
}

/// Notes that the listening sockets are with a new process.
pub(crate) fn set_upgrading() {
    UPGRADING.store(true, Ordering::Release);
}

/// Enters the first stage of a shutdown, in which idle connections are kept for `keep`. Unless that is set, they close at once in
/// a stop, and after 5 s in an upgrade, of which clients know nothing.
pub fn drain(registry: &Registry, stage: Stage, keep: Option<Duration>) {
    registry.keep_idle(match (keep, upgrading()) {
        (Some(keep), _) => keep,
        (None, true) => LIMITS.upgrade_keep_idle,
        (None, false) => Duration::ZERO,
    });
    registry.advance(stage);
}

/// Has idle connections close when those that were idle as the shutdown began were kept for their time. One that becomes idle
/// later has all of that time, too. Nobody waits for it: a server whose last connection is gone has nothing left to do.
pub fn close_idle(registry: &Arc<Registry>) {
    let keep = registry.kept_idle();
    if keep.is_zero() {
        return registry.advance(Stage::Closing);
    }
    let registry = registry.clone();
    spawn_housekeeping(async move {
        tokio::time::sleep(keep).await;
        registry.advance(Stage::Closing);
    });
}
