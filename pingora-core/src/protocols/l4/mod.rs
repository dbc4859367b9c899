//! Sockets and streams.

pub mod ext;
pub mod listener;
pub mod proxy_protocol;
pub mod socket;
pub mod stream;
pub mod virt;
