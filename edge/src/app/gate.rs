//! The rules of a route, asked of a request.
//!
//! [`plan::gate`](crate::plan::gate) tells their order. Those of them that need no more than the request and the plan are
//! asked there.

use std::net::IpAddr;
use std::time::Instant;

use http::{header, HeaderName, HeaderValue, StatusCode};
use pingora_core::Result;
use pingora_http::ResponseHeader;

use super::answer::Answer;
use super::counting::Counting;
use crate::auth::{Pair, PasswordCheck};
use crate::limits::rate::Verdict;
use crate::limits::{self, client_of};
use crate::live::{leave, Live, Running};
use crate::observe::Limit;
use crate::plan::cors::Cors;
pub(super) use crate::plan::cors::Fields;
use crate::plan::gate::{Gate, HttpsRedirect, Refusal, Rule};
use crate::plan::limits::RateLimit;
use crate::plan::Request;

const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const REMAINING: HeaderName = HeaderName::from_static("ratelimit");

/// The state that a request which has passed its rules takes with it.
#[derive(Default)]
pub(super) struct Passed {
    /// Its places in limits of requests at a time: the limit's index and the key.
    places: Vec<(usize, u64)>,
    /// The bytes that its body may have.
    max_body: Option<u64>,
    /// Those that have passed in this try.
    body: u64,
    /// Fields of its answer.
    pub(super) fields: Fields,
    /// True if the fields for other origins are set here, and nowhere else.
    cors: bool,
    /// The fields that a service which was asked has for the server.
    pub(super) granted: Fields,
    /// The password that is to be checked first.
    pub(super) asks: Option<Asks>,
}

impl Passed {
    /// Puts its fields into the head of an answer.
    ///
    /// # Errors
    ///
    /// `InvalidHTTPHeader` when there is no room for more.
    pub(super) fn tell(&mut self, head: &mut ResponseHeader) -> Result<()> {
        if std::mem::take(&mut self.cors) {
            // Of a server, which may say something else.
            let names = head.headers.keys();
            let theirs = names.filter(|name| name.as_str().starts_with("access-control-"));
            for name in theirs.cloned().collect::<Vec<_>>() {
                head.remove_header(&name);
            }
        }
        put(std::mem::take(&mut self.fields), head)
    }

    /// Leaves its places.
    pub(super) fn leave(&mut self, running: &Running) {
        for (index, key) in self.places.drain(..) {
            leave(running, index, key);
        }
    }

    /// Counts a part of the body; `false` when it is too long.
    pub(super) fn takes(&mut self, bytes: usize) -> bool {
        self.body = self.body.saturating_add(bytes as u64);
        self.max_body.is_none_or(|max| self.body <= max)
    }

    /// Counts the body anew, which passes again in another try.
    pub(super) fn restart_body(&mut self) {
        self.body = 0;
    }
}

/// Puts fields into a head in place of those of the same names, but for Vary, to which all that have a part in an answer add.
///
/// # Errors
///
/// `InvalidHTTPHeader` when there is no room for more.
pub(super) fn put(fields: Fields, head: &mut ResponseHeader) -> Result<()> {
    let names = fields.iter().map(|(name, _)| name);
    for name in names.filter(|name| **name != header::VARY) {
        head.remove_header(name);
    }
    for (name, value) in fields {
        head.append_header(name, value)?;
    }
    Ok(())
}

/// Takes the fields of an answer.
pub(super) fn fields(passed: &mut Option<Box<Passed>>) -> Fields {
    passed
        .as_mut()
        .map_or_else(Fields::new, |passed| std::mem::take(&mut passed.fields))
}

/// A password that is not known yet.
pub(super) struct Asks {
    realm: usize,
    pair: Pair,
    client: Option<IpAddr>,
}

impl Asks {
    /// Has it checked, and returns the answer to a request with a wrong one.
    pub(super) async fn answer(self, running: &Running, counting: &Counting) -> Option<Answer> {
        let users = &running.limits.users[self.realm];
        let answer = match users.check(self.pair, self.client).await {
            PasswordCheck::Right => return None,
            PasswordCheck::Wrong => unauthorized(running, self.realm),
            PasswordCheck::Busy => Answer::of_refusal(Refusal {
                retry_after: Some(1),
                ..Refusal::of(Rule::BasicAuth, StatusCode::SERVICE_UNAVAILABLE)
            }),
        };
        count(Rule::BasicAuth, counting);
        Some(answer)
    }
}

enum Credentials {
    Right,
    Wrong,
    Unknown(Pair),
}

fn credentials(running: &Running, realm: usize, request: &Request<'_>) -> Credentials {
    let mut fields = request.headers.get_all(header::AUTHORIZATION).iter();
    let (Some(field), None) = (fields.next(), fields.next()) else {
        return Credentials::Wrong;
    };
    let Some(pair) = Pair::of(field.as_bytes()) else {
        return Credentials::Wrong;
    };
    match running.limits.users[realm].known(&pair) {
        Some(true) => Credentials::Right,
        Some(false) => Credentials::Wrong,
        None => Credentials::Unknown(pair),
    }
}

fn unauthorized(running: &Running, realm: usize) -> Answer {
    let challenge = HeaderValue::from_str(&running.plan.realms[realm].challenge);
    let challenge = challenge
        .ok()
        .map(|value| (header::WWW_AUTHENTICATE, value));
    Answer::of_refusal(Refusal::of(Rule::BasicAuth, StatusCode::UNAUTHORIZED)).with(challenge)
}

fn preflight(cors: &Cors, request: &Request<'_>) -> Answer {
    match cors.preflight(request) {
        Some(fields) => {
            Answer::of_refusal(Refusal::of(Rule::Cors, StatusCode::NO_CONTENT)).with(fields)
        }
        None => Answer::of_refusal(Refusal::of(Rule::Cors, StatusCode::FORBIDDEN)),
    }
}

/// Asks the rules of a route about a request that came at a moment, and returns the answer to a request that they refuse. What a request has to give back stands
/// in `passed`, also then.
pub(super) fn judge(
    live: &Live,
    running: &Running,
    gate: &Gate,
    request: &Request<'_>,
    at: Instant,
    passed: &mut Option<Box<Passed>>,
) -> Option<Answer> {
    if let Some(refusal) = gate.refuses(request) {
        return Some(Answer::of_refusal(refusal));
    }
    let counts = !(gate.rates.is_empty() && gate.concurrent.is_empty());
    let asks = gate.cors.is_some() || gate.basic.is_some() || gate.forward.is_some();
    if !counts && !asks && gate.max_body.is_none() {
        return None;
    }
    let passed = passed.insert(Box::default());
    passed.max_body = gate.max_body;
    let now = limits::nanos(at);
    for (number, index) in gate.rates.iter().enumerate() {
        let limit = &running.plan.rates[*index];
        let limiter = &running.limits.rates[*index];
        let key = limit.by.hash(request, client_of, limiter.hasher());
        let verdict = live.judge(running, *index, key, now);
        if limit.headers {
            tell(
                limit,
                limiter.window(),
                number + 1,
                verdict,
                &mut passed.fields,
            );
        }
        if let Verdict::Refused(wait) = verdict {
            let refusal = Refusal {
                retry_after: Some(Verdict::retry_after(wait)),
                ..Refusal::of(Rule::RateLimit, limit.status)
            };
            let fields = std::mem::take(&mut passed.fields);
            return Some(Answer::of_refusal(refusal).with(fields));
        }
    }
    if let Some(cors) = &gate.cors {
        if Cors::is_preflight(request) {
            let fields = std::mem::take(&mut passed.fields);
            return Some(preflight(cors, request).with(fields));
        }
        passed.cors = true;
        passed.fields.extend(cors.fields(request));
    }
    if let Some(index) = gate.basic {
        match credentials(running, index, request) {
            Credentials::Right => {}
            Credentials::Wrong => {
                let fields = std::mem::take(&mut passed.fields);
                return Some(unauthorized(running, index).with(fields));
            }
            Credentials::Unknown(pair) => {
                passed.asks = Some(Asks {
                    realm: index,
                    pair,
                    client: request.client,
                });
                // It takes no place from others before its password is known to be right.
                return None;
            }
        }
    }
    enter(live, running, gate, request, at, passed)
}

/// Has a request that comes at a moment enter the limits of requests at a time, and returns the answer to one for which
/// there is no place.
pub(super) fn enter(
    live: &Live,
    running: &Running,
    gate: &Gate,
    request: &Request<'_>,
    at: Instant,
    passed: &mut Passed,
) -> Option<Answer> {
    let now = limits::nanos(at);
    for index in &gate.concurrent {
        let limit = &running.plan.concurrent[*index];
        let shared = &running.limits.concurrent[*index];
        let key = (limit.by.as_ref()).map_or(0, |by| by.hash(request, client_of, shared.hasher()));
        if !live.enter(running, *index, key, now) {
            let refusal = Refusal {
                retry_after: Some(1),
                ..Refusal::of(Rule::ConcurrentRequests, limit.status)
            };
            let fields = std::mem::take(&mut passed.fields);
            return Some(Answer::of_refusal(refusal).with(fields));
        }
        passed.places.push((*index, key));
    }
    None
}

/// Tells of a limit in the fields of draft-ietf-httpapi-ratelimit-headers; its name is its number in the order of asking.
fn tell(limit: &RateLimit, window: u64, name: usize, verdict: Verdict, fields: &mut Fields) {
    let (left, until) = match verdict {
        Verdict::Passes(left) => (left.min(limit.burst), window),
        Verdict::Refused(wait) => (0, Verdict::retry_after(wait)),
    };
    let policy = format!("\"{name}\";q={};w={window}", limit.burst);
    let state = format!("\"{name}\";r={left};t={until}");
    for (name, text) in [(POLICY, policy), (REMAINING, state)] {
        fields.extend(HeaderValue::try_from(text).ok().map(|value| (name, value)));
    }
}

/// Counts a request that a rule has refused.
pub(super) fn count(rule: Rule, counting: &Counting) {
    let limit = match rule {
        Rule::HttpsRedirect | Rule::Maintenance | Rule::Cors => return,
        Rule::BasicAuth | Rule::ForwardAuth => Limit::Auth,
        Rule::Access => Limit::Address,
        Rule::RateLimit => Limit::Rate,
        Rule::ConcurrentRequests => Limit::Concurrency,
        Rule::MaxHeaders | Rule::MaxHeaderSize | Rule::MaxBodySize => Limit::Size,
    };
    counting.limited(limit);
}

/// Makes the answer that sends a client to HTTPS.
pub(super) fn to_https(redirect: &HttpsRedirect, request: &Request<'_>) -> Answer {
    if request.host.is_empty() {
        // HTTP/1.0, which needs no Host. A URL of https does (RFC 9110 section 4.2.2).
        return Answer::refusal(StatusCode::BAD_REQUEST);
    }
    let (status, to) = redirect.answer(request);
    match HeaderValue::try_from(to) {
        Ok(to) => Answer::redirect(status, to),
        // What a path in its normal form cannot hold.
        Err(_) => Answer::refusal(StatusCode::BAD_REQUEST),
    }
}

/// Returns what a site tells browsers over HTTPS.
pub(super) fn hsts(value: &Option<String>, secure: bool) -> Option<(HeaderName, HeaderValue)> {
    let value = value.as_ref().filter(|_| secure)?;
    let value = HeaderValue::from_str(value).ok()?;
    Some((header::STRICT_TRANSPORT_SECURITY, value))
}
