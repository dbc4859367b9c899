//! The story of one request: to servers its id and its trace, and to the access log how it ended.

use std::net::IpAddr;

use http::{HeaderMap, HeaderName};
use pingora_core::protocols::http::RefusedRequest;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_core::{Error, Result};
use pingora_http::RequestHeader;
use pingora_proxy::Session;

use super::counting::Counting;
use super::facts::{peer, Facts};
use super::headers::{remove_alike, Head};
use crate::cluster::Random;
use crate::config::model::Trust;
use crate::live::{Live, Running};
use crate::observe::log::{Captured, End, Start};
use crate::observe::trace::{state, Trace};
use crate::plan::observe::{is_in, Tracing};

const PARENT: HeaderName = HeaderName::from_static("traceparent");
const STATE: HeaderName = HeaderName::from_static("tracestate");
/// The longest id of a request that is kept.
const LONGEST: usize = 128;

/// The story of a request.
pub(super) struct Observed {
    /// The id; empty when nobody has asked for one.
    id: String,
    trace: Option<Trace>,
    captured: Option<Box<Captured>>,
    client: Option<IpAddr>,
    secure: bool,
    /// The index of the site, and that of the route there.
    at: (Option<usize>, Option<usize>),
    /// True if it gets a line.
    is_logged: bool,
}

impl Default for Observed {
    fn default() -> Self {
        Self {
            id: String::new(),
            trace: None,
            captured: None,
            client: None,
            secure: false,
            at: (None, None),
            is_logged: true,
        }
    }
}

impl Observed {
    /// Returns the address of the client, if it has one.
    pub(super) fn client(&self) -> Option<IpAddr> {
        self.client
    }

    /// Notes who asks.
    #[inline]
    pub(super) fn of_client(&mut self, facts: &Facts<'_>) {
        (self.client, self.secure) = (facts.client.ip, facts.client.secure);
    }

    /// Notes the site and the route, as far as there are any, and counts the request for them.
    #[inline]
    pub(super) fn of_route(
        &mut self,
        running: &Running,
        counting: &mut Counting,
        site: Option<usize>,
        route: Option<usize>,
    ) {
        self.at = (site, route);
        counting.of_route(running.series.route(site, route));
        if let (Some(site), Some(route)) = self.at {
            self.is_logged = running.plan.sites[site].routes[route].is_logged;
        }
    }

    /// Returns the indexes of the site and the route, as far as there are any.
    pub(super) fn at(&self) -> (Option<usize>, Option<usize>) {
        self.at
    }

    /// Returns the id; empty when nobody has asked for one.
    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// Finds or makes the id of a request, if anybody needs one. One without facts is bad, and brings none.
    pub(super) fn identify(
        &mut self,
        live: &Live,
        running: &Running,
        facts: Option<&Facts<'_>>,
        needed: bool,
    ) -> &str {
        let told = running.plan.observe.request_id.as_ref();
        let facts = facts.filter(|facts| facts.client.proxied);
        let kept = told.filter(|told| told.trust == Trust::Proxies).zip(facts);
        let kept = kept.and_then(|(told, facts)| valid_id(&facts.head.headers, &told.header));
        if let Some(kept) = kept {
            self.id = kept.to_owned();
        } else if needed || told.is_some() || running.log_tells_id() {
            self.id = live.with(|worker| made_id(&mut worker.random));
        }
        &self.id
    }

    /// Takes what the access log tells of a request, before it is changed for its server.
    #[inline]
    pub(super) fn capture(&mut self, running: &Running, session: &Session) {
        let Some(log) = running.log.as_ref().filter(|_| self.is_logged) else {
            return;
        };
        if self.captured.is_none() {
            self.captured = Some(log.capture(&Start {
                head: session.req_header(),
                client: self.client.or_else(|| peer(session)),
                secure: self.secure,
            }));
        }
    }

    /// Tells the server the id and the trace.
    ///
    /// # Errors
    ///
    /// `InvalidHTTPHeader` when there is no room for more fields.
    #[inline]
    pub(super) fn tell(
        &mut self,
        live: &Live,
        running: &Running,
        head: &mut RequestHeader,
    ) -> Result<()> {
        let plan = &running.plan.observe;
        if let Some(tracing) = &plan.tracing {
            self.trace(live, tracing, head)?;
        }
        if let Some(told) = &plan.request_id {
            head.remove(&told.header);
            remove_alike(&told.header, head);
            head.add(&told.header, self.id.as_bytes())?;
        }
        Ok(())
    }

    /// Tells whether a field is one that servers are told here.
    pub(super) fn tells(running: &Running, name: &HeaderName) -> bool {
        let plan = &running.plan.observe;
        let id = plan.request_id.as_ref();
        id.is_some_and(|told| told.header == *name)
            || plan.tracing.is_some() && (*name == PARENT || *name == STATE)
    }

    /// Passes the trace on that the request is in, or begins one.
    fn trace(&mut self, live: &Live, tracing: &Tracing, head: &mut RequestHeader) -> Result<()> {
        let mut parents = head.headers.get_all(PARENT).iter();
        // Two are as bad as none (W3C Trace Context 3.2).
        let parent = match (parents.next(), parents.next()) {
            (Some(parent), None) => Trace::parse(parent.as_bytes()),
            _ => None,
        };
        let fields = head.headers.get_all(STATE).iter();
        let told = parent.and_then(|_| state(fields.map(|field| field.as_bytes())));
        let trace = live.with(|worker| {
            let random = &mut worker.random;
            let span = wide(random);
            match parent {
                Some(parent) => parent.with_span(span),
                None => {
                    let id = u128::from(wide(random)) << 64 | u128::from(wide(random));
                    Trace::begin(id, span, is_in(tracing.sample, random.next()))
                }
            }
        });
        self.trace = Some(trace);
        head.remove(&PARENT);
        head.remove(&STATE);
        head.add(&PARENT, trace.header().as_bytes())?;
        if let Some(state) = told {
            head.add(&STATE, state.as_bytes())?;
        }
        Ok(())
    }

    /// Notes the server that is asked.
    #[inline]
    pub(super) fn asks(&mut self, running: &Running, peer: &HttpPeer) {
        let told = self
            .captured
            .as_mut()
            .filter(|_| running.log_tells_server());
        if let Some(captured) = told {
            captured.set_upstream(&peer._address);
        }
    }

    /// Logs the end of a request.
    pub(super) fn log(
        &mut self,
        live: &Live,
        running: &Running,
        session: &Session,
        counting: &Counting,
        error: Option<&Error>,
    ) {
        // It is the proxy's own.
        if session.is_subrequest() {
            return;
        }
        // For those that ended before a route was looked for.
        self.capture(running, session);
        let Some((log, captured)) = running.log.as_ref().zip(self.captured.take()) else {
            return;
        };
        let head = session.response_written();
        let status = head.map_or(0, |head| head.status.as_u16());
        if !log.takes(status, || live.with(|worker| worker.random.next())) {
            return captured.keep();
        }
        if self.id.is_empty() && running.log_tells_id() {
            self.id = live.with(|worker| made_id(&mut worker.random));
        }
        let mut trace_id = String::new();
        if let Some(trace) = self.trace.filter(|_| running.log_tells_trace()) {
            trace.write_id(&mut trace_id);
        }
        let (site, route) = self.at;
        let site = site.map(|site| &running.plan.sites[site]);
        let route = site.zip(route).map(|(site, route)| &site.routes[route]);
        let digest = session
            .digest()
            .and_then(|digest| digest.ssl_digest.as_deref());
        log.add(
            captured,
            &End {
                at: Some(counting.ended_at()),
                status,
                bytes: session.body_bytes_sent(),
                bytes_in: session.body_bytes_read(),
                duration: counting.took(),
                upstream_duration: counting.upstream_took(),
                tries: counting.tries_so_far(),
                cache: counting.cache_name(),
                site: site.map_or("", |site| &site.name),
                route: route.map_or("", |route| &route.name),
                request_id: &self.id,
                trace_id: &trace_id,
                tls_version: digest.map_or("", |digest| &digest.version),
                error,
            },
        );
    }
}

/// Logs a request that was refused before a route was looked for, if its head could be read.
pub(super) fn log_refused(running: &Running, refused: &RefusedRequest<'_>) {
    let (Some(log), Some(head)) = (&running.log, refused.request()) else {
        return;
    };
    let client = refused.client_addr().and_then(|address| address.as_inet());
    let digest = refused
        .digest()
        .and_then(|digest| digest.ssl_digest.as_deref());
    let captured = log.capture(&Start {
        head,
        client: client.map(|address| address.ip()),
        secure: digest.is_some(),
    });
    let end = End {
        status: refused.status().unwrap_or(0),
        tls_version: digest.map_or("", |digest| &digest.version),
        error: Some(refused.error()),
        ..End::default()
    };
    log.add(captured, &end);
}

/// Returns the id that a request brings, if it is a good one: nothing that a log or a page would have to escape.
fn valid_id<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h str> {
    let mut all = headers.get_all(name).iter();
    let (Some(id), None) = (all.next(), all.next()) else {
        return None;
    };
    let id = id.to_str().ok()?;
    let good = |b: u8| b.is_ascii_alphanumeric() || b"-._~+/=:@".contains(&b);
    ((1..=LONGEST).contains(&id.len()) && id.bytes().all(good)).then_some(id)
}

/// Makes the id of a request: 128 random bits.
fn made_id(random: &mut Random) -> String {
    let id = u128::from(wide(random)) << 64 | u128::from(wide(random));
    let mut text = String::with_capacity(32);
    for shift in (0..128).step_by(4).rev() {
        let digit = char::from_digit((id >> shift & 15) as u32, 16);
        text.push(digit.unwrap_or('0'));
    }
    text
}

fn wide(random: &mut Random) -> u64 {
    u64::from(random.next()) << 32 | u64::from(random.next())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn ids_are_of_32_digits_and_differ() {
        let mut random = Random::default();
        let (one, other) = (made_id(&mut random), made_id(&mut random));
        assert_eq!(one.len(), 32);
        assert!(one.bytes().all(|b| b.is_ascii_hexdigit()));
        assert_ne!(one, other);
    }

    #[test]
    fn only_good_ids_are_kept() {
        let name = HeaderName::from_static("x-id");
        let kept = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(&name, HeaderValue::from_str(value).unwrap());
            }
            valid_id(&headers, &name).is_some()
        };
        for id in ["a", "A-1_b.c~d+/=:@", &"x".repeat(128)] {
            assert!(kept(&[id]), "{id}");
        }
        for id in ["", "a b", "<a>", "\"", "é", "a,b", &"x".repeat(129)] {
            assert!(!kept(&[id]), "{id}");
        }
        assert!(!kept(&["a", "b"]) && !kept(&[]));
    }
}
