//! HTTP/1.x.

pub mod client;
pub mod common;
mod conn;
mod gone;
pub mod proto;
pub mod server;

// The timer of a connection, which HTTP/2 streams have too.
pub(crate) use conn::{due_in, Alarm};
