//! Names of servers that are looked up again while the program runs.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use pingora_core::server::ShutdownWatch;
use pingora_core::services::background::BackgroundService;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_core::upstreams::resolve::{Resolver, ResolverOptions};

use super::target::Target;
use super::Upstreams;
use crate::address::Address;

/// Makes the peer at an address of a target, with all its options.
pub type MakePeer = dyn Fn(&Target, &Address) -> Result<HttpPeer, String> + Send + Sync;

/// Keeps an [`Upstreams`] at the addresses that the names of its servers have at the moment.
///
/// The system tells no time to live: names are looked up once in a [period](ResolverOptions::ttl). While that fails,
/// the last known addresses stay.
pub struct Names {
    upstreams: Arc<Upstreams>,
    targets: Vec<(Target, Option<Resolver>)>,
    make: Arc<MakePeer>,
    period: Duration,
}

impl Names {
    /// Looks the names of `targets` up, as [`ResolverOptions`] are made by `options` for each.
    ///
    /// # Errors
    /// When a name is none.
    pub fn new(
        upstreams: Arc<Upstreams>,
        targets: &[Target],
        make: Arc<MakePeer>,
        options: impl Fn() -> ResolverOptions,
    ) -> Result<Self, String> {
        let resolver = |target: &Target| match target.name() {
            None => Ok((target.clone(), None)),
            Some(name) => Resolver::with_options(name, options())
                .map(|resolver| (target.clone(), Some(resolver)))
                .map_err(|e| e.to_string()),
        };
        Ok(Names {
            upstreams,
            targets: targets.iter().map(resolver).collect::<Result<_, _>>()?,
            make,
            period: options().ttl,
        })
    }

    /// Looks all names up, and replaces the servers if one has moved.
    async fn look_up(&self, known: &mut Vec<Address>) {
        let (mut all, mut peers) = (Vec::new(), Vec::new());
        for (target, resolver) in &self.targets {
            let addresses = match resolver {
                None => target.addresses(),
                Some(resolver) => {
                    if let Err(e) = resolver.refresh().await {
                        log::warn!("the last known addresses are used on: {e}");
                    }
                    let addresses = resolver.addresses().await;
                    addresses
                        .map(|found| found.into_iter().map(Address::Inet).collect())
                        .map_err(|e| e.to_string())
                }
            };
            let Ok(mut addresses) = addresses else {
                // Told above. Nothing is known of it yet, so all that was found at the start stays.
                return;
            };
            // Answers come in turns, which is no change.
            addresses.sort_by_key(|address| address.to_string());
            for address in addresses {
                match (self.make)(target, &address) {
                    Ok(peer) => peers.push(peer),
                    Err(e) => return log::warn!("upstream {target}: {e}"),
                }
                all.push(address);
            }
        }
        if *known != all {
            if !known.is_empty() {
                let all: Vec<_> = all.iter().map(Address::to_string).collect();
                log::info!("upstreams are at {} now", all.join(", "));
            }
            *known = all;
            self.upstreams.replace(peers);
        }
    }
}

#[async_trait]
impl BackgroundService for Names {
    async fn start(&self, mut shutdown: ShutdownWatch) {
        let mut known = Vec::new();
        while !*shutdown.borrow() {
            self.look_up(&mut known).await;
            // An error means that nobody is left to say so.
            let stopped = tokio::time::timeout(self.period, shutdown.changed()).await;
            if matches!(stopped, Ok(Err(_))) {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstreams::{Health, Tried};
    use pingora_core::upstreams::resolve::{Lookup, LookupFuture};
    use std::net::SocketAddr;
    use std::sync::Mutex;

    /// Answers with what it holds, and fails when that is nothing.
    struct Book(Mutex<Vec<SocketAddr>>);

    impl Lookup for Book {
        fn lookup<'a>(&'a self, _: &'a str) -> LookupFuture<'a> {
            let found = self.0.lock().expect("nobody panics with it").clone();
            Box::pin(async move {
                match found.is_empty() {
                    true => Err(std::io::Error::other("the book is shut")),
                    false => Ok(found),
                }
            })
        }
    }

    #[tokio::test]
    async fn servers_move_with_their_names_and_stay_while_look_ups_fail() {
        let address = |port: u16| SocketAddr::from(([127, 0, 0, 1], port));
        let book = Arc::new(Book(Mutex::new(vec![address(1)])));
        let targets: Vec<Target> = ["moves.example:1", "127.0.0.1:9"]
            .iter()
            .filter_map(|text| text.parse().ok())
            .collect();
        let upstreams = Arc::new(Upstreams::new(Vec::new(), Health::default()));
        let make = Arc::new(|target: &Target, address: &Address| target.peer(address, None));
        let options = || {
            let mut options = ResolverOptions::default();
            options.ttl = Duration::from_millis(1);
            options.lookup = book.clone();
            options
        };
        let names = Names::new(upstreams.clone(), &targets, make, options).expect("names");
        let mut known = Vec::new();
        let steps: [(&[u16], &[u16]); 5] = [
            (&[1], &[1, 9]),
            (&[2, 3], &[2, 3, 9]),
            (&[3, 2], &[2, 3, 9]),
            (&[], &[2, 3, 9]),
            (&[4], &[4, 9]),
        ];
        for (told, used) in steps {
            *book.0.lock().expect("nobody panics with it") =
                told.iter().map(|port| address(*port)).collect();
            names.look_up(&mut known).await;
            let mut ports: Vec<_> = (0..used.len())
                .filter_map(|_| upstreams.pick(&mut Tried::default()).ok())
                .filter_map(|peer| Some(peer._address.as_inet()?.port()))
                .collect();
            ports.sort_unstable();
            assert_eq!(ports, used, "after {told:?}");
        }
    }
}
