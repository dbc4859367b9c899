//! Whom a client believes.

use std::sync::Arc;

use pingora_rustls::{
    CertificateDer, DigitallySignedStruct, HandshakeSignatureValid, RootCertStore,
    ServerCertVerified, ServerCertVerifier, ServerName, SignatureScheme, UnixTime,
};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{verify_tls12_signature, verify_tls13_signature, WebPkiSupportedAlgorithms};
use rustls::server::ParsedCertificate;

/// The checks of a server's certificate.
#[derive(Clone, Debug, Hash, PartialEq, Eq)]
pub(super) enum Check {
    /// Nothing: only that the server has its key.
    Nothing,
    /// That it is trusted, whomever it is for.
    Trust,
    /// That it is trusted, and for the name that was asked for or this other one.
    TrustAndName(Option<ServerName<'static>>),
}

/// Checks the certificates of servers.
#[derive(Debug)]
pub(super) struct Verifier {
    pub(super) check: Check,
    /// Empty where nothing is checked.
    pub(super) roots: Arc<RootCertStore>,
    pub(super) algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if self.check != Check::Nothing {
            let cert = ParsedCertificate::try_from(end_entity)?;
            verify_server_cert_signed_by_trust_anchor(
                &cert,
                &self.roots,
                intermediates,
                now,
                self.algorithms.all,
            )?;
            if let Check::TrustAndName(alternative) = &self.check {
                let asked = verify_server_name(&cert, server_name);
                let other = |name| verify_server_name(&cert, name).is_ok();
                if asked.is_err() && !alternative.as_ref().is_some_and(other) {
                    asked?;
                }
            }
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
