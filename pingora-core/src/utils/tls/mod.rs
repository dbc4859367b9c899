//! Certificates and keys, with rustls.

mod rustls;

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use pingora_error::{ErrorType::InvalidCert, OrErr, Result};
use pingora_rustls::CertificateDer;
use x509_parser::prelude::{AttributeTypeAndValue, FromDer, X509Certificate};

pub use self::rustls::*;

impl WrappedX509 {
    /// The end of the certificate's validity, such as `Jan  1 00:00:00 2030 +00:00`.
    pub fn not_after(&self) -> String {
        self.borrow_cert().validity().not_after.to_string()
    }
}

impl<'a> From<&'a WrappedX509> for CertificateDer<'static> {
    fn from(cert: &'a WrappedX509) -> Self {
        CertificateDer::from(cert.borrow_raw_cert().clone())
    }
}

/// A certificate chain with its private key.
pub struct CertKey {
    key: Vec<u8>,
    /// The leaf first.
    certificates: Vec<Arc<WrappedX509>>,
}

impl CertKey {
    /// A chain in DER, the leaf first, and its key in DER: PKCS#8, PKCS#1 or SEC1.
    ///
    /// # Panics
    /// When there is no certificate, or one that cannot be read.
    pub fn new(certificates: Vec<Vec<u8>>, key: Vec<u8>) -> CertKey {
        assert!(!certificates.is_empty(), "a chain has at least a leaf");
        let wrap = |der| Arc::new(WrappedX509::new(der, |der: &Vec<u8>| parse_x509(der)));
        CertKey {
            key,
            certificates: certificates.into_iter().map(wrap).collect(),
        }
    }

    /// The chain's own certificate.
    pub fn leaf(&self) -> &WrappedX509 {
        &self.certificates[0]
    }

    /// The certificates of its issuers.
    pub fn intermediates(&self) -> Vec<&WrappedX509> {
        self.certificates[1..].iter().map(|cert| &**cert).collect()
    }

    /// The private key in DER.
    pub fn key(&self) -> &Vec<u8> {
        &self.key
    }

    /// The organization in the leaf's subject, if there is one.
    pub fn organization(&self) -> Option<String> {
        get_organization(self.leaf())
    }

    /// The serial number of the leaf, in hexadecimal.
    pub fn serial(&self) -> String {
        serial(self.leaf().borrow_cert())
    }

    pub(crate) fn chain(&self) -> Vec<CertificateDer<'static>> {
        self.certificates
            .iter()
            .map(|cert| (&**cert).into())
            .collect()
    }
}

impl Clone for CertKey {
    fn clone(&self) -> Self {
        CertKey {
            key: self.key.clone(),
            certificates: self.certificates.clone(),
        }
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
        write!(
            f,
            "serial: {}, expires: {}",
            self.serial(),
            leaf.not_after()
        )
    }
}

impl Hash for CertKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        for certificate in &self.certificates {
            certificate.borrow_raw_cert().hash(state);
        }
    }
}

/// Reads a certificate in DER.
///
/// # Panics
/// When it is not one.
pub fn parse_x509<C>(raw_cert: &C) -> X509Certificate<'_>
where
    C: AsRef<[u8]>,
{
    match X509Certificate::from_der(raw_cert.as_ref()) {
        Ok((_, cert)) => cert,
        Err(e) => panic!("not a certificate in DER: {e}"),
    }
}

/// The organization in the subject of a certificate, if there is one.
pub fn get_organization(x509cert: &WrappedX509) -> Option<String> {
    get_organization_x509(x509cert.borrow_cert())
}

/// The organization in the subject of a certificate, if there is one.
pub fn get_organization_x509(x509cert: &X509Certificate<'_>) -> Option<String> {
    first(x509cert.subject().iter_organization())
}

/// The organizational unit in the subject of a certificate, if there is one.
pub fn get_organization_unit(x509cert: &WrappedX509) -> Option<String> {
    first(x509cert.borrow_cert().subject().iter_organizational_unit())
}

/// The common name in the subject of a certificate, if there is one.
pub fn get_common_name(x509cert: &WrappedX509) -> Option<String> {
    first(x509cert.borrow_cert().subject().iter_common_name())
}

fn first<'a>(mut found: impl Iterator<Item = &'a AttributeTypeAndValue<'a>>) -> Option<String> {
    Some(found.next()?.as_str().ok()?.to_owned())
}

/// The end of a certificate's validity.
pub fn get_not_after(x509cert: &WrappedX509) -> String {
    x509cert.not_after()
}

/// The serial number of a certificate, in hexadecimal.
///
/// # Errors
/// None with this backend.
pub fn get_serial(x509cert: &WrappedX509) -> Result<String> {
    Ok(serial(x509cert.borrow_cert()))
}

fn serial(cert: &X509Certificate<'_>) -> String {
    let bytes = cert.serial.to_bytes_be();
    bytes.iter().map(|byte| format!("{byte:02X}")).collect()
}

/// The organization, if there is one, and the serial number of a certificate.
///
/// # Errors
/// None with this backend.
pub fn get_organization_serial(x509cert: &WrappedX509) -> Result<(Option<String>, String)> {
    Ok((get_organization(x509cert), get_serial(x509cert)?))
}

/// The organization, if there is one, and the serial number of a certificate in DER.
///
/// # Errors
/// `InvalidCert` when it cannot be read.
pub fn get_organization_serial_bytes(cert: &[u8]) -> Result<(Option<String>, String)> {
    let (_, cert) = X509Certificate::from_der(cert).or_err(InvalidCert, "reading a certificate")?;
    Ok((get_organization_x509(&cert), serial(&cert)))
}
