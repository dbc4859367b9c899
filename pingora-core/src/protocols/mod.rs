//! The protocols, from sockets to HTTP.

mod digest;
pub mod ext_test;
pub mod http;
pub mod l4;
pub mod raw_connect;
pub mod tls;
