//! Small helpers.

#[doc(hidden)]
pub mod ready;
