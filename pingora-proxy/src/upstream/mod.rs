//! What answers a request, where it is more than the session itself.

mod h2;
mod hit;
#[allow(dead_code, reason = "hits are to pass the loop")]
mod stored;

pub(crate) use h2::H2Upstream;
pub(crate) use hit::{Hit, Lent, Parts, Share};
#[allow(unused_imports, reason = "hits are to pass the loop")]
pub(crate) use stored::Stored;
