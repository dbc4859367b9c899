//! Requests to an authority, over HTTPS.

use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::builderstates::WantsSchemes;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use instant_acme::{BodyWrapper, BytesResponse, Error, HttpClient};
use pingora_core::tls::load_platform_certs_incl_env_into_store;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, RootCertStore};

use crate::tls::backend::provider;

/// The time for one request.
const PATIENCE: Duration = Duration::from_secs(30);
/// Bytes of a response.
const LARGEST: usize = 1 << 20;

/// A client that trusts the authorities of the system, or those of a file.
#[derive(Clone)]
pub(super) struct Https(Client<HttpsConnector<HttpConnector>, BodyWrapper<Bytes>>);

impl Https {
    /// # Errors
    ///
    /// When the certificates to trust cannot be read.
    pub(super) fn new(ca: Option<&Path>) -> Result<Self, String> {
        let mut roots = RootCertStore::empty();
        match ca {
            Some(file) => {
                let failed = |e: &dyn std::fmt::Display| format!("`ca`: {}: {e}", file.display());
                let all = CertificateDer::pem_file_iter(file).map_err(|e| failed(&e))?;
                for certificate in all {
                    let certificate = certificate.map_err(|e| failed(&e))?;
                    roots.add(certificate).map_err(|e| failed(&e))?;
                }
            }
            None => roots = system()?,
        }
        let connector = connector(roots)?.https_only().enable_http1().build();
        Ok(Self(Client::builder(TokioExecutor::new()).build(connector)))
    }
}

/// Reads the authorities of the system.
pub(super) fn system() -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    load_platform_certs_incl_env_into_store(&mut roots)
        .map_err(|e| format!("cannot read the certificates of the system: {e}"))?;
    Ok(roots)
}

/// Begins a connector that trusts these authorities.
pub(super) fn connector(
    roots: RootCertStore,
) -> Result<HttpsConnectorBuilder<WantsSchemes>, String> {
    let config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|e| e.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(HttpsConnectorBuilder::new().with_tls_config(config))
}

impl HttpClient for Https {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        let response = self.0.request(request);
        // The body is read here, so that the limits are for the whole.
        let whole = async move {
            let (head, body) = response.await.map_err(other)?.into_parts();
            let body = Limited::new(body, LARGEST).collect().await;
            let body = body.map_err(Error::Other)?.to_bytes();
            Ok(BytesResponse::from(Response::from_parts(
                head,
                Full::new(body),
            )))
        };
        Box::pin(async move {
            let whole = tokio::time::timeout(PATIENCE, whole).await;
            whole.unwrap_or_else(|_| Err(Error::Str("no answer within 30 seconds")))
        })
    }
}

fn other(e: hyper_util::client::legacy::Error) -> Error {
    Error::Other(Box::new(e))
}

/// Writes an error with its causes, in one line and not too long: an authority may write what it likes.
pub(super) fn tell(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        let error_text = error.to_string();
        if !text.contains(&error_text) {
            text.push_str(": ");
            text.push_str(&error_text);
        }
        cause = error.source();
    }
    plain(&text)
}

/// Leaves control characters out, and what is too long.
pub(super) fn plain(text: &str) -> String {
    let shown = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    let mut out: String = shown.clone().take(400).collect();
    if shown.count() > 400 {
        out.push('…');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_stay_in_their_line() {
        assert_eq!(plain("a\r\nb\u{1b}[0m"), "a  b [0m");
        assert_eq!(plain(&"ä".repeat(500)).chars().count(), 401);
    }
}
