//! A body on its way into or out of a content coding, and what it may become.

use std::time::Duration;

use bytes::Bytes;
use pingora_error::{ErrorType, Result};

/// The error of a body that cannot be compressed or decompressed.
pub const COMPRESSION_ERROR: ErrorType = ErrorType::new("CompressionError");

/// The first bytes of a `dcz` body: the header of a skippable zstd frame (RFC 9842 section 5).
pub const DCZ_MAGIC: [u8; 8] = [0x5e, 0x2a, 0x4d, 0x18, 0x20, 0x00, 0x00, 0x00];

/// The size of what a `dcz` body begins with: [`DCZ_MAGIC`] and the hash of the dictionary.
pub const DCZ_HEADER_SIZE: usize = 40;

/// A dictionary that server and client share (RFC 9842).
#[derive(Clone, Debug)]
pub struct DictionaryData {
    /// The dictionary, which is used as raw content.
    pub bytes: Bytes,
    /// Its SHA-256 hash.
    pub hash: [u8; 32],
}

/// Limits of what a body may become when it is decompressed. Beyond that it is cut short with [`COMPRESSION_ERROR`], or
/// answered with 502 if nothing of it was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Decompression {
    /// Bytes of the body when decompressed; `None`, the default, for no limit.
    pub max_size: Option<u64>,
    /// The limit of its size as a multiple of that of its coding; 1100 by default, which is more than
    /// gzip can become; `None` for no limit.
    pub max_ratio: Option<u32>,
    /// Bytes of the body up to which the ratio is not looked at: 16 MiB by default.
    pub ratio_from: u64,
}

impl Default for Decompression {
    fn default() -> Self {
        Decompression {
            max_size: None,
            max_ratio: Some(1100),
            ratio_from: 16 << 20,
        }
    }
}

/// One body on its way into or out of a content coding.
pub trait Encode {
    /// Takes a chunk of input, the last one if `end`, and returns all output that it leads to;
    /// what was taken so far can be decoded from what was returned so far.
    ///
    /// # Errors
    ///
    /// [`COMPRESSION_ERROR`] if the input is malformed, cut short by `end`, or follows the end,
    /// and if a chunk leads to more than 128 MiB. The body cannot be continued then.
    fn encode(&mut self, input: &[u8], end: bool) -> Result<Bytes>;

    /// Takes a chunk as [`encode`](Encode::encode) does, and returns the beginning of what it leads to. `true` says that
    /// there is more, for further calls with no input and the same `end`. By default it is all there at once.
    ///
    /// # Errors
    ///
    /// Those of [`encode`](Encode::encode).
    fn encode_step(&mut self, input: &[u8], end: bool) -> Result<(Bytes, bool)> {
        Ok((self.encode(input, end)?, false))
    }

    /// The name for logs, the bytes taken, the bytes returned, and the time spent.
    fn stat(&self) -> (&'static str, usize, usize, Duration);
}
