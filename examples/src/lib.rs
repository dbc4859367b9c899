//! What the example programs share: a policy for caches. How a program starts, or says in one line why it does not, is
//! in the crate [`edge`].

pub mod caching;

/// Compiles what README.md shows.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
pub struct Readme;

/// Compiles what docs/caching.md shows.
#[cfg(doctest)]
#[doc = include_str!("../../docs/caching.md")]
pub struct CachingGuide;
