//! Sessions of a protocol of the user's own.

pub mod client;
pub mod server;
