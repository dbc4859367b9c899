//! The choice of a certificate, for rustls.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use pingora_core::listeners::tls::TlsSettings;
use pingora_core::listeners::TlsAccept;
use pingora_core::protocols::tls::TlsRef;
use pingora_core::tls::sign::CertifiedKey;
use pingora_core::tls::{ClientHello, ResolvesServerCert};
use pingora_core::Result;

use crate::live::Live;
use crate::observe::{self, TlsVersion};

/// Counts handshakes.
struct Counting;

#[async_trait]
impl TlsAccept for Counting {
    async fn handshake_complete_callback(
        &self,
        tls: &TlsRef,
    ) -> Option<Arc<dyn Any + Send + Sync>> {
        let version = match tls.version() {
            Some("TLSv1.2") => TlsVersion::V1_2,
            Some("TLSv1.3") => TlsVersion::V1_3,
            _ => TlsVersion::Other,
        };
        observe::handshake(version, tls.is_resumed());
        None
    }
}

pub(super) fn settings(live: Arc<Live>) -> Result<TlsSettings> {
    let mut settings = TlsSettings::with_callbacks(Box::new(Counting))?;
    settings.set_cert_resolver(Arc::new(ByName(live)));
    Ok(settings)
}

struct ByName(Arc<Live>);

impl fmt::Debug for ByName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ByName").finish_non_exhaustive()
    }
}

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let running = self.0.current();
        let pair = running
            .certificates
            .of(&running.plan, hello.server_name())?;
        pair.resolve(hello)
    }
}
