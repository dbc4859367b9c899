//! What a client and an origin see when the proxy stands between them.

#![allow(clippy::unwrap_used)]

#[path = "../common/mod.rs"]
mod common;

mod balancers;
mod connections;
mod ends;
mod error_lines;
mod failures;
mod filters;
mod forwarding;
mod hops;
mod hosts;
mod phases;
mod real;
mod time_limits;
mod tunnel_ends;
mod upgrades;
