//! The key of connections that lead to the same peer.

use std::cell::RefCell;
use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, Hasher};
use std::os::fd::AsRawFd;
use std::sync::{Arc, OnceLock, Weak};

use ahash::RandomState;

use crate::protocols::l4::socket::SocketAddr;
use crate::protocols::tls::{hash_ca, CaType};

/// Returns whether the remote end of `fd` is at `addr`.
pub(super) fn leads_to(fd: &impl AsRawFd, addr: &SocketAddr) -> bool {
    SocketAddr::from_raw_fd(fd.as_raw_fd(), true).is_some_and(|remote| is_at(&remote, addr))
}

/// Returns whether a connection to `addr` may have the remote address `remote`.
pub(crate) fn is_at(remote: &SocketAddr, addr: &SocketAddr) -> bool {
    match (remote, addr) {
        (SocketAddr::Inet(remote), SocketAddr::Inet(addr)) if remote == addr => true,
        (SocketAddr::Inet(remote), SocketAddr::Inet(addr)) => {
            remote.port() == addr.port()
                // Connecting to the unspecified address leads to the local host.
                && (addr.ip().is_unspecified()
                    || remote.ip().to_canonical() == addr.ip().to_canonical())
        }
        (remote, addr) => remote == addr,
    }
}

/// The key of a peer from what tells it from others. The keys of the hash are fixed: it orders idle
/// connections of a process, and what goes into it comes from its configuration.
pub(super) fn stable_hash(of: impl Hash) -> u64 {
    state().hash_one(of)
}

#[inline(always)]
fn state() -> RandomState {
    RandomState::with_seeds(
        0x243f_6a88_85a3_08d3,
        0x1319_8a2e_0370_7344,
        0xa409_3822_299f_31d0,
        0x082e_fa98_ec4e_6c89,
    )
}

/// When a thread remembers the hashes of so many lists of certificates, all are forgotten.
const MOST_TRUSTED: usize = 1024;

/// Lists of certificates by their place in memory, and the hashes of what is in them. The reference keeps the place,
/// and nothing else, from being used for another list.
type Trusted = HashMap<usize, (Weak<CaType>, u64), RandomState>;

thread_local! {
    static TRUSTED: RefCell<Trusted> = RefCell::new(HashMap::with_hasher(state()));
}

/// The part of a peer's key that its own `ca` makes: equal for lists with the same certificates.
///
/// Certificates are long, and the key is made for each request, so that a thread reads a list only once.
pub(super) fn trust_hash(ca: &Arc<CaType>) -> u64 {
    let kept = TRUSTED.try_with(|trusted| {
        let mut trusted = trusted.borrow_mut();
        let place = Arc::as_ptr(ca).cast::<()>().addr();
        if let Some((_, hash)) = trusted.get(&place) {
            return *hash;
        }
        // Lists that are made for a request each would fill the memory.
        trusted.retain(|_, (list, _)| list.strong_count() > 0);
        if trusted.len() >= MOST_TRUSTED {
            trusted.clear();
        }
        let hash = hash_content(ca);
        trusted.insert(place, (Arc::downgrade(ca), hash));
        hash
    });
    // The thread may be ending.
    kept.unwrap_or_else(|_| hash_content(ca))
}

/// With keys that nobody knows: a tenant who brings certificates of their own must not find some with the hash of
/// another's.
fn hash_content(ca: &CaType) -> u64 {
    static KEYS: OnceLock<std::hash::RandomState> = OnceLock::new();
    let mut hasher = KEYS.get_or_init(Default::default).build_hasher();
    hash_ca(ca, &mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocols::tls::no_ca;

    #[test]
    fn lists_that_are_gone_are_forgotten() {
        let kept = no_ca();
        let hash = trust_hash(&kept);
        for _ in 0..10 {
            assert_eq!(trust_hash(&no_ca()), hash);
            // The one that was just hashed, and is gone.
            TRUSTED.with_borrow(|trusted| assert!(trusted.len() <= 2));
        }
        let many: Vec<_> = (0..2 * MOST_TRUSTED).map(|_| no_ca()).collect();
        for list in many.iter().chain(&many) {
            assert_eq!(trust_hash(list), hash);
            TRUSTED.with_borrow(|trusted| assert!(trusted.len() <= MOST_TRUSTED));
        }
    }
}
