//! The counts of one request.

use std::time::{Duration, Instant};

use pingora_core::connectors::l4::is_local_shortage;
use pingora_core::ErrorType::{
    ConnectError, ConnectNoRoute, ConnectProxyFailure, ConnectRefused, ConnectTimedout,
    ConnectionClosed, HandshakeError, InvalidCert, ReadError, ReadTimedout, SocketError,
    TLSHandshakeFailure, TLSHandshakeTimedout, TLSWantX509Lookup, UnknownError, WriteError,
    WriteTimedout,
};
use pingora_core::{Error, ErrorSource};
use pingora_proxy::Session;

use crate::observe::{
    self, CacheUse, Class, EndpointCounts, Failure, Handle, Limit, RouteCounts, Series,
};

/// The counts of a request. Its drop counts what has not come to an end.
pub(super) struct Counting {
    started: Instant,
    route: Handle<RouteCounts>,
    server: Handle<EndpointCounts>,
    /// The choice of the server that has the request. That of the first one is the begin, unless anything was waited for.
    chosen: Option<Instant>,
    /// From there to the head of its response.
    answered: Option<Duration>,
    tries: u32,
    /// True if it has waited for a server.
    queued: bool,
    cache: Option<CacheUse>,
    took: Duration,
    ended: bool,
}

impl Counting {
    /// Begins with a request.
    #[inline]
    pub(super) fn begin() -> Self {
        observe::worker(|m| m.open.add(1));
        let started = Instant::now();
        Self {
            started,
            route: Handle::default(),
            server: Handle::default(),
            chosen: Some(started),
            answered: None,
            tries: 0,
            queued: false,
            cache: None,
            took: Duration::ZERO,
            ended: false,
        }
    }

    /// Counts it for a route, unless there is one already.
    #[inline]
    pub(super) fn of_route(&mut self, series: &Series<RouteCounts>) {
        if self.route.is_none() {
            self.route = series.begin(|m| m.open.add(1));
        }
    }

    /// Counts a request that a limit or rule keeps from being served.
    pub(super) fn limited(&self, limit: Limit) {
        self.route.with(|m| m.limited.count(limit));
    }

    /// Counts the time for which it has waited for a server.
    pub(super) fn waited(&mut self, time: Duration) {
        self.queued = true;
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.route.with(|m| {
            m.queued.add(1);
            m.queued_ns.add(nanos);
        });
    }

    /// Returns the counts of its route.
    pub(super) fn route(&self) -> Handle<RouteCounts> {
        self.route
    }

    /// Counts no request: nobody has sent this one. What its server does is counted.
    pub(super) fn in_background(&mut self) {
        if !std::mem::replace(&mut self.ended, true) {
            observe::worker(|m| m.open.sub(1));
        }
    }

    /// Counts the part of the cache.
    #[inline]
    pub(super) fn cached(&mut self, part: CacheUse) {
        self.cache = Some(part);
        if !self.ended {
            self.route.with(|m| m.cache.count(part));
        }
    }

    /// Counts a try for a server.
    #[inline]
    pub(super) fn tries(&mut self, series: Option<&Series<EndpointCounts>>) {
        let again = self.left();
        if again {
            self.chosen = None;
            self.route.with(|m| m.retries.add(1));
        }
        self.tries += 1;
        self.answered = None;
        if let Some(series) = series {
            self.server = series.begin(|m| m.open.add(1));
            if self.chosen.is_none() {
                self.chosen = Some(Instant::now());
            }
        }
    }

    /// Takes the last try back, which has reached nobody.
    pub(super) fn takes_back(&mut self) {
        self.left();
        self.tries = self.tries.saturating_sub(1);
        self.chosen = None;
    }

    /// Returns when the request came.
    #[inline]
    pub(super) fn started(&self) -> Instant {
        self.started
    }

    /// Notes that something is waited for before the choice of a server.
    #[inline]
    pub(super) fn waits(&mut self) {
        self.chosen = None;
    }

    /// Counts the head of a server's response.
    #[inline]
    pub(super) fn answered(&mut self, status: u16) {
        let took = self.chosen.unwrap_or(self.started).elapsed();
        self.answered = Some(took);
        self.server.with(|m| {
            m.responses.count(Class::of(status));
            m.durations.add(took);
        });
    }

    /// Counts a try that failed, unless the server is not to blame.
    pub(super) fn failed(&self, e: &Error) {
        if e.esource() != &ErrorSource::Downstream && !is_local_shortage(e) {
            self.server.with(|m| m.failures.count(failure(e)));
        }
    }

    /// Counts the end of the request.
    #[inline]
    pub(super) fn end(&mut self, session: &Session, e: Option<&Error>) {
        let answer = session.response_written();
        let status = answer.map_or(0, |head| head.status.as_u16());
        self.ends(status, |m| {
            m.bytes_in.add(session.body_bytes_read() as u64);
            m.bytes_out.add(session.body_bytes_sent() as u64);
            if let Some(e) = e {
                m.failures.count(failure(e));
            }
        });
    }

    /// Returns the time that the request took, once it has ended.
    pub(super) fn took(&self) -> Duration {
        self.took
    }

    /// Returns when the request ended, once it has.
    pub(super) fn ended_at(&self) -> Instant {
        self.started + self.took
    }

    /// Returns the time from the choice of the last server to the head of its response.
    pub(super) fn upstream_took(&self) -> Option<Duration> {
        self.answered
    }

    /// Returns what the part of the cache is called; empty when there is none.
    pub(super) fn cache_name(&self) -> &'static str {
        self.cache
            .map_or("", |part| CacheUse::NAMES[usize::from(part)])
    }

    /// Returns the number of servers that were asked.
    pub(super) fn tries_so_far(&self) -> u32 {
        self.tries
    }

    /// Tells whether its server is the first one that was asked, and was asked at once.
    pub(super) fn is_at_first_server(&self) -> bool {
        self.tries == 1 && !self.queued
    }

    #[inline]
    fn ends(&mut self, status: u16, more: impl FnOnce(&RouteCounts)) {
        self.left();
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        self.took = self.started.elapsed();
        self.route.with(|m| {
            m.open.sub(1);
            m.requests.count(Class::of(status));
            m.durations.add(self.took);
            more(m);
        });
        observe::worker(|m| {
            m.open.sub(1);
            m.requests.add(1);
        });
    }

    /// Counts the request off the server that has it, and tells whether there was one.
    #[inline]
    fn left(&mut self) -> bool {
        let server = std::mem::take(&mut self.server);
        server.with(|m| m.open.sub(1))
    }
}

impl Drop for Counting {
    /// A request that ends without its last phase was given up by the framework: a phase panicked, or the connection of
    /// its stream has gone.
    fn drop(&mut self) {
        self.ends(0, |m| m.failures.count(Failure::Internal));
    }
}

/// Returns the kind of an error.
pub(super) fn failure(e: &Error) -> Failure {
    let upstream = match e.esource() {
        ErrorSource::Upstream if is_local_shortage(e) => return Failure::Internal,
        ErrorSource::Upstream => true,
        ErrorSource::Downstream => false,
        _ => return Failure::Internal,
    };
    match (upstream, &e.etype) {
        (false, ReadTimedout | WriteTimedout) => Failure::ClientTimeout,
        (false, ConnectionClosed | ReadError | WriteError) => Failure::ClientLeft,
        (false, _) => Failure::BadRequest,
        (true, ConnectTimedout | TLSHandshakeTimedout) => Failure::ConnectTimeout,
        (true, ConnectNoRoute) => Failure::NoServer,
        (true, ConnectRefused | ConnectError | ConnectProxyFailure | SocketError) => {
            Failure::Connect
        }
        (true, TLSHandshakeFailure | InvalidCert | HandshakeError | TLSWantX509Lookup) => {
            Failure::Tls
        }
        (true, ReadTimedout | WriteTimedout) => Failure::UpstreamTimeout,
        (true, ConnectionClosed | ReadError | WriteError | UnknownError) => Failure::UpstreamClosed,
        (true, _) => Failure::BadResponse,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pingora_core::ErrorType::{self, InternalError, InvalidHTTPHeader};

    #[test]
    fn errors_have_kinds_by_their_side() {
        let up = |etype: ErrorType| failure(&Error::new_up(etype));
        let down = |etype: ErrorType| failure(&Error::new_down(etype));
        assert_eq!(up(ConnectRefused), Failure::Connect);
        assert_eq!(up(ReadTimedout), Failure::UpstreamTimeout);
        assert_eq!(down(ReadTimedout), Failure::ClientTimeout);
        assert_eq!(up(ConnectionClosed), Failure::UpstreamClosed);
        assert_eq!(down(WriteError), Failure::ClientLeft);
        assert_eq!(up(InvalidHTTPHeader), Failure::BadResponse);
        assert_eq!(down(InvalidHTTPHeader), Failure::BadRequest);
        assert_eq!(failure(&Error::new(InternalError)), Failure::Internal);
    }

    /// The stream of a panicked request is dropped with it.
    #[test]
    fn a_request_that_is_given_up_is_no_longer_open() {
        let series = Series::default();
        let mut counting = Counting::begin();
        counting.of_route(&series);
        assert_eq!(series.sum().open.get(), 1);
        drop(counting);
        let sum = series.sum();
        assert_eq!((sum.open.get(), sum.requests.get()[0]), (0, 1));
    }
}
