//! What the example programs share: addresses on the command line, the demo origin, and how a
//! program starts or says in one line why it does not.

pub mod access_log;
pub mod address;
pub mod allocator;
pub mod caching;
pub mod calendar;
pub mod certificates;
pub mod forwarded;
pub mod logging;
pub mod origin;
pub mod program;
pub mod upstreams;

/// Whether a TLS backend is built in.
pub const HAS_TLS: bool = cfg!(any(
    feature = "rustls",
    feature = "openssl",
    feature = "boringssl"
));

/// Why TLS is refused where none is.
pub const WITHOUT_TLS: &str =
    "this program was built without TLS; build it with --features rustls, openssl or boringssl";

/// Compiles what README.md shows.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
pub struct Readme;

/// Compiles what docs/caching.md shows.
#[cfg(doctest)]
#[doc = include_str!("../../docs/caching.md")]
pub struct CachingGuide;
