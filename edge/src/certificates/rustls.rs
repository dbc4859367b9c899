//! For rustls: a resolver.

use std::fmt;
use std::sync::Arc;

use pingora_core::listeners::tls::TlsSettings;
use pingora_core::listeners::TlsAccept;
use pingora_core::tls::sign::CertifiedKey;
use pingora_core::tls::{
    install_default_crypto_provider, load_ca_file_into_store, load_certs_and_key_files,
    ClientHello, CryptoProvider, ResolvesServerCert, RootCertStore,
};
use pingora_core::utils::tls::{get_organization_serial_bytes, parse_x509, WrappedX509};
use pingora_core::{Error, InternalError, InvalidCert, OkOrErr, OrErr, Result};

use super::{Certificates, Validity};

pub(super) type Pair = Arc<CertifiedKey>;

pub(super) fn load(cert: &str, key: &str) -> Result<Pair> {
    let Some((chain, private)) = load_certs_and_key_files(cert, key)? else {
        return Error::e_explain(
            InvalidCert,
            format!("no certificate in {cert}, or no key in {key}"),
        );
    };
    install_default_crypto_provider();
    let provider = CryptoProvider::get_default();
    let provider = provider.or_err(InternalError, "no cryptography is installed")?;
    let pair = CertifiedKey::from_der(chain, private, provider);
    let pair = pair.or_err_with(InvalidCert, || format!("{cert} and {key} cannot be used"))?;
    Ok(Arc::new(pair))
}

pub(super) fn validity(pair: &Pair) -> Result<Validity> {
    let leaf = pair.cert.first();
    let leaf = leaf
        .or_err(InvalidCert, "there is no certificate")?
        .to_vec();
    // Fails where the next step would panic.
    get_organization_serial_bytes(&leaf)?;
    let leaf = WrappedX509::new(leaf, parse_x509);
    let cert = leaf.borrow_cert();
    Ok(Validity {
        not_before: cert.validity().not_before.timestamp(),
        not_after: cert.validity().not_after.timestamp(),
        of_authority: cert.is_ca(),
    })
}

/// How many certificates to trust are in a file.
pub(super) fn authorities(file: &str) -> Result<usize> {
    let mut store = RootCertStore::empty();
    load_ca_file_into_store(file, &mut store)?;
    Ok(store.len())
}

/// Nothing to do in the handshake but to resolve.
struct NoCallbacks;

impl TlsAccept for NoCallbacks {}

pub(super) fn settings(certificates: Arc<Certificates>) -> Result<TlsSettings> {
    let mut settings = TlsSettings::with_callbacks(Box::new(NoCallbacks))?;
    settings.set_cert_resolver(certificates);
    Ok(settings)
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Pair> {
        Some(Pair::clone(&self.current()))
    }
}

impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificates")
            .field("cert", &self.cert)
            .finish_non_exhaustive()
    }
}
