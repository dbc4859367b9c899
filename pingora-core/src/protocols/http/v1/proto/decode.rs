//! Bytes to body (RFC 9112 sections 6 and 7).

use bytes::{Buf, Bytes, BytesMut};
use http::HeaderMap;

use super::framing::Framing;
use super::{head, Refusal};
use crate::limits::LIMITS;

/// Takes a body out of the bytes of a connection.
///
/// ```text
/// Length(n) --n bytes--> Done        UntilClose --eof--> Done
///
/// Chunked:  Size -> [Space] -> [Extension] -> Data -> DataEnd -> Size ...
///             \-0-> Trailers -> Done
/// ```
#[derive(Clone, Debug)]
pub enum Decoder {
    /// The body is whole.
    Done,
    /// So many bytes are missing.
    Length(u64),
    /// Chunks follow.
    Chunked(Chunked),
    /// The body ends with the connection.
    UntilClose,
}

/// The result of [`Decoder::decode`].
#[derive(Debug)]
pub enum Decoded {
    /// A piece of the body, never empty.
    Data(Bytes),
    /// The end, with the trailer fields if there are any.
    End(Option<Box<HeaderMap>>),
    /// Nothing without more bytes.
    NeedMore,
}

/// A body ended before it was whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Truncated;

impl Decoder {
    /// A decoder for a body that begins now.
    ///
    /// White space between a chunk's size and its extension passes: it is bad, and a recipient has to parse it all the
    /// same (RFC 9112 section 7.1.1, RFC 9110 section 5.6.3). Without an extension the grammar has none, and it passes
    /// with `lenient` only: some origins pad the size, and no client does who means well.
    pub fn new(framing: Framing, lenient: bool) -> Self {
        match framing {
            Framing::Empty | Framing::Length(0) => Decoder::Done,
            Framing::Length(n) => Decoder::Length(n),
            Framing::Chunked => Decoder::Chunked(Chunked {
                at: At::Size,
                left: 0,
                digits: 0,
                extensions: 0,
                lenient,
                trailers: Vec::new(),
            }),
            Framing::UntilClose => Decoder::UntilClose,
        }
    }

    /// Returns whether the body is whole.
    pub fn is_done(&self) -> bool {
        matches!(self, Decoder::Done)
    }

    /// Takes what it can from the front of `input`.
    ///
    /// # Errors
    /// Malformed chunks. The bytes after them mean nothing any more.
    pub fn decode(&mut self, input: &mut BytesMut) -> Result<Decoded, Refusal> {
        match self {
            Decoder::Done => Ok(Decoded::End(None)),
            _ if input.is_empty() => Ok(Decoded::NeedMore),
            Decoder::UntilClose => Ok(Decoded::Data(front(input, input.len()))),
            Decoder::Length(left) => {
                let n = take(*left, input.len());
                *left -= n as u64;
                if *left == 0 {
                    *self = Decoder::Done;
                }
                Ok(Decoded::Data(front(input, n)))
            }
            Decoder::Chunked(chunked) => {
                let decoded = chunked.decode(input)?;
                if let Decoded::End(_) = decoded {
                    *self = Decoder::Done;
                }
                Ok(decoded)
            }
        }
    }

    /// The peer will send nothing more.
    ///
    /// # Errors
    /// The body is not whole: it must not be passed on as if it were.
    pub fn eof(&mut self) -> Result<(), Truncated> {
        match self {
            Decoder::Done | Decoder::UntilClose => {
                *self = Decoder::Done;
                Ok(())
            }
            Decoder::Length(_) | Decoder::Chunked(_) => Err(Truncated),
        }
    }

    /// Returns how many more bytes of body are certain to come, as far as that is known.
    pub fn remaining(&self) -> u64 {
        match self {
            Decoder::Done => 0,
            Decoder::Length(left) => *left,
            Decoder::Chunked(chunked) => chunked.left,
            Decoder::UntilClose => u64::MAX,
        }
    }
}

fn take(left: u64, available: usize) -> usize {
    usize::try_from(left).map_or(available, |left| left.min(available))
}

/// The state of a chunked body.
#[derive(Clone, Debug)]
pub struct Chunked {
    at: At,
    /// The size while it is read, then what is missing of the chunk.
    left: u64,
    digits: u8,
    extensions: usize,
    lenient: bool,
    trailers: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    Size,
    Space,
    Extension,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    Trailers,
}

/// Room behind what is taken that is worth to be kept for the next read.
const ROOM: usize = 4096;

/// Takes the first `n` bytes. All of them together are the buffer itself, without a share of it to count, unless
/// it has room to be filled.
pub(crate) fn front(input: &mut BytesMut, n: usize) -> Bytes {
    if n == input.len() && input.capacity() - n < ROOM {
        std::mem::take(input).freeze()
    } else {
        input.split_to(n).freeze()
    }
}

impl Chunked {
    fn decode(&mut self, input: &mut BytesMut) -> Result<Decoded, Refusal> {
        loop {
            let Some(&b) = input.first() else {
                return Ok(Decoded::NeedMore);
            };
            match self.at {
                At::Data => {
                    let n = take(self.left, input.len());
                    self.left -= n as u64;
                    if self.left == 0 {
                        self.at = At::DataCr;
                    }
                    return Ok(Decoded::Data(front(input, n)));
                }
                At::Trailers => {
                    if !self.trailer_line(input)? {
                        return Ok(Decoded::NeedMore);
                    }
                    if let Some(trailers) = self.whole_trailers()? {
                        return Ok(Decoded::End(trailers));
                    }
                }
                _ => {
                    input.advance(1);
                    self.at = self.framing_byte(b)?;
                }
            }
        }
    }

    fn framing_byte(&mut self, b: u8) -> Result<At, Refusal> {
        match (self.at, b) {
            (At::Size, b';') if self.digits > 0 => Ok(At::Extension),
            (At::Size, b' ' | b'\t') if self.digits > 0 => Ok(At::Space),
            (At::Size, b'\r') if self.digits > 0 => Ok(At::SizeLf),
            (At::Size, _) => {
                let digit = (b as char).to_digit(16).ok_or(Refusal::ChunkSize)?;
                // 16 digits are all that fit; leading zeros count, so that none are endless.
                if self.digits == 16 {
                    return Err(Refusal::ChunkSize);
                }
                self.digits += 1;
                self.left = self.left << 4 | u64::from(digit);
                Ok(At::Size)
            }
            (At::Space, b' ' | b'\t') => self.extension_byte(At::Space),
            (At::Space, b';') => Ok(At::Extension),
            (At::Space, b'\r') if self.lenient => Ok(At::SizeLf),
            // A second number is not passed over: others might read both as one.
            (At::Space, _) => Err(Refusal::ChunkSize),
            (At::Extension, b'\r') => Ok(At::SizeLf),
            (At::Extension, b'\n') => Err(Refusal::BareLineEnd),
            (At::Extension, b) if b != b'\t' && b.is_ascii_control() => Err(Refusal::ChunkSize),
            (At::Extension, _) => self.extension_byte(At::Extension),
            (At::SizeLf, b'\n') => {
                self.digits = 0;
                Ok(if self.left == 0 {
                    At::Trailers
                } else {
                    At::Data
                })
            }
            (At::SizeLf, _) => Err(Refusal::BareLineEnd),
            (At::DataCr, b'\r') => Ok(At::DataLf),
            (At::DataLf, b'\n') => Ok(At::Size),
            (At::DataCr | At::DataLf, _) => Err(Refusal::ChunkEnd),
            (At::Data | At::Trailers, _) => Ok(self.at),
        }
    }

    fn extension_byte(&mut self, next: At) -> Result<At, Refusal> {
        self.extensions += 1;
        if self.extensions > LIMITS.chunk_extension_bytes {
            Err(Refusal::ChunkExtension)
        } else {
            Ok(next)
        }
    }

    /// Takes one line, or the beginning of one, of the trailer section. Whether a line ended.
    fn trailer_line(&mut self, input: &mut BytesMut) -> Result<bool, Refusal> {
        let end = memchr::memchr(b'\n', input);
        let n = end.map_or(input.len(), |lf| lf + 1);
        if self.trailers.len() + n > LIMITS.trailer_bytes {
            return Err(Refusal::Trailer);
        }
        self.trailers.extend_from_slice(&input[..n]);
        input.advance(n);
        if end.is_some() && !self.trailers.ends_with(b"\r\n") {
            return Err(Refusal::BareLineEnd);
        }
        Ok(end.is_some())
    }

    /// The trailers, once the empty line that ends them was the last one taken.
    fn whole_trailers(&mut self) -> Result<Option<Option<Box<HeaderMap>>>, Refusal> {
        if self.trailers == b"\r\n" {
            return Ok(Some(None));
        }
        if !self.trailers.ends_with(b"\r\n\r\n") {
            return Ok(None);
        }
        let section = Bytes::from(std::mem::take(&mut self.trailers));
        Ok(Some(Some(Box::new(head::parse_trailers(&section)?))))
    }
}

#[cfg(test)]
mod tests;
