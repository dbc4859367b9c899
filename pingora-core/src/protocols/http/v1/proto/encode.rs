//! Body to bytes (RFC 9112 sections 6 and 7).

use bytes::Bytes;
use http::HeaderMap;

use super::framing::Framing;
use super::out::Out;
use crate::protocols::http::trailers;

/// Puts a body on the wire as its head promised it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoder {
    /// Nothing more may be written.
    Done,
    /// The message has no body: what is written is dropped.
    Empty,
    /// So many bytes are missing.
    Length(u64),
    /// Chunks.
    Chunked,
    /// The body ends with the connection.
    UntilClose,
}

/// A body ended before the length that its head promised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Short {
    /// Bytes that were promised and not written.
    pub missing: u64,
}

impl Encoder {
    /// An encoder for a body that begins now.
    pub fn new(framing: Framing) -> Self {
        match framing {
            Framing::Empty => Encoder::Empty,
            Framing::Length(n) => Encoder::Length(n),
            Framing::Chunked => Encoder::Chunked,
            Framing::UntilClose => Encoder::UntilClose,
        }
    }

    /// Returns whether the peer knows, without anything more, that the message is over.
    pub fn is_complete(&self) -> bool {
        matches!(self, Encoder::Done | Encoder::Empty | Encoder::Length(0))
    }

    /// Queues a piece of the body, and says how much of it belonged to the body: bytes beyond the
    /// promised length are not sent, since the peer would take them for the next message.
    pub fn body(&mut self, mut data: Bytes, out: &mut Out) -> usize {
        if data.is_empty() {
            return 0;
        }
        let n = data.len();
        match self {
            Encoder::Done | Encoder::Empty => 0,
            Encoder::UntilClose => {
                out.push(data);
                n
            }
            Encoder::Length(left) => {
                let n = usize::try_from(*left).map_or(n, |left| left.min(n));
                *left -= n as u64;
                data.truncate(n);
                out.push(data);
                n
            }
            Encoder::Chunked => {
                out.write(|buf| push_chunk_size(buf, n));
                out.push(data);
                out.write(|buf| buf.extend_from_slice(b"\r\n"));
                n
            }
        }
    }

    /// Ends the body. Trailers are written where the framing has room for them, and dropped elsewhere; so are those
    /// that can be none.
    ///
    /// # Errors
    /// Fewer bytes were written than promised; the connection must be closed so that the peer sees it.
    pub fn finish(&mut self, trailers: Option<&HeaderMap>, out: &mut Out) -> Result<(), Short> {
        match std::mem::replace(self, Encoder::Done) {
            Encoder::Done | Encoder::Empty | Encoder::UntilClose | Encoder::Length(0) => Ok(()),
            Encoder::Length(missing) => {
                *self = Encoder::Length(missing);
                Err(Short { missing })
            }
            Encoder::Chunked => {
                out.write(|buf| {
                    buf.extend_from_slice(b"0\r\n");
                    let all = trailers.into_iter().flatten();
                    for (name, value) in all.filter(|(name, _)| trailers::may_be_sent(name)) {
                        buf.extend_from_slice(name.as_str().as_bytes());
                        buf.extend_from_slice(b": ");
                        buf.extend_from_slice(value.as_bytes());
                        buf.extend_from_slice(b"\r\n");
                    }
                    buf.extend_from_slice(b"\r\n");
                });
                Ok(())
            }
        }
    }
}

fn push_chunk_size(buf: &mut Vec<u8>, size: usize) {
    let digits = (usize::BITS - size.leading_zeros()).div_ceil(4).max(1);
    for i in (0..digits).rev() {
        buf.push(b"0123456789abcdef"[size >> (4 * i) & 15]);
    }
    buf.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wire(out: &mut Out) -> Vec<u8> {
        let bytes = out.slices().iter().flat_map(|s| s.to_vec()).collect();
        out.clear();
        bytes
    }

    #[test]
    fn each_framing_on_the_wire() {
        let trailers = ["content-length", "x-sum", "host"].map(|name| {
            let one = http::HeaderValue::from_static("1");
            (http::HeaderName::from_static(name), one)
        });
        let trailers = HeaderMap::from_iter(trailers);
        let rows: [(Framing, &[u8]); 5] = [
            (Framing::Empty, b""),
            (Framing::Length(5), b"hello"),
            (Framing::Length(3), b"hel"),
            (Framing::UntilClose, b"hello"),
            (Framing::Chunked, b"5\r\nhello\r\n0\r\nx-sum: 1\r\n\r\n"),
        ];
        for (framing, want) in rows {
            let (mut encoder, mut out) = (Encoder::new(framing), Out::default());
            encoder.body(Bytes::new(), &mut out);
            encoder.body(Bytes::from_static(b"hello"), &mut out);
            encoder.finish(Some(&trailers), &mut out).unwrap();
            assert_eq!(wire(&mut out), want, "{framing:?}");
            assert!(encoder.is_complete());
        }
    }

    #[test]
    fn a_short_body_is_an_error() {
        let (mut encoder, mut out) = (Encoder::new(Framing::Length(9)), Out::default());
        encoder.body(Bytes::from_static(b"hello"), &mut out);
        assert_eq!(encoder.finish(None, &mut out), Err(Short { missing: 4 }));
        assert!(!encoder.is_complete());
    }

    #[test]
    fn chunk_sizes() {
        for (n, want) in [
            (1, "1\r\n"),
            (15, "f\r\n"),
            (16, "10\r\n"),
            (65536, "10000\r\n"),
        ] {
            let mut buf = Vec::new();
            push_chunk_size(&mut buf, n);
            assert_eq!(buf, want.as_bytes());
        }
    }
}
