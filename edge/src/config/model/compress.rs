//! The keys of compression.

use crate::config::section::{choice, section};
use crate::config::values::Size;

section! {
    /// Compression of responses for clients that accept it.
    pub struct Compress("compression", short: enabled) {
        /// True if it is done.
        enabled: bool = true,
        /// The codings, in the order of preference among those that a client accepts alike.
        algorithms: Vec<Coding> = vec![Coding::Zstd, Coding::Brotli, Coding::Gzip],
        /// The types of responses, with `*` for any characters. What is compressed in itself never is again.
        types: Vec<String> = TYPES.map(str::to_owned).to_vec(),
        /// The size from which on a response is compressed. One whose size is not known is.
        min_size: Size = Size(1024),
        /// The level, from 1 to 9. If unset, one that is quick: 3 for zstd, 4 for brotli, 5 for gzip.
        level: Option<u32> = None,
    }
}

const TYPES: [&str; 8] = [
    "text/*",
    "application/javascript",
    "application/json",
    "application/xml",
    "application/wasm",
    "application/*+json",
    "application/*+xml",
    "image/svg+xml",
];

choice! {
    /// A content coding.
    pub enum Coding("a content coding") {
        /// Zstandard.
        Zstd = "zstd",
        /// Brotli.
        Brotli = "br",
        /// Gzip.
        Gzip = "gzip",
    }
}
