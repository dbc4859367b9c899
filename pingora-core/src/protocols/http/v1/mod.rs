//! HTTP/1.x.

pub mod client;
mod closed_stream;
pub mod common;
mod conn;
pub mod proto;
mod send;
pub mod server;
mod timer;

pub(crate) use conn::refused_head;
pub(crate) use timer::{due_in, Timer};
