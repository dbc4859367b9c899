//! HTTP/1.x.

pub mod client;
pub mod common;
mod conn;
mod gone;
pub mod proto;
mod send;
pub mod server;
mod timer;

pub(crate) use conn::refused_head;
pub(crate) use timer::{due_in, Timer};
