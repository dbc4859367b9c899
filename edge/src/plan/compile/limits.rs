//! Limits of sites and routes.

use super::Compiler;
use crate::config::model;
use crate::config::section::Value;
use crate::config::values::{LimitKey, Size};
use crate::config::At;
use crate::plan::limits::{ConcurrentRequests, LimitedBy, RateLimit};

/// The largest body that is buffered.
const BUFFERED: Size = Size(1 << 30);

/// The counts of the requests of a site or a route.
pub(super) struct Counted {
    /// Tells the site or route from others, in this configuration and the next.
    pub(super) place: String,
    /// Indexes of rates.
    pub(super) rates: Vec<usize>,
    /// Indexes of limits of requests at a time.
    pub(super) concurrent: Vec<usize>,
}

impl Compiler<'_> {
    pub(super) fn counted(
        &mut self,
        place: &str,
        rates: &[model::RateLimit],
        concurrent: &[model::ConcurrentRequests],
    ) -> Counted {
        let mut counted = Counted {
            place: place.to_owned(),
            rates: Vec::new(),
            concurrent: Vec::new(),
        };
        for (number, limit) in rates.iter().enumerate() {
            let made = self.rate(place, number, limit);
            counted.rates.push(self.rates.len());
            self.rates.push(made);
        }
        for (number, limit) in concurrent.iter().enumerate() {
            let At { place: at, value } = &limit.max;
            if *value == 0 {
                let message = "no request would pass; `maintenance` answers all with 503";
                self.errors.at(*at, message);
            }
            counted.concurrent.push(self.concurrent.len());
            self.concurrent.push(ConcurrentRequests {
                key: key(place, number, limit),
                by: limit.key.as_ref().map(by),
                max: *value,
                status: limit.status.0,
            });
        }
        counted
    }

    fn rate(&mut self, place: &str, number: usize, limit: &model::RateLimit) -> RateLimit {
        let burst = limit.burst.as_ref().map_or(limit.rate.count, |at| at.value);
        if let Some(at) = limit.burst.as_ref().filter(|at| at.value == 0) {
            let message = "no request would pass; the least is 1";
            self.errors.at(at.place, message);
        }
        RateLimit {
            key: key(place, number, limit),
            by: by(&limit.key),
            count: limit.rate.count,
            period: limit.rate.period,
            burst,
            status: limit.status.0,
            headers: limit.headers,
        }
    }

    pub(super) fn buffer(&mut self, buffer: &model::BufferRequest, route: &model::Route) -> usize {
        let At { place, value } = &buffer.max;
        if route.proxy.is_none() {
            let message =
                "`buffer_request` is for what goes upstream, and this route has no `proxy`";
            self.errors.at(buffer.place, message);
        }
        if *value > BUFFERED {
            let message = "bodies are held in memory: the most is 1GiB";
            self.errors.at(*place, message);
        }
        usize::try_from(value.0).unwrap_or(usize::MAX)
    }
}

fn by(key: &LimitKey) -> LimitedBy {
    LimitedBy(key.template().clone())
}

/// Returns what tells a limit from every other one, and is the same after a reload that left it as it was.
fn key(place: &str, number: usize, limit: &impl Value) -> String {
    format!("{place}\n{number}\n{}", limit.print().to_yaml())
}
