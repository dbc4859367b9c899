//! The server's side.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use pingora_error::{Error, ErrorType::InvalidCert, OrErr, Result};
use pingora_rustls::{
    load_certs_and_key_files, CertificateDer, ClientCertVerifier, ClientHello, CryptoProvider,
    PrivateKeyDer, ResolvesServerCert, ServerConfig, TlsAcceptor,
};
use rustls::crypto::ring::Ticketer;
use rustls::pki_types::pem::PemObject;
use rustls::sign::{CertifiedKey, SingleCertAndKey};

use super::errors::refused;
use super::server::{accept, accept_chosen};
use super::{provider, TlsStream};
use crate::protocols::tls::callbacks::{TlsAccept, TlsAcceptCallbacks};
use crate::protocols::{ALPN, IO};
use crate::utils::offload::Offload;

pub use super::chooser::{Choice, ChosenConfig, ConfigChooser};

/// Does handshakes with clients.
pub struct Acceptor {
    /// The library's acceptor.
    pub acceptor: TlsAcceptor,
    callbacks: Option<Arc<dyn TlsAccept + Send + Sync>>,
    chooser: Option<Arc<dyn ConfigChooser>>,
    offload: Option<Offload>,
}

impl Acceptor {
    /// An acceptor with a configuration of the library.
    pub fn from_server_config(config: Arc<ServerConfig>) -> Self {
        Acceptor {
            acceptor: TlsAcceptor::from(config),
            callbacks: None,
            chooser: None,
            offload: None,
        }
    }

    /// Tells whoever chooses configurations that a handshake has failed.
    pub(crate) fn handshake_failed(&self, peer: Option<SocketAddr>, error: &Error) {
        if let Some(chooser) = &self.chooser {
            chooser.failed(peer, error);
        }
    }

    /// Does the handshake over `stream`: on the calling task, or on the threads that the settings want.
    ///
    /// # Errors
    /// `InvalidCert` when the client's certificate is refused, `TLSHandshakeFailure` when anything else
    /// fails.
    ///
    /// # Cancel safety
    /// Dropping the future closes the connection.
    pub async fn tls_handshake<S: IO + 'static>(&self, stream: S) -> Result<TlsStream<S>> {
        let Some(offload) = &self.offload else {
            return match &self.chooser {
                // Boxed: a handshake with one configuration shall not be larger for it.
                Some(chooser) => Box::pin(accept_chosen(&**chooser, stream)).await,
                None => accept(&self.acceptor, self.callbacks.as_deref(), stream).await,
            };
        };
        let (acceptor, callbacks) = (self.acceptor.clone(), self.callbacks.clone());
        let chooser = self.chooser.clone();
        let key = stream.id() as u64;
        let queued = Instant::now();
        let handshake = async move {
            let wait = queued.elapsed();
            let mut tls = match chooser {
                Some(chooser) => Box::pin(accept_chosen(&*chooser, stream)).await?,
                None => accept(&acceptor, callbacks.as_deref(), stream).await?,
            };
            tls.set_offload_wait(wait);
            Ok(tls)
        };
        offload.run(key, handshake).await
    }
}

/// The settings of a TLS server.
pub struct TlsSettings {
    chain: Option<Vec<CertificateDer<'static>>>,
    key: Option<PrivateKeyDer<'static>>,
    resolver: Option<Arc<dyn ResolvesServerCert>>,
    client_verifier: Option<Arc<dyn ClientCertVerifier>>,
    callbacks: Option<TlsAcceptCallbacks>,
    chooser: Option<Arc<dyn ConfigChooser>>,
    alpn: Option<ALPN>,
    offload: Option<(usize, usize)>,
}

impl TlsSettings {
    /// TLS 1.2 and 1.3 with the certificate chain and the key in these PEM files.
    ///
    /// # Errors
    /// `FileReadError` or `InvalidCert` when the files cannot be read, or do not belong together.
    pub fn intermediate(cert_path: &str, key_path: &str) -> Result<Self>
    where
        Self: Sized,
    {
        let Some((chain, key)) = load_certs_and_key_files(cert_path, key_path)? else {
            return Error::e_explain(
                InvalidCert,
                format!("no certificate in {cert_path}, or no key in {key_path}"),
            );
        };
        certified(chain.clone(), key.clone_key(), &provider())?;
        Ok(TlsSettings {
            chain: Some(chain),
            key: Some(key),
            ..Self::empty()
        })
    }

    /// TLS 1.2 and 1.3 with callbacks in the course of the handshake. The certificates come from a
    /// [resolver](Self::set_cert_resolver), or from files.
    ///
    /// # Errors
    /// None with this backend.
    pub fn with_callbacks(callbacks: TlsAcceptCallbacks) -> Result<Self>
    where
        Self: Sized,
    {
        Ok(TlsSettings {
            callbacks: Some(callbacks),
            ..Self::empty()
        })
    }

    /// Settings under which `chooser` chooses the configuration of each handshake: it has the certificates, versions,
    /// application protocols and all else. What is set here beside it, but for threads, has no effect.
    pub fn with_config_chooser(chooser: Arc<dyn ConfigChooser>) -> Self {
        TlsSettings {
            chooser: Some(chooser),
            resolver: Some(Arc::new(NoCertificate)),
            ..Self::empty()
        }
    }

    fn empty() -> Self {
        TlsSettings {
            chain: None,
            key: None,
            resolver: None,
            client_verifier: None,
            callbacks: None,
            chooser: None,
            alpn: None,
            offload: None,
        }
    }

    /// Offers HTTP/2 to clients, and HTTP/1.1 to those that do not have it.
    pub fn enable_h2(&mut self) {
        self.set_alpn(ALPN::H2H1);
    }

    /// Sets the application protocols to choose from. A client that offers others is refused; one that offers
    /// none is served.
    pub fn set_alpn(&mut self, alpn: ALPN) {
        self.alpn = Some(alpn);
    }

    /// Sets what chooses a certificate for each handshake, by the server name that the client asks for. It goes
    /// before the files, and may answer otherwise at any time.
    pub fn set_cert_resolver(&mut self, resolver: Arc<dyn ResolvesServerCert>) {
        self.resolver = Some(resolver);
    }

    /// Sets the certificate chain to the one in this PEM file, the leaf first.
    ///
    /// # Errors
    /// `InvalidCert` when it cannot be read, or has none.
    pub fn set_certificate_chain_file(&mut self, path: &str) -> Result<()> {
        let chain = CertificateDer::pem_file_iter(path)
            .and_then(Iterator::collect::<std::result::Result<Vec<_>, _>>)
            .or_err_with(InvalidCert, || {
                format!("reading the certificates in {path}")
            })?;
        if chain.is_empty() {
            return Error::e_explain(InvalidCert, format!("no certificate in {path}"));
        }
        self.chain = Some(chain);
        Ok(())
    }

    /// Sets the private key to the one in this PEM file.
    ///
    /// # Errors
    /// `InvalidCert` when it cannot be read, or has none.
    pub fn set_private_key_file(&mut self, path: &str) -> Result<()> {
        let key = PrivateKeyDer::from_pem_file(path)
            .or_err_with(InvalidCert, || format!("reading the private key in {path}"))?;
        self.key = Some(key);
        Ok(())
    }

    /// Sets what asks clients for a certificate, and checks it (mutual TLS).
    pub fn set_client_cert_verifier(&mut self, verifier: Arc<dyn ClientCertVerifier>) {
        self.client_verifier = Some(verifier);
    }

    /// Does handshakes on `shards` runtimes with so many threads each, in place of the workers: they are mostly
    /// computation, which delays the requests of other connections.
    pub fn set_offload_threadpool(&mut self, shards: usize, threads_per_shard: usize) {
        self.offload = (shards > 0 && threads_per_shard > 0).then_some((shards, threads_per_shard));
    }

    /// The acceptor. Without a usable certificate it refuses all clients, and the log says why.
    pub fn build(self) -> Acceptor {
        self.try_build().unwrap_or_else(|e| {
            log::error!("no TLS handshake can succeed: {e}");
            // For the builder, which takes the provider of the process.
            provider();
            let config = ServerConfig::builder()
                .with_no_client_auth()
                .with_cert_resolver(Arc::new(NoCertificate));
            Acceptor::from_server_config(Arc::new(config))
        })
    }

    /// The acceptor.
    ///
    /// # Errors
    /// `InvalidCert` without a usable certificate.
    pub(crate) fn try_build(mut self) -> Result<Acceptor> {
        let provider = provider();
        let resolver = self.resolve(&provider)?;
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|e| refused("choosing protocol versions", e))?;
        let config = match self.client_verifier.take() {
            Some(verifier) => config.with_client_cert_verifier(verifier),
            None => config.with_no_client_auth(),
        };
        let mut config = config.with_cert_resolver(resolver);
        config.ticketer = Ticketer::new().map_err(|e| refused("making keys for tickets", e))?;
        if let Some(alpn) = &self.alpn {
            config.alpn_protocols = alpn.to_protocols();
        }
        Ok(Acceptor {
            callbacks: self.callbacks.map(Arc::from),
            chooser: self.chooser,
            offload: self
                .offload
                .map(|(pools, threads)| Offload::new("handshake", pools, threads)),
            ..Acceptor::from_server_config(Arc::new(config))
        })
    }

    fn resolve(&mut self, provider: &CryptoProvider) -> Result<Arc<dyn ResolvesServerCert>> {
        if let Some(resolver) = self.resolver.take() {
            return Ok(resolver);
        }
        match (self.chain.take(), self.key.take()) {
            (Some(chain), Some(key)) => {
                let key = certified(chain, key, provider)?;
                Ok(Arc::new(SingleCertAndKey::from(key)))
            }
            (None, _) => Error::e_explain(InvalidCert, "no certificate is set"),
            (_, None) => Error::e_explain(InvalidCert, "no private key is set"),
        }
    }
}

fn certified(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    provider: &CryptoProvider,
) -> Result<CertifiedKey> {
    CertifiedKey::from_der(chain, key, provider)
        .map_err(|e| refused("the certificate and the key cannot be used", e))
}

/// Has no certificate for anybody.
#[derive(Debug)]
struct NoCertificate;

impl ResolvesServerCert for NoCertificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        None
    }
}
