//! The server's side.

use std::net::SocketAddr;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::Instant;

use super::library::ssl::{
    select_next_proto, AlpnError, SslAcceptor, SslAcceptorBuilder, SslFiletype, SslMethod,
    SslSessionCacheMode,
};
use pingora_error::{Error, ErrorType, OrErr, Result};

use super::{server, SslStream};
use crate::protocols::tls::callbacks::{TlsAccept, TlsAcceptCallbacks};
use crate::protocols::IO;
use crate::utils::offload::Offload;

pub use crate::protocols::tls::ALPN;

/// Settings that cannot be used.
pub const TLS_CONF_ERR: ErrorType = ErrorType::Custom("TLSConfigError");

/// Does handshakes with clients.
pub(crate) struct Acceptor {
    ssl: Arc<SslAcceptor>,
    callbacks: Option<Arc<dyn TlsAccept + Send + Sync>>,
    offload: Option<Offload>,
}

impl Acceptor {
    /// Would tell whoever chooses configurations that a handshake has failed; nobody does with this backend.
    pub(crate) fn handshake_failed(&self, _: Option<SocketAddr>, _: &Error) {}

    /// Does the handshake over `stream`: on the calling task, or on the threads that the settings want.
    pub(crate) async fn tls_handshake<S: IO + 'static>(&self, stream: S) -> Result<SslStream<S>> {
        let Some(offload) = &self.offload else {
            return accept(&self.ssl, self.callbacks.as_deref(), stream).await;
        };
        let (ssl, callbacks) = (self.ssl.clone(), self.callbacks.clone());
        let key = stream.id() as u64;
        let queued = Instant::now();
        let handshake = async move {
            let wait = queued.elapsed();
            let mut tls = accept(&ssl, callbacks.as_deref(), stream).await?;
            tls.set_offload_wait(wait);
            Ok(tls)
        };
        offload.run(key, handshake).await
    }
}

/// The first of our protocols that is among theirs, there.
fn choose<'a>(ours: &[u8], theirs: &'a [u8]) -> Option<&'a [u8]> {
    let chosen = select_next_proto(ours, theirs)?;
    let mut places = theirs.windows(chosen.len());
    places.find(|place| *place == chosen)
}

async fn accept<S: IO>(
    ssl: &SslAcceptor,
    callbacks: Option<&(dyn TlsAccept + Send + Sync)>,
    stream: S,
) -> Result<SslStream<S>> {
    match callbacks {
        None => server::handshake(ssl, stream).await,
        Some(callbacks) => server::handshake_with_callback(ssl, stream, callbacks).await,
    }
}

/// The settings of a TLS server: the library's builder, with what it does not have.
///
/// Client certificates are asked for by `set_verify` and `set_ca_file` of the builder, certificates by server
/// name come from a [callback](Self::with_callbacks) or the builder's `set_servername_callback`.
pub struct TlsSettings {
    builder: SslAcceptorBuilder,
    callbacks: Option<TlsAcceptCallbacks>,
    offload: Option<(usize, usize)>,
}

impl TlsSettings {
    /// TLS 1.2 and 1.3, as Mozilla's intermediate recommendation has it, with the certificate chain and the key
    /// in these PEM files.
    ///
    /// # Errors
    /// [`TLS_CONF_ERR`] when the files cannot be read, or do not belong together.
    pub fn intermediate(cert_path: &str, key_path: &str) -> Result<Self> {
        let mut settings = Self::new()?;
        settings
            .set_private_key_file(key_path, SslFiletype::PEM)
            .or_err_with(TLS_CONF_ERR, || format!("the private key in {key_path}"))?;
        settings
            .set_certificate_chain_file(cert_path)
            .or_err_with(TLS_CONF_ERR, || format!("the certificates in {cert_path}"))?;
        settings
            .check_private_key()
            .or_err(TLS_CONF_ERR, "the certificate and the key cannot be used")?;
        Ok(settings)
    }

    /// TLS 1.2 and 1.3 with callbacks in the course of the handshake, which set the certificate.
    ///
    /// # Errors
    /// [`TLS_CONF_ERR`] when the library refuses.
    pub fn with_callbacks(callbacks: TlsAcceptCallbacks) -> Result<Self> {
        let mut settings = Self::new()?;
        settings.callbacks = Some(callbacks);
        Ok(settings)
    }

    fn new() -> Result<Self> {
        let mut builder = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls())
            .or_err(TLS_CONF_ERR, "preparing a TLS server")?;
        // Without it sessions with client certificates cannot be resumed.
        builder
            .set_session_id_context(b"pingora")
            .or_err(TLS_CONF_ERR, "preparing a TLS server")?;
        // Sessions are resumed by tickets, which the clients keep.
        builder.set_session_cache_mode(SslSessionCacheMode::OFF);
        Ok(builder.into())
    }

    /// Offers HTTP/2 to clients, and HTTP/1.1 to those that do not have it.
    pub fn enable_h2(&mut self) {
        self.set_alpn(ALPN::H2H1);
    }

    /// Sets the application protocols to choose from. A client that offers others is refused; one that offers
    /// none is served.
    pub fn set_alpn(&mut self, alpn: ALPN) {
        let ours = alpn.to_wire();
        self.set_alpn_select_callback(move |_, theirs| {
            choose(&ours, theirs).ok_or(AlpnError::ALERT_FATAL)
        });
    }

    /// Does handshakes on `shards` runtimes with so many threads each, in place of the workers: they are mostly
    /// computation, which delays the requests of other connections.
    pub fn set_offload_threadpool(&mut self, shards: usize, threads_per_shard: usize) {
        self.offload = (shards > 0 && threads_per_shard > 0).then_some((shards, threads_per_shard));
    }

    /// The acceptor.
    ///
    /// # Errors
    /// None with this backend.
    pub(crate) fn try_build(self) -> Result<Acceptor> {
        Ok(Acceptor {
            ssl: Arc::new(self.builder.build()),
            callbacks: self.callbacks.map(Arc::from),
            offload: self
                .offload
                .map(|(pools, threads)| Offload::new("handshake", pools, threads)),
        })
    }
}

impl From<SslAcceptorBuilder> for TlsSettings {
    fn from(builder: SslAcceptorBuilder) -> Self {
        TlsSettings {
            builder,
            callbacks: None,
            offload: None,
        }
    }
}

impl Deref for TlsSettings {
    type Target = SslAcceptorBuilder;

    fn deref(&self) -> &SslAcceptorBuilder {
        &self.builder
    }
}

impl DerefMut for TlsSettings {
    fn deref_mut(&mut self) -> &mut SslAcceptorBuilder {
        &mut self.builder
    }
}
