//! The reverse proxy that people run from one file.
//!
//! [`config`] reads the file, [`plan`] is what the file means, compiled to be asked for each request. Both are pure: they
//! know no runtime and no socket. [`live`] is the generation that runs, and exchanges it; [`app`] does what it says with
//! each request; [`serve`] makes a server of it all.

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod app;
mod cluster;
pub mod config;
pub mod data;
pub mod demo;
pub mod live;
pub mod plan;
pub mod serve;
mod tls;
pub mod tools;
