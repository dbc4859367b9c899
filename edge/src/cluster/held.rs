//! The servers that got no request in the clusters before: in a new cluster they do not begin as if nothing were known.

use std::collections::{HashMap, HashSet};

use super::endpoint::{DOWN, DRAINED};
use super::{Cluster, Target};
use crate::config::values::{Address, ServerAddress};

/// The name that tells a server from others: as the file has it, and one of its addresses.
type Place = (ServerAddress, Address);

/// The flags of servers that were drained or down, and why they were down.
#[derive(Debug, Default)]
pub(super) struct Held(HashMap<Place, (u32, String)>);

impl Held {
    /// Collects those of all clusters.
    pub(super) fn of<'a>(clusters: impl Iterator<Item = &'a Cluster>) -> Self {
        let mut held: HashMap<Place, (u32, String)> = HashMap::new();
        for cluster in clusters {
            let (members, _) = cluster.members();
            for member in members.iter() {
                let flags = member.endpoint.flags() & (DRAINED | DOWN);
                if flags == 0 {
                    continue;
                }
                let server = cluster.targets[member.target].endpoint.address.clone();
                let known = held.entry((server, member.address.clone())).or_default();
                known.0 |= flags;
                if flags & DOWN != 0 {
                    known.1 = member.endpoint.why();
                }
            }
        }
        Self(held)
    }

    /// Copies those that these targets may become.
    pub(super) fn among(&self, targets: &[Target]) -> Self {
        let servers = targets.iter().map(|target| &target.endpoint.address);
        let servers: HashSet<_> = servers.collect();
        let own = self.0.iter();
        let own = own.filter(|((server, _), _)| servers.contains(server));
        let own = own.map(|(place, known)| (place.clone(), known.clone()));
        Self(own.collect())
    }

    /// Takes the flags of a server, for its first place in this cluster.
    pub(super) fn take(
        &mut self,
        server: &ServerAddress,
        address: &Address,
    ) -> Option<(u32, String)> {
        if self.0.is_empty() {
            return None;
        }
        self.0.remove(&(server.clone(), address.clone()))
    }

    /// Forgets a server, by either name: it is to get requests.
    pub(super) fn forget(&mut self, name: &str) {
        self.0.retain(|(server, address), _| {
            server.to_string() != name && address.to_string() != name
        });
    }
}
