//! Tells which site, route and servers a request would meet, and why.

use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;

use http::{header, HeaderMap, Method};

use super::{host, path, Action, Entry, Plan, Request, Scratch, Site};
use crate::config::secrets::STARS;
use crate::config::section::Scalar;
use crate::data::Data;

/// A request to explain.
#[derive(Clone, Debug)]
pub struct Question {
    /// The method.
    pub method: Method,
    /// The address: `http://HOST/PATH?QUERY`, `HOST/PATH`, or a path alone with a header `Host`.
    pub url: String,
    /// The headers.
    pub headers: HeaderMap,
    /// The address of the client.
    pub client: Option<IpAddr>,
}

/// The answer: what happens to a request, step by step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// The request as it was read.
    pub request: String,
    /// The normal form of the path.
    pub path: String,
    /// The site that has the host.
    pub site: Option<String>,
    /// The routes whose path fits, in the order in which they are asked, up to the one that takes the request.
    pub tried: Vec<Tried>,
    /// The number of the site's other routes: those whose path does not fit, or that come later.
    pub others: usize,
    /// The outcome.
    pub outcome: Outcome,
}

/// A path of a route, and the conditions of that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tried {
    /// The route's name.
    pub route: String,
    /// The route's place in the file.
    pub place: String,
    /// The path that fits.
    pub path: String,
    /// Each condition, and whether it holds.
    pub conditions: Vec<(String, bool)>,
}

/// The outcome of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is refused with 400.
    Refused(String),
    /// The site sends it to HTTPS: the status and the address.
    Redirected(u16, String),
    /// No site has its host.
    NoSite,
    /// No route of the site fits.
    NoRoute,
    /// One of these routes takes it; there are several only where they have weights.
    Taken(Vec<Taken>),
}

/// A route that takes a request, and what it does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    /// The route's name.
    pub route: String,
    /// The route's place in the file.
    pub place: String,
    /// Its weight, and the sum of the weights.
    pub weight: Option<(u64, u64)>,
    /// Its actions, in order.
    pub actions: Vec<String>,
    /// The servers, with their weights.
    pub endpoints: Vec<(String, u32)>,
}

/// Explains a request.
pub fn explain(plan: &Plan, question: &Question) -> Explanation {
    let (secure, host, raw_path, query) = split(question);
    let mut answer = Explanation {
        request: format!("{} {}", question.method, question.url),
        path: raw_path.to_owned(),
        site: None,
        tried: Vec::new(),
        others: 0,
        outcome: Outcome::NoSite,
    };
    let Some(host) = host::normalise(host) else {
        answer.outcome = Outcome::Refused("the host is no name and no IP address".into());
        return answer;
    };
    let path = match path::normalise(raw_path.as_bytes()) {
        Ok(path) => path,
        Err(why) => {
            answer.outcome = Outcome::Refused(why.to_string());
            return answer;
        }
    };
    answer.path = path.as_str().to_owned();
    let query = query.map(|query| path::normal_query(query.as_bytes()));
    let request = Request {
        method: &question.method,
        secure,
        host: &host,
        authority: None,
        path: &path,
        query: query.as_deref(),
        headers: &question.headers,
        client: question.client,
        tls_client: None,
        id: "REQUEST-ID",
    };
    if let Some(index) = plan.site(&host) {
        let site = &plan.sites[index];
        answer.site = Some(site.name.clone());
        answer.outcome = match &site.https_redirect {
            Some(redirect) if !secure => {
                let (status, to) = redirect.answer(&request);
                Outcome::Redirected(status.as_u16(), to)
            }
            _ => answer.routes(plan, site, &request),
        };
    }
    answer
}

/// Splits an address into scheme, host, path and query.
fn split(question: &Question) -> (bool, &str, &str, Option<&str>) {
    let url = question.url.split('#').next().unwrap_or("");
    let (scheme, rest) = url.split_once("://").unwrap_or(("http", url));
    let (named, target) = rest
        .find(['/', '?'])
        .map_or((rest, ""), |at| rest.split_at(at));
    let header = question.headers.get(header::HOST);
    let host = header.and_then(|host| host.to_str().ok()).unwrap_or(named);
    let (path, query) = match target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (target, None),
    };
    (scheme == "https", host, path, query)
}

impl Explanation {
    fn routes(&mut self, plan: &Plan, site: &Site, request: &Request) -> Outcome {
        let mut scratch = Scratch::default();
        scratch.prepare(plan.id, plan.searches);
        let mut fitting: Vec<u32> = Vec::new();
        let path = request.path.matched();
        site.tree.walk(path, |entries, tested| {
            let fits = |entry: &Entry, scratch: &mut Scratch| {
                !tested
                    || entry
                        .search
                        .as_ref()
                        .is_none_or(|s| s.matches(path.as_bytes(), scratch))
            };
            fitting.extend(
                entries
                    .iter()
                    .filter(|n| fits(&site.entries[**n as usize], &mut scratch)),
            );
        });
        fitting.sort_unstable();
        let taken = fitting.iter().position(|n| {
            let entry = &site.entries[*n as usize];
            let rule = &site.rules[entry.rule];
            let conditions = rule.conditions.iter();
            let first = &site.routes[rule.routes[0].1];
            let tried = Tried {
                route: first.name.clone(),
                place: first.place.clone(),
                path: entry.shown.clone(),
                conditions: conditions
                    .map(|c| (c.show(), c.holds(request, &mut scratch)))
                    .collect(),
            };
            let holds = tried.conditions.iter().all(|(_, holds)| *holds);
            self.tried.push(tried);
            holds
        });
        self.others = site.entries.len() - self.tried.len();
        let Some(taken) = taken else {
            return Outcome::NoRoute;
        };
        let rule = &site.rules[site.entries[fitting[taken] as usize].rule];
        let sum = rule.routes.last().map_or(0, |(sum, _)| *sum);
        let mut before = 0;
        let mut all = Vec::new();
        for (until, index) in &rule.routes {
            let weight = (rule.routes.len() > 1).then_some((until - before, sum));
            before = *until;
            all.push(taken_by(
                plan,
                &site.routes[*index],
                weight,
                request,
                &mut scratch,
            ));
        }
        Outcome::Taken(all)
    }
}

fn taken_by(
    plan: &Plan,
    route: &super::Route,
    weight: Option<(u64, u64)>,
    request: &Request,
    scratch: &mut Scratch,
) -> Taken {
    let gate = route.gate.as_ref();
    let mut actions = gate.map_or_else(Vec::new, |gate| gate.show(request));
    actions.extend(route.rewrite.iter().map(super::Rewrite::show));
    let mut endpoints = Vec::new();
    actions.extend(changes("request", &route.request_headers, request));
    match &route.action {
        Action::Proxy(cluster) => {
            let cluster = &plan.clusters[*cluster];
            let target = plan.target(route, request, scratch);
            let is_hidden = route
                .rewrite
                .as_ref()
                .is_some_and(super::Rewrite::is_hidden);
            actions.push(match target {
                Ok(_) if is_hidden => {
                    format!(
                        "proxy {} {STARS}, {}",
                        request.method,
                        cluster.balance.show()
                    )
                }
                Ok(target) => format!(
                    "proxy {} {target}, {}",
                    request.method,
                    cluster.balance.show()
                ),
                Err(why) => format!("answer 400: {why}"),
            });
            actions.extend(room(cluster));
            let shown = cluster.endpoints.iter();
            endpoints = shown
                .map(|endpoint| (endpoint.address.to_string(), endpoint.weight))
                .collect();
        }
        Action::Redirect { to, status, .. } => {
            let location = plan.location(route, request, scratch);
            let shown = location.filter(|_| !to.is_hidden());
            let shown = shown.as_deref().unwrap_or(STARS);
            actions.push(format!("redirect {} to {shown}", status.0.as_str()));
        }
        Action::Respond { status, .. } => actions.push(format!("respond {}", status.0.as_str())),
    }
    actions.extend(route.mirror.iter().map(|mirror| {
        let name = &plan.clusters[mirror.cluster].name;
        format!("mirror {} of them to {name}", mirror.share.show())
    }));
    actions.extend(changes("response", &route.response_headers, request));
    actions.extend(route.errors.iter().flat_map(|pages| pages.show()));
    Taken {
        route: route.name.clone(),
        place: route.place.clone(),
        weight,
        actions,
        endpoints,
    }
}

/// Tells of the requests that servers may have at a time, and of those that wait.
fn room(cluster: &super::Cluster) -> Vec<String> {
    let limited = |endpoint: &super::Endpoint| {
        let max = endpoint.max_requests?;
        Some(format!(
            "at most {max} requests at a time to {}",
            endpoint.address
        ))
    };
    let connections = |endpoint: &super::Endpoint| {
        let max = endpoint.max_connections?;
        let address = &endpoint.address;
        Some(format!("at most {max} connections at a time to {address}"))
    };
    let all = cluster.endpoints.iter();
    let all = all.flat_map(|endpoint| [limited(endpoint), connections(endpoint)]);
    let mut room: Vec<_> = all.flatten().collect();
    if let Some(queue) = &cluster.queue {
        let (size, timeout) = (queue.size.0, queue.timeout);
        room.push(format!(
            "wait for a server with room, among {size} at most, for {timeout:?} at most"
        ));
    }
    room
}

fn changes(of: &str, edits: &super::HeaderEdits, request: &Request) -> Vec<String> {
    use super::{Change, HeaderEdit};
    fn value<'v>(edit: &HeaderEdit, new: &'v [u8]) -> Cow<'v, str> {
        match edit {
            HeaderEdit::Set(_, template) | HeaderEdit::Add(_, template) if template.is_hidden() => {
                STARS.into()
            }
            _ => String::from_utf8_lossy(new),
        }
    }
    let show = |(edit, change): (&HeaderEdit, Change)| match change {
        Change::Remove(name) => format!("remove the {of} header {name}"),
        Change::Set(name, new) => format!("set the {of} header {name}: {}", value(edit, new)),
        Change::Add(name, new) => format!("add the {of} header {name}: {}", value(edit, new)),
    };
    let values = edits.values(request);
    edits.0.iter().zip(edits.with(&values)).map(show).collect()
}

impl Explanation {
    /// Returns it as data, for machines.
    pub fn to_data(&self) -> Data {
        let tried = self.tried.iter().map(|tried| {
            let conditions = tried.conditions.iter().map(|(condition, holds)| {
                Data::map([
                    ("condition", Data::text(condition)),
                    ("holds", Data::Bool(*holds)),
                ])
            });
            Data::map([
                ("route", Data::text(&tried.route)),
                ("place", Data::text(&tried.place)),
                ("path", Data::text(&tried.path)),
                ("conditions", Data::List(conditions.collect())),
            ])
        });
        let (refused, taken): (_, &[Taken]) = match &self.outcome {
            Outcome::Refused(why) => (Data::text(why), &[]),
            Outcome::Taken(taken) => (Data::Null, taken),
            Outcome::NoSite | Outcome::NoRoute | Outcome::Redirected(..) => (Data::Null, &[]),
        };
        Data::map([
            ("request", Data::text(&self.request)),
            ("path", Data::text(&self.path)),
            ("site", self.site.as_ref().map_or(Data::Null, Data::text)),
            ("tried", Data::List(tried.collect())),
            ("others", Data::Number(self.others as u64)),
            ("refused", refused),
            (
                "redirected",
                match &self.outcome {
                    Outcome::Redirected(_, to) => Data::text(to),
                    _ => Data::Null,
                },
            ),
            (
                "taken",
                Data::List(taken.iter().map(Taken::to_data).collect()),
            ),
        ])
    }
}

impl Taken {
    fn to_data(&self) -> Data {
        let endpoint = |(address, weight): &(String, u32)| {
            Data::map([
                ("address", Data::text(address)),
                ("weight", Data::Number(u64::from(*weight))),
            ])
        };
        Data::map([
            ("route", Data::text(&self.route)),
            ("place", Data::text(&self.place)),
            (
                "weight",
                self.weight.map_or(Data::Null, |(own, _)| Data::Number(own)),
            ),
            (
                "of",
                self.weight.map_or(Data::Null, |(_, sum)| Data::Number(sum)),
            ),
            (
                "actions",
                Data::List(self.actions.iter().map(Data::text).collect()),
            ),
            (
                "endpoints",
                Data::List(self.endpoints.iter().map(endpoint).collect()),
            ),
        ])
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let line = |text: &str| text.chars().flat_map(escaped).collect::<String>();
        writeln!(f, "{}", line(&self.request))?;
        writeln!(f, "path {}", line(&self.path))?;
        if let Some(site) = &self.site {
            writeln!(f, "site {site}")?;
        }
        for tried in &self.tried {
            writeln!(
                f,
                "route {} ({}), path {}",
                tried.route, tried.place, tried.path
            )?;
            for (condition, holds) in &tried.conditions {
                let holds = if *holds { "holds" } else { "does not hold" };
                writeln!(f, "    {condition} {holds}")?;
            }
        }
        if self.others > 0 {
            writeln!(f, "other paths {}", self.others)?;
        }
        match &self.outcome {
            Outcome::Refused(why) => writeln!(f, "refused with 400: {why}"),
            Outcome::Redirected(status, to) => {
                writeln!(f, "https_redirect answers {status}: {}", line(to))
            }
            Outcome::NoSite => writeln!(f, "no site has this host"),
            Outcome::NoRoute => writeln!(f, "no route takes it"),
            Outcome::Taken(taken) => taken.iter().try_for_each(|taken| {
                write!(f, "taken by {} ({})", taken.route, taken.place)?;
                if let Some((own, sum)) = taken.weight {
                    write!(f, ", {own} of {sum}")?;
                }
                writeln!(f)?;
                for action in &taken.actions {
                    writeln!(f, "    {}", line(action))?;
                }
                taken.endpoints.iter().try_for_each(|(address, weight)| {
                    let weight = if *weight == 1 {
                        String::new()
                    } else {
                        format!(", weight {weight}")
                    };
                    writeln!(f, "    to {address}{weight}")
                })
            }),
        }
    }
}

/// Keeps control characters of a request from a terminal.
fn escaped(c: char) -> Vec<char> {
    if c.is_control() {
        c.escape_default().collect()
    } else {
        vec![c]
    }
}
