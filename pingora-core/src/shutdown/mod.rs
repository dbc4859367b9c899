//! Shutdown: how services learn of it, and how connections that wait do.

mod registry;
pub(crate) mod watch;

pub use registry::{Registration, Registry, Stage};
