//! A certificate with its key.

use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{InconsistentKeys, SignatureAlgorithm};

use super::client::{fingerprint, names, rfc4514};
use super::provider;
use crate::plan;
use crate::tls::{CertificateState, Source, Validity};

/// Bytes of an OCSP response.
const MAX_OCSP: u64 = 64 << 10;

/// A certificate that clients are shown, and what is known of it.
pub(super) struct Identity {
    pub(super) key: Arc<CertifiedKey>,
    facts: Facts,
    file: Option<String>,
}

/// The contents of a certificate, as far as they are shown.
#[derive(Clone, Debug)]
struct Facts {
    names: Vec<String>,
    issuer: String,
    fingerprint: String,
    validity: Validity,
}

impl Identity {
    /// Reads a certificate from its files.
    ///
    /// # Errors
    ///
    /// Names the file that cannot be used, and why.
    pub(super) fn load(files: &plan::Certificate) -> Result<Self, String> {
        let (cert, key) = (files.cert.display(), files.key.display());
        let chain = CertificateDer::pem_file_iter(&files.cert)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(|e| format!("cannot read the certificate in {cert}: {e}"))?;
        let private = PrivateKeyDer::from_pem_file(&files.key)
            .map_err(|e| format!("cannot read the private key in {key}: {e}"))?;
        let made = Self::new(chain, private);
        let mut made = made.map_err(|e| format!("cannot use {cert} with {key}: {e}"))?;
        if let Some(ocsp) = &files.ocsp {
            let response = ocsp_response(ocsp);
            let response = response
                .map_err(|e| format!("cannot use the OCSP response in {}: {e}", ocsp.display()))?;
            Arc::make_mut(&mut made.key).ocsp = Some(response);
        }
        made.facts.validity.tell(&cert.to_string());
        made.file = Some(cert.to_string());
        Ok(made)
    }

    /// Makes one of a chain, its own certificate first, and a key.
    ///
    /// # Errors
    ///
    /// When they do not belong together, or cannot be read.
    pub(super) fn new(
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) -> Result<Self, String> {
        let leaf = chain.first().ok_or("no certificate is in it")?;
        let facts = Facts::of(leaf)?;
        let key = provider()
            .key_provider
            .load_private_key(key)
            .map_err(|e| format!("the key is not usable: {e}"))?;
        let key = CertifiedKey::new(chain, key);
        match key.keys_match() {
            // Some kinds of keys do not tell.
            Ok(()) | Err(rustls::Error::InconsistentKeys(InconsistentKeys::Unknown)) => {}
            Err(_) => return Err("the key is of another certificate".to_owned()),
        }
        Ok(Self {
            key: Arc::new(key),
            facts,
            file: None,
        })
    }

    /// Returns its state, as a certificate of `site`.
    pub(super) fn state(&self, site: &str) -> CertificateState {
        let facts = self.facts.clone();
        CertificateState {
            site: site.to_owned(),
            names: facts.names,
            source: Source::File,
            file: self.file.clone(),
            key: Some(self.kind().to_owned()),
            issuer: Some(facts.issuer),
            fingerprint: Some(facts.fingerprint),
            not_before: Some(facts.validity.not_before),
            not_after: Some(facts.validity.not_after),
            ocsp: self.key.ocsp.is_some(),
            error: None,
            next_try: None,
        }
    }

    /// Returns the first and the last second of its validity, since the beginning of 1970.
    pub(super) fn validity(&self) -> (i64, i64) {
        (
            self.facts.validity.not_before,
            self.facts.validity.not_after,
        )
    }

    /// Returns the certificate itself.
    pub(super) fn leaf(&self) -> Option<&CertificateDer<'static>> {
        self.key.cert.first()
    }

    /// Returns a number that is another one for each certificate.
    pub(super) fn number(&self) -> u32 {
        let digits = self.facts.fingerprint.get(..8);
        digits.map_or(0, |hex| u32::from_str_radix(hex, 16).unwrap_or(0))
    }

    /// Tells whether it names a host, in lower case.
    pub(super) fn is_for(&self, host: &str) -> bool {
        let mut names = self.facts.names.iter();
        names.any(|name| name.eq_ignore_ascii_case(host))
    }

    /// Tells whether both are the same certificate.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.facts.fingerprint == other.facts.fingerprint
    }

    fn kind(&self) -> &'static str {
        match self.key.key.algorithm() {
            SignatureAlgorithm::RSA => "RSA",
            SignatureAlgorithm::ECDSA => "ECDSA",
            SignatureAlgorithm::ED25519 => "Ed25519",
            _ => "other",
        }
    }
}

impl Facts {
    fn of(leaf: &CertificateDer<'_>) -> Result<Self, String> {
        let (_, parsed) = x509_parser::parse_x509_certificate(leaf)
            .map_err(|e| format!("the certificate is malformed: {e}"))?;
        let validity = parsed.validity();
        Ok(Self {
            names: names(&parsed),
            issuer: rfc4514(parsed.issuer()),
            fingerprint: fingerprint(leaf),
            validity: Validity {
                not_before: validity.not_before.timestamp(),
                not_after: validity.not_after.timestamp(),
                of_authority: parsed.is_ca(),
            },
        })
    }
}

/// Reads a response of OCSP (RFC 6960 section 4.2.1).
fn ocsp_response(file: &Path) -> Result<Vec<u8>, String> {
    use std::io::Read;
    let open = std::fs::File::open(file).map_err(|e| e.to_string())?;
    let mut bytes = Vec::new();
    open.take(MAX_OCSP + 1)
        .read_to_end(&mut bytes)
        .map_err(|e| e.to_string())?;
    if bytes.len() as u64 > MAX_OCSP {
        return Err(format!("it is larger than {MAX_OCSP} bytes"));
    }
    match successful(&bytes) {
        Some(true) => Ok(bytes),
        Some(false) => Err("the responder refused to tell the state of the certificate".to_owned()),
        None => Err("it is no OCSP response in DER".to_owned()),
    }
}

/// Tells whether a response has the status `successful`; `None` when it is none.
fn successful(der: &[u8]) -> Option<bool> {
    let (tag, rest) = der.split_first()?;
    let (first, rest) = rest.split_first()?;
    let (length, body) = if *first < 0x80 {
        (usize::from(*first), rest)
    } else {
        let count = usize::from(first & 0x7f);
        let (length, body) = rest.split_at_checked(count)?;
        if !(1..=4).contains(&count) {
            return None;
        }
        (
            length.iter().fold(0, |sum, b| sum << 8 | usize::from(*b)),
            body,
        )
    };
    if *tag != 0x30 || length != body.len() {
        return None;
    }
    // ENUMERATED, of one byte.
    match body {
        [0x0a, 1, status, ..] => Some(*status == 0),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn responses_of_ocsp_are_known_by_their_status() {
        assert_eq!(successful(&[0x30, 3, 0x0a, 1, 0]), Some(true));
        assert_eq!(successful(&[0x30, 0x81, 3, 0x0a, 1, 6]), Some(false));
        for bad in [
            &b""[..],
            b"-----BEGIN",
            &[0x30, 4, 0x0a, 1, 0],
            &[0x30, 0x85, 1, 1, 1, 1, 1],
            &[0x30],
        ] {
            assert_eq!(successful(bad), None, "{bad:?}");
        }
    }
}
