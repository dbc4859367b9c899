//! The outcome of a TLS handshake.

use std::any::Any;
use std::borrow::Cow;
use std::sync::Arc;

/// The result of a TLS handshake: parameters, and the other side's certificate.
#[derive(Clone, Debug)]
pub struct SslDigest {
    /// The cipher suite's name.
    pub cipher: Cow<'static, str>,
    /// The protocol version's name, such as `TLSv1.3`.
    pub version: Cow<'static, str>,
    /// The organization in the peer's certificate, if there is one.
    pub organization: Option<String>,
    /// The serial number of the peer's certificate, if there is one.
    pub serial_number: Option<String>,
    /// A hash of the peer's certificate, empty without one.
    pub cert_digest: Vec<u8>,
    /// The value that the user's handshake callback returned.
    pub extension: SslDigestExtension,
}

impl SslDigest {
    /// A digest of these, without extension.
    pub fn new<S>(
        cipher: S,
        version: S,
        organization: Option<String>,
        serial_number: Option<String>,
        cert_digest: Vec<u8>,
    ) -> Self
    where
        S: Into<Cow<'static, str>>,
    {
        SslDigest {
            cipher: cipher.into(),
            version: version.into(),
            organization,
            serial_number,
            cert_digest,
            extension: SslDigestExtension::default(),
        }
    }

    /// The server name that the client asked for (SNI, RFC 6066 section 3), if it did: on a connection from a client
    /// its own wish, on one to an upstream ours.
    pub fn server_name(&self) -> Option<&str> {
        self.extension.server_name.as_deref()
    }

    #[allow(dead_code)] // Not called by the backend that never does a handshake.
    pub(crate) fn with_server_name(mut self, server_name: Option<&str>) -> Self {
        self.extension.server_name = server_name.map(Box::from);
        self
    }
}

/// A value of any type that the user's handshake callback left with the connection.
#[derive(Clone, Debug, Default)]
pub struct SslDigestExtension {
    value: Option<Arc<dyn Any + Send + Sync>>,
    /// Here because users build a digest from its public fields.
    server_name: Option<Box<str>>,
}

impl SslDigestExtension {
    #[allow(dead_code)] // Not called by the backend that never does a handshake.
    pub(crate) fn set(&mut self, value: Option<Arc<dyn Any + Send + Sync>>) {
        self.value = value;
    }

    /// The value, or `None` when there is none or it is of another type.
    pub fn get<T>(&self) -> Option<&T>
    where
        T: Send + Sync + 'static,
    {
        self.value.as_ref()?.downcast_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_server_name_stays_when_the_user_leaves_something() {
        let digest = SslDigest::new("TLS_X", "TLSv1.3", None, None, vec![]);
        assert_eq!(digest.server_name(), None);
        let mut digest = digest.with_server_name(Some("a.example"));
        digest.extension.set(Some(Arc::new(5u32)));
        assert_eq!(digest.clone().server_name(), Some("a.example"));
    }

    #[test]
    fn the_extension_is_found_by_type() {
        let mut digest = SslDigest::new("TLS_X", "TLSv1.3", None, Some("7".into()), vec![1]);
        assert!(digest.extension.get::<u32>().is_none());
        digest.extension.value = Some(Arc::new(5u32));
        assert_eq!(digest.extension.get(), Some(&5u32));
        assert!(digest.extension.get::<u64>().is_none());
    }
}
