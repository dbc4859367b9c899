//! Content codings of response bodies (RFC 9110 8.4.1): gzip, brotli, zstd, and zstd with a
//! dictionary that the client has (dcz, RFC 9842).

use strum::EnumCount;

mod accept;
mod codec;
mod ctx;
mod decode;
mod encode;
mod header;

pub use ctx::ResponseCompressionCtx;
pub use encode::{
    Decompression, DictionaryData, Encode, COMPRESSION_ERROR, DCZ_HEADER_SIZE, DCZ_MAGIC,
};

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
        if enabled {
            self.decoder(Decompression::default())
        } else {
            None
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

    /// Returns whether bodies in this coding can be decompressed.
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
