//! The HTTP reverse proxy.

mod range;
