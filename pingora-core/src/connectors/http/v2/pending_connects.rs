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

use parking_lot::Mutex;
use tokio::sync::watch;

use crate::connectors::pool::KeyHasher;
use crate::worker::{self, PerWorker};

/// The connections that each worker is making, and why one was not made.
pub(super) struct PendingConnects<F> {
    workers: PerWorker<Mutex<Dialing<F>>>,
}

type Dialing<F> = HashMap<u64, Vec<Dial<F>>, BuildHasherDefault<KeyHasher>>;

struct Dial<F> {
    /// The number of further requests that may wait for it.
    places: usize,
    state: watch::Receiver<State<F>>,
}

/// The state of a connection that others may wait for. One whose sender is gone before it ended was given up.
enum State<F> {
    Dialing,
    Made,
    Failed(F),
}

/// The outcome of a connect that a request waited for.
pub(super) enum Ended<F> {
    /// It was made. There may be no room on it, and it may be one of HTTP/1.1.
    Made,
    /// It failed.
    Failed(F),
    /// Whoever made it went away.
    GivenUp,
}

/// A connection that is being made. When this is dropped, it is made or has failed.
pub(super) struct Dialed<'a, F> {
    pending: &'a PendingConnects<F>,
    worker: usize,
    key: u64,
    state: watch::Sender<State<F>>,
}

impl<F> PendingConnects<F> {
    pub(super) fn new() -> Self {
        PendingConnects {
            workers: PerWorker::new(),
        }
    }

    /// Says that a connection is being made, with room for so many requests besides the one it is made for.
    pub(super) fn begin(&self, key: u64, places: usize) -> Dialed<'_, F> {
        let worker = worker::current();
        let (sender, state) = watch::channel(State::Dialing);
        let dialing = self
            .workers
            .get_or_init(worker, || Mutex::new(HashMap::default()));
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
    pub(super) fn join(&self, key: u64) -> Option<Place<'_, F>> {
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

impl<F> Dialed<'_, F> {
    /// Tells those who wait how it ended.
    pub(super) fn end(self, made: Result<(), F>) {
        let state = match made {
            Ok(()) => State::Made,
            Err(failure) => State::Failed(failure),
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

impl<F> Drop for Dialed<'_, F> {
    fn drop(&mut self) {
        self.remove();
    }
}

/// A place on a connection that is being made; it is free again when this is dropped.
pub(super) struct Place<'a, F> {
    pending: &'a PendingConnects<F>,
    worker: usize,
    key: u64,
    state: watch::Receiver<State<F>>,
}

impl<F: Clone> Place<'_, F> {
    /// Completes when the connection is made, or will not be.
    pub(super) async fn ended(&mut self) -> Ended<F> {
        let ended = |state: &State<F>| !matches!(state, State::Dialing);
        match self.state.wait_for(ended).await.as_deref() {
            Ok(State::Failed(failure)) => Ended::Failed(failure.clone()),
            Ok(State::Made) => Ended::Made,
            Ok(State::Dialing) | Err(_) => Ended::GivenUp,
        }
    }
}

impl<F> Drop for Place<'_, F> {
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

#[cfg(all(test, loom))]
mod models;
