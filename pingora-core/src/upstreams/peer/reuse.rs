//! Which connections lead to a peer.

use std::cell::RefCell;
use std::hash::{BuildHasher, Hash, Hasher};
use std::os::fd::AsRawFd;
use std::sync::{Arc, OnceLock, Weak};

use ahash::RandomState;

use crate::protocols::l4::socket::SocketAddr;
use crate::protocols::tls::{hash_ca, CaType};

/// Whether the remote end of `fd` is at `addr`.
pub(super) fn leads_to(fd: &impl AsRawFd, addr: &SocketAddr) -> bool {
    SocketAddr::from_raw_fd(fd.as_raw_fd(), true).is_some_and(|remote| is_at(&remote, addr))
}

/// Whether a connection to `addr` may have the remote address `remote`.
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
    RandomState::with_seeds(
        0x243f_6a88_85a3_08d3,
        0x1319_8a2e_0370_7344,
        0xa409_3822_299f_31d0,
        0x082e_fa98_ec4e_6c89,
    )
    .hash_one(of)
}

/// How many lists of certificates a thread remembers the hashes of.
const MOST_TRUSTED: usize = 16;

/// A list of certificates, and the hash of what is in it. The reference keeps the place in memory, and nothing else,
/// from being used for another list.
type Trusted = (Weak<CaType>, u64);

thread_local! {
    static TRUSTED: RefCell<Vec<Trusted>> = const { RefCell::new(Vec::new()) };
}

/// The part of a peer's key that its own `ca` makes: equal for lists with the same certificates.
///
/// Certificates are long, and the key is made for each request, so that a thread reads a list only once.
pub(super) fn trust_hash(ca: &Arc<CaType>) -> u64 {
    let kept = TRUSTED.try_with(|trusted| {
        let mut trusted = trusted.borrow_mut();
        let same = |(list, _): &&Trusted| std::ptr::addr_eq(list.as_ptr(), Arc::as_ptr(ca));
        if let Some((_, hash)) = trusted.iter().find(same) {
            return *hash;
        }
        let hash = hash_content(ca);
        if trusted.len() >= MOST_TRUSTED {
            trusted.retain(|(list, _)| list.strong_count() > 0);
        }
        if trusted.len() >= MOST_TRUSTED {
            trusted.remove(0);
        }
        trusted.push((Arc::downgrade(ca), hash));
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
