//! Models, checked by loom in every order of events that the memory model allows.
#![cfg(loom)]

#[path = "../../pingora-core/src/shutdown.rs"]
#[allow(dead_code)]
mod shutdown;

#[cfg(test)]
mod shutdown_tests;
