//! The way of a request through a plan.

use std::borrow::Cow;

use http::header::HOST;
use http::StatusCode;
use pingora_http::RequestHeader;
use pingora_proxy::Session;

use super::answer::Answer;
use super::counting::Counting;
use super::headers::{values, Values};
use crate::cluster::HashBy;
use crate::config::model::Balance;
use crate::live::{Live, Running};
use crate::plan::{host, path, Action, Request, Route};

/// The end of a request here, or its way on.
pub(super) enum Decision<'r> {
    /// It goes to a server.
    Proxy(Proxied<'r>),
    /// It is answered here.
    Answer(Answer),
}

/// The way of a request to a server.
pub(super) struct Proxied<'r> {
    /// The index of the cluster.
    pub(super) cluster: usize,
    /// The index of the site, and that of the route in it.
    pub(super) at: (usize, usize),
    pub(super) route: &'r Route,
    /// Path and query for upstream, if they are not as they were received.
    pub(super) target: Option<Vec<u8>>,
    /// The text that chooses a server, where one does.
    pub(super) hash_by: HashBy,
    /// The values of changes to the request.
    pub(super) request: Values,
    /// The values of changes to the response.
    pub(super) response: Values,
}

/// Tells whether the client speaks TLS.
pub(super) fn is_secure(session: &Session) -> bool {
    let digest = session.digest();
    digest.is_some_and(|digest| digest.ssl_digest.is_some())
}

/// Finds the route of a request, and what that says.
pub(super) fn decide<'r>(
    live: &Live,
    running: &'r Running,
    session: &Session,
    counting: &mut Counting,
) -> Decision<'r> {
    let head = session.req_header();
    let refused = |status| Decision::Answer(Answer::refusal(status));
    let Some(host) = host_of(head) else {
        return refused(StatusCode::BAD_REQUEST);
    };
    let received = target_of(head);
    let (raw_path, raw_query) = split(received);
    let Ok(path) = path::normalise(raw_path) else {
        return refused(StatusCode::BAD_REQUEST);
    };
    let query = raw_query.map(String::from_utf8_lossy);
    let client = session.client_addr().and_then(|address| address.as_inet());
    let request = Request {
        method: &head.method,
        secure: is_secure(session),
        host: &host,
        path: &path,
        query: query.as_deref(),
        headers: &head.headers,
        client: client.map(|address| address.ip().to_canonical()),
        id: "",
    };
    let Some(found) = live.with(|worker| worker.find(running, &request)) else {
        let site = running.plan.site(&host);
        counting.of_route(running.series.route(site, None));
        return refused(match site {
            Some(_) => StatusCode::NOT_FOUND,
            None => StatusCode::MISDIRECTED_REQUEST,
        });
    };
    let route = found.route;
    counting.of_route(running.series.route(Some(found.site), Some(found.index)));
    let id = if uses_id(running, route) {
        live.with(|worker| id(&mut worker.random))
    } else {
        String::new()
    };
    let request = Request { id: &id, ..request };
    let Action::Proxy(cluster) = &route.action else {
        return Decision::Answer(Answer::of(route, &request));
    };
    let target = if route.rewrites() {
        match live.with(|worker| worker.target(running, route, &request)) {
            Ok(target) => Some(target),
            Err(_) => return refused(StatusCode::BAD_REQUEST),
        }
    } else {
        normal_target(&path, raw_path, raw_query, head)
    };
    let balanced = &running.plan.clusters[*cluster];
    let hash_by = match balanced.balance {
        Balance::Hash => HashBy::of(&request.fill(&balanced.hash_by)),
        _ => HashBy::default(),
    };
    Decision::Proxy(Proxied {
        cluster: *cluster,
        at: (found.site, found.index),
        route,
        target,
        hash_by,
        request: values(&route.request_headers, &request),
        response: values(&route.response_headers, &request),
    })
}

/// Returns the host of a request in its normal form: empty when it names none, as one of HTTP/1.0 may, and `None` when
/// what it names is none.
fn host_of(head: &RequestHeader) -> Option<Cow<'_, str>> {
    let text = match (head.uri.authority(), head.headers.get(HOST)) {
        // It counts before Host (RFC 9112 3.2.2).
        (Some(authority), _) => authority.as_str(),
        (None, Some(host)) => host.to_str().ok()?,
        (None, None) => return Some(Cow::Borrowed("")),
    };
    host::normalise(text)
}

/// Returns path and query, also of a target in absolute form.
fn target_of(head: &RequestHeader) -> &[u8] {
    let raw = head.raw_path();
    if raw.starts_with(b"/") {
        return raw;
    }
    let target = head.uri.path_and_query();
    target.map_or(raw, |target| target.as_str().as_bytes())
}

fn split(target: &[u8]) -> (&[u8], Option<&[u8]>) {
    match target.iter().position(|b| *b == b'?') {
        Some(at) => (&target[..at], Some(&target[at + 1..])),
        None => (target, None),
    }
}

/// Returns path and query for upstream where nothing rewrites them, unless they are what was received.
fn normal_target(
    path: &path::NormalPath<'_>,
    raw_path: &[u8],
    raw_query: Option<&[u8]>,
    head: &RequestHeader,
) -> Option<Vec<u8>> {
    let path = path.as_str().as_bytes();
    if path == raw_path && head.raw_path().starts_with(b"/") {
        return None;
    }
    let mut target = path.to_vec();
    if let Some(query) = raw_query {
        target.push(b'?');
        target.extend_from_slice(query);
    }
    Some(target)
}

/// Tells whether anything that is done with a request may need an id.
fn uses_id(running: &Running, route: &Route) -> bool {
    let edited = !(route.request_headers.0.is_empty() && route.response_headers.0.is_empty());
    let hashed = match route.action {
        Action::Proxy(cluster) => running.plan.clusters[cluster].balance == Balance::Hash,
        Action::Redirect { .. } | Action::Respond { .. } => true,
    };
    edited || hashed || route.rewrites()
}

/// Makes the id of a request: 128 random bits.
fn id(random: &mut crate::cluster::Random) -> String {
    let mut id = String::with_capacity(32);
    for _ in 0..4 {
        let part = random.next();
        for shift in (0..32).step_by(4).rev() {
            let digit = char::from_digit(part >> shift & 15, 16);
            id.push(digit.unwrap_or('0'));
        }
    }
    id
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::Random;

    #[test]
    fn ids_are_of_32_digits_and_differ() {
        let mut random = Random::default();
        let (one, other) = (id(&mut random), id(&mut random));
        assert_eq!(one.len(), 32);
        assert!(one.bytes().all(|b| b.is_ascii_hexdigit()));
        assert_ne!(one, other);
    }
}
