//! Input that is broken, hostile or slow, from clients and from origins, over real sockets.

#![allow(clippy::unwrap_used)]

#[path = "../common/mod.rs"]
mod common;

mod clients;
mod origins;
mod passed;
mod requests;
