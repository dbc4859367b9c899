//! A bounded copy of a request body, for retries.

use bytes::{Bytes, BytesMut};

/// Keeps a body as long as it fits, so that the request can be sent again.
///
/// The first write that does not fit truncates the buffer for good: half a body is of no use to
/// a retry, so nothing of it is kept. Memory is taken with the first byte.
#[derive(Debug)]
pub struct FixedBuffer {
    kept: BytesMut,
    capacity: usize,
    truncated: bool,
}

impl FixedBuffer {
    /// A buffer for at most `capacity` bytes.
    pub fn new(capacity: usize) -> Self {
        Self {
            kept: BytesMut::new(),
            capacity,
            truncated: false,
        }
    }

    /// Appends a copy of `data`, or truncates the buffer if it does not fit.
    pub fn write_to_buffer(&mut self, data: &Bytes) {
        if self.truncated {
            return;
        }
        if data.len() > self.capacity - self.kept.len() {
            self.truncated = true;
            self.kept = BytesMut::new();
            return;
        }
        self.kept.extend_from_slice(data);
    }

    /// Forgets everything, the truncation too.
    pub fn clear(&mut self) {
        self.truncated = false;
        self.kept.clear();
    }

    /// Returns whether nothing is kept.
    pub fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    /// Returns whether the body was too large to be kept.
    pub fn is_truncated(&self) -> bool {
        self.truncated
    }

    /// A copy of the body so far; `None` if it is empty or was truncated.
    pub fn get_buffer(&self) -> Option<Bytes> {
        (!self.kept.is_empty()).then(|| Bytes::copy_from_slice(&self.kept))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_what_fits() {
        let mut buffer = FixedBuffer::new(6);
        assert!(buffer.is_empty());
        assert_eq!(buffer.get_buffer(), None);
        buffer.write_to_buffer(&Bytes::from_static(b"abc"));
        buffer.write_to_buffer(&Bytes::new());
        buffer.write_to_buffer(&Bytes::from_static(b"def"));
        assert!(!buffer.is_empty());
        assert!(!buffer.is_truncated());
        assert_eq!(buffer.get_buffer().unwrap(), "abcdef");
    }

    #[test]
    fn truncates_for_good() {
        let mut buffer = FixedBuffer::new(4);
        buffer.write_to_buffer(&Bytes::from_static(b"abc"));
        buffer.write_to_buffer(&Bytes::from_static(b"de"));
        assert!(buffer.is_truncated());
        assert!(buffer.is_empty());
        buffer.write_to_buffer(&Bytes::from_static(b"f"));
        assert!(buffer.is_truncated());
        assert_eq!(buffer.get_buffer(), None);
    }

    #[test]
    fn can_be_used_again_after_clear() {
        let mut buffer = FixedBuffer::new(2);
        buffer.write_to_buffer(&Bytes::from_static(b"abc"));
        buffer.clear();
        assert!(!buffer.is_truncated());
        buffer.write_to_buffer(&Bytes::from_static(b"ab"));
        assert_eq!(buffer.get_buffer().unwrap(), "ab");
    }

    #[test]
    fn without_capacity_only_an_empty_body_fits() {
        let mut buffer = FixedBuffer::new(0);
        buffer.write_to_buffer(&Bytes::new());
        assert!(!buffer.is_truncated());
        buffer.write_to_buffer(&Bytes::from_static(b"a"));
        assert!(buffer.is_truncated());
    }
}
