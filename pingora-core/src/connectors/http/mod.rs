//! Connectors that hand out HTTP sessions.

pub mod custom;
pub mod v1;
