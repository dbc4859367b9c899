//! TLS with clients over rustls.

mod acme;
mod client;
mod handshake;
mod identity;
mod options;
mod resolver;

use std::collections::HashMap;
use std::sync::Arc;

use pingora_core::listeners::tls::TlsSettings;
use pingora_core::Result;
use rustls::crypto::{aws_lc_rs, CryptoProvider};
use rustls::server::ProducesTickets;
use rustls::ServerConfig;

use super::{CertificateState, Policy};
use crate::config::values::HostPattern;
use crate::live::Live;
use crate::plan::{self, Plan};
pub(crate) use acme::{is_token, orders, Automatic, Ordering};
use identity::Identity;
use resolver::{AutomaticHosts, OfSite, Own};

/// Installs aws-lc-rs, which has key exchange that quantum computers do not break.
pub(super) fn init() {
    // Another one that is there already stays.
    let _ = aws_lc_rs::default_provider().install_default();
}

/// Returns the cryptography of this process.
fn provider() -> Arc<CryptoProvider> {
    init();
    let installed = CryptoProvider::get_default().cloned();
    installed.unwrap_or_else(|| Arc::new(aws_lc_rs::default_provider()))
}

pub(super) fn settings(live: Arc<Live>) -> Result<TlsSettings> {
    Ok(TlsSettings::with_config_chooser(Arc::new(
        handshake::BySite(live),
    )))
}

/// The certificates of a plan, and the configuration of handshakes for each site.
pub(crate) struct Certificates {
    /// By the index of the site.
    sites: Vec<SiteTls>,
    /// The index of the site whose certificate is shown to those that ask for no name, or for an unknown one.
    default: Option<usize>,
    /// For handshakes of no site: it refuses them.
    none: Arc<ServerConfig>,
    /// The keys of tickets, by the terms of the handshakes that they are for.
    tickets: HashMap<u64, Arc<dyn ProducesTickets>>,
    /// Those that are had by ACME.
    automatic: Arc<Automatic>,
}

/// TLS with the clients of a site.
struct SiteTls {
    name: String,
    identities: Vec<Arc<Identity>>,
    /// The hosts that have certificates by ACME.
    automatic: AutomaticHosts,
    config: Arc<ServerConfig>,
    /// The check of client certificates, if there is one.
    policy: Option<Policy>,
}

impl Certificates {
    /// Reads the certificates of all sites. What cannot be used is added to `problems`. Of `before` it keeps what lets
    /// clients resume sessions.
    pub(crate) fn load(plan: &Plan, before: Option<&Self>, problems: &mut Vec<String>) -> Self {
        let mut known: HashMap<&plan::Certificate, Option<Arc<Identity>>> = HashMap::new();
        let mut identities: Vec<Vec<Arc<Identity>>> = Vec::new();
        for site in &plan.sites {
            let mut load = |files| {
                let loaded = Identity::load(files).map(Arc::new);
                loaded
                    .map_err(|e| problems.push(format!("the site `{}`: `tls`: {e}", site.name)))
                    .ok()
            };
            let own = site.certificates.iter();
            let own =
                own.filter_map(|files| known.entry(files).or_insert_with(|| load(files)).clone());
            identities.push(own.collect());
        }
        let automatic = before.map_or_else(Arc::default, |before| before.automatic.clone());
        automatic.read(plan);
        let mut sites = plan.sites.iter().zip(&identities);
        let mut made = Self {
            sites: Vec::new(),
            default: sites.position(|(site, own)| site.is_automatic || !own.is_empty()),
            none: options::refusing(),
            tickets: HashMap::new(),
            automatic,
        };
        let fallback = made
            .default
            .map(|site| made.shown(&plan.sites[site], &identities[site]));
        let mut terms = options::Known::default();
        // The first key of a process costs a start of its source of random numbers.
        let speaks_tls = plan.listeners.iter().any(|listener| listener.tls);
        for (site, own) in plan.sites.iter().zip(identities) {
            let shown = if own.is_empty() && !site.is_automatic {
                fallback.clone().unwrap_or_default()
            } else {
                made.shown(site, &own)
            };
            let resolver = OfSite::new(shown);
            let terms = match terms.of(&site.tls_options) {
                Ok(terms) => terms,
                Err(e) => {
                    problems.push(format!("the site `{}`: `tls_options`: {e}", site.name));
                    continue;
                }
            };
            let tickets = speaks_tls.then(|| {
                let before = before.and_then(|before| before.tickets.get(&terms.hash));
                let known = made.tickets.entry(terms.hash);
                known.or_insert_with(|| before.cloned().unwrap_or_else(options::tickets))
            });
            made.sites.push(SiteTls {
                name: site.name.clone(),
                identities: own,
                automatic: automatic_hosts(site),
                config: terms.config(resolver, tickets.cloned()),
                policy: terms.policy(),
            });
        }
        made
    }

    /// Returns what a site shows to its clients.
    fn shown(&self, site: &plan::Site, own: &[Arc<Identity>]) -> Own {
        if site.is_automatic {
            Own::Automatic(self.automatic.clone(), automatic_hosts(site))
        } else {
            Own::Files(own.to_vec())
        }
    }

    /// Returns the states of all certificates, of the plan that they were made of.
    pub(crate) fn states(&self, plan: &Plan) -> Vec<CertificateState> {
        let mut states = Vec::new();
        let demanded = self.automatic.demanded_names();
        for (index, site) in self.sites.iter().enumerate() {
            let identities = site.identities.iter();
            states.extend(identities.map(|identity| identity.state(&site.name)));
            let mut state = |host: &String| states.push(self.automatic.state(&site.name, host));
            site.automatic.exact.iter().for_each(&mut state);
            if !site.automatic.patterns.is_empty() {
                let own = demanded
                    .iter()
                    .filter(|name| plan.site(name) == Some(index));
                own.for_each(&mut state);
            }
        }
        states
    }

    /// Returns those that are had by ACME.
    pub(crate) fn automatic(&self) -> Arc<Automatic> {
        self.automatic.clone()
    }

    /// Returns the configuration for clients that ask for the name of a site, or for another name.
    fn config(&self, site: Option<usize>) -> (Arc<ServerConfig>, Option<Policy>) {
        let site = site.or(self.default).and_then(|site| self.sites.get(site));
        match site {
            Some(site) => (site.config.clone(), site.policy),
            None => (self.none.clone(), None),
        }
    }

    /// Returns the configuration that refuses every handshake.
    fn refusing(&self) -> Arc<ServerConfig> {
        self.none.clone()
    }

    /// Returns the check of client certificates of a site.
    #[inline]
    pub(crate) fn policy(&self, site: usize) -> Option<Policy> {
        self.sites.get(site).and_then(|site| site.policy)
    }
}

/// Returns the hosts of a site that have certificates by ACME.
fn automatic_hosts(site: &plan::Site) -> AutomaticHosts {
    let mut hosts = AutomaticHosts::default();
    if !site.is_automatic {
        return hosts;
    }
    for host in &site.hosts {
        match host {
            HostPattern::Exact(name) => hosts.exact.push(name.clone()),
            pattern => hosts.patterns.push(pattern.clone()),
        }
    }
    if site.hosts.is_empty() {
        hosts.patterns.push(HostPattern::Any);
    }
    hosts
}
