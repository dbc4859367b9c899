//! Upstream peers.

pub mod peer;
pub mod resolve;
