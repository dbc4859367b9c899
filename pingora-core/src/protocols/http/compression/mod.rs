//! Content codings of response bodies (RFC 9110 8.4.1): gzip, brotli, zstd, and zstd with a
//! dictionary that the client has (dcz, RFC 9842).

use std::time::Duration;

use bytes::Bytes;
use pingora_error::{ErrorType, Result};
use strum::EnumCount;

mod accept;
mod codec;
mod ctx;
mod decode;
mod header;

pub use ctx::ResponseCompressionCtx;

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
    #[doc(hidden)]
    fn encode_step(&mut self, input: &[u8], end: bool) -> Result<(Bytes, bool)> {
        Ok((self.encode(input, end)?, false))
    }

    /// The name for logs, the bytes taken, the bytes returned, and the time spent.
    fn stat(&self) -> (&'static str, usize, usize, Duration);
}

/// A content coding as it is named in `Accept-Encoding` and `Content-Encoding`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, strum::EnumCount)]
pub enum Algorithm {
    /// `*`: whatever is not named.
    Any,
    /// `gzip`
    Gzip,
    /// `br`
    Brotli,
    /// `zstd`
    Zstd,
    /// `dcb`: brotli with a dictionary. It is recognised but not produced, as the brotli library
    /// has no dictionaries outside of the window.
    Dcb,
    /// `dcz`: zstd with a dictionary.
    Dcz,
    /// Any other one, `identity` too.
    Other,
}

impl Algorithm {
    /// The name in HTTP fields; `other` for [`Other`](Self::Other).
    pub fn as_str(&self) -> &'static str {
        BY_NAME[self.index()].0
    }

    /// A compressor of this level, higher than the algorithm's highest being that one (gzip 9,
    /// brotli 11, zstd 22).
    ///
    /// `None` for level 0, and if there is none without further data.
    pub fn compressor(&self, level: u32) -> Option<Box<dyn Encode + Send + Sync>> {
        match self {
            _ if level == 0 => None,
            Algorithm::Gzip => Some(codec::gzip(level)),
            Algorithm::Brotli => Some(codec::brotli(level)),
            Algorithm::Zstd => codec::zstd(level),
            Algorithm::Any | Algorithm::Dcb | Algorithm::Dcz | Algorithm::Other => None,
        }
    }

    /// A compressor of this level that uses a dictionary.
    ///
    /// `None` for level 0, for all but [`Dcz`](Self::Dcz), and for a dictionary in zstd's own
    /// format, as `dcz` means its raw content.
    pub fn maybe_compressor_with_dictionary(
        &self,
        level: u32,
        dictionary: &DictionaryData,
    ) -> Option<Box<dyn Encode + Send + Sync>> {
        match self {
            Algorithm::Dcz if level > 0 => codec::dcz(level, dictionary),
            _ => None,
        }
    }

    /// A decompressor, if `enabled` and if [`can_decompress`](Self::can_decompress).
    pub fn decompressor(&self, enabled: bool) -> Option<Box<dyn Encode + Send + Sync>> {
        match enabled {
            true => self.decoder(Decompression::default()),
            false => None,
        }
    }

    /// A decompressor that keeps to these limits.
    fn decoder(&self, limits: Decompression) -> Option<Box<dyn Encode + Send + Sync>> {
        match self {
            Algorithm::Gzip => Some(decode::gzip(limits)),
            Algorithm::Brotli => Some(decode::brotli(limits)),
            Algorithm::Zstd => decode::zstd(limits),
            Algorithm::Any | Algorithm::Dcb | Algorithm::Dcz | Algorithm::Other => None,
        }
    }

    /// Whether bodies in this coding can be decompressed.
    pub fn can_decompress(&self) -> bool {
        matches!(self, Algorithm::Gzip | Algorithm::Brotli | Algorithm::Zstd)
    }

    /// The position among the variants.
    pub fn index(&self) -> usize {
        *self as usize
    }
}

/// In the order of the variants.
const BY_NAME: [(&str, Algorithm); Algorithm::COUNT] = [
    ("*", Algorithm::Any),
    ("gzip", Algorithm::Gzip),
    ("br", Algorithm::Brotli),
    ("zstd", Algorithm::Zstd),
    ("dcb", Algorithm::Dcb),
    ("dcz", Algorithm::Dcz),
    ("other", Algorithm::Other),
];

/// Names are compared without regard to case; `x-gzip` is `gzip` (RFC 9110 8.4.1.3).
impl From<&str> for Algorithm {
    fn from(name: &str) -> Self {
        if name.eq_ignore_ascii_case("x-gzip") {
            return Algorithm::Gzip;
        }
        BY_NAME
            .iter()
            .find(|(known, _)| name.eq_ignore_ascii_case(known))
            .map_or(Algorithm::Other, |(_, algorithm)| *algorithm)
    }
}

#[cfg(test)]
mod tests;
