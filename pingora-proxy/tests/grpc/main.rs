//! gRPC through the proxy: tonic on both sides, over hyper's HTTP/2, with messages that are plain bytes.

#![allow(clippy::unwrap_used, unreachable_pub)]

#[path = "../common/mod.rs"]
mod common;

mod http1;
mod peers;
mod tonic_both_sides;
