//! Options for the backends: a few fields, and not the structs of the layers above.

use std::sync::Arc;

use pingora_error::{BError, Error, ErrorType::TLSHandshakeFailure};

use super::{CaType, HandshakeCompleteHook, ALPN};
use crate::protocols::l4::socket::SocketAddr;
use crate::utils::tls::CertKey;

/// The options that a client is configured with once.
#[allow(dead_code)] // Not asked by the backend that never does a handshake.
#[derive(Default)]
pub(crate) struct ClientOptions {
    /// A file with the certificates to trust, in place of the system's.
    pub(crate) ca_file: Option<String>,
    /// Files with the certificate and the key to show to servers.
    pub(crate) cert_key_file: Option<(String, String)>,
    /// Write the keys of sessions to the file that `SSLKEYLOGFILE` names.
    pub(crate) debug_ssl_keylog: bool,
}

/// The options of a client's handshake with one server.
#[allow(dead_code)] // As above.
pub(crate) struct Handshake<'a> {
    pub(crate) address: &'a SocketAddr,
    /// The server name to ask for; empty for none.
    pub(crate) sni: &'a str,
    pub(crate) verify_cert: bool,
    pub(crate) verify_hostname: bool,
    /// Another name that the certificate may be for.
    pub(crate) alternative_cn: Option<&'a str>,
    /// The certificates to trust in place of the client's.
    pub(crate) ca: Option<&'a Arc<CaType>>,
    /// The certificate and the key to show in place of the client's.
    pub(crate) client_cert_key: Option<&'a Arc<CertKey>>,
    /// The key exchange groups to offer, in the notation of OpenSSL.
    pub(crate) curves: Option<&'a str>,
    /// Send a second key share, where the backend can.
    pub(crate) second_keyshare: bool,
    pub(crate) alpn: Option<&'a ALPN>,
    pub(crate) complete_hook: Option<&'a HandshakeCompleteHook>,
}

#[allow(dead_code)] // As above.
impl Handshake<'_> {
    /// The error when a name is to be verified, and none is known.
    pub(crate) fn nothing_to_verify() -> BError {
        Error::explain(
            TLSHandshakeFailure,
            "no name to verify: set the peer's SNI, or alternative_cn, or turn verify_hostname off",
        )
    }

    /// The places of this handshake's certificates in memory: those to trust, and the one to show.
    pub(crate) fn places(&self) -> (Option<usize>, Option<usize>) {
        (
            self.ca.map(|ca| Arc::as_ptr(ca).addr()),
            self.client_cert_key.map(|pair| Arc::as_ptr(pair).addr()),
        )
    }
}
