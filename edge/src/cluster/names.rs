//! Names of servers, which are looked up again while the proxy runs.

use std::net::SocketAddr;
use std::time::Duration;

use pingora_core::upstreams::resolve::Resolver;
use tokio::sync::oneshot;

use super::Cluster;

/// The time between two look-ups. The system tells no time to live.
const PERIOD: Duration = Duration::from_secs(30);
/// The time after the first failure. It doubles with each further one, up to [`PERIOD`].
const RETRY: Duration = Duration::from_secs(1);

/// Keeps a cluster at the addresses that the names of its servers have at the moment, for as long as the future is
/// polled. `known` is told when all names were looked up once, with whatever result.
///
/// While a look-up fails, the last known addresses stay; a server of whose name none is known gets no request.
pub(super) async fn follow(cluster: &Cluster, known: oneshot::Sender<()>) {
    let mut known = Some(known);
    let mut names = Names {
        found: cluster.known_addresses(),
        failing: vec![false; cluster.targets.len()],
    };
    let mut retry = RETRY;
    loop {
        names.look_up(cluster).await;
        if let Some(known) = known.take() {
            // Who waited may have given up.
            let _ = known.send(());
        }
        let wait = if names.failing.contains(&true) {
            retry
        } else {
            PERIOD
        };
        retry = if wait == PERIOD {
            RETRY
        } else {
            (retry * 2).min(PERIOD)
        };
        tokio::time::sleep(wait).await;
    }
}

/// What is known of the names of a cluster, by target.
struct Names {
    found: Vec<Vec<SocketAddr>>,
    failing: Vec<bool>,
}

impl Names {
    async fn look_up(&mut self, cluster: &Cluster) {
        let targets = cluster.targets.iter();
        let look_ups = targets.map(|target| async {
            match &target.resolver {
                None => None,
                Some(resolver) => Some((resolver.name(), look_up(resolver).await)),
            }
        });
        let mut moved = false;
        for (index, answer) in futures::future::join_all(look_ups)
            .await
            .into_iter()
            .enumerate()
        {
            let Some((name, answer)) = answer else {
                continue;
            };
            let failed = answer.is_err();
            match answer {
                Ok(addresses) if addresses != self.found[index] => {
                    moved = true;
                    self.found[index] = addresses;
                }
                Ok(_) => {}
                // Once for each time that it goes away.
                Err(e) if !self.failing[index] => {
                    let none = self.found[index].is_empty();
                    let what = if none {
                        "it gets no request"
                    } else {
                        "the last known addresses stay"
                    };
                    log::warn!("server {name}: {what} until its name is found: {e}");
                }
                Err(_) => {}
            }
            self.failing[index] = failed;
        }
        if moved {
            cluster.place(&self.found);
        }
    }
}

/// Returns the addresses in an order of their own: that of answers changes, which is no change.
async fn look_up(resolver: &Resolver) -> Result<Vec<SocketAddr>, String> {
    resolver.refresh().await.map_err(|e| e.to_string())?;
    let mut addresses = resolver.addresses().await.map_err(|e| e.to_string())?;
    addresses.sort_unstable();
    addresses.dedup();
    Ok(addresses)
}
