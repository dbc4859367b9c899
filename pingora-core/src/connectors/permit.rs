//! Limits of connections: who may open one, and what gives way where there is no room.
//!
//! ```text
//!   dial --> acquire --> a place --------------------------------> the stream holds it until it is closed
//!               |                                                     ^
//!               | none                                                |
//!               v                                                     |
//!            an idle connection that holds a place of this limit, of any worker or pool, is closed
//!               |
//!               | none is idle
//!               v
//!            an error that `lacks_connect_permit` knows
//! ```
//!
//! A pool is told of only when it is made, and asked only where a limit is reached: requests on kept connections pay
//! nothing for it.

use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use pingora_error::{Error, ErrorType::HTTPStatus, Result};
use tokio::sync::watch;

use crate::limits::LIMITS;
use crate::protocols::l4::permit::{ConnectGuard, ConnectPermit, NoPermit};
use crate::upstreams::peer::Peer;

/// Takes a place for a new connection to `peer`, if its connections are limited.
///
/// # Errors
/// One that [`lacks_connect_permit`] knows, with the status 503 for a client.
pub(super) fn acquire<P: Peer>(peer: &P) -> Result<Option<ConnectGuard>> {
    let Some(permit) = permit(peer) else {
        return Ok(None);
    };
    match permit.acquire() {
        Some(place) => Ok(Some(ConnectGuard::new(permit.key(), place))),
        None => {
            let e = Error::because(HTTPStatus(503), format!("peer: {peer}"), NoPermit);
            Err(e.into_up())
        }
    }
}

/// Tells the limit of `peer` that a request waits for the connection of another one.
pub(super) fn joins<P: Peer>(peer: &P) {
    if let Some(permit) = permit(peer) {
        permit.joins();
    }
}

fn permit<P: Peer>(peer: &P) -> Option<&Arc<dyn ConnectPermit>> {
    peer.get_peer_options()?.connect_permit.as_ref()
}

/// An idle connection that was told to close.
pub(super) struct Closing(pub(super) Option<watch::Receiver<bool>>);

/// Keeps idle connections, of which one may have to give way.
pub(super) trait IdleConnections: Send + Sync {
    /// Closes the oldest one that holds a place of this limit.
    fn close_oldest(&self, limit: u64) -> Option<Closing>;
}

/// All that keep some, from their beginning on.
static POOLS: Mutex<Vec<Weak<dyn IdleConnections>>> = Mutex::new(Vec::new());

/// Has idle connections of a new pool give way, as long as the pool is there.
pub(super) fn register(pool: Weak<dyn IdleConnections>) {
    let mut pools = POOLS.lock();
    pools.retain(|pool| pool.strong_count() > 0);
    pools.push(pool);
}

/// Closes an idle connection that holds a place of the limit of `peer`; returns whether there was one.
///
/// # Cancel safety
/// The connection is closed all the same.
pub(super) async fn make_way<P: Peer>(peer: &P) -> bool {
    let Some(limit) = permit(peer).map(|permit| permit.key()) else {
        return false;
    };
    // Closing calls back into whoever counts, and so happens without the lock.
    let pools: Vec<_> = POOLS.lock().iter().filter_map(Weak::upgrade).collect();
    let closing = pools.iter().find_map(|pool| pool.close_oldest(limit));
    // None of them is to outlive its connector by this wait.
    drop(pools);
    let Some(Closing(ended)) = closing else {
        return false;
    };
    if let Some(mut ended) = ended {
        // One of HTTP/2 is closed by its task, which is another worker's. One whose peer takes nothing is not waited for.
        let closed = ended.wait_for(|ended| *ended);
        let _ = tokio::time::timeout(LIMITS.give_way, closed).await;
    }
    true
}

#[cfg(test)]
mod tests;
