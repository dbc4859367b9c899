//! What the generation that runs has counted.

use super::Live;
use crate::observe::snapshot::{Certificate, Snapshot};

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
        for state in running.certificates() {
            let (site, not_after) = (state.site, state.not_after);
            let known = snapshot.certificates.iter_mut();
            // Of several certificates of a site, the one that ends first.
            match known.last().filter(|known| known.site == site) {
                Some(known) => known.not_after = known.not_after.min(not_after),
                None => snapshot.certificates.push(Certificate { site, not_after }),
            }
        }
        let log = running.log.as_ref();
        snapshot.process.log_dropped = log.map_or(0, |log| log.sink().dropped());
        snapshot
    }
}
