//! The reverse proxy that people run from one file.
//!
//! [`config`] reads the file, [`plan`] is what the file means, compiled to be asked for each request. Both are pure: they
//! know no runtime and no socket.

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod config;
pub mod data;
pub mod plan;
pub mod tools;
