//! The reverse proxy that people run from one file.
//!
//! [`config`] reads the file, [`plan`] is what the file means, compiled to be asked for each request. Both are pure: they
//! know no runtime and no socket. [`live`] is the generation that runs, and exchanges it; [`app`] does what it says with
//! each request; [`tls`] has the certificates, [`observe`] counts; [`serve`] makes a server of it all.

// A program: who reads about its parts reads its code, and documents it with `--document-private-items`.
#![allow(rustdoc::private_intra_doc_links)]
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod address;
pub mod admin;
pub mod allocator;
pub mod app;
mod auth;
pub mod cache;
pub mod caching;
pub mod calendar;
pub mod cluster;
pub mod config;
pub mod data;
pub mod flags;
pub mod lifecycle;
mod limits;
pub mod listen;
pub mod live;
pub mod logging;
mod names;
pub mod observe;
pub mod origin;
pub mod plan;
pub mod process;
pub mod program;
pub mod serve;
pub mod strict;
mod text;
pub mod tls;
pub mod tools;
pub mod top;
pub mod upstream;

/// Tells whether a TLS backend is built in.
pub const HAS_TLS: bool = cfg!(any(
    feature = "rustls",
    feature = "openssl",
    feature = "boringssl"
));

/// The reason for which TLS is refused where none is built in.
pub const WITHOUT_TLS: &str =
    "this program was built without TLS; build it with --features rustls, openssl or boringssl";
