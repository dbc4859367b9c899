//! Certificates to trust in servers and to show to them, for OpenSSL and BoringSSL.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;
use std::sync::Arc;

use pingora_core::protocols::tls::CaType;
use pingora_core::tls::pkey::{PKey, Private};
use pingora_core::tls::x509::X509;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_core::utils::tls::CertKey;

use crate::config::model::{Certificate, UpstreamTls};

/// The contents of the files.
pub(super) struct Files {
    ca: Option<Vec<X509>>,
    client: Option<(Vec<X509>, PKey<Private>)>,
    hash: u64,
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
        let ca = tls.ca.as_deref().map(authorities).transpose()?;
        let client = tls.client.as_ref().map(pair).transpose()?;
        let mut hasher = DefaultHasher::new();
        let der = |chain: &Vec<X509>| -> Vec<_> {
            let each = chain.iter();
            each.map(|one| one.to_der().unwrap_or_default()).collect()
        };
        ca.as_ref().map(der).hash(&mut hasher);
        let client_der = client.as_ref().map(|(chain, key)| {
            let key = key.private_key_to_der();
            (der(chain), key.unwrap_or_default())
        });
        client_der.hash(&mut hasher);
        Ok(Self {
            ca,
            client,
            hash: hasher.finish(),
        })
    }

    pub(super) fn hash(&self) -> u64 {
        self.hash
    }

    pub(super) fn credentials(&self) -> Credentials {
        let ca = self.ca.as_ref();
        let client = self.client.as_ref();
        Credentials {
            ca: ca.map(|ca| Arc::new(ca.clone().into_boxed_slice())),
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

fn certificates(path: &Path) -> Result<Vec<X509>, String> {
    let text = std::fs::read(path).map_err(|e| e.to_string())?;
    X509::stack_from_pem(&text).map_err(|e| e.to_string())
}

fn authorities(path: &Path) -> Result<Vec<X509>, String> {
    let failed = |why: String| format!("`ca`: cannot use {}: {why}", path.display());
    let found = certificates(path).map_err(failed)?;
    if found.is_empty() {
        return Err(failed("no certificate is in it".into()));
    }
    Ok(found)
}

fn pair(files: &Certificate) -> Result<(Vec<X509>, PKey<Private>), String> {
    let (cert, key) = (files.cert.display(), files.key.display());
    let failed = |why: String| format!("`client`: cannot use {cert} and {key}: {why}");
    let chain = certificates(&files.cert).map_err(failed)?;
    let text = std::fs::read(&*files.key).map_err(|e| failed(e.to_string()))?;
    let private = PKey::private_key_from_pem(&text).map_err(|e| failed(e.to_string()))?;
    if chain.is_empty() {
        return Err(failed("they hold no certificate".into()));
    }
    Ok((chain, private))
}
