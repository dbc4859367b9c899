//! What the generation that runs has counted.

use super::Live;
use crate::observe::snapshot::{Certificate, Snapshot};
use crate::plan::Site;

impl Live {
    /// Adds up what all workers have counted. It takes a while with many routes, and no worker's time.
    pub fn snapshot(&self) -> Snapshot {
        let running = self.current();
        let mut snapshot = Snapshot::of(&running.series);
        let endpoints = running.clusters.iter().zip(&running.plan.clusters);
        let endpoints = endpoints.map(|(cluster, plan)| cluster.observed(&plan.name));
        snapshot.endpoints = endpoints.flatten().collect();
        let ends = running.certificates.ends().zip(&running.plan.sites);
        let certificate = |(end, site): (Option<Option<i64>>, &Site)| {
            let site = site.name.clone();
            end.map(|not_after| Certificate { site, not_after })
        };
        snapshot.certificates = ends.filter_map(certificate).collect();
        snapshot
    }
}
