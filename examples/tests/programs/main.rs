//! Runs the programs as a user does, and looks at what comes out of them.

#![allow(clippy::unwrap_used, unreachable_pub)]

mod accept;
mod reverse_proxy;
mod tools;
mod upgrade;
mod uses;
