//! The counts of the generation that runs.

use super::Live;
use crate::observe::snapshot::{Certificate, Counts, Snapshot};
use crate::tls::{self, Source};

impl Live {
    /// Adds up what all workers have counted. It takes a while with many routes, and no worker's time.
    pub fn snapshot(&self) -> Snapshot {
        let running = self.current();
        let mut snapshot = Snapshot::of(&running.series);
        let endpoints = running.clusters.iter().zip(&running.plan.clusters);
        let endpoints = endpoints.map(|(cluster, plan)| cluster.observed(&plan.name));
        snapshot.endpoints = endpoints.flatten().collect();
        let clusters = running.clusters.iter().zip(&running.plan.clusters);
        let queues = clusters.filter_map(|(cluster, plan)| cluster.observed_queue(&plan.name));
        snapshot.queues = queues.collect();
        let clusters = running.clusters.iter().zip(&running.plan.clusters);
        let names = clusters.flat_map(|(cluster, plan)| cluster.observed_names(&plan.name));
        snapshot.names = names.collect();
        let certificates = running.certificates().into_iter();
        let certificates = certificates.map(|state| Certificate {
            site: state.site,
            names: state.names,
            not_after: state.not_after,
            automatic: state.source == Source::Acme,
            error: state.error,
            next_try: state.next_try,
        });
        snapshot.certificates = certificates.collect();
        let process = &mut snapshot.process;
        process.handshake_failures = Counts(tls::failures().collect());
        process.orders = Counts::of(&["issued", "failed", "denied"], tls::orders());
        let log = running.log.as_ref();
        snapshot.process.log_dropped = log.map_or(0, |log| log.sink().dropped());
        snapshot
    }
}
