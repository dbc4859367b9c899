//! TLS with clients.

use crate::config::section::{choice, section, At};
use crate::config::values::{FilePath, TextPattern};

section! {
    /// A certificate that clients are shown, and its key, in PEM files.
    pub struct ServerCertificate("a certificate") {
        /// The file of the certificate, followed by those that vouch for it.
        cert: FilePath,
        /// The file of the private key.
        key: FilePath,
        /// The file of an OCSP response (DER) that is sent with the certificate.
        ocsp: Option<FilePath> = None,
    }
}

section! {
    /// The terms on which clients speak TLS. What a site leaves out is as at the root of the file.
    pub struct TlsOptions("options of TLS") {
        /// The lowest version of the protocol. If unset, TLSv1.2.
        min_version: Option<TlsVersion> = None,
        /// The highest version of the protocol. If unset, TLSv1.3.
        max_version: Option<TlsVersion> = None,
        /// The cipher suites, the preferred one first. If unset, all of them.
        ciphers: Vec<At<Cipher>> = Vec::new(),
        /// The groups of the key exchange, the preferred one first. If unset, `X25519MLKEM768`, `X25519`, `secp256r1` and
        /// `secp384r1`.
        key_exchange: Vec<At<KeyExchange>> = Vec::new(),
        /// The application protocols to choose from (ALPN), the preferred one first. If unset, `h2` and `http/1.1`.
        alpn: Vec<At<AlpnProtocol>> = Vec::new(),
        /// The check of certificates that clients show (mutual TLS). If unset, they are asked for none.
        client_auth: Option<ClientAuth> = None,
    }
}

section! {
    /// The check of certificates that clients show.
    pub struct ClientAuth("a check of client certificates", short: ca) {
        /// The file of the certificates (PEM) of those who issue them.
        ca: Option<FilePath> = None,
        /// The need for one: a client must show one, may, or is not asked.
        mode: ClientAuthMode = ClientAuthMode::Require,
        /// The file of revocation lists (PEM) of those who issue them.
        crl: Option<FilePath> = None,
    }
}

choice! {
    /// The need for a certificate of the client.
    pub enum ClientAuthMode("a mode of the check of client certificates") {
        /// Handshakes without a valid one fail.
        Require = "require",
        /// Handshakes without one succeed; those with one that is not valid fail.
        Request = "request",
        /// Clients are not asked for one.
        None = "none",
    }
}

choice! {
    /// Versions of TLS.
    pub enum TlsVersion("a version of TLS") {
        /// RFC 5246.
        Tls12 = "TLSv1.2",
        /// RFC 8446.
        Tls13 = "TLSv1.3",
    }
}

choice! {
    /// Cipher suites.
    pub enum Cipher("a cipher suite") {
        /// Of TLS 1.3.
        Tls13Aes256 = "TLS_AES_256_GCM_SHA384",
        /// Of TLS 1.3.
        Tls13Aes128 = "TLS_AES_128_GCM_SHA256",
        /// Of TLS 1.3.
        Tls13Chacha = "TLS_CHACHA20_POLY1305_SHA256",
        /// Of TLS 1.2, for ECDSA certificates.
        EcdsaAes256 = "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
        /// Of TLS 1.2, for ECDSA certificates.
        EcdsaAes128 = "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
        /// Of TLS 1.2, for ECDSA certificates.
        EcdsaChacha = "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
        /// Of TLS 1.2, for RSA certificates.
        RsaAes256 = "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
        /// Of TLS 1.2, for RSA certificates.
        RsaAes128 = "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
        /// Of TLS 1.2, for RSA certificates.
        RsaChacha = "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
    }
}

impl Cipher {
    /// Returns the version of TLS that has it.
    pub fn version(self) -> TlsVersion {
        match self {
            Self::Tls13Aes256 | Self::Tls13Aes128 | Self::Tls13Chacha => TlsVersion::Tls13,
            _ => TlsVersion::Tls12,
        }
    }
}

choice! {
    /// Groups of the key exchange.
    pub enum KeyExchange("a key exchange group") {
        /// X25519 together with ML-KEM-768, which no quantum computer breaks. TLS 1.3 only.
        X25519MlKem768 = "X25519MLKEM768",
        /// Curve25519.
        X25519 = "X25519",
        /// The curve P-256.
        Secp256r1 = "secp256r1",
        /// The curve P-384.
        Secp384r1 = "secp384r1",
    }
}

choice! {
    /// Application protocols.
    pub enum AlpnProtocol("an application protocol") {
        /// HTTP/2.
        H2 = "h2",
        /// HTTP/1.1.
        Http1 = "http/1.1",
    }
}

section! {
    /// The certificate that the client must have shown. It is known where `tls_options` has a `client_auth`.
    pub struct TlsClient("a condition on the client's certificate") {
        /// The pattern of its subject, in the form of RFC 4514: `CN=a,O=Example`.
        subject: Option<TextPattern> = None,
        /// The pattern of one of its names: of hosts, addresses, URIs or mailboxes.
        san: Option<TextPattern> = None,
        /// The pattern of its SHA-256 fingerprint: 64 hexadecimal digits in lower case.
        fingerprint: Option<TextPattern> = None,
    }
}
