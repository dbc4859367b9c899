//! The errors of a handshake, in words.

use super::library;
use super::library::error::ErrorStack;
use super::library::ssl::{self, ErrorCode, SslRef};
use super::library::x509::X509VerifyResult;
use pingora_error::{
    BError, Error, ErrorType,
    ErrorType::{InvalidCert, TLSHandshakeFailure, TLSWantX509Lookup},
};

/// The error of a handshake of `ssl` that ended with `e`.
pub(super) fn failed(e: ssl::Error, ssl: &SslRef) -> BError {
    let (etype, why) = explain(&e, ssl);
    Error::because(etype, why, e)
}

/// The error of a configuration that the library refuses.
pub(super) fn refused(what: &'static str) -> impl FnOnce(ErrorStack) -> BError {
    move |e| Error::because(InvalidCert, what, e)
}

fn explain(e: &ssl::Error, ssl: &SslRef) -> (ErrorType, &'static str) {
    if library::ext::is_suspended_for_cert(e) {
        return (TLSWantX509Lookup, "the handshake waits for a certificate");
    }
    let closed = "the peer closed the connection during the handshake";
    let Some(stack) = e.ssl_error() else {
        return match e.io_error() {
            None => (TLSHandshakeFailure, closed),
            Some(_) if e.code() == ErrorCode::ZERO_RETURN => (TLSHandshakeFailure, closed),
            Some(_) => (TLSHandshakeFailure, "the connection failed"),
        };
    };
    // BoringSSL writes them LIKE_THIS.
    let words = |reason: &str| reason.to_lowercase().replace('_', " ");
    let reasons = stack.errors().iter().filter_map(|e| e.reason().map(words));
    let reasons: Vec<String> = reasons.collect();
    if reasons
        .iter()
        .any(|reason| reason == "certificate verify failed")
    {
        return (InvalidCert, certificate(ssl.verify_result()));
    }
    reasons
        .iter()
        .find_map(|words| reason(words))
        .unwrap_or((TLSHandshakeFailure, "the handshake failed"))
}

/// X509_V_ERR_HOSTNAME_MISMATCH.
pub(super) const ANOTHER_NAME: i32 = 62;

fn certificate(result: X509VerifyResult) -> &'static str {
    // The numbers of X509_verify_cert(3), which are the same in every version.
    match library::code(result) {
        10 => "the peer's certificate has expired",
        9 => "the peer's certificate is not valid yet",
        ANOTHER_NAME | 64 => "the peer's certificate is for another name",
        2 | 18 | 19 | 20 | 21 | 27 => {
            "unknown CA: the issuer of the peer's certificate is not trusted"
        }
        23 => "the peer's certificate is revoked",
        7 => "a signature of the peer's certificate is wrong",
        26 => "the peer's certificate is not for this purpose",
        _ => "the peer's certificate is not valid",
    }
}

/// Returns what the library's words mean.
fn reason(words: &str) -> Option<(ErrorType, &'static str)> {
    let why = match words {
        "peer did not return a certificate" => {
            return Some((InvalidCert, "the peer showed no certificate"))
        }
        "unexpected eof while reading" => "the peer closed the connection during the handshake",
        "wrong version number"
        | "http request"
        | "https proxy request"
        | "packet length too long" => "what the peer sent is not TLS",
        "unsupported protocol"
        | "no protocols available"
        | "version too low"
        | "unknown protocol" => "no common protocol version",
        "no shared cipher" | "no ciphers available" => "no common cipher suite",
        "no shared groups" | "no suitable key share" | "no suitable groups" => {
            "no common key exchange group"
        }
        "no application protocol" => "no common application protocol (ALPN)",
        "no shared signature algorithms" | "no suitable signature algorithm" => {
            "no common signature scheme"
        }
        _ if words.contains("alert protocol version") => {
            "no common protocol version, says the peer"
        }
        _ if words.contains("alert handshake failure") => {
            "no common cipher or parameter, says the peer"
        }
        _ if words.contains("alert no application protocol") => {
            "no common application protocol (ALPN), says the peer"
        }
        _ if words.contains("unrecognized name") => "the peer does not know the server name",
        _ if words.contains("alert certificate required") => "the peer wants a certificate of ours",
        _ if words.contains("alert unknown ca") => {
            "unknown CA: the peer does not trust the issuer of our certificate"
        }
        _ if words.contains("alert certificate expired") => {
            "the peer says that our certificate has expired"
        }
        _ if words.contains("alert") && words.contains("certificate") => {
            "the peer refuses our certificate"
        }
        _ => return None,
    };
    Some((TLSHandshakeFailure, why))
}
