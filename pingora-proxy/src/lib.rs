//! The HTTP reverse proxy.
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod subrequest;
