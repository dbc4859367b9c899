//! Models, checked by loom in every order of events that the memory model allows.
#![cfg(loom)]

#[path = "../../pingora-core/src/shutdown/registry.rs"]
#[allow(dead_code)]
mod shutdown;

#[path = "../../pingora-core/src/listeners/accept/word.rs"]
#[allow(dead_code)]
mod word;

#[cfg(test)]
mod accept_tests;
#[cfg(test)]
mod shutdown_tests;
