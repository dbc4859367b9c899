//! The key of a request in the cache.
//!
//! ```text
//! host path [? query] NUL  route  scheme  [host as it was sent]  [what its server is told]  headers  cookies
//! -------- URL -------     --------------------------------- rest --------------------------------------
//! ```
//!
//! The URL is what a purge names. The rest holds all else that may choose the response: a key that left the port of Host
//! out would let one client choose what others are sent.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::LazyLock;

use http::header::COOKIE;
use http::HeaderMap;
use pingora_cache::key::HashBinary;
use pingora_cache::CacheKey;

use super::store::END_OF_URL;
use crate::plan::cache::CacheRule;

/// Nobody outside of the process knows which keys share a place.
static SEED: LazyLock<RandomState> = LazyLock::new(Default::default);

/// The key of a request.
#[derive(Clone, Debug)]
pub struct Key {
    bytes: Vec<u8>,
    /// The length of the URL.
    url: usize,
}

/// What a key is made of.
pub(crate) struct Parts<'a> {
    pub(crate) host: &'a str,
    /// The host as it was sent.
    pub(crate) authority: &'a str,
    pub(crate) path: &'a str,
    pub(crate) query: Option<&'a str>,
    pub(crate) secure: bool,
    pub(crate) extra: Extra<'a>,
    pub(crate) headers: &'a HeaderMap,
}

/// The words to a server that neither the URL nor a field of the request has to say.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Extra<'a> {
    /// The host that the client of a trusted proxy asked for.
    pub(crate) host: Option<&'a str>,
    /// The target that a rewrite has made of more than the URL.
    pub(crate) target: Option<&'a [u8]>,
}

/// Returns the hash of a URL.
pub(super) fn url_hash(url: &[u8]) -> u64 {
    let mut hasher = SEED.build_hasher();
    hasher.write(url);
    hasher.finish()
}

impl Key {
    /// Makes the key of a URL and whatever else tells responses apart.
    pub fn new(url: &[u8], rest: &[u8]) -> Self {
        let mut key = Self {
            bytes: Vec::with_capacity(url.len() + rest.len() + 1),
            url: url.len(),
        };
        key.bytes.extend_from_slice(url);
        key.bytes.push(END_OF_URL);
        key.bytes.extend_from_slice(rest);
        key
    }

    /// Makes the key of a request.
    pub(crate) fn of(rule: &CacheRule, parts: &Parts<'_>) -> Self {
        let host = parts.extra.host.filter(|host| *host != parts.authority);
        let extra = [host.map(str::as_bytes), parts.extra.target];
        let length = parts.host.len() + parts.path.len() + parts.query.map_or(0, str::len);
        let more: usize = extra.iter().flatten().map(|text| text.len()).sum();
        let mut bytes = Vec::with_capacity(length + more + 32);
        rule.url(parts.host, parts.path, parts.query, &mut bytes);
        let url = bytes.len();
        bytes.push(END_OF_URL);
        bytes.extend_from_slice(&rule.id.to_be_bytes());
        bytes.push(if parts.secure { b's' } else { b'h' });
        if parts.authority != parts.host {
            bytes.extend_from_slice(parts.authority.as_bytes());
        }
        // No host and no target has such bytes.
        for (sign, text) in (1..).zip(extra) {
            if let Some(text) = text {
                bytes.push(sign);
                bytes.extend_from_slice(text);
            }
        }
        for name in &rule.headers {
            // A value has no such byte, and one that is absent differs from an empty one.
            bytes.push(b'\n');
            for value in parts.headers.get_all(name) {
                bytes.push(b'\r');
                bytes.extend_from_slice(value.as_bytes());
            }
        }
        for name in &rule.cookies {
            bytes.push(b'\n');
            for value in cookies(parts.headers, name) {
                bytes.push(b'\r');
                bytes.extend_from_slice(value);
            }
        }
        Self { bytes, url }
    }

    /// Returns the URL, for a purge.
    pub(crate) fn url(&self) -> &[u8] {
        &self.bytes[..self.url]
    }

    /// Returns the key for `pingora-cache`.
    pub fn to_cache_key(&self) -> CacheKey {
        let (url, rest) = self.bytes.split_at(self.url);
        let mut hash = HashBinary::default();
        let (of_url, of_all) = hash.split_at_mut(8);
        let mut hasher = SEED.build_hasher();
        hasher.write(url);
        of_url.copy_from_slice(&hasher.finish().to_be_bytes());
        hasher.write(rest);
        of_all.copy_from_slice(&hasher.finish().to_be_bytes());
        let mut key = CacheKey::new(self.bytes.clone(), String::new());
        key.set_primary_bin_override(hash);
        key
    }
}

/// Returns the values of a cookie.
fn cookies<'a>(headers: &'a HeaderMap, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
    let lines = headers.get_all(COOKIE).iter();
    let pairs = lines.flat_map(|line| line.as_bytes().split(|b| *b == b';'));
    pairs.filter_map(move |pair| {
        let value = pair.trim_ascii().strip_prefix(name.as_bytes())?;
        value.strip_prefix(b"=")
    })
}

#[cfg(test)]
mod tests {
    use pingora_cache::key::CacheHashKey;

    use super::*;

    #[test]
    fn the_first_half_of_a_hash_is_that_of_the_url() {
        let (one, other) = (Key::new(b"a.test/x", b"1"), Key::new(b"a.test/x", b"2"));
        let [one, other] = [one, other].map(|key| key.to_cache_key().primary_bin());
        assert_eq!(one[..8], other[..8]);
        assert_eq!(one[..8], url_hash(b"a.test/x").to_be_bytes());
        assert_ne!(one[8..], other[8..]);
    }

    #[test]
    fn a_cookie_is_found_by_its_whole_name() {
        let mut headers = HeaderMap::new();
        headers.append(COOKIE, "xa=1; a=2;a=3".parse().unwrap());
        headers.append(COOKIE, "b=4; ab=5; a=".parse().unwrap());
        let found: Vec<_> = cookies(&headers, "a").collect();
        assert_eq!(found, [&b"2"[..], b"3", b""]);
    }
}
