//! The rules of a route, asked of a request.
//!
//! [`plan::gate`](crate::plan::gate) tells their order. Those of them that need no more than the request and the plan are
//! asked there.

use http::{HeaderValue, StatusCode};

use super::answer::Answer;
use super::counting::Counting;
use crate::observe::Limit;
use crate::plan::gate::{HttpsRedirect, Refusal, Rule};
use crate::plan::Request;

/// Makes the answer to a request that a rule refuses, and counts it.
pub(super) fn refused(refusal: Refusal, counting: &Counting) -> Answer {
    if let Some(limit) = counted_as(refusal.rule) {
        counting.limited(limit);
    }
    Answer::of_refusal(refusal)
}

/// Returns what metrics call a rule, if they tell of it.
fn counted_as(rule: Rule) -> Option<Limit> {
    match rule {
        Rule::HttpsRedirect | Rule::Maintenance => None,
        Rule::Access => Some(Limit::Address),
    }
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
