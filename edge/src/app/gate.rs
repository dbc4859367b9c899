//! The rules of a route, asked of a request.
//!
//! [`plan::gate`](crate::plan::gate) tells their order. Those of them that need no more than the request and the plan are
//! asked there.

use http::{header, HeaderName, HeaderValue, StatusCode};

use super::answer::Answer;
use super::counting::Counting;
use crate::limits::rate::Verdict;
use crate::limits::{self, client_of};
use crate::live::{leave, Live, Running};
use crate::observe::Limit;
use crate::plan::gate::{Gate, HttpsRedirect, Refusal, Rule};
use crate::plan::limits::RateLimit;
use crate::plan::Request;

const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const REMAINING: HeaderName = HeaderName::from_static("ratelimit");

/// Fields of an answer.
pub(super) type Fields = Vec<(HeaderName, HeaderValue)>;

/// What a request that has passed its rules takes with it.
#[derive(Default)]
pub(super) struct Passed {
    /// Its places in limits of requests at a time: the limit's index and the key.
    places: Vec<(usize, u64)>,
    /// The bytes that are left of its body.
    body: Option<u64>,
    /// Fields of its answer.
    pub(super) fields: Fields,
}

impl Passed {
    /// Leaves its places.
    pub(super) fn leave(&mut self, running: &Running) {
        for (index, key) in self.places.drain(..) {
            leave(running, index, key);
        }
    }

    /// Counts a part of the body; `false` when it is too long.
    pub(super) fn takes(&mut self, bytes: usize) -> bool {
        let Some(left) = &mut self.body else {
            return true;
        };
        let rest = left.checked_sub(bytes as u64);
        *left = rest.unwrap_or(0);
        rest.is_some()
    }
}

/// Asks the rules of a route, and returns the answer to a request that they refuse. What a request has to give back stands
/// in `passed`, also then.
pub(super) fn judge(
    live: &Live,
    running: &Running,
    gate: &Gate,
    request: &Request<'_>,
    passed: &mut Option<Box<Passed>>,
) -> Option<Answer> {
    if let Some(refusal) = gate.refuses(request) {
        return Some(Answer::of_refusal(refusal));
    }
    if gate.rates.is_empty() && gate.concurrent.is_empty() && gate.max_body.is_none() {
        return None;
    }
    let passed = passed.insert(Box::default());
    passed.body = gate.max_body;
    let now = limits::now();
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
    for index in &gate.concurrent {
        let limit = &running.plan.concurrent[*index];
        let shared = &running.limits.concurrent[*index];
        let key = (limit.by.as_ref()).map_or(0, |by| by.hash(request, client_of, shared.hasher()));
        if !live.enter(running, *index, key, now) {
            let refusal = Refusal {
                retry_after: Some(1),
                ..Refusal::of(Rule::ConcurrentRequests, limit.status)
            };
            return Some(Answer::of_refusal(refusal));
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
        Rule::HttpsRedirect | Rule::Maintenance => return,
        Rule::Access => Limit::Address,
        Rule::RateLimit => Limit::Rate,
        Rule::ConcurrentRequests => Limit::Concurrency,
        Rule::MaxHeaders | Rule::MaxHeaderSize | Rule::MaxBodySize => Limit::Size,
    };
    counting.limited(limit);
}

/// Makes the answer that sends a client to HTTPS.
pub(super) fn to_https(redirect: &HttpsRedirect, request: &Request<'_>) -> Answer {
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
