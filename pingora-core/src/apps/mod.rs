//! What is served on a connection: the application traits.

pub mod http_app;
