//! Sockets and streams.

pub(crate) mod bind_to;
pub(crate) mod connect_error;
pub mod ext;
pub mod listener;
pub(crate) mod permit;
pub mod proxy_protocol;
pub mod socket;
pub mod stream;
pub(crate) mod tracer;
pub mod virt;
