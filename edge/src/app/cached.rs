//! The cache in the phases of a request.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::caching;
use bytes::Bytes;
use http::header::{AGE, CONTENT_LOCATION, HOST, LOCATION};
use http::{HeaderValue, Method, StatusCode};
use pingora_cache::{CacheMeta, CachePhase, ForcedFreshness, NoCacheReason, RespCacheable};
use pingora_core::ErrorType::HTTPStatus;
use pingora_core::{Error, ErrorSource, Result};
use pingora_http::{RequestHeader, ResponseHeader};
use pingora_proxy::Session;

use super::answer::Answer;
use super::Ctx;
use crate::cache::{self, Asked, Key, KeyExtra, KeyParts};
use crate::cluster::HashBy;
use crate::live::{Lease, Live, Running};
use crate::observe::CacheUse;
use crate::plan::cache::CacheRule;
use crate::plan::{path, Request, Site};

/// A request of a route that has a cache.
#[derive(Clone)]
pub(super) struct Cached {
    key: Key,
    part: Part,
    /// The epoch in which it asks, which a purge ends.
    asked: Asked,
    /// The 304 by which a server confirmed what is stored.
    confirmed: Option<Box<ResponseHeader>>,
}

impl Cached {
    /// Tells whether what answers the request may be stored.
    pub(super) fn may_be_stored(&self) -> bool {
        self.part == Part::Whole
    }

    /// Takes no part in a request with a body, which could select the response and is in no key. Over HTTP/2 no field need
    /// tell of one.
    pub(super) fn see_body(&mut self, session: &mut Session) {
        if self.part == Part::Whole && !session.is_body_empty() {
            self.part = Part::Request;
        }
    }
}

/// The part that the cache takes in a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    /// It may answer, and store what answers.
    Whole,
    /// None: the method is no GET or HEAD.
    Method,
    /// None: the request says so, or has what is in no key.
    Request,
    /// None: the route says so.
    Bypass,
}

/// What the cache makes of a request before all else.
pub(super) enum Begun {
    /// It goes on.
    Cached(Box<Cached>),
    /// It is a purge.
    Answer(Box<Answer>),
}

/// Finds the part of the cache in a request.
pub(super) fn begin(
    rule: &CacheRule,
    live: &Live,
    running: &Running,
    request: &Request<'_>,
    head: &RequestHeader,
    extra: KeyExtra<'_>,
) -> Begun {
    let authority = match head.uri.authority() {
        Some(authority) => authority.as_str(),
        None => head
            .headers
            .get(HOST)
            .map_or("", |host| host.to_str().unwrap_or("")),
    };
    let key = Key::of(
        rule,
        &KeyParts {
            host: request.host,
            authority,
            path: request.path.as_str(),
            query: request.query,
            secure: request.secure,
            extra,
            headers: request.headers,
        },
    );
    if head.method.as_str() == "PURGE" && !rule.purge.is_empty() {
        return Begun::Answer(Box::new(purge(rule, request, &key)));
    }
    let part = if !matches!(head.method, Method::GET | Method::HEAD) {
        Part::Method
    } else if !rule.policy.uses_cache(head) {
        Part::Request
    } else if rule.has_bypass() && live.with(|worker| worker.bypasses(running, rule, request)) {
        Part::Bypass
    } else {
        Part::Whole
    };
    Begun::Cached(Box::new(Cached {
        asked: cache::epoch(key.url()),
        key,
        part,
        confirmed: None,
    }))
}

/// Answers a purge: 200 with the number of responses, 404 without any.
fn purge(rule: &CacheRule, request: &Request<'_>, key: &Key) -> Answer {
    if !rule.may_purge(request.client) {
        return Answer::refusal(StatusCode::FORBIDDEN);
    }
    match cache::purge_url(key.url()) {
        0 => Answer::refusal(StatusCode::NOT_FOUND),
        count => Answer::text(StatusCode::OK, format!("{count} removed\n")),
    }
}

/// A request that revalidates what is stored, in the background: it goes where the one went that it is a copy of.
#[derive(Clone)]
struct Revalidation {
    running: Arc<Running>,
    cluster: usize,
    at: (usize, usize),
    hash_by: HashBy,
    cached: Box<Cached>,
}

/// Takes up a request that revalidates in the background. Its head is as it goes to a server.
#[cold]
pub(super) fn resume(session: &mut Session, ctx: &mut Ctx) -> bool {
    let extensions = session.req_header_mut().extensions_mut();
    let Some(revalidation) = extensions.remove::<Revalidation>() else {
        return false;
    };
    ctx.running = Lease::of(revalidation.running);
    (ctx.cluster, ctx.at) = (revalidation.cluster, revalidation.at);
    ctx.hash_by = revalidation.hash_by;
    ctx.cached = Some(revalidation.cached);
    ctx.counting.in_background();
    true
}

impl Ctx {
    /// Returns the rule of the cache, of a request that the cache has a part in.
    pub(super) fn cache_rule(&self) -> Option<&CacheRule> {
        let (site, route) = self.at;
        self.running.plan.sites[site].routes[route].cache.as_deref()
    }

    /// Tells whether the cache has any part in the request.
    #[inline]
    pub(super) fn is_cached(&self) -> bool {
        self.cached.is_some()
    }
}

/// Turns the cache on, where it has a part.
pub(super) fn enable(session: &mut Session, ctx: &Ctx) {
    let whole = ctx
        .cached
        .as_ref()
        .filter(|cached| cached.part == Part::Whole);
    if let (Some(_), Some(rule)) = (whole, ctx.cache_rule()) {
        cache::enable(&mut session.cache, rule, &ctx.running.plan.cache);
    }
}

/// Returns the key of a request.
pub(super) fn key(ctx: &Ctx) -> Option<pingora_cache::CacheKey> {
    ctx.cached.as_ref().map(|cached| cached.key.to_cache_key())
}

/// Returns what a request's directives make of a stored response.
pub(super) fn demand(
    session: &Session,
    ctx: &Ctx,
    meta: &CacheMeta,
    fresh: bool,
) -> Option<ForcedFreshness> {
    let rule = ctx.cache_rule()?;
    let request = session.req_header();
    rule.policy.demand(request, meta, fresh, SystemTime::now())
}

/// Returns the status of a server's response that what is stored may take the place of, where no phase has seen it. What
/// ended an exchange says which server it was.
pub(super) fn hidden_status(e: &Error) -> Option<StatusCode> {
    match e.etype {
        HTTPStatus(status) if e.context.is_none() => StatusCode::from_u16(status).ok(),
        _ => None,
    }
}

/// Tells whether a stale response answers: while another is fetched, for which a copy of the request is prepared, or in
/// place of an error of the server.
pub(super) fn serves_stale(session: &mut Session, ctx: &Ctx, error: Option<&Error>) -> bool {
    if let Some(error) = error {
        return *error.esource() == ErrorSource::Upstream;
    }
    let Some(cached) = &ctx.cached else {
        return false;
    };
    if session.cache.is_cache_lock_writer() {
        let revalidation = Revalidation {
            running: ctx.running.share(),
            cluster: ctx.cluster,
            at: ctx.at,
            hash_by: ctx.hash_by,
            cached: cached.clone(),
        };
        let extensions = session.req_header_mut().extensions_mut();
        extensions.insert(revalidation);
    }
    true
}

/// Tells whether a request takes nothing but what is stored.
pub(super) fn wants_stored_only(session: &Session, ctx: &Ctx) -> bool {
    let rule = ctx.cache_rule();
    rule.is_some_and(|rule| rule.policy.only_if_cached(session.req_header()))
}

/// Looks at what a server answers: a 304 to what was asked for the cache.
pub(super) fn answered(head: &ResponseHeader, ctx: &mut Ctx) {
    if let Some(cached) = ctx.cached.as_mut().filter(|cached| cached.may_be_stored()) {
        let confirmed = head.status == StatusCode::NOT_MODIFIED;
        cached.confirmed = confirmed.then(|| Box::new(head.clone()));
    }
}

/// A request that may change what a site with a cache has stored for its address, on whichever route.
pub(super) struct Change {
    host: String,
    path: String,
    query: Option<String>,
}

impl Change {
    /// Returns the change that a request may make; none where nothing is stored, or by a safe method.
    #[inline]
    pub(super) fn of(site: &Site, request: &Request<'_>) -> Option<Box<Self>> {
        const SAFE: [Method; 4] = [Method::GET, Method::HEAD, Method::OPTIONS, Method::TRACE];
        if !site.caches || SAFE.contains(request.method) {
            return None;
        }
        Some(Box::new(Self {
            host: request.host.to_owned(),
            path: request.path.as_str().to_owned(),
            query: request.query.map(str::to_owned),
        }))
    }

    /// Removes what it has made invalid if it succeeded: its own target, and what Location and Content-Location name of the
    /// same host (RFC 9111 section 4.4).
    pub(super) fn settle(&self, site: &Site, head: &ResponseHeader) {
        if !head.status.is_success() && !head.status.is_redirection() {
            return;
        }
        let purge = |path: &str, query: Option<&str>| {
            for url in site.cached_urls(&self.host, path, query) {
                cache::purge_url(&url);
            }
        };
        purge(&self.path, self.query.as_deref());
        for name in [LOCATION, CONTENT_LOCATION] {
            let reference = head.headers.get(name).and_then(|value| value.to_str().ok());
            let other = reference.and_then(|reference| {
                caching::at_origin(reference, &["http", "https"], &self.host, &self.path)
            });
            let Some(other) = other else { continue };
            let (path, query) = match other.split_once('?') {
                Some((path, query)) => (path, Some(path::normal_query(query.as_bytes()))),
                None => (&*other, None),
            };
            if let Ok(path) = path::normalise(path.as_bytes()) {
                purge(path.as_str(), query.as_deref());
            }
        }
    }
}

/// Decides whether a response is stored.
///
/// # Errors
///
/// Too many fields.
pub(super) fn judge(
    session: &Session,
    head: &ResponseHeader,
    ctx: &mut Ctx,
) -> Result<RespCacheable> {
    let confirmed = ctx
        .cached
        .as_mut()
        .and_then(|cached| cached.confirmed.take());
    let asked = ctx.cached.as_ref().map(|cached| cached.asked);
    let Some(rule) = ctx.cache_rule() else {
        return Ok(RespCacheable::Uncacheable(NoCacheReason::NeverEnabled));
    };
    let stored = session.cache.maybe_cache_meta();
    let updated = match (confirmed, stored) {
        (Some(confirmed), Some(meta)) => Some(caching::update(meta.response_header(), &confirmed)?),
        _ => None,
    };
    let head = updated.as_ref().unwrap_or(head);
    let now = SystemTime::now();
    let mut judged = rule.policy.response(session.req_header(), head, now);
    if matches!(judged, RespCacheable::Uncacheable(_)) && is_passing(head, stored, now) {
        judged = RespCacheable::Uncacheable(PASSING);
    }
    if let RespCacheable::Cacheable(meta) = &mut judged {
        // So that a hit has no date to read: the age that it came with is in this field.
        let age = caching::initial_age(head, now).as_secs();
        if let Some(asked) = asked {
            meta.extensions_mut().insert(asked);
        }
        let stored = meta.response_header_mut();
        stored.remove_header(&AGE);
        if age > 0 {
            stored.insert_header(AGE, age)?;
        }
    }
    Ok(judged)
}

/// The reason not to store what one request was answered, of which [`cache`] makes no rule for others.
const PASSING: NoCacheReason = NoCacheReason::Custom("an answer to this request alone");

/// Tells whether a response says nothing about the next one: an error, or the answer to a client that would not have the
/// fresh one that is stored. One client could turn the cache off for others.
fn is_passing(head: &ResponseHeader, stored: Option<&CacheMeta>, now: SystemTime) -> bool {
    let failed = head.status.is_client_error() || head.status.is_server_error();
    failed || stored.is_some_and(|meta| meta.is_fresh(now))
}

/// Counts the part that the cache had in a request.
pub(super) fn count(session: &Session, ctx: &mut Ctx) {
    if ctx.cached.is_none() {
        return;
    }
    ctx.counting.cached(match session.cache.phase() {
        CachePhase::Hit => CacheUse::Hit,
        CachePhase::Stale | CachePhase::StaleUpdating => CacheUse::Stale,
        CachePhase::Revalidated | CachePhase::RevalidatedNoCache(_) => CacheUse::Revalidated,
        CachePhase::Expired => CacheUse::Expired,
        CachePhase::Miss => CacheUse::Miss,
        CachePhase::Disabled(NoCacheReason::NeverEnabled) | CachePhase::Bypass => CacheUse::Bypass,
        // It was asked, and what came could not be stored.
        CachePhase::Disabled(_) => CacheUse::Miss,
        CachePhase::Uninit | CachePhase::CacheKey => CacheUse::Bypass,
    });
}

/// Tells the client what the cache has done (RFC 9211).
///
/// # Errors
///
/// Too many fields.
pub(super) fn tell(session: &Session, head: &mut ResponseHeader, ctx: &Ctx) -> Result<()> {
    let Some(cached) = &ctx.cached else {
        return Ok(());
    };
    let fixed = HeaderValue::from_static;
    let stored = session.cache.maybe_cache_meta();
    let value = match session.cache.phase() {
        CachePhase::Hit | CachePhase::Stale | CachePhase::StaleUpdating => {
            stored.map_or_else(|| fixed("edge; hit"), |meta| hit(meta.fresh_until()))
        }
        CachePhase::Miss if stored.is_some() => fixed("edge; fwd=miss; stored"),
        CachePhase::Expired => fixed("edge; fwd=stale; stored"),
        CachePhase::Revalidated | CachePhase::RevalidatedNoCache(_) => {
            fixed("edge; fwd=stale; fwd-status=304")
        }
        _ => match cached.part {
            Part::Whole => fixed("edge; fwd=miss"),
            Part::Method => fixed("edge; fwd=method"),
            Part::Request => fixed("edge; fwd=request"),
            Part::Bypass => fixed("edge; fwd=bypass"),
        },
    };
    head.raw_fields().append(b"Cache-Status", value).map(drop)
}

/// Tells of a hit, and of the seconds for which it is still fresh: less than none for a stale one.
fn hit(fresh_until: SystemTime) -> HeaderValue {
    let seconds = |time: Duration| i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
    let ttl = match fresh_until.duration_since(SystemTime::now()) {
        Ok(left) => seconds(left),
        Err(past) => -1 - seconds(past.duration()),
    };
    // Of its exact length, so that it becomes a value without a copy.
    let text = ["edge; hit; ttl=", itoa::Buffer::new().format(ttl)].concat();
    // It is of digits and letters.
    HeaderValue::from_maybe_shared(Bytes::from(text))
        .unwrap_or_else(|_| HeaderValue::from_static("edge; hit"))
}
