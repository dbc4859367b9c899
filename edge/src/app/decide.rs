//! The way of a request through a plan.

use std::time::Instant;

use http::StatusCode;
use pingora_http::RequestHeader;
use pingora_proxy::Session;

use super::answer::Answer;
use super::cached::{self, Begun, Cached, Change};
use super::client_auth;
use super::counting::Counting;
use super::facts::{peer, Facts};
use super::forward_auth;
use super::forwarded::{self, Told};
use super::gate::{self, Asks, Passed};
use super::observed::Observed;
use crate::cache::KeyExtra;
use crate::cluster::HashBy;
use crate::config::model::Balance;
use crate::live::{Live, Running};
use crate::plan::gate::Rule;
use crate::plan::pages::PageValues;
use crate::plan::{Action, Found, Values};

/// The end of a request here, or its way on.
pub(super) enum Decision {
    /// It goes to a server.
    Proxy(Proxied),
    /// It is answered here.
    Answer(Answer),
    /// Others are to decide first; then [`resume`] goes on with it.
    Ask(Box<Ask>),
}

/// The questions to others about a request.
pub(super) struct Ask {
    /// The password that is to be checked.
    pub(super) password: Option<Asks>,
    /// The request to the service that decides.
    pub(super) question: Option<RequestHeader>,
    /// The index of the site, and that of the route in it.
    pub(super) at: (usize, usize),
    /// The client speaks TLS.
    pub(super) secure: bool,
}

/// The way of a request to a server.
pub(super) struct Proxied {
    /// The index of the cluster.
    pub(super) cluster: usize,
    /// The index of the site, and that of the route in it.
    pub(super) at: (usize, usize),
    /// Path and query for upstream, if they are not as they were received.
    pub(super) target: Option<Vec<u8>>,
    /// The text that chooses a server, where one does.
    pub(super) hash_by: HashBy,
    /// The words for the server about the client.
    pub(super) told: Told,
    /// The client speaks TLS.
    pub(super) secure: bool,
    /// The part of the cache.
    pub(super) cached: Option<Box<Cached>>,
    /// The change that it may make to what is stored.
    pub(super) change: Option<Box<Change>>,
    /// The values of variables of pages of errors.
    pub(super) page_values: PageValues,
    /// The values of changes to the request.
    pub(super) request: Values,
    /// The values of changes to the response.
    pub(super) response: Values,
}

/// Finds the client and the route of a request, has the rules judge it, and returns what the route says.
pub(super) fn decide(
    live: &Live,
    running: &Running,
    session: &Session,
    counting: &mut Counting,
    passed: &mut Option<Box<Passed>>,
    observed: &mut Observed,
) -> Decision {
    let refused = |status| Decision::Answer(Answer::refusal(status));
    let Some(mut facts) = Facts::of(&running.plan, session) else {
        return refused(StatusCode::BAD_REQUEST);
    };
    observed.of_client(&facts);
    let Some(index) = running.plan.site(&facts.host) else {
        observed.of_route(running, counting, None, None);
        return refused(StatusCode::MISDIRECTED_REQUEST);
    };
    let site = &running.plan.sites[index];
    let secure = facts.client.secure;
    let of_site = |answer: Answer| Decision::Answer(answer.with(gate::hsts(&site.hsts, secure)));
    if let Some(redirect) = site.https_redirect.as_ref().filter(|_| !secure) {
        observed.of_route(running, counting, Some(index), None);
        return of_site(gate::to_https(redirect, &facts.request("")));
    }
    match client_auth::client(running, index, session) {
        Ok(client) => facts.tls_client = client,
        Err(status) => {
            observed.of_route(running, counting, Some(index), None);
            return of_site(Answer::refusal(status));
        }
    }
    let request = facts.request("");
    let Some(found) = live.with(|worker| worker.find(running, index, &request)) else {
        observed.of_route(running, counting, Some(index), None);
        return of_site(Answer::refusal(StatusCode::NOT_FOUND));
    };
    observed.of_route(running, counting, Some(found.site), Some(found.index));
    if let Some(rules) = &found.route.gate {
        if let Some(answer) =
            gate::judge(live, running, rules, &request, counting.started(), passed)
        {
            if let Some(rule) = answer.rule() {
                gate::count(rule, counting);
            }
            return of_site(answer);
        }
    }
    let password = passed.as_mut().and_then(|passed| passed.asks.take());
    let gate = found.route.gate.as_ref();
    let forward = gate.and_then(|gate| gate.forward.as_ref());
    if password.is_some() || forward.is_some() {
        let question = forward.map(|auth| forward_auth::question(auth, &facts));
        let Ok(question) = question.transpose() else {
            // It has more fields than the service may be told.
            let status = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
            return of_site(Answer::refusal(status));
        };
        return Decision::Ask(Box::new(Ask {
            password,
            question,
            at: (found.site, found.index),
            secure,
        }));
    }
    go_on(live, running, session, &facts, found, (passed, observed))
}

/// Finds the facts of a request again, once its site is known.
///
/// # Errors
///
/// The status of the answer in place of them.
fn facts_again<'s>(
    running: &'s Running,
    session: &'s Session,
    site: usize,
) -> Result<Facts<'s>, StatusCode> {
    let mut facts = Facts::of(&running.plan, session).ok_or(StatusCode::BAD_REQUEST)?;
    facts.tls_client = client_auth::client(running, site, session)?;
    Ok(facts)
}

/// Asks the rules that come after the password about a request whose password is right, and returns the answer to one that
/// they refuse.
pub(super) fn enter(
    live: &Live,
    running: &Running,
    session: &Session,
    (site, index): (usize, usize),
    counting: &Counting,
    passed: &mut Option<Box<Passed>>,
) -> Option<Answer> {
    let gate = running.plan.sites[site].routes[index].gate.as_ref()?;
    if gate.concurrent.is_empty() {
        return None;
    }
    let facts = match facts_again(running, session, site) {
        Ok(facts) => facts,
        Err(status) => return Some(Answer::refusal(status)),
    };
    let (request, passed) = (facts.request(""), passed.get_or_insert_default());
    let answer = gate::enter(live, running, gate, &request, Instant::now(), passed)?;
    gate::count(Rule::ConcurrentRequests, counting);
    Some(answer)
}

/// Goes on with a request about which others have decided.
pub(super) fn resume(
    live: &Live,
    running: &Running,
    session: &Session,
    (site, index): (usize, usize),
    passed: &mut Option<Box<Passed>>,
    observed: &mut Observed,
) -> Decision {
    let facts = match facts_again(running, session, site) {
        Ok(facts) => facts,
        Err(status) => return Decision::Answer(Answer::refusal(status)),
    };
    let route = &running.plan.sites[site].routes[index];
    let found = Found { site, index, route };
    go_on(live, running, session, &facts, found, (passed, observed))
}

/// Returns what a route does with a request, and what its rules tell the client with the answer.
fn go_on(
    live: &Live,
    running: &Running,
    session: &Session,
    facts: &Facts<'_>,
    found: Found<'_>,
    (passed, observed): (&mut Option<Box<Passed>>, &mut Observed),
) -> Decision {
    let hsts = &running.plan.sites[found.site].hsts;
    match act(live, running, session, facts, found, observed) {
        Decision::Answer(answer) => {
            let answer = answer.with(gate::fields(passed));
            Decision::Answer(answer.with(gate::hsts(hsts, facts.client.secure)))
        }
        proxied => proxied,
    }
}

/// Returns what a route does with a request that has passed its rules.
fn act(
    live: &Live,
    running: &Running,
    session: &Session,
    facts: &Facts<'_>,
    found: Found<'_>,
    observed: &mut Observed,
) -> Decision {
    let route = found.route;
    let id = observed.identify(live, running, Some(facts), route.needs_id);
    let request = facts.request(id);
    let Action::Proxy(cluster) = &route.action else {
        if request.host.is_empty() && route.action.leads_to_host() {
            return Decision::Answer(Answer::refusal(StatusCode::BAD_REQUEST));
        }
        let location = live.with(|worker| worker.location(running, route, &request));
        return Decision::Answer(Answer::of(route, &request, location));
    };
    let target = if route.rewrites() {
        match live.with(|worker| worker.target(running, route, &request)) {
            Ok(target) => Some(target),
            Err(_) => return Decision::Answer(Answer::refusal(StatusCode::BAD_REQUEST)),
        }
    } else {
        facts.normal_target()
    };
    let cached = match &route.cache {
        None => None,
        Some(rule) => {
            let extra = KeyExtra {
                host: forwarded::host(&running.plan, facts),
                target: target.as_deref().and_then(|target| route.keyed(target)),
            };
            let head = session.req_header();
            match cached::begin(rule, live, running, &request, head, extra) {
                Begun::Cached(cached) => Some(cached),
                Begun::Answer(answer) => return Decision::Answer(*answer),
            }
        }
    };
    let balanced = &running.plan.clusters[*cluster];
    let hash_by = match balanced.balance {
        Balance::Hash => HashBy::of(&request.fill(&balanced.hash_by)),
        _ => HashBy::default(),
    };
    let hash_by = match &balanced.sticky {
        Some(sticky) => hash_by.kept_by(&request.fill(&sticky.cookie)),
        None => hash_by,
    };
    let pages = route.errors.as_ref().filter(|pages| pages.has_variables());
    Decision::Proxy(Proxied {
        cluster: *cluster,
        at: (found.site, found.index),
        target,
        hash_by,
        told: Told::of(&running.plan, peer(session), facts),
        secure: request.secure,
        cached,
        change: Change::of(&running.plan.sites[found.site], &request),
        page_values: pages.map_or_else(Vec::new, |pages| pages.values(&request)),
        request: route.request_headers.values(&request),
        response: route.response_headers.values(&request),
    })
}
