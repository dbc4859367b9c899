//! Origins that speak HTTP/2 without TLS, and pairs of protocols with others.

#![allow(clippy::unwrap_used, unreachable_pub)]

#[path = "../common/mod.rs"]
mod common;

mod buffered;
mod connections;
mod decisions;
mod ends;
mod failures;
mod forwarding;
mod lines;
mod messages;
mod padding;
mod pairs;
mod phases;
mod real;
mod upgrades;
