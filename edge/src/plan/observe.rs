//! Logs, ids and traces of requests, compiled.

use http::HeaderName;

use crate::config::model::Trust;
use crate::config::values::{LogPart, LogTarget, Percent};

/// Logs, ids and traces of requests.
#[derive(Debug, Default)]
pub struct Observe {
    /// The access log.
    pub log: Option<AccessLog>,
    /// The header that tells servers the id of a request.
    pub request_id: Option<RequestId>,
    /// The passing on of traces.
    pub tracing: Option<Tracing>,
}

/// An access log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessLog {
    /// The place.
    pub to: LogTarget,
    /// The parts of a line.
    pub parts: Vec<LogPart>,
    /// True if the values are written as JSON has them.
    pub json: bool,
    /// The share of requests that get a line.
    pub sample: Option<Percent>,
}

/// The header that tells servers the id of a request.
#[derive(Clone, Debug)]
pub struct RequestId {
    /// Its name.
    pub header: HeaderName,
    /// The requests whose own id is kept.
    pub trust: Trust,
}

/// The passing on of traces.
#[derive(Clone, Debug)]
pub struct Tracing {
    /// The share of traces begun here that are marked to be sampled.
    pub sample: Option<Percent>,
}

/// Tells whether a number, of 2^32 alike, is in this share of them.
pub fn is_in(share: Option<Percent>, number: u32) -> bool {
    share.is_none_or(|share| u64::from(number) < share.of(1 << 32))
}
