//! The borders of TLS records in the bytes that are read.

/// The length of what comes before the content of a record (RFC 8446 section 5.1): type, version, and length.
const HEADER: usize = 5;

/// Follows the records that are handed to a TLS library, which keeps a part of one to itself until it has the rest.
#[derive(Debug, Default)]
pub(super) struct Records {
    /// The number of bytes of a header that were handed over, when not all were.
    have: u8,
    /// The first byte of the length in it.
    high: u8,
    /// Bytes of the content that are to come.
    left: u16,
}

impl Records {
    /// Notes what was handed over.
    pub(super) fn pass(&mut self, mut bytes: &[u8]) {
        loop {
            let content = bytes.len().min(usize::from(self.left));
            // No longer than what is left, which is no longer than a `u16` holds.
            self.left -= content as u16;
            bytes = &bytes[content..];
            match *bytes {
                [] => return,
                [_, _, _, high, low, ..] if self.have == 0 => {
                    self.left = u16::from_be_bytes([high, low]);
                    bytes = &bytes[HEADER..];
                }
                [byte, ref rest @ ..] => {
                    self.have += 1;
                    match usize::from(self.have) {
                        4 => self.high = byte,
                        HEADER => {
                            self.left = u16::from_be_bytes([self.high, byte]);
                            self.have = 0;
                        }
                        _ => {}
                    }
                    bytes = rest;
                }
            }
        }
    }

    /// Returns whether a part of a record was handed over, and not the rest.
    pub(super) fn is_within(&self) -> bool {
        self.have > 0 || self.left > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// However they come, only between records is nothing awaited.
    #[test]
    fn ends_of_records() {
        let lengths = [0, 1, 3, 300, 0, 16 * 1024 + 256];
        let mut bytes = Vec::new();
        let mut ends = vec![0];
        for length in lengths {
            let [high, low] = u16::to_be_bytes(length);
            bytes.extend([23, 3, 3, high, low]);
            bytes.resize(bytes.len() + usize::from(length), 0xff);
            ends.push(bytes.len());
        }
        for size in [1, 2, 3, 4, 5, 6, 7, 11, 299, 4096, bytes.len()] {
            let mut records = Records::default();
            let mut at = 0;
            for piece in bytes.chunks(size) {
                records.pass(piece);
                at += piece.len();
                assert_eq!(records.is_within(), !ends.contains(&at), "{at} by {size}");
            }
        }
    }
}
