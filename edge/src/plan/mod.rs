//! The meaning of a configuration, compiled: hosts and routes to actions and clusters. Immutable, and shared by workers.
//!
//! # Which route takes a request
//!
//! The host chooses the site: its exact name, else the longest `*.NAME`, else `*`. Among the site's routes whose path and
//! conditions fit, the first in this order takes the request:
//!
//! 1. an exact path before any pattern;
//! 2. the pattern with the longer literal text before its first wildcard (`/a/b/*` before `/a/*`);
//! 3. at the same length, a path with `*` within, then a regular expression, then a prefix;
//! 4. the route with more conditions (each method list, header, cookie, parameter, client list counts one);
//! 5. the route that stands earlier in the file.
//!
//! Routes with a weight and the same paths and conditions stand in the place of the first of them, and one of them is
//! chosen by weight.

pub mod acme;
mod admin;
pub mod cache;
pub mod client;
mod compile;
pub mod compress;
mod condition;
pub mod cors;
mod edit;
mod explain;
pub(crate) mod field_name;
pub mod forward_auth;
pub mod gate;
pub mod host;
pub mod limits;
mod listener;
pub mod mirror;
mod networks;
pub mod observe;
pub mod pages;
pub mod path;
pub mod realm;
mod request;
mod resolver;
mod search;
#[cfg(test)]
mod tests;
mod tls;
mod tree;

use std::borrow::Cow;
use std::net::IpAddr;
use std::time::Duration;

use http::header::HOST;

use crate::config::model::{
    Balance, CircuitBreaker, ForwardedMode, Health, PassiveHealth, Protocol, ProxyVersion, Queue,
    Retries, Timeouts, UpstreamTls,
};
use crate::config::values::{HostPattern, ServerAddress, Status, Template, Variable};
pub use admin::Admin;
use condition::Condition;
use edit::Rewrite;
pub(crate) use edit::Values;
pub use edit::{Change, HeaderEdit, HeaderEdits};
pub use explain::{explain, Explanation, Outcome, Question, Taken, Tried};
pub use listener::{Balancers, ClientTimeouts, Listener, Probes};
pub use request::Request;
pub(crate) use request::{asks_for_websocket, cookie_of_many};
pub use resolver::Resolver;
pub use search::Scratch;
pub use tls::{Certificate, ClientAuth, ClientCertificate, TlsOptions};

/// A compiled configuration.
#[derive(Debug)]
pub struct Plan {
    /// Tells plans apart.
    id: u64,
    /// The settings of the process, which the framework reads as YAML.
    pub server: String,
    /// The addresses that clients connect to.
    pub listeners: Vec<Listener>,
    /// The admin interface.
    pub admin: Option<Admin>,
    /// The automatic certificates, if a site has any.
    pub acme: Option<Box<acme::Acme>>,
    /// Pages of errors, for requests without a site.
    errors: Option<Box<pages::Pages>>,
    /// The sites, in the order of the file.
    pub sites: Vec<Site>,
    /// The clusters that routes refer to.
    pub clusters: Vec<Cluster>,
    /// The look-up of names of servers.
    pub resolver: Resolver,
    /// The rates of all sites and routes.
    pub rates: Vec<limits::RateLimit>,
    /// The users of all sites and routes.
    pub realms: Vec<realm::Realm>,
    /// The limits of requests at a time of all sites and routes.
    pub concurrent: Vec<limits::ConcurrentRequests>,
    /// The proxies in front of this one.
    pub trusted: Option<client::Trusted>,
    /// The words that servers are told of the client.
    pub forwarded: ForwardedMode,
    /// The memory of the cache.
    pub cache: cache::CacheSize,
    /// Logs, ids and traces of requests.
    pub observe: observe::Observe,
    hosts: host::Hosts,
    searches: usize,
}

/// A site: requests for some hosts, and what is done with them.
#[derive(Debug)]
pub struct Site {
    /// The first host, which names it in logs and metrics.
    pub name: String,
    /// The hosts.
    pub hosts: Vec<HostPattern>,
    /// The redirect of requests over HTTP.
    pub https_redirect: Option<gate::HttpsRedirect>,
    /// The value of Strict-Transport-Security.
    pub hsts: Option<String>,
    /// The certificates that clients are shown, the preferred one first.
    pub certificates: Vec<Certificate>,
    /// True if they are had by ACME.
    pub is_automatic: bool,
    /// The terms on which clients speak TLS.
    pub tls_options: TlsOptions,
    /// Pages of errors, for requests without a route.
    errors: Option<Box<pages::Pages>>,
    /// The routes, in the order of the file.
    pub routes: Vec<Route>,
    /// True if any of them has a cache.
    pub caches: bool,
    rules: Vec<Rule>,
    /// In the order in which they are asked.
    entries: Vec<Entry>,
    tree: tree::Tree,
}

/// A route: requests, and what is done with them.
#[derive(Debug)]
pub struct Route {
    /// Its number in the site from 1 and its paths, which name it in logs and metrics.
    pub name: String,
    /// Its place, as `file:line:column`.
    pub place: String,
    /// The rules that a request has to pass, if there are any.
    pub gate: Option<Box<gate::Gate>>,
    /// The change to the path that goes upstream.
    rewrite: Option<Rewrite>,
    /// The changes to the headers that go upstream.
    pub request_headers: HeaderEdits,
    /// The changes to the headers of the response.
    pub response_headers: HeaderEdits,
    /// Compression of the responses.
    pub compress: Option<Box<compress::CompressRule>>,
    /// The cache of the responses.
    pub cache: Option<Box<cache::CacheRule>>,
    /// The servers that get copies of its requests.
    pub mirror: Option<Box<mirror::Mirror>>,
    /// Pages of errors, those of its site among them.
    pub errors: Option<Box<pages::Pages>>,
    /// True if its requests need an id, whatever else asks for one.
    pub needs_id: bool,
    /// True if the access log has lines of its requests.
    pub is_logged: bool,
    /// The action that answers.
    pub action: Action,
}

/// The actions that answer a request.
#[derive(Debug)]
pub enum Action {
    /// A server of the cluster with this index.
    Proxy(usize),
    /// A redirect.
    Redirect {
        /// The address, for [`Request::fill_uri`].
        to: Template,
        /// The status.
        status: Status,
        /// The expressions whose groups stand in the address.
        groups: search::PathGroups,
    },
    /// An answer that is given here.
    Respond {
        /// The status.
        status: Status,
        /// The body.
        body: Option<Template>,
        /// The type of the body.
        content_type: String,
        /// The way in which what variables bring into it is written.
        escape: pages::Escape,
    },
}

impl Action {
    /// Tells whether it sends clients to the host that they ask for.
    pub(crate) fn leads_to_host(&self) -> bool {
        match self {
            Self::Redirect { to, .. } => to.variables().any(|variable| match variable {
                Variable::Host => true,
                Variable::Header(name) => *name == HOST,
                _ => false,
            }),
            Self::Proxy(_) | Self::Respond { .. } => false,
        }
    }
}

/// Servers that take the same requests. Routes with equal servers and settings share one.
#[derive(Debug)]
pub struct Cluster {
    /// Its servers, which name it in metrics: no two clusters of a plan have the same name.
    pub name: String,
    /// Its servers and settings in print: the same in two plans when nothing about it changed.
    pub key: String,
    /// The place that names its servers first, as `file:line:column`.
    pub place: String,
    /// The servers.
    pub endpoints: Vec<Endpoint>,
    /// The way in which a server is chosen.
    pub balance: Balance,
    /// The text by which [`Balance::Hash`] chooses, for [`Request::fill`].
    pub hash_by: Template,
    /// The time limits.
    pub timeouts: Timeouts,
    /// The terms of TLS; `None` where no server speaks it.
    pub tls: Option<UpstreamTls>,
    /// When a server is left alone.
    pub passive_health: Option<PassiveHealth>,
    /// Checks beside the requests.
    pub health: Option<Health>,
    /// When a request is tried again.
    pub retries: Option<Retries>,
    /// When requests to a server are held back.
    pub circuit_breaker: Option<CircuitBreaker>,
    /// The cookie that keeps a client at its server.
    pub sticky: Option<Sticky>,
    /// The time in which the share of a server that has come up grows.
    pub slow_start: Option<Duration>,
    /// The PROXY protocol to the servers.
    pub greeting: Option<Greeting>,
    /// The requests that wait while all servers have as many as they may.
    pub queue: Option<Queue>,
}

/// The PROXY protocol to servers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Greeting {
    /// Its version.
    pub version: ProxyVersion,
    /// The addresses that the process connects from, if those are told.
    pub from: Vec<IpAddr>,
}

/// A cookie that keeps a client at its server.
#[derive(Debug)]
pub struct Sticky {
    /// Its name.
    pub name: String,
    /// Its value in a request, for [`Request::fill`].
    pub cookie: Template,
    /// The text after its value in a response, but for `Secure`.
    pub attributes: String,
    /// True if clients send it over TLS alone; `None` for as they speak it.
    pub secure: Option<bool>,
    /// The key of its values.
    pub secret: Option<String>,
}

/// A server.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Endpoint {
    /// The address.
    pub address: ServerAddress,
    /// The share of requests; none when 0.
    pub weight: u32,
    /// True if it gets requests only while no other server can take them.
    pub backup: bool,
    /// True if it is spoken to with TLS.
    pub tls: bool,
    /// The version of HTTP.
    pub protocol: Protocol,
    /// The requests that it has at a time at most.
    pub max_requests: Option<u32>,
    /// The connections that are open to it at a time at most.
    pub max_connections: Option<u32>,
}

/// Routes with the same paths and conditions: one, or several with weights.
#[derive(Debug)]
struct Rule {
    conditions: Vec<Condition>,
    /// The routes, each with the sum of the weights up to it.
    routes: Vec<(u64, usize)>,
}

/// A path of a rule.
#[derive(Debug)]
struct Entry {
    rule: usize,
    /// The test of the rest of the path, for those that need one.
    search: Option<search::Search>,
    /// The path as in the file.
    shown: String,
}

/// The route that takes a request.
#[derive(Clone, Copy, Debug)]
pub struct Found<'p> {
    /// The index of the site in [`Plan::sites`].
    pub site: usize,
    /// The index of the route in [`Site::routes`].
    pub index: usize,
    /// The route.
    pub route: &'p Route,
}

impl Plan {
    /// Returns the site of a host in its normal form.
    pub fn site(&self, host: &str) -> Option<usize> {
        self.hosts.find(host)
    }

    /// Returns the route that takes a request; `None` when no site has the host, or no route fits. `random` chooses
    /// among routes with weights: each of its values gives one choice, whatever was chosen before.
    pub fn find(&self, request: &Request, random: u32, scratch: &mut Scratch) -> Option<Found<'_>> {
        self.find_in(self.site(request.host)?, request, random, scratch)
    }

    /// As [`find`](Self::find), where the site is known.
    pub(crate) fn find_in(
        &self,
        site: usize,
        request: &Request,
        random: u32,
        scratch: &mut Scratch,
    ) -> Option<Found<'_>> {
        let index = self.route(site, request, random, scratch)?;
        let route = &self.sites[site].routes[index];
        Some(Found { site, index, route })
    }

    /// Returns the path and query that go upstream.
    ///
    /// # Errors
    ///
    /// A rewrite made no path of it; to be answered with 400.
    pub fn target<'a>(
        &self,
        route: &Route,
        request: &Request<'a>,
        scratch: &mut Scratch,
    ) -> Result<Cow<'a, str>, path::BadPath> {
        scratch.prepare(self.id, self.searches);
        match &route.rewrite {
            Some(rewrite) => rewrite.target(request, scratch),
            None => Ok(request.target(request.path.as_str())),
        }
    }

    /// Returns the address that a route sends a request to; `None` when it does something else.
    pub fn location(
        &self,
        route: &Route,
        request: &Request,
        scratch: &mut Scratch,
    ) -> Option<String> {
        let Action::Redirect { to, groups, .. } = &route.action else {
            return None;
        };
        scratch.prepare(self.id, self.searches);
        Some(request.fill_uri(to, &groups.of(request.path.matched(), scratch)))
    }

    /// Returns the index of the route of a site that takes a request.
    fn route(
        &self,
        site: usize,
        request: &Request,
        random: u32,
        scratch: &mut Scratch,
    ) -> Option<usize> {
        scratch.prepare(self.id, self.searches);
        let site = &self.sites[site];
        let path = request.path.matched();
        let mut best: Option<u32> = None;
        site.tree.walk(path, |entries, tested| {
            // Those behind the best so far cannot win.
            let better = entries
                .iter()
                .take_while(|entry| best.is_none_or(|best| **entry < best));
            let found = better.copied().find(|entry| {
                let entry = &site.entries[*entry as usize];
                let fits = !tested
                    || entry
                        .search
                        .as_ref()
                        .is_none_or(|s| s.matches(path.as_bytes(), scratch));
                fits && site.rules[entry.rule].holds(request, scratch)
            });
            best = found.or(best);
        });
        Some(site.rules[site.entries[best? as usize].rule].choose(random))
    }
}

impl Route {
    /// Tells whether any of its texts has the id of the request in it.
    fn has_id(&self) -> bool {
        let edited = self.request_headers.has_id() || self.response_headers.has_id();
        edited
            || self.rewrite.as_ref().is_some_and(Rewrite::has_id)
            || match &self.action {
                Action::Proxy(_) => false,
                Action::Redirect { to, .. } => to.has_id(),
                Action::Respond { body, .. } => body.as_ref().is_some_and(Template::has_id),
            }
    }

    /// Tells whether the path that goes upstream may be another one than the normal form of the request's.
    pub fn rewrites(&self) -> bool {
        self.rewrite.is_some()
    }

    /// Returns what the key of a cache needs of a target that the rewrite has made, if that has more in it than the URL.
    pub(crate) fn keyed<'t>(&self, target: &'t [u8]) -> Option<&'t [u8]> {
        self.rewrite.as_ref()?.keyed(target)
    }
}

impl Rule {
    fn holds(&self, request: &Request, scratch: &mut Scratch) -> bool {
        self.conditions
            .iter()
            .all(|condition| condition.holds(request, scratch))
    }

    fn choose(&self, random: u32) -> usize {
        let sum = self.routes.last().map_or(0, |(sum, _)| *sum);
        // Spreads the numbers over the sum: each weight gets its share of them, to within one.
        let point = ((u128::from(random) * u128::from(sum)) >> 32) as u64;
        let chosen = self.routes.partition_point(|(until, _)| *until <= point);
        self.routes[chosen].1
    }
}
