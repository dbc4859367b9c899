//! What a proxy that caches answers, asks its origin, and stores.

#![allow(clippy::unwrap_used)]

#[path = "../common/mod.rs"]
mod common;

mod fixture;
mod hits;
mod lookups;
mod purges;
