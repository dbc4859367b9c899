//! The choice of a certificate, for rustls.

use std::fmt;
use std::sync::Arc;

use pingora_core::listeners::tls::TlsSettings;
use pingora_core::listeners::TlsAccept;
use pingora_core::tls::sign::CertifiedKey;
use pingora_core::tls::{ClientHello, ResolvesServerCert};
use pingora_core::Result;

use crate::live::Live;

/// Nothing to do in the handshake but to choose.
struct NoCallbacks;

impl TlsAccept for NoCallbacks {}

pub(super) fn settings(live: Arc<Live>) -> Result<TlsSettings> {
    let mut settings = TlsSettings::with_callbacks(Box::new(NoCallbacks))?;
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
