//! How services learn of a shutdown.

use tokio::sync::watch;

/// Turns true when the server shuts down.
///
/// `has_changed()` is one load; `borrow()` takes a lock.
pub type ShutdownWatch = watch::Receiver<bool>;
