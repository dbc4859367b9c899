//! Shutdown: how services learn of it, and how connections that wait do.

mod registry;

use tokio::sync::watch;

pub use registry::{Registration, Registry, Stage};

/// Turns true when the server shuts down.
///
/// `has_changed()` is one load; `borrow()` takes a lock.
pub type ShutdownWatch = watch::Receiver<bool>;
