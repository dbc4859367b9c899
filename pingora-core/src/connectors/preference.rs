//! Peers that turned out to speak HTTP/1.1 only.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::RwLock;

use crate::protocols::ALPN;
use crate::upstreams::peer::Peer;

/// When so many peers are known, all are forgotten: they are found out again, and memory is bounded.
const MOST: usize = 16 * 1024;

/// The keys of these peers.
#[derive(Default)]
pub(super) struct H1Only {
    any: AtomicBool,
    keys: RwLock<HashSet<u64>>,
}

impl H1Only {
    pub(super) fn insert(&self, key: u64) {
        let mut keys = self.keys.write();
        if keys.len() >= MOST {
            keys.clear();
        }
        keys.insert(key);
        self.any.store(true, Ordering::Release);
    }

    /// What to offer to `peer` in place of what it says, if it is one of these.
    ///
    /// A peer that is to be spoken to in HTTP/2 only, or in another protocol, says so again each time.
    pub(super) fn alpn_for(&self, peer: &impl Peer) -> Option<ALPN> {
        let known =
            self.any.load(Ordering::Acquire) && self.keys.read().contains(&peer.reuse_hash());
        let free = !matches!(peer.get_alpn(), Some(ALPN::H2 | ALPN::Custom(_)));
        (known && free).then_some(ALPN::H1)
    }
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
        for key in 0..2 * MOST as u64 {
            h1_only.insert(key);
        }
        assert!(h1_only.keys.read().len() <= MOST);
    }
}
