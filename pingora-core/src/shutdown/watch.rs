//! The watch by which services learn of a shutdown.

use tokio::sync::watch;

/// Turns true when the server shuts down.
///
/// `has_changed()` is one load; `borrow()` takes a lock.
pub type ShutdownWatch = watch::Receiver<bool>;

/// Returns whether the server is shutting down. The watch is a lock that all connections share, so that its value is
/// looked at only for the `first` request of a connection, and when it changed.
pub fn shutting_down(shutdown: &ShutdownWatch, first: bool) -> bool {
    if first || shutdown.has_changed().unwrap_or(true) {
        *shutdown.borrow()
    } else {
        false
    }
}
