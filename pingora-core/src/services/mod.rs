//! What a server runs.

pub mod background;
pub mod listening;
