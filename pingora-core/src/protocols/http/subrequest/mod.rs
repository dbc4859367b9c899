//! Requests that a proxy makes to itself.

pub mod server;
