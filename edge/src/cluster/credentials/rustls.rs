//! Certificates to trust in servers and to show to them, for rustls.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;
use std::sync::Arc;

use pingora_core::protocols::tls::CaType;
use pingora_core::tls::load_certs_and_key_files;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_core::utils::tls::{get_organization_serial_bytes, parse_x509, CertKey, WrappedX509};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::CertificateDer;

use crate::config::model::{Certificate, UpstreamTls};

/// The contents of the files, in DER.
#[derive(Hash)]
pub(super) struct Files {
    ca: Option<Vec<Vec<u8>>>,
    client: Option<(Vec<Vec<u8>>, Vec<u8>)>,
}

/// The same as peers take it.
#[derive(Default)]
pub(super) struct Credentials {
    ca: Option<Arc<CaType>>,
    client: Option<Arc<CertKey>>,
}

impl Files {
    /// # Errors
    ///
    /// Names the file that cannot be used.
    pub(super) fn read(tls: &UpstreamTls) -> Result<Self, String> {
        Ok(Self {
            ca: tls.ca.as_deref().map(authorities).transpose()?,
            client: tls.client.as_ref().map(pair).transpose()?,
        })
    }

    pub(super) fn hash(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        Hash::hash(self, &mut hasher);
        hasher.finish()
    }

    pub(super) fn credentials(&self) -> Credentials {
        let parsed = |ca: &Vec<Vec<u8>>| {
            let all = ca.iter();
            all.map(|der| WrappedX509::new(der.clone(), parse_x509))
                .collect()
        };
        let client = self.client.as_ref();
        Credentials {
            ca: self.ca.as_ref().map(parsed),
            client: client.map(|(chain, key)| Arc::new(CertKey::new(chain.clone(), key.clone()))),
        }
    }
}

impl Credentials {
    pub(super) fn give(&self, peer: &mut HttpPeer) {
        peer.options.ca.clone_from(&self.ca);
        peer.client_cert_key.clone_from(&self.client);
    }
}

/// Returns the number of certificates in a file.
///
/// # Errors
///
/// When it cannot be read, or one of them cannot.
pub(crate) fn count(path: &Path) -> Result<usize, String> {
    certificates(path).map(|found| found.len())
}

fn certificates(path: &Path) -> Result<Vec<Vec<u8>>, String> {
    let found = CertificateDer::pem_file_iter(path).map_err(|e| e.to_string())?;
    let found: Vec<_> = found
        .map(|der| der.map(|der| der.to_vec()))
        .collect::<Result<_, _>>()
        .map_err(|e| e.to_string())?;
    found.iter().try_for_each(|der| readable(der))?;
    Ok(found)
}

fn authorities(path: &Path) -> Result<Vec<Vec<u8>>, String> {
    let failed = |why: String| format!("`ca`: cannot use {}: {why}", path.display());
    let found = certificates(path).map_err(failed)?;
    if found.is_empty() {
        return Err(failed("no certificate is in it".into()));
    }
    Ok(found)
}

fn pair(files: &Certificate) -> Result<(Vec<Vec<u8>>, Vec<u8>), String> {
    let (cert, key) = (files.cert.display(), files.key.display());
    let failed = |why: String| format!("`client`: cannot use {cert} and {key}: {why}");
    let loaded = load_certs_and_key_files(&cert.to_string(), &key.to_string());
    let loaded = loaded.map_err(|e| failed(e.to_string()))?;
    let (chain, key) =
        loaded.ok_or_else(|| failed("they hold no certificate, or no key".into()))?;
    let chain: Vec<_> = chain.iter().map(|der| der.to_vec()).collect();
    chain
        .iter()
        .try_for_each(|der| readable(der))
        .map_err(failed)?;
    Ok((chain, key.secret_der().to_vec()))
}

/// Fails where the parser of [`WrappedX509`] would panic.
fn readable(der: &[u8]) -> Result<(), String> {
    get_organization_serial_bytes(der)
        .map(drop)
        .map_err(|e| e.to_string())
}
