//! Clients of HTTP/1.1 and origins that speak HTTP/2 without TLS.

#![allow(clippy::unwrap_used, unreachable_pub)]

#[path = "../common/mod.rs"]
mod common;

mod buffered;
mod connections;
mod decisions;
mod ends;
mod failures;
mod forwarding;
mod padding;
mod pairs;
mod phases;
mod real;
