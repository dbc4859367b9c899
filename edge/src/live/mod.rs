//! The generation of the configuration that runs, and its exchange while requests are served.
//!
//! [`Live`] holds it. A worker looks at its number once for each request, which is one load, and has all that a request
//! needs of it in memory of its own: a request counts no reference and takes no lock that workers share. A request keeps
//! the generation that it began with.
//!
//! ```text
//! file -> load -> Running (aside) -> publish -> number -> worker: takes it before its next request
//!          |                                               requests under way: end with the old one
//!          +-> errors: logged, nothing changes
//! ```

mod history;
mod load;
mod observed;
mod reload;
mod watch;
mod worker;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::cluster::Cluster;
use crate::observe::PlanSeries;
use crate::plan::Plan;
use crate::tls::Certificates;
pub use history::{History, Outcome, Reload};
pub use load::{load, LoadError, Loaded};
pub use reload::{NotReloaded, Reloader, Reloading};
pub(crate) use worker::{release, Lease};

/// A plan with all that it runs on.
pub struct Running {
    /// Tells generations apart, of all configurations of this process.
    pub(crate) generation: u64,
    /// The plan.
    pub plan: Plan,
    /// The clusters, by the index that the plan has for them.
    pub(crate) clusters: Vec<Arc<Cluster>>,
    /// The certificates of the sites.
    pub(crate) certificates: Certificates,
    /// What is counted.
    pub(crate) series: PlanSeries,
    /// The effective configuration without its secrets; empty when nobody can ask for it.
    pub(crate) shown: Arc<str>,
}

/// Holds the generation that runs.
pub struct Live {
    /// That of `current`.
    generation: AtomicU64,
    draining: AtomicBool,
    current: Mutex<Arc<Running>>,
}

impl Live {
    /// Begins with a generation.
    pub fn new(running: Running) -> Self {
        Self {
            generation: AtomicU64::new(running.generation),
            draining: AtomicBool::new(false),
            current: Mutex::new(Arc::new(running)),
        }
    }

    /// Returns the generation that runs.
    pub fn current(&self) -> Arc<Running> {
        let current = self.current.lock();
        current.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Begins or ends draining: while it lasts, each connection is closed after the request that it has.
    pub fn drain(&self, on: bool) {
        self.draining.store(on, Ordering::Relaxed);
    }

    /// Tells whether the process is draining.
    #[inline]
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Has workers take another generation before their next request.
    pub fn publish(&self, running: Running) {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let generation = running.generation;
        *current = Arc::new(running);
        // While it is locked: who sees the number finds the generation of it, or a newer one.
        self.generation.store(generation, Ordering::Release);
    }
}
