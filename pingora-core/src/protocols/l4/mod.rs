//! Sockets and streams.

pub mod ext;
pub mod listener;
pub mod socket;
pub mod stream;
pub mod virt;
