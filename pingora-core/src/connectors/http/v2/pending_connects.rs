//! Connections that are being made, so that requests which come meanwhile share them.
//!
//! ```text
//!            begin                            end, or drop
//! request ----------> Dialing, listed -----------------------> Made | Failed | given up
//!                        ^                                             |
//! others  -- join -------+----------- each within its own time --------+--> every waiter is told
//! ```
//!
//! After a failure those who would have connected in the same manner share the error. After one that tells them
//! nothing, such as a client that left while its connection was being made, one of them connects and the others wait
//! for it.

use std::collections::HashMap;
use std::hash::BuildHasherDefault;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use pingora_error::{BError, Error, ErrorSource, ErrorType, RetryType};
use tokio::sync::watch;

use crate::connectors::pool::KeyHasher;
use crate::protocols::l4::connect_error::is_local_shortage;
use crate::protocols::ALPN;
use crate::upstreams::peer::Peer;
use crate::worker::{self, PerWorker};

/// The connections that each worker is making.
pub(super) struct PendingConnects {
    workers: PerWorker<Mutex<Dialing>>,
}

type Dialing = HashMap<u64, Vec<Dial>, BuildHasherDefault<KeyHasher>>;

struct Dial {
    /// The number of further requests that may wait for it.
    places: usize,
    state: watch::Receiver<State>,
}

/// The state of a connection that others may wait for. One whose sender is gone before it ended was given up.
#[derive(Clone)]
enum State {
    Dialing,
    Made,
    Failed(Arc<Failure>),
}

/// The outcome of a connect that a request waited for.
pub(super) enum Ended {
    /// It was made. There may be no room on it, and it may be one of HTTP/1.1.
    Made,
    /// It failed.
    Failed(Arc<Failure>),
    /// Whoever made it went away.
    GivenUp,
}

/// Why a connection was not made.
pub(super) struct Failure {
    manner: Manner,
    etype: ErrorType,
    source: ErrorSource,
    retry: RetryType,
    text: String,
    /// True if this machine had nothing left for a connection, which may be over.
    shortage: bool,
}

impl Failure {
    /// The error for another request that would have connected in this manner; `None` for one that might have
    /// succeeded.
    pub(super) fn for_manner(&self, manner: &Manner) -> Option<BError> {
        if self.manner != *manner || self.shortage {
            return None;
        }
        let context = format!(
            "the connection that another request was making: {}",
            self.text
        );
        let mut e = Error::explain(self.etype.clone(), context);
        e.esource = self.source.clone();
        e.retry = self.retry;
        Some(e)
    }
}

/// The options that decide how connecting to a peer ends, beside those that its key covers.
#[derive(Clone, PartialEq)]
pub(super) struct Manner {
    alpn: Option<ALPN>,
    limits: [Option<Duration>; 3],
    from: Option<SocketAddr>,
    ports: Option<(u16, u16)>,
    /// By their place in memory: two that are compared exist at the same time.
    hooks: [Option<usize>; 2],
}

impl Manner {
    pub(super) fn of<P: Peer>(peer: &P) -> Self {
        let bind_to = peer.bind_to();
        let custom = peer.get_peer_options().and_then(|o| o.custom_l4.as_ref());
        let tweak = peer.upstream_tcp_sock_tweak_hook();
        Manner {
            alpn: peer.get_alpn().cloned(),
            limits: [
                peer.connection_timeout(),
                peer.total_connection_timeout(),
                peer.tls_handshake_timeout(),
            ],
            from: bind_to.and_then(|from| from.addr),
            ports: bind_to.and_then(|from| from.port_range()),
            hooks: [
                custom.map(|hook| Arc::as_ptr(hook).cast::<()>().addr()),
                tweak.map(|hook| Arc::as_ptr(hook).cast::<()>().addr()),
            ],
        }
    }
}

/// A connection that is being made. When this is dropped, it is made or has failed.
pub(super) struct Dialed<'a> {
    pending: &'a PendingConnects,
    worker: usize,
    key: u64,
    state: watch::Sender<State>,
}

impl PendingConnects {
    pub(super) fn new() -> Self {
        PendingConnects {
            workers: PerWorker::new(),
        }
    }

    /// Says that a connection is being made, with room for so many requests besides the one it is made for.
    pub(super) fn begin(&self, key: u64, places: usize) -> Dialed<'_> {
        let worker = worker::current();
        let (sender, state) = watch::channel(State::Dialing);
        let dialing = self.workers.get_or_init(worker, Mutex::default);
        let mut dialing = dialing.lock();
        dialing.entry(key).or_default().push(Dial { places, state });
        Dialed {
            pending: self,
            worker,
            key,
            state: sender,
        }
    }

    /// Takes a place on a connection that this worker is making, if there is one.
    pub(super) fn join(&self, key: u64) -> Option<Place<'_>> {
        let worker = worker::current();
        let mut dialing = self.workers.get(worker)?.lock();
        let mut pending = dialing.get_mut(&key)?.iter_mut();
        let dial = pending.find(|dial| dial.places > 0)?;
        dial.places -= 1;
        Some(Place {
            pending: self,
            worker,
            key,
            state: dial.state.clone(),
        })
    }
}

impl Dialed<'_> {
    /// Tells those who wait how it ended.
    pub(super) fn end<T>(self, made: &Result<T, BError>, manner: Manner) {
        let state = match made {
            Ok(_) => State::Made,
            Err(e) => State::Failed(Arc::new(Failure {
                manner,
                etype: e.etype().clone(),
                source: e.esource().clone(),
                retry: e.retry,
                text: e.to_string(),
                shortage: is_local_shortage(e),
            })),
        };
        // First, so that nobody who is told finds it once more.
        self.remove();
        self.state.send_replace(state);
    }

    fn remove(&self) {
        let Some(dialing) = self.pending.workers.get(self.worker) else {
            return;
        };
        let mut dialing = dialing.lock();
        let Some(pending) = dialing.get_mut(&self.key) else {
            return;
        };
        let own = self.state.subscribe();
        pending.retain(|dial| !dial.state.same_channel(&own));
        if pending.is_empty() {
            dialing.remove(&self.key);
        }
    }
}

impl Drop for Dialed<'_> {
    fn drop(&mut self) {
        self.remove();
    }
}

/// A place on a connection that is being made; it is free again when this is dropped.
pub(super) struct Place<'a> {
    pending: &'a PendingConnects,
    worker: usize,
    key: u64,
    state: watch::Receiver<State>,
}

impl Place<'_> {
    /// Completes when the connection is made, or will not be.
    pub(super) async fn ended(&mut self) -> Ended {
        let ended = |state: &State| !matches!(state, State::Dialing);
        match self.state.wait_for(ended).await.as_deref() {
            Ok(State::Failed(failure)) => Ended::Failed(failure.clone()),
            Ok(State::Made) => Ended::Made,
            Ok(State::Dialing) | Err(_) => Ended::GivenUp,
        }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let Some(dialing) = self.pending.workers.get(self.worker) else {
            return;
        };
        let mut dialing = dialing.lock();
        let mut pending = dialing.get_mut(&self.key).into_iter().flatten();
        if let Some(dial) = pending.find(|dial| dial.state.same_channel(&self.state)) {
            dial.places += 1;
        }
    }
}
