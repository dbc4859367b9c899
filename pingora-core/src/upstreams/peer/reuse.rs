//! Which connections lead to a peer.

use std::hash::Hash;
use std::os::fd::AsRawFd;

use ahash::RandomState;

use crate::protocols::l4::socket::SocketAddr;

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
