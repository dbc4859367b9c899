//! The known facts of a TLS session.

use pingora_rustls::{hash_certificate, CertificateDer};
use rustls::{CommonState, HandshakeKind, ProtocolVersion};

use crate::protocols::tls::SslDigest;
use crate::utils::tls::get_organization_serial_bytes;

/// The state of a TLS session.
#[derive(Debug, Default)]
pub struct TlsRef {
    version: Option<&'static str>,
    cipher: Option<&'static str>,
    server_name: Option<Box<str>>,
    resumed: bool,
    peer_chain: Option<Vec<CertificateDer<'static>>>,
}

impl TlsRef {
    /// Returns what is known when the client has said which name it wants, and nothing more.
    pub(super) fn asked_for(server_name: Option<&str>) -> Self {
        TlsRef {
            server_name: server_name.map(Box::from),
            ..TlsRef::default()
        }
    }

    /// Returns what is known when the handshake is complete.
    pub(super) fn agreed(state: &CommonState, server_name: Option<&str>) -> Self {
        let cipher = state.negotiated_cipher_suite();
        TlsRef {
            version: state.protocol_version().and_then(version_name),
            cipher: cipher.and_then(|suite| suite.suite().as_str()),
            resumed: state.handshake_kind() == Some(HandshakeKind::Resumed),
            peer_chain: state.peer_certificates().map(<[_]>::to_vec),
            ..TlsRef::asked_for(server_name)
        }
    }

    /// The cipher suite's name, such as `TLS13_AES_256_GCM_SHA384`; `None` before it is chosen.
    pub fn current_cipher_name(&self) -> Option<&'static str> {
        self.cipher
    }

    /// The protocol version's name, such as `TLSv1.3`; `None` before it is chosen.
    pub fn version(&self) -> Option<&'static str> {
        self.version
    }

    /// The name that the client asked for (SNI, RFC 6066 section 3), if it did.
    pub fn server_name(&self) -> Option<&str> {
        self.server_name.as_deref()
    }

    /// Returns true if the handshake took up an earlier session (RFC 8446 section 2.2).
    pub fn is_resumed(&self) -> bool {
        self.resumed
    }

    /// The peer's own certificate in DER, if it showed one.
    pub fn peer_certificate_der(&self) -> Option<&[u8]> {
        Some(self.peer_cert_chain_der()?.first()?.as_ref())
    }

    /// The peer's certificates in DER, its own first, if it showed any.
    pub fn peer_cert_chain_der(&self) -> Option<&[CertificateDer<'static>]> {
        self.peer_chain.as_deref()
    }

    /// Returns what to tell of it in a connection's digest.
    pub(super) fn digest(&self) -> SslDigest {
        let leaf = self.peer_chain.as_ref().and_then(|chain| chain.first());
        let (organization, serial) = match leaf.map(|der| get_organization_serial_bytes(der)) {
            Some(Ok((organization, serial))) => (organization, Some(serial)),
            Some(Err(e)) => {
                log::debug!("cannot read the certificate of a peer: {e}");
                (None, None)
            }
            None => (None, None),
        };
        SslDigest::new(
            self.cipher.unwrap_or_default(),
            self.version.unwrap_or_default(),
            organization,
            serial,
            leaf.map(hash_certificate).unwrap_or_default(),
        )
        .with_server_name(self.server_name())
    }
}

fn version_name(version: ProtocolVersion) -> Option<&'static str> {
    match version {
        ProtocolVersion::TLSv1_2 => Some("TLSv1.2"),
        ProtocolVersion::TLSv1_3 => Some("TLSv1.3"),
        other => other.as_str(),
    }
}
