//! The binary, over real sockets.

#![allow(unreachable_pub, clippy::unwrap_used)]

mod access;
#[cfg(feature = "rustls")]
mod acme;
#[cfg(feature = "rustls")]
mod acme_on_demand;
#[cfg(feature = "rustls")]
mod acme_storage;
mod actions;
mod admin;
mod auth;
mod cache;
mod cache_shared;
#[path = "../../../pingora-core/tests/tls_certs/mod.rs"]
#[cfg(feature = "rustls")]
mod certs;
mod compress;
mod dns;
mod forward_auth;
mod goaway;
mod lifecycle;
mod limits;
mod listeners;
mod mirror;
mod names;
mod observe;
mod pages;
mod process;
mod reload;
mod scripted;
mod stealing;
#[cfg(feature = "rustls")]
mod tls;
mod tools;
mod upstreams;
