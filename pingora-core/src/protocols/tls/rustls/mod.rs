//! The backend over rustls.

mod chooser;
mod errors;
mod session;
mod stream;
mod verify;

pub mod client;
pub mod connectors;
pub mod listeners;
pub mod server;

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use pingora_rustls::CryptoProvider;

use crate::utils::tls::WrappedX509;

pub use session::TlsRef;
pub use stream::{InnerStream, TlsStream};

pub(crate) use stream::TlsStream as Layer;

/// Trusted certificates of a peer.
pub type CaType = [WrappedX509];

/// Hashes what is in the certificates.
pub(crate) fn hash_ca(ca: &CaType, state: &mut impl Hasher) {
    ca.len().hash(state);
    for cert in ca {
        cert.borrow_raw_cert().hash(state);
    }
}

/// The cryptography of this process: what the program installed, else ring.
fn provider() -> Arc<CryptoProvider> {
    if CryptoProvider::get_default().is_none() {
        pingora_rustls::install_default_crypto_provider();
    }
    match CryptoProvider::get_default() {
        Some(provider) => provider.clone(),
        None => Arc::new(rustls::crypto::ring::default_provider()),
    }
}
