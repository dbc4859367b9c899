//! Peers that turned out to speak HTTP/1.1 only.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::OnceLock;

use crate::protocols::ALPN;
use crate::upstreams::peer::Peer;

/// Peers that have a place each are as many times eight.
const BUCKETS: u64 = 2048;

/// Stands where there is no key. A peer that has it for its key is found out each time.
const NONE: u64 = 0;

/// A cache line of keys. When all its places are taken, a new key takes that of another one, whose peer is found out
/// again: memory is bounded.
#[repr(align(64))]
#[derive(Default)]
struct Bucket([AtomicU64; 8]);

/// The keys of these peers, in a table that is made for the first of them.
///
/// Who looks a key up writes nothing, and reads one line that hardly anybody writes.
#[derive(Default)]
pub(super) struct H1Only(OnceLock<Box<[Bucket]>>);

impl H1Only {
    pub(super) fn insert(&self, key: u64) {
        let table = self
            .0
            .get_or_init(|| (0..BUCKETS).map(|_| Bucket::default()).collect());
        let bucket = bucket(table, key);
        for place in &bucket.0 {
            // Two that find the same place free leave one of their keys out, which is found out again.
            let known = place.load(Ordering::Relaxed);
            if known == key {
                return;
            }
            if known == NONE {
                return place.store(key, Ordering::Relaxed);
            }
        }
        let victim = (key >> 32) as usize % bucket.0.len();
        bucket.0[victim].store(key, Ordering::Relaxed);
    }

    fn contains(&self, key: u64) -> bool {
        let Some(table) = self.0.get() else {
            return false;
        };
        let mut places = bucket(table, key).0.iter();
        key != NONE && places.any(|place| place.load(Ordering::Relaxed) == key)
    }

    /// Returns the protocols to offer to `peer` in place of its own, if it is one of these.
    ///
    /// A peer that is to be spoken to in HTTP/2 only, or in another protocol, says so again each time.
    pub(super) fn alpn_for(&self, peer: &impl Peer) -> Option<ALPN> {
        // The key is made only when it can be among them.
        let known = self.0.get().is_some() && self.contains(peer.reuse_hash());
        let free = !matches!(peer.get_alpn(), Some(ALPN::H2 | ALPN::Custom(_)));
        (known && free).then_some(ALPN::H1)
    }
}

fn bucket(table: &[Bucket], key: u64) -> &Bucket {
    &table[(key % BUCKETS) as usize]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstreams::peer::{BasicPeer, HttpPeer};

    #[test]
    fn is_remembered_and_bounded() {
        let h1_only = H1Only::default();
        let peer = BasicPeer::new("127.0.0.1:80");
        let other = BasicPeer::new("127.0.0.1:81");
        assert_eq!(h1_only.alpn_for(&peer), None);
        h1_only.insert(peer.reuse_hash());
        assert_eq!(h1_only.alpn_for(&peer), Some(ALPN::H1));
        assert_eq!(h1_only.alpn_for(&other), None);
        // It is not told what it does not speak.
        let mut only_h2 = HttpPeer::new("127.0.0.1:82", true, "a".into());
        h1_only.insert(only_h2.reuse_hash());
        assert_eq!(h1_only.alpn_for(&only_h2), Some(ALPN::H1));
        only_h2.options.alpn = ALPN::H2;
        assert_eq!(h1_only.alpn_for(&only_h2), None);
    }

    #[test]
    fn the_latest_of_too_many_are_known() {
        let h1_only = H1Only::default();
        let keys =
            |range: std::ops::Range<u64>| range.map(|n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        for key in keys(1..1000).chain(keys(1..1000)) {
            h1_only.insert(key);
        }
        assert!(keys(1..1000).all(|key| h1_only.contains(key)));
        assert!(!h1_only.contains(NONE));
        assert!(!keys(1000..2000).any(|key| h1_only.contains(key)));
        for key in keys(1..1 << 20) {
            h1_only.insert(key);
            assert!(h1_only.contains(key));
        }
        let known = keys(1..1 << 20)
            .filter(|key| h1_only.contains(*key))
            .count();
        assert!(known <= 8 * BUCKETS as usize);
    }
}
