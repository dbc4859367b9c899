//! TLS of clients, and the certificates that they may be shown.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};
use tokio_rustls::TlsConnector;

use crate::origin::HOST;
use crate::random::Sum;

/// The time from the change of a certificate on in which the old one may still be shown.
const CHANGE: Duration = Duration::from_secs(8);

pub struct Tls {
    h1: TlsConnector,
    h2: TlsConnector,
    /// The sums of certificates, each with the time when another one took its place.
    shown: Mutex<Vec<(u64, Option<Instant>)>>,
}

impl Tls {
    /// Trusts an authority.
    pub fn new(authority: Vec<u8>) -> Result<Self, String> {
        let mut roots = RootCertStore::empty();
        let authority = CertificateDer::from(authority);
        roots.add(authority).map_err(|e| e.to_string())?;
        let config = |protocol: &[u8]| -> Result<TlsConnector, String> {
            let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
            let builder = builder
                .with_safe_default_protocol_versions()
                .map_err(|e| e.to_string())?;
            let mut config = builder
                .with_root_certificates(roots.clone())
                .with_no_client_auth();
            config.alpn_protocols = vec![protocol.to_vec()];
            Ok(Arc::new(config).into())
        };
        Ok(Self {
            h1: config(b"http/1.1")?,
            h2: config(b"h2")?,
            shown: Mutex::default(),
        })
    }

    /// Shakes hands. Resumed sessions show no certificate.
    pub async fn connect(&self, stream: TcpStream, h2: bool) -> io::Result<TlsStream<TcpStream>> {
        let name = ServerName::try_from(HOST).map_err(io::Error::other)?;
        let connector = if h2 { &self.h2 } else { &self.h1 };
        connector.connect(name, stream).await
    }

    fn shown(&self) -> std::sync::MutexGuard<'_, Vec<(u64, Option<Instant>)>> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A certificate in PEM is about to take the place of the one before.
    pub fn changes_to(&self, certificate: &str) {
        let mut shown = self.shown();
        for (_, until) in shown.iter_mut() {
            until.get_or_insert_with(Instant::now);
        }
        shown.push((sum_of_pem(certificate), None));
    }

    /// Returns whether the certificate of a connection that was begun then may have been shown.
    pub fn may_be_shown(&self, stream: &TlsStream<TcpStream>, begun: Instant) -> bool {
        let (_, session) = stream.get_ref();
        let Some([first, ..]) = session.peer_certificates() else {
            return false;
        };
        let sum = Sum::NONE.add(first).0;
        // A ticket has the certificate of the handshake that it was given in.
        let resumed =
            session.handshake_kind() == Some(tokio_rustls::rustls::HandshakeKind::Resumed);
        self.shown().iter().any(|(known, until)| {
            *known == sum && (resumed || until.is_none_or(|until| begun < until + CHANGE))
        })
    }
}

fn sum_of_pem(pem: &str) -> u64 {
    use tokio_rustls::rustls::pki_types::pem::PemObject;
    let certificate = CertificateDer::from_pem_slice(pem.as_bytes());
    certificate.map_or(0, |certificate| Sum::NONE.add(&certificate).0)
}
