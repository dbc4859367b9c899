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

mod counted;
mod history;
mod load;
mod observed;
mod reload;
mod reopen;
mod source;
mod watch;
mod worker;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::cache;
use crate::cluster::{Cluster, ClusterState};
use crate::config::values::Fact;
use crate::logging::tail::Written;
use crate::observe::log::AccessLog;
use crate::observe::PlanSeries;
use crate::plan::Plan;
use crate::tls::{CertificateState, Certificates};
pub use history::{History, Outcome, Reload};
pub use load::{check, load, LoadError, Loaded};
pub use reload::{Busy, Reloader, Reloading};
pub use reopen::Reopening;
pub use source::{FromFile, Source};
pub(crate) use worker::{leave, release, Lease};

/// A plan with all that it runs on.
pub struct Running {
    /// Tells generations apart, of all configurations of this process.
    pub(crate) generation: u64,
    /// The plan.
    pub plan: Plan,
    /// The clusters, by the index that the plan has for them.
    pub(crate) clusters: Vec<Arc<Cluster>>,
    /// Counts of requests.
    pub(crate) limits: counted::Limits,
    /// The certificates of the sites.
    pub(crate) certificates: Certificates,
    /// Counts.
    pub(crate) series: PlanSeries,
    /// The effective configuration without its secrets; empty when nobody can ask for it.
    pub(crate) shown: Arc<str>,
    /// The access log.
    pub(crate) log: Option<AccessLog>,
}

impl Running {
    /// Tells whether the access log has the ids of requests.
    #[inline]
    pub(crate) fn log_tells_id(&self) -> bool {
        self.log
            .as_ref()
            .is_some_and(|log| log.tells(Fact::RequestId))
    }

    /// Tells whether the access log has the ids of traces.
    pub(crate) fn log_tells_trace(&self) -> bool {
        self.log
            .as_ref()
            .is_some_and(|log| log.tells(Fact::TraceId))
    }

    /// Tells whether the access log has the addresses of servers.
    #[inline]
    pub(crate) fn log_tells_server(&self) -> bool {
        self.log
            .as_ref()
            .is_some_and(|log| log.tells(Fact::Upstream))
    }

    fn start_log(&self) {
        if let Some(log) = &self.log {
            log.sink().start();
        }
    }

    /// Returns how the servers of each cluster fare, by the indices of [`Plan::clusters`]. It adds up what workers count,
    /// and is not for the path of a request.
    pub fn cluster_states(&self) -> Vec<ClusterState> {
        let clusters = self.clusters.iter().zip(&self.plan.clusters);
        clusters
            .map(|(cluster, plan)| cluster.state(plan))
            .collect()
    }

    /// Has a server get no more requests (`drained`), or get them again: in the cluster with this index, or in all. It is
    /// named by its address in the file, or by one of the addresses of its name. Requests that it has go on, and a reload
    /// leaves it so. Returns the number of addresses in clusters that this is about; 0 when there is no such server.
    pub fn drain(&self, cluster: Option<usize>, server: &str, drained: bool) -> usize {
        let clusters = self.clusters.iter().enumerate();
        let meant = clusters.filter(|(index, _)| cluster.is_none_or(|meant| meant == *index));
        meant
            .map(|(_, cluster)| cluster.drain(server, drained))
            .sum()
    }

    /// Returns the states of all certificates.
    pub fn certificates(&self) -> Vec<CertificateState> {
        self.certificates.states(&self.plan)
    }
}

/// Holds the generation that runs.
pub struct Live {
    /// That of `current`.
    generation: AtomicU64,
    draining: AtomicBool,
    current: Mutex<Arc<Running>>,
}

impl Live {
    /// Begins with a generation. Its log is not written before [`Reopening`] has started: a daemon forks until then, and
    /// keeps no thread.
    pub fn new(running: Running) -> Self {
        cache::apply(&running.plan);
        Self {
            generation: AtomicU64::new(running.generation),
            draining: AtomicBool::new(false),
            current: Mutex::new(Arc::new(running)),
        }
    }

    /// Tells whether a generation is the one that runs. It costs one load.
    #[inline]
    #[cfg_attr(
        not(feature = "rustls"),
        allow(dead_code, reason = "no handshake asks")
    )]
    pub(crate) fn is_current(&self, running: &Running) -> bool {
        self.generation.load(Ordering::Acquire) == running.generation
    }

    /// Returns the generation that runs.
    pub fn current(&self) -> Arc<Running> {
        let current = self.current.lock();
        current.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns the lines of the access log after the one with this number, as far as they are kept, and the number of the
    /// last line; none when there is no log.
    pub fn access_log(&self, number: u64) -> Option<(Vec<Written>, u64)> {
        let running = self.current();
        running.log.as_ref().map(|log| log.sink().after(number))
    }

    /// Begins to write the access log.
    pub(crate) fn start_log(&self) {
        self.current().start_log();
    }

    /// Has the file of the access log be opened anew, after it was moved away.
    pub(crate) fn reopen_log(&self) {
        if let Some(log) = &self.current().log {
            log.sink().reopen();
        }
    }

    /// Writes the last lines of the access log.
    pub(crate) fn end_log(&self) {
        if let Some(log) = &self.current().log {
            log.sink().end();
        }
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
        cache::apply(&running.plan);
        running.start_log();
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let generation = running.generation;
        // Only now: one that is not taken changes no server.
        running
            .clusters
            .iter()
            .for_each(|cluster| cluster.take_effect());
        *current = Arc::new(running);
        // While it is locked: who sees the number finds the generation of it, or a newer one.
        self.generation.store(generation, Ordering::Release);
    }
}
