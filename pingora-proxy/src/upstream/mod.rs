//! The upstream's side of an exchange, where it is more than the session itself.

mod h2;
mod hit;

pub(crate) use h2::H2Upstream;
pub(crate) use hit::{Hit, Lent, Parts, Share};
