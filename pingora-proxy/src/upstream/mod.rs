//! Sources of an answer that are more than the session itself.

mod h2;
mod hit;
mod partial;
mod stored;

pub(crate) use h2::H2Upstream;
pub(crate) use hit::{Hit, Lent, Parts, Share, Windows};
pub(crate) use partial::Partial;
pub(crate) use stored::Stored;
