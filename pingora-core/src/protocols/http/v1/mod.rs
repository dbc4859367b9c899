//! HTTP/1.x.

pub mod client;
pub mod common;
mod conn;
mod gone;
pub mod proto;
pub mod server;
