//! Connections that are being made, so that requests which come meanwhile share them.

use std::collections::HashMap;
use std::hash::BuildHasherDefault;

use parking_lot::Mutex;
use tokio::sync::watch;

use crate::connectors::pool::{KeyHasher, Slots};
use crate::worker;

/// The connections that each worker is making.
pub(super) struct Dials {
    workers: Slots<Mutex<Dialing>>,
}

type Dialing = HashMap<u64, Vec<Dial>, BuildHasherDefault<KeyHasher>>;

struct Dial {
    /// How many further requests may wait for it.
    places: usize,
    /// Changes by the end of its sender.
    ended: watch::Receiver<()>,
}

/// A connection that is being made. When this is dropped, it is made or has failed.
pub(super) struct Dialed<'a> {
    dials: &'a Dials,
    worker: usize,
    key: u64,
    ended: watch::Sender<()>,
}

impl Dials {
    pub(super) fn new() -> Self {
        Dials {
            workers: Slots::new(),
        }
    }

    /// Says that a connection is being made, with room for so many requests besides the one it is made for.
    pub(super) fn begin(&self, key: u64, places: usize) -> Dialed<'_> {
        let worker = worker::current();
        let (sender, ended) = watch::channel(());
        let dialing = self.workers.get_or_init(worker, Mutex::default);
        let mut dialing = dialing.lock();
        dialing.entry(key).or_default().push(Dial { places, ended });
        Dialed {
            dials: self,
            worker,
            key,
            ended: sender,
        }
    }

    /// Takes a place on a connection that this worker is making, and completes when that is done. There may be
    /// no room on it then.
    pub(super) async fn join(&self, key: u64) -> bool {
        let Some(mut ended) = self.take_place(key) else {
            return false;
        };
        // It never changes, but its sender is dropped.
        while ended.changed().await.is_ok() {}
        true
    }

    fn take_place(&self, key: u64) -> Option<watch::Receiver<()>> {
        let mut dialing = self.workers.get(worker::current())?.lock();
        let mut dials = dialing.get_mut(&key)?.iter_mut();
        let dial = dials.find(|dial| dial.places > 0)?;
        dial.places -= 1;
        Some(dial.ended.clone())
    }
}

impl Drop for Dialed<'_> {
    fn drop(&mut self) {
        let Some(dialing) = self.dials.workers.get(self.worker) else {
            return;
        };
        let mut dialing = dialing.lock();
        let Some(dials) = dialing.get_mut(&self.key) else {
            return;
        };
        let own = self.ended.subscribe();
        dials.retain(|dial| !dial.ended.same_channel(&own));
        if dials.is_empty() {
            dialing.remove(&self.key);
        }
    }
}
