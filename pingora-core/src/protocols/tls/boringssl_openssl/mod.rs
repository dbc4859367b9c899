//! The backend over OpenSSL.

mod errors;
// Two libraries with one interface, but for little.
#[cfg(all(feature = "boringssl", not(feature = "openssl")))]
#[path = "library_boringssl.rs"]
mod library;
#[cfg(feature = "openssl")]
#[path = "library_openssl.rs"]
mod library;
mod names;
mod resume;
mod session;
mod stream;

pub mod client;
pub mod connectors;
pub mod listeners;
pub mod server;
pub mod utils;

use std::hash::{Hash, Hasher};

use library::ssl::SslRef;
use library::x509::X509;

pub use stream::SslStream;

pub(crate) use stream::SslStream as Layer;

/// A TLS session.
pub type TlsRef = SslRef;

/// Trusted certificates of a peer.
pub type CaType = Box<[X509]>;

/// Hashes what is in the certificates.
pub(crate) fn hash_ca(ca: &CaType, state: &mut impl Hasher) {
    ca.len().hash(state);
    for cert in ca.iter() {
        match cert.to_der() {
            Ok(der) => der.hash(state),
            // Without memory for it, a certificate is like no other.
            Err(_) => std::ptr::from_ref(cert).addr().hash(state),
        }
    }
}
