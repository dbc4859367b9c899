//! What the example programs share: addresses on the command line, the demo origin, and how a
//! program starts or says in one line why it does not.

pub mod address;
#[cfg(any(feature = "rustls", feature = "openssl"))]
pub mod certificates;
pub mod origin;
pub mod program;

/// Compiles what README.md shows.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
pub struct Readme;
