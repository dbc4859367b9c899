//! For OpenSSL: a callback in the handshake.

use std::sync::Arc;

use async_trait::async_trait;
use pingora_core::listeners::tls::TlsSettings;
use pingora_core::listeners::TlsAccept;
use pingora_core::protocols::tls::TlsRef;
use pingora_core::tls::ext;
use pingora_core::tls::pkey::{PKey, Private};
use pingora_core::tls::x509::X509;
use pingora_core::{Error, FileReadError, InvalidCert, OkOrErr, OrErr, Result};

use super::{Certificates, Validity};
use crate::calendar::read_openssl_time;

pub(super) struct Pair {
    /// The leaf first.
    chain: Vec<X509>,
    key: PKey<Private>,
}

pub(super) fn load(cert: &str, key: &str) -> Result<Pair> {
    let read = |path: &str| {
        let content = std::fs::read(path);
        content.or_err_with(FileReadError, || format!("reading {path}"))
    };
    let pair = Pair {
        chain: X509::stack_from_pem(&read(cert)?)
            .or_err_with(InvalidCert, || format!("the certificates in {cert}"))?,
        key: PKey::private_key_from_pem(&read(key)?)
            .or_err_with(InvalidCert, || format!("the private key in {key}"))?,
    };
    let leaf = pair.chain.first().map(|leaf| leaf.public_key());
    match leaf {
        Some(Ok(public)) if public.public_eq(&pair.key) => Ok(pair),
        Some(_) => Error::e_explain(
            InvalidCert,
            format!("{cert} and {key} do not belong together"),
        ),
        None => Error::e_explain(InvalidCert, format!("no certificate in {cert}")),
    }
}

pub(super) fn validity(pair: &Pair) -> Result<Validity> {
    let leaf = pair.chain.first();
    let leaf = leaf.or_err(InvalidCert, "there is no certificate")?;
    let unix = |time: String| {
        let seconds = read_openssl_time(&time);
        seconds.or_err_with(InvalidCert, || format!("not a time: {time}"))
    };
    Ok(Validity {
        not_before: unix(leaf.not_before().to_string())?,
        not_after: unix(leaf.not_after().to_string())?,
        // OpenSSL takes a CA's own for a server, and does not tell.
        of_authority: false,
    })
}

/// How many certificates to trust are in a file.
pub(super) fn authorities(file: &str) -> Result<usize> {
    let content = std::fs::read(file).or_err_with(FileReadError, || format!("reading {file}"))?;
    let found = X509::stack_from_pem(&content);
    Ok(found
        .or_err_with(InvalidCert, || format!("the certificates in {file}"))?
        .len())
}

struct Show(Arc<Certificates>);

#[async_trait]
impl TlsAccept for Show {
    async fn certificate_callback(&self, ssl: &mut TlsRef) {
        let pair = self.0.current();
        let (Some(leaf), issuers) = (pair.chain.first(), pair.chain.iter().skip(1)) else {
            return;
        };
        let shown = ext::ssl_use_certificate(ssl, leaf)
            .and_then(|()| ext::ssl_use_private_key(ssl, &pair.key))
            .and_then(|()| {
                let mut issuers = issuers;
                issuers.try_for_each(|issuer| ext::ssl_add_chain_cert(ssl, issuer))
            });
        if let Err(e) = shown {
            log::error!("a certificate cannot be used: {e}");
        }
    }
}

pub(super) fn settings(certificates: Arc<Certificates>) -> Result<TlsSettings> {
    TlsSettings::with_callbacks(Box::new(Show(certificates)))
}
