//! TLS: one seam, a folder per backend.
//!
//! A feature chooses the backend, here and nowhere else but for `utils::tls`. Every one has the modules `connectors`,
//! `listeners` and `utils`, the types `TlsRef` and `CaType`, and a stream that is `Layer` to this crate.

mod alpn;
pub(crate) mod callbacks;
pub mod digest;
pub(crate) mod options;
mod transport;

#[cfg(all(feature = "rustls", not(feature = "openssl_derived")))]
mod rustls;
#[cfg(all(feature = "rustls", not(feature = "openssl_derived")))]
use self::rustls as backend;

#[cfg(feature = "openssl_derived")]
mod boringssl_openssl;
#[cfg(feature = "openssl_derived")]
use self::boringssl_openssl as backend;

#[cfg(not(any(feature = "rustls", feature = "openssl_derived")))]
pub mod noop_tls;
#[cfg(not(any(feature = "rustls", feature = "openssl_derived")))]
use self::noop_tls as backend;

#[cfg(all(test, any(feature = "rustls", feature = "openssl_derived")))]
mod handshakes;
#[cfg(all(test, any(feature = "rustls", feature = "openssl_derived")))]
pub(crate) use handshakes::{no_ca, some_cert_key};
#[cfg(all(test, not(any(feature = "rustls", feature = "openssl_derived"))))]
pub(crate) use noop_tls::{no_ca, some_cert_key};

pub use alpn::{CustomALPN, ALPN};
pub use backend::*;
pub use callbacks::HandshakeCompleteHook;
pub use digest::*;

pub(crate) use backend::{hash_ca, Layer};
#[allow(unused_imports)] // Not asked by the backend that never does a handshake.
pub(crate) use transport::follow_records;
pub(crate) use transport::{reregister, transport};
