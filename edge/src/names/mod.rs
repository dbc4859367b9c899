//! Names, asked for without blocking a thread.
//!
//! ```text
//! name -> hosts file -> localhost -> name servers: A and AAAA, for the name as it is and below each search domain
//! ```
//!
//! `/etc/hosts` and `/etc/resolv.conf` are read again when they have changed. An answer comes with the time for which it
//! holds; whoever asks keeps it, and asks again.

mod ask;
mod service;
mod system;
#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ask::Resolution;
use hickory_resolver::config::{ResolveHosts, ResolverConfig, ResolverOpts};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::Name;
use hickory_resolver::TokioResolver;
pub(crate) use service::{Hosts, Service, ServiceAddress};
use system::{FileState, Files};

use crate::config::values::{Address, ServerAddress};
use crate::plan;

/// The time for which what the hosts file says holds.
const OF_FILE: Duration = Duration::from_secs(30);
/// The longest time that a name is looked up, with all questions that it takes.
const LONGEST: Duration = Duration::from_secs(60);
/// Answers that are remembered, so that several clusters with one server ask once.
const REMEMBERED: u64 = 512;

/// Looks names up.
pub(crate) struct Resolver {
    plan: plan::Resolver,
    files: Files,
    current: Mutex<Option<Arc<Current>>>,
}

/// The addresses of a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    /// Sorted: the order of answers changes, which is no change.
    pub(crate) addresses: Vec<IpAddr>,
    /// The time for which it holds.
    pub(crate) ttl: Duration,
}

/// The content of the files, and the client that asks by it.
struct Current {
    state: FileState,
    hosts: hickory_resolver::Hosts,
    search: Vec<Name>,
    ndots: usize,
    client: TokioResolver,
}

impl Resolver {
    /// Makes one that asks the servers of a plan, or those of the system.
    pub(crate) fn new(plan: &plan::Resolver) -> Self {
        Self::with_files(plan, Files::of_system())
    }

    fn with_files(plan: &plan::Resolver, files: Files) -> Self {
        Self {
            plan: plan.clone(),
            files,
            current: Mutex::default(),
        }
    }

    /// Ends its connections to name servers, whose tasks live for as long as it does else. Who asks again has new ones.
    pub(crate) fn rest(&self) {
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Tells whether it is one of this plan.
    pub(crate) fn is_of(&self, plan: &plan::Resolver) -> bool {
        self.plan == *plan
    }

    /// Returns the addresses of a name. While one of the two kinds of address cannot be had, those that `before` has of it
    /// stay.
    ///
    /// # Errors
    ///
    /// The reason when there are none.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses the answer.
    pub(crate) async fn look_up(&self, name: &str, before: &[IpAddr]) -> Result<Answer, String> {
        let asked = async {
            let name = Name::from_ascii(name).map_err(|e| e.to_string())?;
            let current = self.current()?;
            let mut answer = current.addresses(&name, before).await?;
            answer.addresses.sort_unstable();
            answer.addresses.dedup();
            answer.ttl = answer.ttl.clamp(self.plan.min_ttl, self.plan.max_ttl);
            Ok(answer)
        };
        let within = tokio::time::timeout(LONGEST, asked).await;
        within.unwrap_or_else(|_| Err(format!("no answer within {LONGEST:?}")))
    }

    /// Looks for a server that may have a name.
    ///
    /// # Errors
    ///
    /// The reason why it is not found.
    pub(crate) async fn find(&self, server: &ServerAddress) -> Result<(), String> {
        match server {
            ServerAddress::At(Address::Name(name, _)) => self.look_up(name, &[]).await.map(drop),
            ServerAddress::At(Address::Ip(_) | Address::Unix(_)) => Ok(()),
            ServerAddress::Srv(name) => {
                let service = self.service(name, &Hosts::new()).await?;
                service.missing.map_or(Ok(()), Err)
            }
        }
    }

    /// Returns the servers of a service. One whose address cannot be had stays at those that it has in `before`.
    ///
    /// # Errors
    ///
    /// The reason when there are none.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses the answer.
    pub(crate) async fn service(&self, name: &str, before: &Hosts) -> Result<Service, String> {
        let asked = async {
            let name = Name::from_ascii(name).map_err(|e| e.to_string())?;
            let mut service = self.current()?.service(&name, before).await?;
            service.ttl = service.ttl.clamp(self.plan.min_ttl, self.plan.max_ttl);
            Ok(service)
        };
        let within = tokio::time::timeout(LONGEST, asked).await;
        within.unwrap_or_else(|_| Err(format!("no answer within {LONGEST:?}")))
    }

    /// Returns what the files say now.
    fn current(&self) -> Result<Arc<Current>, String> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let state = self.files.state();
        if let Some(current) = current.as_ref().filter(|current| current.state == state) {
            return Ok(current.clone());
        }
        let (config, mut options) = self.files.resolv_conf();
        let mut search = config.search().to_vec();
        search.iter_mut().for_each(|domain| domain.set_fqdn(true));
        let mut servers = config.name_servers().to_vec();
        if !self.plan.servers.is_empty() {
            (servers, options) = system::told(&self.plan.servers);
            search.clear();
        }
        let ndots = options.ndots;
        self.limit(&mut options);
        let config = ResolverConfig::from_parts(None, Vec::new(), servers);
        let mut builder =
            TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        *builder.options_mut() = options;
        let made = Arc::new(Current {
            state,
            hosts: self.files.hosts(),
            search,
            ndots,
            client: builder.build().map_err(|e| e.to_string())?,
        });
        *current = Some(made.clone());
        Ok(made)
    }

    fn limit(&self, options: &mut ResolverOpts) {
        if let Some(timeout) = self.plan.timeout {
            options.timeout = timeout;
        }
        let attempts = self.plan.attempts.map(|attempts| attempts as usize);
        // The client counts the attempts after the first one.
        options.attempts = attempts.unwrap_or(options.attempts).saturating_sub(1);
        options.use_hosts_file = ResolveHosts::Never;
        options.cache_size = REMEMBERED;
        // What is remembered for longer would be the answer to who asks again by then.
        options.positive_max_ttl = Some(self.plan.max_ttl);
        // Whoever asks again wants to know.
        options.negative_max_ttl = Some(Duration::ZERO);
    }
}

impl Current {
    async fn addresses(&self, name: &Name, before: &[IpAddr]) -> Result<Answer, String> {
        let addresses = system::in_hosts(&self.hosts, name);
        if !addresses.is_empty() {
            let ttl = OF_FILE;
            return Ok(Answer { addresses, ttl });
        }
        let mut why = String::new();
        for name in ask::candidates(name, &self.search, self.ndots) {
            match ask::addresses(&self.client, &name, before).await {
                Resolution::Some(answer) => return Ok(answer),
                Resolution::None(reason) => why = reason,
                // Another name than the one that was meant may be found below the next domain.
                Resolution::Failed(why) => return Err(why),
            }
        }
        Err(why)
    }
}

impl plan::Resolver {
    /// Returns a text that two resolvers share only if they ask alike.
    pub(crate) fn key(&self) -> String {
        format!("{self:?}")
    }
}
