//! The HTTP reverse proxy.
