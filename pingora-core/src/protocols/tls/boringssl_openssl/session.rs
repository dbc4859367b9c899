//! The known facts of a TLS session.

use super::library::hash::MessageDigest;
use super::library::ssl::{NameType, SslRef};

use super::utils::{get_organization, get_serial};
use crate::protocols::tls::SslDigest;

impl SslDigest {
    /// Returns what the handshake of `ssl` agreed on.
    pub fn from_ssl(ssl: &SslRef) -> Self {
        let cipher = ssl.current_cipher().map_or("", |cipher| cipher.name());
        let leaf = ssl.peer_certificate();
        let hash = leaf
            .as_ref()
            .map(|leaf| leaf.digest(MessageDigest::sha256()));
        let hash = match hash {
            Some(Ok(hash)) => hash.to_vec(),
            _ => Vec::new(),
        };
        SslDigest::new(
            cipher,
            ssl.version_str(),
            leaf.as_ref().and_then(get_organization),
            leaf.as_ref().and_then(|leaf| get_serial(leaf).ok()),
            hash,
        )
        .with_server_name(ssl.servername(NameType::HOST_NAME))
    }
}
