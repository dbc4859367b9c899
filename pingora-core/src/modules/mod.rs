//! Modules: code that looks at every request and response of a proxy.

pub mod http;
