//! Where a service listens: endpoints, their socket options, and how connections are accepted.

mod accept;
pub mod connection_filter;
mod l4;
