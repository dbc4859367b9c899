//! Runs the program by its flags as a user does, and looks at what comes out of it.

#![allow(clippy::unwrap_used, unreachable_pub)]

mod accept;
#[path = "../../../pingora-core/tests/tls_certs/mod.rs"]
mod certs;
mod configuration;
mod daemon;
mod limits;
mod operators;
mod reverse_proxy;
mod tls;
mod tools;
mod upgrade;
mod upstreams;
