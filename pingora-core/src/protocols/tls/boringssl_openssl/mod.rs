//! The backend over OpenSSL.

mod errors;
mod names;
mod resume;
mod session;
mod stream;

pub mod client;
pub mod connectors;
pub mod listeners;
pub mod server;
pub mod utils;

use pingora_openssl::ssl::SslRef;
use pingora_openssl::x509::X509;

pub use stream::SslStream;

pub(crate) use stream::SslStream as Layer;

/// A TLS session.
pub type TlsRef = SslRef;

/// Trusted certificates of a peer.
pub type CaType = Box<[X509]>;
