//! Services: SRV records (RFC 2782), and the addresses of the servers that they name.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use hickory_resolver::lookup::Lookup;
use hickory_resolver::proto::rr::rdata::SRV;
use hickory_resolver::proto::rr::{Name, RData, RecordType};

use super::ask::{self, Resolution};
use super::{Answer, Current};

/// The addresses of servers that records name, by their names.
pub(crate) type Hosts = HashMap<String, Vec<IpAddr>>;

/// The servers of a service.
#[derive(Clone, Debug)]
pub(crate) struct Service {
    /// In the order of their addresses, each of which is here once.
    pub(crate) places: Vec<ServiceAddress>,
    /// The time for which all of it holds.
    pub(crate) ttl: Duration,
    /// The addresses that there are now.
    pub(crate) hosts: Hosts,
    /// The reason why a server has no address, or an old one, if one has.
    pub(crate) missing: Option<String>,
}

/// A server at one of its addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ServiceAddress {
    pub(crate) address: SocketAddr,
    /// The lowest comes first.
    pub(crate) priority: u16,
    pub(crate) weight: u16,
    /// The number of addresses that share the weight.
    pub(crate) addresses: usize,
}

impl Current {
    /// Asks for the servers of a service. One whose address cannot be had stays at those that it has in `before`.
    pub(super) async fn service(&self, name: &Name, before: &Hosts) -> Result<Service, String> {
        let mut why = String::new();
        for name in ask::candidates(name, &self.search, self.ndots) {
            match ask::records(&self.client, &name, RecordType::SRV).await {
                Resolution::Some(found) => return self.servers(&name, &found, before).await,
                Resolution::None(reason) => why = reason,
                Resolution::Failed(why) => return Err(why),
            }
        }
        Err(why)
    }

    async fn servers(
        &self,
        name: &Name,
        found: &Lookup,
        before: &Hosts,
    ) -> Result<Service, String> {
        let records = found.answers().iter();
        let records = records.filter_map(|record| match &record.data {
            RData::SRV(srv) => Some(srv),
            _ => None,
        });
        // The root says that there is no such service.
        let is_one = |srv: &&SRV| !srv.target.is_root() && srv.port > 0;
        let records: Vec<&SRV> = records.filter(is_one).collect();
        let mut targets: HashMap<String, &Name> = HashMap::new();
        for srv in &records {
            targets.entry(key(&srv.target)).or_insert(&srv.target);
        }
        let asked = targets.iter().map(|(key, target)| async {
            let known = before.get(key).map_or(&[][..], |known| known);
            (key.clone(), self.target(target, found, known).await)
        });
        let mut ttl = ask::ttl(found.answers().iter());
        let (mut hosts, mut missing) = (Hosts::new(), None);
        for (key, answer) in futures::future::join_all(asked).await {
            match answer {
                Ok(answer) => {
                    ttl = ttl.min(answer.ttl);
                    hosts.insert(key, answer.addresses);
                }
                Err(why) => {
                    missing.get_or_insert(why);
                    let known = before.get(&key).cloned();
                    hosts.extend(known.map(|known| (key, known)));
                }
            }
        }
        let places = places(&records, &hosts);
        if places.is_empty() {
            return Err(missing.unwrap_or_else(|| format!("{name} names no server")));
        }
        Ok(Service {
            places,
            ttl,
            hosts,
            missing,
        })
    }

    /// Returns the addresses of a server: those that came with its record, or else those that its name has.
    async fn target(
        &self,
        target: &Name,
        found: &Lookup,
        before: &[IpAddr],
    ) -> Result<Answer, String> {
        let own = || found.additionals().iter().filter(|r| r.name == *target);
        let addresses: Vec<_> = own().filter_map(|record| record.data.ip_addr()).collect();
        if addresses.is_empty() {
            let mut whole = target.clone();
            whole.set_fqdn(true);
            return self.addresses(&whole, before).await;
        }
        let ttl = ask::ttl(own());
        Ok(Answer { addresses, ttl })
    }
}

fn key(target: &Name) -> String {
    target.to_ascii().to_ascii_lowercase()
}

fn places(records: &[&SRV], hosts: &Hosts) -> Vec<ServiceAddress> {
    let mut places = Vec::new();
    for srv in records {
        let Some(addresses) = hosts.get(&key(&srv.target)) else {
            continue;
        };
        places.extend(addresses.iter().map(|ip| ServiceAddress {
            address: SocketAddr::new(*ip, srv.port),
            priority: srv.priority,
            weight: srv.weight,
            addresses: addresses.len(),
        }));
    }
    places.sort_by_key(|place| (place.address, place.priority));
    places.dedup_by_key(|place| place.address);
    places
}
