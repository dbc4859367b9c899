//! The types that most users of this crate name, for a glob import.

pub use crate::{RequestHeader, ResponseHeader};
