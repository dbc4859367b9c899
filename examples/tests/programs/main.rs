//! Runs the programs as a user does, and looks at what comes out of them.

#![allow(clippy::unwrap_used, unreachable_pub)]

mod cache;
#[allow(dead_code, reason = "the tests of reverse-proxy use the rest")]
#[path = "../../../edge/tests/flags/tools.rs"]
mod tools;
mod upgrade;
mod uses;
