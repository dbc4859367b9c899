//! What is stored, and its name.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use pingora_cache::key::{CacheHashKey, CompactCacheKey, HashBinary};
use pingora_cache::{CacheKey, CacheMeta};
use pingora_core::Result;
use pingora_http::{FrozenResponse, ResponseHeader};

/// The end of the URL in a key. No URL has this byte.
pub(in crate::cache) const END_OF_URL: u8 = 0;

/// The name of a response: its key and its variant. Names are compared, so that equal hashes of two do no harm.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Name {
    hash: HashBinary,
    variance: Option<HashBinary>,
    key: Box<[u8]>,
}

/// Returns the half of a key's hash that is of the URL.
pub(super) fn url_of(hash: &HashBinary) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = *hash;
    u64::from_be_bytes([a, b, c, d, e, f, g, h])
}

impl Name {
    pub(super) fn of(key: &CacheKey) -> Self {
        Self {
            hash: key.primary_bin(),
            variance: key.variance_bin(),
            key: key.primary_key().into(),
        }
    }

    #[inline]
    pub(super) fn is_of(&self, hash: &HashBinary, key: &CacheKey) -> bool {
        self.hash == *hash
            && self.variance.as_ref() == key.get_variance_key()
            && *self.key == *key.primary_key()
    }

    /// Tells whether a key that holds no more than the hash is its.
    pub(super) fn is(&self, key: &CompactCacheKey) -> bool {
        self.hash == key.primary && self.variance.as_ref() == key.variance.as_deref()
    }

    pub(super) fn url_hash(&self) -> u64 {
        url_of(&self.hash)
    }

    /// Returns the URL: host, path and query.
    pub(super) fn url(&self) -> &[u8] {
        let end = self.key.iter().position(|b| *b == END_OF_URL);
        &self.key[..end.unwrap_or(self.key.len())]
    }
}

/// A response that is stored.
pub(super) struct Entry {
    /// Tells it from what had its name before.
    pub(super) id: u64,
    pub(super) name: Arc<Name>,
    pub(super) meta: Meta,
    pub(super) body: Arc<Body>,
    /// The bytes that it is counted as.
    pub(super) size: usize,
    /// Whether it was read since its last turn in the queue.
    pub(super) used: AtomicBool,
}

impl Entry {
    /// Marks it as used.
    #[inline]
    pub(super) fn mark(&self) {
        // Read first: workers that read the same entry share its memory as long as none writes.
        if !self.used.load(Ordering::Relaxed) {
            self.used.store(true, Ordering::Relaxed);
        }
    }
}

/// The body of a response.
pub(super) struct Body {
    pub(super) chunks: Box<[Bytes]>,
    pub(super) length: usize,
}

/// Bytes of memory that an entry takes beside its key, its header and its body.
pub(super) const ENTRY: usize = 512;
/// Bytes of memory that a chunk takes beside what is in it.
pub(super) const CHUNK: usize = 64;
/// Bytes of a body that is copied for each hit. A count of readers is memory that all workers write.
const COPIED: usize = 4 * 1024;
/// Chunks that are smaller on average are put together.
const SMALL: usize = 16 * 1024;
/// The size of chunks that were put together.
const LARGE: usize = 64 * 1024;

impl Body {
    /// Makes a body of pieces as they came.
    pub(super) fn of(pieces: &[Bytes]) -> Self {
        let length = pieces.iter().map(Bytes::len).sum();
        let chunks = if pieces.len() < 2 || length / pieces.len() >= SMALL {
            pieces.into()
        } else {
            joined(pieces, length)
        };
        Self { chunks, length }
    }

    /// Returns all of it, if to copy that costs less than to count those who read it.
    #[inline]
    pub(super) fn small(&self) -> Option<&[u8]> {
        match &self.chunks[..] {
            [] => Some(&[]),
            [chunk] if chunk.len() <= COPIED => Some(chunk),
            _ => None,
        }
    }

    /// Returns a copy of a small one.
    pub(super) fn copy(&self) -> Bytes {
        Bytes::copy_from_slice(self.small().unwrap_or_default())
    }

    /// Returns the bytes of memory that it takes.
    pub(super) fn size(&self) -> usize {
        self.length + self.chunks.len() * CHUNK
    }
}

fn joined(pieces: &[Bytes], length: usize) -> Box<[Bytes]> {
    let (mut chunks, mut chunk) = (Vec::new(), Vec::with_capacity(length.min(LARGE)));
    let mut left = length;
    for piece in pieces {
        let mut piece = &piece[..];
        while !piece.is_empty() {
            let (taken, rest) = piece.split_at(piece.len().min(LARGE - chunk.len()));
            chunk.extend_from_slice(taken);
            (piece, left) = (rest, left - taken.len());
            if chunk.len() == LARGE {
                let next = Vec::with_capacity(left.min(LARGE));
                chunks.push(std::mem::replace(&mut chunk, next).into());
            }
        }
    }
    if !chunk.is_empty() {
        chunks.push(chunk.into());
    }
    chunks.into()
}

impl Name {
    /// Returns the bytes of memory that a response of this name takes without its body.
    pub(super) fn size(&self, meta: &CacheMeta) -> usize {
        let fields = meta.headers().iter();
        let fields = fields.map(|(name, value)| name.as_str().len() + value.len() + 64);
        ENTRY + self.key.len() + fields.sum::<usize>()
    }
}

/// The meta of an entry, which workers copy without writing to memory that they share.
pub(super) struct Meta {
    /// All but the header.
    rest: CacheMeta,
    header: FrozenResponse,
}

impl Meta {
    pub(super) fn of(meta: &CacheMeta) -> Result<Self> {
        Ok(Self {
            rest: with(
                meta,
                ResponseHeader::build(meta.response_header().status, Some(0))?,
            ),
            header: FrozenResponse::new(meta.response_header())?,
        })
    }

    /// Returns the time at which the entry was made: later for one that takes its place.
    pub(super) fn created(&self) -> SystemTime {
        self.rest.created()
    }

    pub(super) fn copy(&self) -> Result<CacheMeta> {
        Ok(self.with(self.header()?))
    }

    /// Returns a copy of the header.
    pub(super) fn header(&self) -> Result<ResponseHeader> {
        self.header.copy()
    }

    /// Returns a copy of all but the header, in whose place is another copy of it.
    pub(super) fn with(&self, header: ResponseHeader) -> CacheMeta {
        with(&self.rest, header)
    }
}

/// Copies a meta, which has no copy of its own.
pub(super) fn copy(meta: &CacheMeta) -> CacheMeta {
    with(meta, meta.response_header_copy())
}

/// Copies a meta but for its header. It keeps its creation, which other variants must not be from before, and its age, which
/// counts from the last validation.
fn with(meta: &CacheMeta, header: ResponseHeader) -> CacheMeta {
    let mut copy = CacheMeta::new(
        meta.fresh_until(),
        meta.created(),
        meta.stale_while_revalidate_sec(),
        meta.stale_if_error_sec(),
        header,
    );
    if let Some(variance) = meta.variance() {
        copy.set_variance_key(variance);
    }
    let epoch = meta.epoch();
    if epoch != meta.created() {
        copy.set_epoch_override(epoch);
    }
    if !meta.extensions().is_empty() {
        *copy.extensions_mut() = meta.extensions().clone();
    }
    copy
}
