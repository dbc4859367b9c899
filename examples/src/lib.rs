//! What the example programs share is in the crate [`edge`]: a policy for caches, and how a program starts, or says
//! in one line why it does not.

pub use edge::caching;

/// Compiles what README.md shows.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
pub struct Readme;

/// Compiles what docs/caching.md shows.
#[cfg(doctest)]
#[doc = include_str!("../../docs/caching.md")]
pub struct CachingGuide;
