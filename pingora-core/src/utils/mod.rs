//! Small helpers: references into a buffer, and TLS utilities.

use bytes::Bytes;

pub(crate) mod offload;
pub mod ready;

// A backend's own module, or, for the path that is in the signatures of what a macro generates there, a module here.
#[cfg(not(all(feature = "rustls", not(feature = "openssl_derived"))))]
pub use crate::protocols::tls::utils as tls;
#[cfg(all(feature = "rustls", not(feature = "openssl_derived")))]
pub mod tls;

/// A range of a buffer, by its start and its length: what a parser keeps in place of a slice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BufRef(pub usize, pub usize);

impl BufRef {
    /// The `len` bytes from `start` on.
    pub fn new(start: usize, len: usize) -> Self {
        BufRef(start, len)
    }

    /// The range of `buf`.
    ///
    /// # Panics
    /// When the range is not within `buf`, which is then not the buffer it was made for.
    pub fn get<'a>(&self, buf: &'a [u8]) -> &'a [u8] {
        &buf[self.0..self.0 + self.1]
    }

    /// The range of `buf`, sharing its memory.
    ///
    /// # Panics
    /// When the range is not within `buf`, which is then not the buffer it was made for.
    pub fn get_bytes(&self, buf: &Bytes) -> Bytes {
        buf.slice(self.0..self.0 + self.1)
    }

    /// The number of bytes.
    pub fn len(&self) -> usize {
        self.1
    }

    /// Returns whether there are no bytes in it.
    pub fn is_empty(&self) -> bool {
        self.1 == 0
    }
}

/// The ranges of a field's name and value in one buffer.
#[derive(Clone)]
pub struct KVRef {
    name: BufRef,
    value: BufRef,
}

impl KVRef {
    /// A field by the starts and lengths of its name and value.
    pub fn new(name_s: usize, name_len: usize, value_s: usize, value_len: usize) -> Self {
        KVRef {
            name: BufRef(name_s, name_len),
            value: BufRef(value_s, value_len),
        }
    }

    /// The range of the value.
    pub fn value(&self) -> &BufRef {
        &self.value
    }

    /// The name in `buf`.
    ///
    /// # Panics
    /// When it is not within `buf`.
    pub fn get_name<'a>(&self, buf: &'a [u8]) -> &'a [u8] {
        self.name.get(buf)
    }

    /// The name in `buf`, sharing its memory.
    ///
    /// # Panics
    /// When it is not within `buf`.
    pub fn get_name_bytes(&self, buf: &Bytes) -> Bytes {
        self.name.get_bytes(buf)
    }

    /// The value in `buf`.
    ///
    /// # Panics
    /// When it is not within `buf`.
    pub fn get_value<'a>(&self, buf: &'a [u8]) -> &'a [u8] {
        self.value.get(buf)
    }

    /// The value in `buf`, sharing its memory.
    ///
    /// # Panics
    /// When it is not within `buf`.
    pub fn get_value_bytes(&self, buf: &Bytes) -> Bytes {
        self.value.get_bytes(buf)
    }
}

/// A field with an empty name and an empty value.
pub const EMPTY_KV_REF: KVRef = KVRef {
    name: BufRef(0, 0),
    value: BufRef(0, 0),
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges() {
        let buf = Bytes::from_static(b"Host: example.org\r\n");
        let field = KVRef::new(0, 4, 6, 11);
        assert_eq!(field.get_name(&buf), b"Host");
        assert_eq!(field.get_name_bytes(&buf), "Host");
        assert_eq!(field.get_value(&buf), b"example.org");
        assert_eq!(field.get_value_bytes(&buf), "example.org");
        assert_eq!(field.value(), &BufRef::new(6, 11));
        assert_eq!(field.value().len(), 11);
        assert!(EMPTY_KV_REF.value().is_empty());
        assert!(EMPTY_KV_REF.get_name(&buf).is_empty());
    }
}
