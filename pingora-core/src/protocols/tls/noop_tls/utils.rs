//! Certificates and keys.

use std::fmt;

use super::CertWrapper;

/// Stands for a certificate chain with its private key.
#[derive(Clone, Debug, Hash)]
pub struct CertKey;

impl fmt::Display for CertKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(no certificate)")
    }
}

/// The organizational unit in a certificate's subject; `None`, as nothing is known of it.
pub fn get_organization_unit(_: &CertWrapper) -> Option<String> {
    None
}
