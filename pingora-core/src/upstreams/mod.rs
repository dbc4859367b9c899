//! Upstream peers.

pub mod peer;
