//! TLS: one seam, a folder per backend.
//!
//! A feature chooses the backend, here and nowhere else but for `utils::tls`. Every one has the modules `connectors`,
//! `listeners` and `utils`, the types `TlsRef` and `CaType`, and a stream that is `Layer` to this crate.

pub(crate) mod callbacks;
pub mod digest;
pub(crate) mod options;
mod transport;

#[cfg(all(feature = "rustls", not(feature = "openssl_derived")))]
mod rustls;
#[cfg(all(feature = "rustls", not(feature = "openssl_derived")))]
use self::rustls as backend;

#[cfg(feature = "openssl_derived")]
mod boringssl_openssl;
#[cfg(feature = "openssl_derived")]
use self::boringssl_openssl as backend;

#[cfg(not(any(feature = "rustls", feature = "openssl_derived")))]
pub mod noop_tls;
#[cfg(not(any(feature = "rustls", feature = "openssl_derived")))]
use self::noop_tls as backend;

#[cfg(all(test, any(feature = "rustls", feature = "openssl_derived")))]
mod handshakes;
#[cfg(all(test, any(feature = "rustls", feature = "openssl_derived")))]
pub(crate) use handshakes::{no_ca, some_cert_key};
#[cfg(all(test, not(any(feature = "rustls", feature = "openssl_derived"))))]
pub(crate) use noop_tls::{no_ca, some_cert_key};

use std::fmt;

pub use backend::*;
pub use callbacks::HandshakeCompleteHook;
pub use digest::*;

pub(crate) use backend::{hash_ca, Layer};
#[allow(unused_imports)] // Not asked by the backend that never does a handshake.
pub(crate) use transport::follow_records;
pub(crate) use transport::{reregister, transport};

/// The application protocols to offer or to accept in a handshake (ALPN, RFC 7301).
#[derive(Clone, Debug, Hash, PartialEq, PartialOrd)]
pub enum ALPN {
    /// HTTP/1.1 only.
    H1,
    /// HTTP/2 only.
    H2,
    /// HTTP/2 if the other side has it, else HTTP/1.1.
    H2H1,
    /// A protocol that is not HTTP.
    Custom(CustomALPN),
}

impl fmt::Display for ALPN {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ALPN::H1 => f.write_str("H1"),
            ALPN::H2 => f.write_str("H2"),
            ALPN::H2H1 => f.write_str("H2H1"),
            ALPN::Custom(custom) => write!(f, "{}", custom.protocol().escape_ascii()),
        }
    }
}

impl ALPN {
    /// The protocols between the HTTP versions `min` and `max`, 1 or 2 each.
    pub fn new(max: u8, min: u8) -> Self {
        match (max, min) {
            (1, _) => ALPN::H1,
            (_, 2) => ALPN::H2,
            _ => ALPN::H2H1,
        }
    }

    /// The highest HTTP version, 1 or 2; 0 for a custom protocol.
    pub fn get_max_http_version(&self) -> u8 {
        match self {
            ALPN::H1 => 1,
            ALPN::H2 | ALPN::H2H1 => 2,
            ALPN::Custom(_) => 0,
        }
    }

    /// The lowest HTTP version, 1 or 2; 0 for a custom protocol.
    pub fn get_min_http_version(&self) -> u8 {
        match self {
            ALPN::H1 | ALPN::H2H1 => 1,
            ALPN::H2 => 2,
            ALPN::Custom(_) => 0,
        }
    }

    /// The names of the protocols, the preferred one first.
    #[allow(dead_code)] // Not asked by the backend that never does a handshake.
    pub(crate) fn to_protocols(&self) -> Vec<Vec<u8>> {
        if let ALPN::Custom(custom) = self {
            return vec![custom.protocol().to_vec()];
        }
        let versions = self.get_min_http_version()..=self.get_max_http_version();
        let name = |version| match version {
            2 => HTTP2.to_vec(),
            _ => HTTP1.to_vec(),
        };
        versions.rev().map(name).collect()
    }

    /// The names of the protocols, each behind one byte with its length.
    #[allow(dead_code)] // As above.
    pub(crate) fn to_wire(&self) -> Vec<u8> {
        let names = self.to_protocols().into_iter();
        names.flat_map(|name| CustomALPN::new(name).wire).collect()
    }

    /// The protocol of this name; `None` when it is not one that ALPN can name.
    #[allow(dead_code)] // As above.
    pub(crate) fn from_wire_selected(name: &[u8]) -> Option<Self> {
        match name {
            HTTP1 => Some(ALPN::H1),
            HTTP2 => Some(ALPN::H2),
            _ if (1..=255).contains(&name.len()) => {
                Some(ALPN::Custom(CustomALPN::new(name.to_vec())))
            }
            _ => None,
        }
    }
}

/// The registered names (RFC 7301 section 6, RFC 9113 section 3.1).
const HTTP1: &[u8] = b"http/1.1";
const HTTP2: &[u8] = b"h2";

/// The name of an application protocol that is not HTTP.
#[derive(Clone, Debug, Hash, PartialEq, PartialOrd)]
pub struct CustomALPN {
    /// The name behind its length, as it stands in the handshake.
    wire: Vec<u8>,
}

impl CustomALPN {
    /// The protocol named `proto`.
    ///
    /// # Panics
    /// When the name is empty or longer than 255 bytes (RFC 7301 section 3.1).
    pub fn new(proto: Vec<u8>) -> Self {
        let len = u8::try_from(proto.len()).unwrap_or(0);
        assert!(len != 0, "the name of a protocol has 1 to 255 bytes");
        let mut wire = Vec::with_capacity(proto.len() + 1);
        wire.push(len);
        wire.extend_from_slice(&proto);
        CustomALPN { wire }
    }

    /// The name.
    pub fn protocol(&self) -> &[u8] {
        &self.wire[1..]
    }

    /// The name behind one byte with its length: an ALPN list with one entry.
    pub fn as_wire(&self) -> &[u8] {
        &self.wire
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_and_names() {
        let table = [
            ((1, 1), ALPN::H1, (1, 1), "H1"),
            ((1, 2), ALPN::H1, (1, 1), "H1"),
            ((2, 2), ALPN::H2, (2, 2), "H2"),
            ((2, 1), ALPN::H2H1, (2, 1), "H2H1"),
        ];
        for ((max, min), alpn, versions, name) in table {
            assert_eq!(ALPN::new(max, min), alpn, "{max} {min}");
            let got = (alpn.get_max_http_version(), alpn.get_min_http_version());
            assert_eq!(got, versions, "{name}");
            assert_eq!(alpn.to_string(), name);
        }
    }

    #[test]
    fn order_is_that_of_declaration() {
        let custom = |name: &str| ALPN::Custom(CustomALPN::new(name.into()));
        let sorted = [ALPN::H1, ALPN::H2, ALPN::H2H1, custom("a"), custom("b")];
        for pair in sorted.windows(2) {
            assert!(pair[0] < pair[1], "{pair:?}");
        }
    }

    #[test]
    fn custom_names_on_the_wire() {
        let custom = CustomALPN::new(b"acme-tls/1".to_vec());
        assert_eq!(custom.as_wire(), b"\x0aacme-tls/1");
        assert_eq!(custom.protocol(), b"acme-tls/1");
        let alpn = ALPN::Custom(custom);
        assert_eq!(alpn.get_max_http_version(), 0);
        assert_eq!(alpn.to_string(), "acme-tls/1");
        assert_eq!(CustomALPN::new(vec![b'x'; 255]).as_wire()[0], 255);
    }

    #[test]
    #[should_panic(expected = "1 to 255 bytes")]
    fn a_name_too_long() {
        CustomALPN::new(vec![b'x'; 256]);
    }

    #[test]
    #[should_panic(expected = "1 to 255 bytes")]
    fn an_empty_name() {
        CustomALPN::new(Vec::new());
    }
}
