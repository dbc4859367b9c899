//! The upstream's side of an exchange, where it is more than the session itself.

mod h2;

pub(crate) use h2::H2Upstream;
