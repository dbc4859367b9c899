//! Certificates and keys.

use std::fmt;
use std::hash::{Hash, Hasher};

use super::library;
use super::library::hash::MessageDigest;
use super::library::nid::Nid;
use super::library::pkey::{PKey, Private};
use super::library::x509::X509;
use pingora_error::{ErrorType::InvalidCert, OrErr, Result};

/// A certificate chain with its private key.
#[derive(Clone)]
pub struct CertKey {
    /// The leaf first.
    certificates: Vec<X509>,
    key: PKey<Private>,
}

impl CertKey {
    /// A chain, the leaf first, and its key.
    ///
    /// # Panics
    /// When there is no certificate.
    pub fn new(certificates: Vec<X509>, key: PKey<Private>) -> CertKey {
        assert!(!certificates.is_empty(), "a chain has at least a leaf");
        CertKey { certificates, key }
    }

    /// The chain's own certificate.
    pub fn leaf(&self) -> &X509 {
        &self.certificates[0]
    }

    /// The certificates of its issuers.
    pub fn intermediates(&self) -> &[X509] {
        &self.certificates[1..]
    }

    /// The private key.
    pub fn key(&self) -> &PKey<Private> {
        &self.key
    }

    /// The organization in the leaf's subject, if there is one.
    pub fn organization(&self) -> Option<String> {
        get_organization(self.leaf())
    }

    /// The serial number of the leaf, in hexadecimal.
    ///
    /// # Errors
    /// `InvalidCert` when the library cannot write it.
    pub fn serial(&self) -> Result<String> {
        get_serial(self.leaf())
    }
}

impl fmt::Debug for CertKey {
    /// All but the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CertKey")
            .field("leaf", self.leaf())
            .finish_non_exhaustive()
    }
}

impl fmt::Display for CertKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let leaf = self.leaf();
        if let Some(name) = get_common_name(leaf) {
            write!(f, "CN: {name}, ")?;
        }
        if let Some(organization) = self.organization() {
            write!(f, "O: {organization}, ")?;
        }
        if let Ok(serial) = self.serial() {
            write!(f, "serial: {serial}, ")?;
        }
        write!(f, "expires: {}", leaf.not_after())
    }
}

impl Hash for CertKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        for certificate in &self.certificates {
            // Without memory for it, certificates would only share a bucket.
            if let Ok(digest) = certificate.digest(MessageDigest::sha256()) {
                digest.hash(state);
            }
        }
    }
}

/// The organization in the subject of a certificate, if there is one.
pub fn get_organization(cert: &X509) -> Option<String> {
    entry(cert, Nid::ORGANIZATIONNAME)
}

/// The organizational unit in the subject of a certificate, if there is one.
pub fn get_organization_unit(cert: &X509) -> Option<String> {
    entry(cert, Nid::ORGANIZATIONALUNITNAME)
}

/// The common name in the subject of a certificate, if there is one.
pub fn get_common_name(cert: &X509) -> Option<String> {
    entry(cert, Nid::COMMONNAME)
}

fn entry(cert: &X509, nid: Nid) -> Option<String> {
    let entry = cert.subject_name().entries_by_nid(nid).next()?;
    library::text(entry.data())
}

/// The serial number of a certificate, in hexadecimal.
///
/// # Errors
/// `InvalidCert` when the library cannot write it.
pub fn get_serial(cert: &X509) -> Result<String> {
    let number = cert.serial_number().to_bn();
    let number = number.or_err(InvalidCert, "reading a serial number")?;
    let hex = number.to_hex_str();
    Ok(hex
        .or_err(InvalidCert, "writing a serial number")?
        .to_string())
}
