//! What the tests over real sockets are written with: a proxy in this process, and peers on both
//! sides of it that say exactly what a test wants said.
//!
//! Everything meets over Unix sockets in a directory of its own, so that tests cannot take each
//! other's ports; TCP is there for what only TCP shows. Nothing sleeps for a result: a peer
//! waits for bytes, for the end of the stream, or for a condition, and gives up with a panic
//! after [`PATIENCE`].

#![allow(
    dead_code,
    unreachable_pub,
    unused_imports,
    clippy::unwrap_used,
    reason = "each test program uses a part of it"
)]

pub mod curl;
pub mod custom;
pub mod h2_origin;
mod hyper_peers;
pub mod logs;
mod nginx;
mod origin;
mod proxy;
mod resident;
mod wire;

pub use hyper_peers::{request, whole, HyperClient, HyperOrigin, Stub};
pub use nginx::Nginx;
pub use origin::Origin;
pub use proxy::{forward_to, free_address, Forward, Proxy, Setup};
pub use resident::resident;
pub use wire::{reset_on_close, Response, Wire};

use std::time::{Duration, Instant};

/// How long a peer waits for what must come. Far above what a slow machine needs, and reached
/// only when a test fails.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until `condition` holds.
#[track_caller]
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    let mut looked = 0;
    while !condition() {
        assert!(Instant::now() < end, "did not happen: {what}");
        looked += 1;
        match looked {
            0..200 => std::thread::yield_now(),
            _ => std::thread::sleep(Duration::from_millis(1)),
        }
    }
}
