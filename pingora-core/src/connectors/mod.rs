//! Connections to upstream peers: how they are made, kept and found again.

pub mod http;
pub mod l4;
mod pool;
