//! From what stands in the file to what it means.

mod acme;
mod acme_on_demand;
mod admin;
mod auth;
mod cache;
mod cluster;
mod cluster_health;
mod cluster_queue;
mod cluster_sticky;
mod compress;
mod errors;
mod foreign;
mod forward_auth;
mod gate;
mod limits;
mod listen;
mod mirror;
mod observe;
mod resolver;
mod server;
mod tls;
mod users;

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};

use http::{HeaderName, HeaderValue, StatusCode};

use super::condition::Condition;
use super::edit::{HeaderEdit, HeaderEdits, Rewrite};
use super::limits::{ConcurrentRequests, RateLimit};
use super::pages::{Escape, Pages};
use super::realm::Realm;
use super::search::{PathGroups, Search, Searches};
use super::tree::{Kind, Tree};
use super::{host, Action, Cluster, Entry, Plan, Route, Rule, Site, TlsOptions};
use crate::config::model;
use crate::config::section::Value;
use crate::config::values::{
    HostPattern, Part, PathPattern, ServerAddress, Status, Template, Variable,
};
use crate::config::{At, Config, ConfigErrors, Errors, Place, Sources};

impl Plan {
    /// Compiles a configuration.
    ///
    /// # Errors
    ///
    /// Everything in it that contradicts itself, in the order of the files.
    pub fn compile(config: &Config) -> Result<Self, ConfigErrors> {
        let mut compiler = Compiler {
            sources: &config.sources,
            errors: Errors::default(),
            clusters: Vec::new(),
            cluster_keys: HashMap::new(),
            cluster_names: HashSet::new(),
            connections: HashMap::new(),
            searches: Searches::default(),
            rates: Vec::new(),
            realms: Vec::new(),
            realms_by_place: BTreeMap::new(),
            concurrent: Vec::new(),
            root_tls: TlsOptions::default(),
            from: Vec::new(),
        };
        let plan = compiler.plan(&config.model);
        if !compiler.errors.is_empty() {
            return Err(config.refused(compiler.errors, config.watched.clone()));
        }
        Ok(plan)
    }
}

/// Returns the addresses that the process connects from, if those are told.
fn from(root: &model::Root) -> Vec<IpAddr> {
    let server = root.server.iter();
    let all = server.flat_map(|server| {
        let v6 = server.client_bind_to_ipv6.iter();
        server.client_bind_to_ipv4.iter().chain(v6)
    });
    // One that is no address is an error of `server`.
    all.filter_map(|text| text.parse().ok()).collect()
}

struct Compiler<'a> {
    sources: &'a Sources,
    errors: Errors,
    clusters: Vec<Cluster>,
    cluster_keys: HashMap<String, usize>,
    cluster_names: HashSet<String>,
    /// The maximum of connections of each server, and the place that says so first.
    connections: HashMap<ServerAddress, (Option<u32>, Place)>,
    searches: Searches,
    rates: Vec<RateLimit>,
    realms: Vec<Realm>,
    /// The indexes of users by the places that name them: a site's are asked for by each of its routes.
    realms_by_place: BTreeMap<Place, usize>,
    concurrent: Vec<ConcurrentRequests>,
    /// The options of TLS at the root.
    root_tls: TlsOptions,
    /// The addresses that the process connects from, if those are told.
    from: Vec<IpAddr>,
}

impl Compiler<'_> {
    fn plan(&mut self, root: &model::Root) -> Plan {
        static ID: AtomicU64 = AtomicU64::new(1);
        if let Some(options) = &root.tls_options {
            let mut made = TlsOptions::default();
            self.add_tls_options(options, &mut made);
            self.root_tls = made;
        }
        self.from = from(root);
        let errors = self.pages(&root.errors, None);
        let sites = root.sites.iter();
        let sites: Vec<_> = sites
            .map(|site| self.site(site, errors.as_deref()))
            .collect();
        let hosts = self.hosts(root);
        let listeners = self.listeners(root);
        let acme = self.acme(root, &listeners);
        let admin = self.admin(root);
        let server = self.server(root);
        Plan {
            id: ID.fetch_add(1, Ordering::Relaxed),
            server,
            listeners,
            acme,
            admin,
            errors,
            sites,
            clusters: std::mem::take(&mut self.clusters),
            resolver: self.resolver(root),
            rates: std::mem::take(&mut self.rates),
            realms: std::mem::take(&mut self.realms),
            concurrent: std::mem::take(&mut self.concurrent),
            trusted: self.trusted(root),
            forwarded: root.forwarded,
            cache: self.cache_size(root),
            observe: self.observe(root),
            hosts,
            searches: self.searches.count,
        }
    }

    fn hosts(&mut self, root: &model::Root) -> host::Hosts {
        let mut hosts = host::Hosts::default();
        for (index, site) in root.sites.iter().enumerate() {
            let any = At {
                place: site.place,
                value: HostPattern::Any,
            };
            let own = if site.hosts.is_empty() {
                std::slice::from_ref(&any)
            } else {
                &site.hosts
            };
            for At { place, value } in own {
                if let Some(other) = hosts.insert(value, index) {
                    let other = self.sources.name(root.sites[other].place);
                    self.errors.at(
                        *place,
                        format!("the host `{value}` belongs to the site at {other} already"),
                    );
                }
            }
        }
        hosts
    }

    fn site(&mut self, site: &model::Site, errors: Option<&Pages>) -> Site {
        let hosts: Vec<_> = match &site.hosts[..] {
            [] => vec![HostPattern::Any],
            hosts => hosts.iter().map(|host| host.value.clone()).collect(),
        };
        let mut made = Site {
            name: hosts[0].to_string(),
            hosts,
            https_redirect: self.https_redirect(site),
            hsts: self.hsts(site),
            certificates: site.tls.files().iter().map(tls::certificate).collect(),
            is_automatic: site.tls.auto().is_some(),
            tls_options: self.tls_options(site),
            errors: self.pages(&site.errors, errors),
            routes: Vec::new(),
            caches: false,
            rules: Vec::new(),
            entries: Vec::new(),
            tree: Tree::new(),
        };
        let numbered = site.routes.iter().enumerate();
        made.routes = numbered
            .map(|(index, route)| self.route(index, route, made.errors.as_deref()))
            .collect();
        made.caches = made.routes.iter().any(|route| route.cache.is_some());
        self.gates(site, &mut made);
        self.rules(site, &mut made);
        made
    }

    /// Groups the routes of a site into rules, and puts the paths of those in order.
    fn rules(&mut self, site: &model::Site, made: &mut Site) {
        let mut known: HashMap<String, usize> = HashMap::new();
        let mut first_routes: Vec<&model::Route> = Vec::new();
        for (index, route) in site.routes.iter().enumerate() {
            let weight = route
                .weight
                .as_ref()
                .map_or(1, |weight| u64::from(weight.value));
            match known.get(&fits(route)) {
                None => {
                    known.insert(fits(route), made.rules.len());
                    made.rules.push(Rule {
                        conditions: Condition::all(route, &mut self.searches),
                        routes: vec![(weight, index)],
                    });
                    first_routes.push(route);
                }
                Some(rule) => {
                    let first = first_routes[*rule];
                    if first.weight.is_none() || route.weight.is_none() {
                        let first = self.sources.name(first.place);
                        let message = format!(
                            "the route at {first} takes the same requests; give each a `weight`"
                        );
                        self.errors.at(route.place, message);
                    }
                    let routes = &mut made.rules[*rule].routes;
                    let sum = routes.last().map_or(0, |(sum, _)| *sum);
                    routes.push((sum + weight, index));
                }
            }
        }
        for (rule, route) in made.rules.iter().zip(&first_routes) {
            if rule.routes.last().is_some_and(|(sum, _)| *sum == 0) {
                self.errors
                    .at(route.place, "no request would be taken: all weights are 0");
            }
        }
        self.entries(&first_routes, made);
    }

    fn entries(&mut self, rules: &[&model::Route], made: &mut Site) {
        let every = PathPattern::Prefix(String::new());
        let mut entries = Vec::new();
        for (rule, route) in rules.iter().enumerate() {
            let conditions = made.rules[rule].conditions.len();
            let paths: Vec<_> = match &route.path[..] {
                [] => vec![&every],
                paths => paths.iter().map(|path| &path.value).collect(),
            };
            entries.extend(
                paths
                    .into_iter()
                    .map(|path| (rank(path, conditions), rule, path)),
            );
        }
        entries.sort_by_key(|(rank, rule, _)| (*rank, *rule));
        for (index, (_, rule, path)) in entries.into_iter().enumerate() {
            let (kind, search) = match path {
                PathPattern::Exact(_) => (Kind::Exact, None),
                PathPattern::Prefix(_) => (Kind::Prefix, None),
                PathPattern::Glob(_, regex) | PathPattern::Regex(regex) => {
                    (Kind::Pattern, Some(self.searches.add(regex)))
                }
            };
            // A file is too small for more.
            made.tree.insert(path.literal(), kind, index as u32);
            made.entries.push(Entry {
                rule,
                search,
                shown: path.to_string(),
            });
        }
    }

    fn route(&mut self, index: usize, route: &model::Route, errors: Option<&Pages>) -> Route {
        let paths: Vec<_> = route
            .path
            .iter()
            .map(|path| path.value.to_string())
            .collect();
        let paths = if paths.is_empty() {
            "/*".into()
        } else {
            paths.join(" ")
        };
        let name = format!("{} {paths}", index + 1);
        let action = self.action(route);
        let rewrite = self.rewrite(route);
        if let (Some(strip), false) = (
            &route.strip_prefix,
            matches!(action, Some(Action::Proxy(_))),
        ) {
            self.errors.at(
                strip.place,
                "`strip_prefix` is for what goes upstream, and this route has no `proxy`",
            );
        }
        if let Some(strip) = &route.strip_prefix {
            for path in &route.path {
                if !below(&path.value, strip.value.as_str()) {
                    let (path_shown, prefix) = (path.value.to_string(), strip.value.as_str());
                    let message =
                        format!("paths that fit `{path_shown}` need not begin with `{prefix}`");
                    self.errors.at(strip.place, message);
                }
            }
        }
        let mut made = Route {
            name,
            place: self.sources.name(route.place),
            gate: None,
            rewrite,
            request_headers: self.edits(&route.request_headers),
            response_headers: self.edits(&route.response_headers),
            compress: self.compress(route),
            cache: self.cache(route),
            mirror: self.mirror(route),
            errors: self.pages(&route.errors, errors),
            needs_id: false,
            is_logged: route.access_log,
            // Nobody sees it: there is an error.
            action: action.unwrap_or(Action::Proxy(usize::MAX)),
        };
        let hashed = match made.action {
            Action::Proxy(cluster) => self.clusters.get(cluster),
            _ => None,
        };
        made.needs_id = made.has_id()
            || made.errors.is_some()
            || hashed.is_some_and(|cluster| cluster.hash_by.has_id());
        made
    }

    fn action(&mut self, route: &model::Route) -> Option<Action> {
        match (&route.proxy, &route.redirect, &route.respond) {
            (Some(proxy), None, None) => Some(Action::Proxy(self.cluster(proxy))),
            (None, Some(redirect), None) => Some(self.redirect(route, redirect)),
            (None, None, Some(respond)) => Some(self.respond(respond)),
            (None, None, None) => {
                self.errors.at(
                    route.place,
                    "a route needs one of `proxy`, `redirect` and `respond`",
                );
                None
            }
            _ => {
                self.errors.at(
                    route.place,
                    "a route has only one of `proxy`, `redirect` and `respond`",
                );
                None
            }
        }
    }

    fn rewrite(&mut self, route: &model::Route) -> Option<Rewrite> {
        let Some(rewrite) = &route.rewrite else {
            let prefix = route.strip_prefix.as_ref()?;
            return Some(Rewrite::Strip(prefix.value.as_str().to_owned()));
        };
        if let Some(strip) = &route.strip_prefix {
            self.errors.at(
                strip.place,
                "a route has only one of `strip_prefix` and `rewrite`",
            );
        }
        if route.proxy.is_none() {
            self.errors.at(
                rewrite.place,
                "`rewrite` is for what goes upstream, and this route has no `proxy`",
            );
        }
        let At { place, value: to } = &rewrite.to;
        let regex = rewrite.regex.as_ref().map(|regex| self.searches.add(regex));
        let groups = regex.as_ref().map_or(0, Search::group_count);
        self.check_groups(&rewrite.to, groups);
        self.check_foreign(&rewrite.to, true);
        let absolute = match to.parts().first() {
            Some(Part::Text(text)) => text.starts_with('/'),
            Some(Part::Variable(variable)) => matches!(variable, Variable::Path | Variable::Uri),
            None => false,
        };
        if !absolute {
            self.errors
                .at(*place, "the path of a rewrite begins with `/` or `{path}`");
        }
        let made = Rewrite::template(regex, to);
        if made.has_dots() {
            let message = "the path of a rewrite has no segment `.` or `..`";
            self.errors.at(*place, message);
        }
        Some(made)
    }

    /// Refuses groups that there are not, and variables of answers.
    fn check_groups(&mut self, template: &At<Template>, count: usize) {
        for variable in template.value.variables() {
            match variable {
                Variable::Group(group) if count == 0 => {
                    let message = format!(
                        "{{{group}}} is a group of a regular expression, and there is none here"
                    );
                    self.errors.at(template.place, message);
                }
                Variable::Group(group) if *group >= count => {
                    let message = format!(
                        "there is no group {{{group}}}: the expression has {}",
                        count - 1
                    );
                    self.errors.at(template.place, message);
                }
                Variable::Status | Variable::Reason => {
                    let message = "`{status}` and `{reason}` are for the pages of `errors`";
                    self.errors.at(template.place, message);
                }
                _ => {}
            }
        }
    }

    fn edits(&mut self, edits: &Option<model::HeaderEdits>) -> HeaderEdits {
        let Some(edits) = edits else {
            return HeaderEdits::default();
        };
        let mut made = HeaderEdits::default();
        for At { place, value: name } in &edits.remove {
            self.check_header(name, *place);
            made.0.push(HeaderEdit::Remove(name.clone()));
        }
        for (name, template) in &edits.set.0 {
            self.check_edit(name, template);
            made.0
                .push(HeaderEdit::Set(name.clone(), template.value.clone()));
        }
        for (name, template) in &edits.add.0 {
            self.check_edit(name, template);
            made.0
                .push(HeaderEdit::Add(name.clone(), template.value.clone()));
        }
        made
    }

    fn check_edit(&mut self, name: &HeaderName, template: &At<Template>) {
        self.check_header(name, template.place);
        self.check_groups(template, 0);
        self.check_foreign(template, false);
        let lines = |part: &Part| matches!(part, Part::Text(text) if text.contains('\n'));
        if template.value.parts().iter().any(lines) {
            self.errors
                .at(template.place, "the value of a header is one line");
        }
    }

    /// Refuses headers that belong to a connection or to the framing of a message.
    fn check_header(&mut self, name: &HeaderName, place: Place) {
        const OURS: [&str; 8] = [
            "connection",
            "content-length",
            "keep-alive",
            "proxy-connection",
            "te",
            "trailer",
            "transfer-encoding",
            "upgrade",
        ];
        if OURS.contains(&name.as_str()) {
            self.errors.at(
                place,
                format!("`{name}` belongs to the connection, and is set by the proxy alone"),
            );
        }
    }

    fn redirect(&mut self, route: &model::Route, redirect: &model::Redirect) -> Action {
        let status = redirect.status.as_ref();
        let status = status.map_or(StatusCode::TEMPORARY_REDIRECT, |at| {
            self.redirect_status(at)
        });
        let groups = self.path_groups(route, &redirect.to.value);
        self.check_groups(&redirect.to, groups.count());
        self.check_foreign(&redirect.to, true);
        let mut texts = redirect.to.value.parts().iter();
        if texts.any(|part| matches!(part, Part::Text(text) if text.contains(['\n', '\t', ' ']))) {
            self.errors
                .at(redirect.to.place, "an address holds no white space");
        }
        Action::Redirect {
            to: redirect.to.value.clone(),
            status: Status(status),
            groups,
        }
    }

    /// Returns the expressions of a route's paths, if a template has their groups and all paths are expressions.
    fn path_groups(&mut self, route: &model::Route, of: &Template) -> PathGroups {
        let is_group = |variable: &Variable| matches!(variable, Variable::Group(_));
        if !of.variables().any(is_group) {
            return PathGroups::default();
        }
        let expressions = route.path.iter().map(|path| match &path.value {
            PathPattern::Regex(regex) => Some(self.searches.add(regex)),
            _ => None,
        });
        PathGroups(expressions.collect::<Option<_>>().unwrap_or_default())
    }

    fn redirect_status(&mut self, at: &At<Status>) -> StatusCode {
        let status = at.value.0;
        if !matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308) {
            let message = format!(
                "{} is no status of a redirect; expected 301, 302, 303, 307 or 308",
                status.as_u16()
            );
            self.errors.at(at.place, message);
        }
        status
    }

    fn respond(&mut self, respond: &model::Respond) -> Action {
        if let Some(body) = &respond.body {
            self.check_groups(body, 0);
        }
        if HeaderValue::from_str(&respond.content_type).is_err() {
            let message = "`content_type` holds what no header may";
            self.errors.at(respond.place, message);
        }
        Action::Respond {
            status: respond.status,
            body: respond.body.as_ref().map(|body| body.value.clone()),
            content_type: respond.content_type.clone(),
            escape: Escape::of(&respond.content_type),
        }
    }
}

/// Returns the paths and conditions of a route in print: the same for two routes that fit the same requests.
fn fits(route: &model::Route) -> String {
    let mut alone = route.print();
    if let crate::data::Data::Map(pairs) = &mut alone {
        pairs.retain(|(key, _)| {
            matches!(
                &**key,
                "path" | "method" | "header" | "query" | "cookie" | "client" | "tls_client"
            )
        });
    }
    alone.to_yaml()
}

/// The place of a path in the order that the doc of the module tells; the number of the rule comes after it.
fn rank(path: &PathPattern, conditions: usize) -> (bool, Reverse<usize>, u8, Reverse<usize>) {
    let exact = matches!(path, PathPattern::Exact(_));
    let kind = match path {
        PathPattern::Exact(_) => 0,
        PathPattern::Glob(..) => 1,
        PathPattern::Regex(_) => 2,
        PathPattern::Prefix(_) => 3,
    };
    let length = if exact { 0 } else { path.literal().len() };
    (!exact, Reverse(length), kind, Reverse(conditions))
}

/// Tells whether all paths that fit a pattern begin with these segments.
fn below(path: &PathPattern, prefix: &str) -> bool {
    let rest = path.literal().strip_prefix(prefix);
    let whole = matches!(path, PathPattern::Exact(_) | PathPattern::Prefix(_));
    rest.is_some_and(|rest| rest.starts_with('/') || (rest.is_empty() && whole))
}
