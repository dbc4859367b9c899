//! The life of a server process.

pub mod configuration;
