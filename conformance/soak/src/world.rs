//! The state that clients, faults and watchers share.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use crate::faults::Faults;
use crate::ledger::Ledger;
use crate::load::tls::Tls;
use crate::origin::Origins;
use crate::proxy::Proxy;

pub struct World {
    pub seed: u64,
    pub proxy: Proxy,
    pub origins: Origins,
    /// A single one, which gets copies of requests. It knows nothing of what the others got.
    pub mirror: Origins,
    pub faults: Faults,
    pub ledger: Ledger,
    pub tls: Tls,
    /// The generation of the file that has been taken, and what the purge has taken away.
    pub taken: Taken,
    /// True as long as clients go on.
    pub running: watch::Sender<bool>,
}

/// The marks that each request on a connection to the present process must show.
#[derive(Default)]
pub struct Taken {
    generation: AtomicU64,
    epoch: AtomicU64,
    upgrade: Mutex<Option<Instant>>,
}

/// The least that an answer must show.
#[derive(Clone, Copy, Debug, Default)]
pub struct Floor {
    pub generation: u64,
    pub epoch: u64,
}

/// The time in which the old process still accepts.
const OVERLAP: Duration = Duration::from_secs(3);

impl Taken {
    pub fn generation(&self, generation: u64) {
        self.generation.store(generation, Ordering::SeqCst);
    }

    pub fn epoch(&self, epoch: u64) {
        self.epoch.store(epoch, Ordering::SeqCst);
    }

    /// An upgrade begins, or its new process has begun to serve.
    pub fn upgrade(&self) {
        let mut upgrade = self.upgrade.lock().unwrap_or_else(PoisonError::into_inner);
        *upgrade = Some(Instant::now());
    }

    /// Returns what a request must show that is about to be sent on a connection made then. An old process that finishes
    /// its requests is told nothing any more.
    pub fn floor(&self, connected: Instant) -> Floor {
        let upgrade = *self.upgrade.lock().unwrap_or_else(PoisonError::into_inner);
        if upgrade.is_some_and(|upgrade| connected < upgrade + OVERLAP) {
            return Floor::default();
        }
        Floor {
            generation: self.generation.load(Ordering::SeqCst),
            epoch: self.epoch.load(Ordering::SeqCst),
        }
    }
}

impl World {
    /// Returns whether clients go on.
    pub fn runs(&self) -> bool {
        *self.running.borrow()
    }

    /// Sleeps, but not longer than clients go on.
    pub async fn pause(self: &Arc<Self>, pause: Duration) {
        let mut running = self.running.subscribe();
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            _ = running.wait_for(|running| !running) => {}
        }
    }
}
