//! The errors of a handshake, in words.

use std::io;

use pingora_error::{
    BError, Error, ErrorType,
    ErrorType::{InvalidCert, TLSHandshakeFailure},
};
use rustls::{AlertDescription, CertificateError, PeerIncompatible};

/// The error of a handshake that ended with `e`.
pub(super) fn failed(e: io::Error) -> BError {
    let of_tls = e.get_ref().and_then(|inner| inner.downcast_ref());
    let (etype, why) = match of_tls {
        Some(tls) => explain(tls),
        None if e.kind() == io::ErrorKind::UnexpectedEof => (
            TLSHandshakeFailure,
            "the peer closed the connection during the handshake",
        ),
        None => (TLSHandshakeFailure, "the connection failed"),
    };
    Error::because(etype, why, e)
}

/// The error of a configuration that the library refuses.
pub(super) fn refused(what: &'static str, e: rustls::Error) -> BError {
    Error::because(InvalidCert, what, e)
}

fn explain(e: &rustls::Error) -> (ErrorType, &'static str) {
    match e {
        rustls::Error::InvalidCertificate(e) => (InvalidCert, certificate(e)),
        rustls::Error::NoCertificatesPresented => (InvalidCert, "the peer showed no certificate"),
        rustls::Error::AlertReceived(alert) => (TLSHandshakeFailure, refusal(*alert)),
        rustls::Error::PeerIncompatible(e) => (TLSHandshakeFailure, incompatible(e)),
        rustls::Error::NoApplicationProtocol => {
            (TLSHandshakeFailure, "no common application protocol (ALPN)")
        }
        rustls::Error::InvalidMessage(_) => (TLSHandshakeFailure, "what the peer sent is not TLS"),
        _ => (TLSHandshakeFailure, "the handshake failed"),
    }
}

fn certificate(e: &CertificateError) -> &'static str {
    use CertificateError::*;
    match e {
        Expired | ExpiredContext { .. } => "the peer's certificate has expired",
        NotValidYet | NotValidYetContext { .. } => "the peer's certificate is not valid yet",
        NotValidForName | NotValidForNameContext { .. } => {
            "the peer's certificate is for another name"
        }
        UnknownIssuer => "unknown CA: the issuer of the peer's certificate is not trusted",
        Revoked => "the peer's certificate is revoked",
        BadEncoding => "the peer's certificate is malformed",
        BadSignature => "a signature of the peer's certificate is wrong",
        InvalidPurpose | InvalidPurposeContext { .. } => {
            "the peer's certificate is not for this purpose"
        }
        // webpki's own word for it, which rustls passes on as some other error.
        Other(other) if format!("{:?}", other.0) == "CaUsedAsEndEntity" => {
            "the peer's certificate is a CA's own, which is not for a server"
        }
        _ => "the peer's certificate is not valid",
    }
}

fn refusal(alert: AlertDescription) -> &'static str {
    use AlertDescription::*;
    match alert {
        ProtocolVersion => "no common protocol version, says the peer",
        HandshakeFailure | InsufficientSecurity => "no common cipher or parameter, says the peer",
        NoApplicationProtocol => "no common application protocol (ALPN), says the peer",
        UnrecognisedName => "the peer does not know the server name",
        CertificateRequired | NoCertificate => "the peer wants a certificate of ours",
        UnknownCA => "unknown CA: the peer does not trust the issuer of our certificate",
        CertificateExpired => "the peer says that our certificate has expired",
        BadCertificate
        | UnsupportedCertificate
        | CertificateRevoked
        | CertificateUnknown
        | AccessDenied => "the peer refuses our certificate",
        _ => "the peer ended the handshake with an alert",
    }
}

fn incompatible(e: &PeerIncompatible) -> &'static str {
    use PeerIncompatible::*;
    match e {
        NoCipherSuitesInCommon => "no common cipher suite",
        NoKxGroupsInCommon | NamedGroupsExtensionRequired | KeyShareExtensionRequired => {
            "no common key exchange group"
        }
        NoCertificateRequestSignatureSchemesInCommon | NoSignatureSchemesInCommon => {
            "no common signature scheme"
        }
        // The extension came with TLS 1.2 (RFC 5246 section 7.4.1.4.1).
        SignatureAlgorithmsExtensionRequired => "no common protocol version",
        Tls12NotOffered
        | Tls12NotOfferedOrEnabled
        | Tls13RequiredForQuic
        | SupportedVersionsExtensionRequired
        | ServerDoesNotSupportTls12Or13
        | ServerTlsVersionIsDisabledByOurConfig
        | ServerSentHelloRetryRequestWithUnknownExtension => "no common protocol version",
        _ => "the peer lacks what the handshake needs",
    }
}
