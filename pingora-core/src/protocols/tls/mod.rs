//! TLS: one seam, a folder per backend.

pub mod digest;
pub mod noop_tls;
