//! Servers and the way to them.

use std::collections::HashMap;

use super::Compiler;
use crate::config::model::{self, Balance, Protocol};
use crate::config::section::{Scalar, Value};
use crate::config::values::{Part, ServerAddress, Template, Variable};
use crate::config::{At, Place};
use crate::plan::{Cluster, Endpoint, Greeting};

impl Compiler<'_> {
    /// Returns the index of the cluster of a route.
    pub(super) fn cluster(&mut self, proxy: &model::Proxy) -> usize {
        self.check_servers(proxy);
        self.check_protocol(proxy);
        self.check_breaker(proxy);
        self.check_health(proxy);
        self.check_retries(proxy);
        self.check_queue(proxy);
        self.check_connections(proxy);
        if let Some(hash_by) = &proxy.hash_by {
            self.check_groups(hash_by, 0);
            if proxy.balance != Balance::Hash {
                self.errors
                    .at(hash_by.place, "`hash_by` is for `balance: hash`");
            }
        }
        let key = cluster_key(proxy);
        if let Some(known) = self.cluster_keys.get(&key) {
            return *known;
        }
        let endpoint = |endpoint: &model::Endpoint| Endpoint {
            address: endpoint.address.value.clone(),
            weight: endpoint.weight,
            backup: endpoint.backup,
            tls: speaks_tls(proxy, endpoint),
            protocol: endpoint
                .protocol
                .as_ref()
                .or(proxy.protocol.as_ref())
                .map_or(Protocol::Auto, |protocol| protocol.value),
            max_requests: endpoint.max_requests.map(|max| max.0),
            max_connections: endpoint.max_connections.map(|max| max.0),
        };
        let name = self.cluster_name(proxy);
        let sticky = self.sticky(proxy);
        self.clusters.push(Cluster {
            key: key.clone(),
            name,
            place: self.sources.name(proxy.place),
            endpoints: proxy.to.iter().map(endpoint).collect(),
            balance: proxy.balance,
            hash_by: proxy
                .hash_by
                .as_ref()
                .map_or_else(client_ip, |template| template.value.clone()),
            timeouts: timeouts(proxy),
            tls: tls(proxy),
            passive_health: proxy.passive_health.clone(),
            health: proxy.health.clone(),
            retries: proxy.retries.clone(),
            circuit_breaker: proxy.circuit_breaker.clone(),
            sticky,
            slow_start: proxy.slow_start,
            queue: proxy.queue.clone(),
            greeting: proxy.proxy_protocol.map(|version| Greeting {
                version,
                from: self.from.clone(),
            }),
        });
        self.cluster_keys.insert(key, self.clusters.len() - 1);
        self.clusters.len() - 1
    }

    /// Names a cluster by its servers; with a number, when those have other settings elsewhere.
    fn cluster_name(&mut self, proxy: &model::Proxy) -> String {
        let addresses = proxy.to.iter().map(|to| to.address.value.to_string());
        let mut name = addresses.take(NAMED).collect::<Vec<_>>().join(",");
        if let Some(more @ 1..) = proxy.to.len().checked_sub(NAMED) {
            name.push_str(&format!(",+{more}"));
        }
        let first = name.clone();
        let mut number = 1;
        while !self.cluster_names.insert(name.clone()) {
            number += 1;
            name = format!("{first}#{number}");
        }
        name
    }

    fn check_servers(&mut self, proxy: &model::Proxy) {
        if proxy.to.iter().all(|endpoint| endpoint.weight == 0) {
            self.errors.at(
                proxy.place,
                "requests would go nowhere: `to` names no server with a weight",
            );
        }
        let mut seen: HashMap<&ServerAddress, Place> = HashMap::new();
        for At { place, value } in proxy.to.iter().map(|endpoint| &endpoint.address) {
            if seen.insert(value, *place).is_some() {
                self.errors.at(
                    *place,
                    format!("the server `{value}` stands here twice; give it a `weight`"),
                );
            }
        }
        if let [first, ..] = &proxy.to[..] {
            if proxy.to.iter().all(|endpoint| endpoint.backup) {
                let message = "all servers are `backup`, and there is none to stand in for";
                self.errors.at(first.place, message);
            }
        }
    }

    fn check_protocol(&mut self, proxy: &model::Proxy) {
        for endpoint in &proxy.to {
            let told = endpoint.protocol.as_ref().or(proxy.protocol.as_ref());
            let Some(At { place, value }) = told else {
                continue;
            };
            let tls = speaks_tls(proxy, endpoint);
            let message = match value {
                Protocol::H2 if !tls => {
                    "`h2` is HTTP/2 over TLS, and `tls` is not set; HTTP/2 in the clear is `h2c`"
                }
                Protocol::H2c if tls => {
                    "`h2c` is HTTP/2 in the clear, and `tls` is set; HTTP/2 over TLS is `h2`"
                }
                Protocol::Auto | Protocol::H1 | Protocol::H2 | Protocol::H2c => continue,
            };
            self.errors.at(*place, message);
        }
    }

    fn check_breaker(&mut self, proxy: &model::Proxy) {
        let Some(breaker) = &proxy.circuit_breaker else {
            return;
        };
        let At { place, value } = &breaker.error_rate;
        if value.hundredths() == 0 {
            let message = format!("`{}` would hold every request back", value.show());
            self.errors.at(*place, message);
        }
    }
}

/// Servers that are told one by one in the name of a cluster.
const NAMED: usize = 3;

fn timeouts(proxy: &model::Proxy) -> model::Timeouts {
    let told = proxy.timeouts.clone();
    told.unwrap_or_else(|| model::Timeouts::usual(proxy.place))
}

/// Tells whether a server is spoken to with TLS.
fn speaks_tls(proxy: &model::Proxy, endpoint: &model::Endpoint) -> bool {
    let all = proxy.tls.as_ref().is_some_and(|tls| tls.enabled);
    endpoint.tls.unwrap_or(all)
}

/// Returns the terms of TLS, if any server speaks it.
fn tls(proxy: &model::Proxy) -> Option<model::UpstreamTls> {
    let spoken = proxy.to.iter().any(|endpoint| speaks_tls(proxy, endpoint));
    spoken.then(|| {
        let told = proxy.tls.clone();
        told.unwrap_or_else(|| model::UpstreamTls::of_system(proxy.place))
    })
}

fn client_ip() -> Template {
    Template::of(vec![Part::Variable(Variable::ClientIp)])
}

/// Returns the servers of an action and the way to them in print: the same for two that share a cluster.
fn cluster_key(proxy: &model::Proxy) -> String {
    let mut key = proxy.print();
    if let crate::data::Data::Map(pairs) = &mut key {
        pairs.retain(|(key, _)| key != "cache");
    }
    let mut key = key.to_yaml();
    // The print has no query, in which a token may stand.
    let path = proxy
        .health
        .as_ref()
        .and_then(|health| health.path.as_ref());
    key.extend(path.map(|path| path.value.show()));
    key
}
