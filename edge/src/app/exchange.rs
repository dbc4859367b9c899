//! Requests of the proxy's own to the servers of a cluster, beside those of clients.

use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use pingora_core::connectors::http::Connector;
use pingora_core::connectors::l4::is_local_shortage;
use pingora_core::connectors::lacks_connect_permit;
use pingora_core::protocols::http::client::HttpSession;
use pingora_core::protocols::http::v2::client::was_not_processed;
use pingora_core::upstreams::peer::{HttpPeer, Peer};
use pingora_core::ErrorType::{HTTPStatus, InvalidHTTPHeader, ReadTimedout};
use pingora_core::{Error, Result, RetryType};
use pingora_http::{RequestHeader, ResponseHeader};

use super::counting::failure;
use crate::cluster::{HashBy, Pick, Tried};
use crate::live::{release, Live, Running};
use crate::observe::{Class, EndpointCounts, Handle};

/// The tries of a request, and the idle connections that it may meet at their end.
const TRIES: usize = 3;

/// A request to a server of a cluster. Its drop counts it off.
pub(super) struct Exchange<'a> {
    live: &'a Live,
    running: &'a Running,
    cluster: usize,
    tried: Tried,
    /// The tries that are left.
    left: usize,
    server: Handle<EndpointCounts>,
}

impl Drop for Exchange<'_> {
    fn drop(&mut self) {
        self.end();
        if self.tried.is_open() {
            release(&mut self.tried);
        }
    }
}

impl<'a> Exchange<'a> {
    /// Prepares one with the cluster of this index.
    pub(super) fn new(live: &'a Live, running: &'a Running, cluster: usize) -> Self {
        Self {
            live,
            running,
            cluster,
            tried: Tried::default(),
            left: TRIES,
            server: Handle::default(),
        }
    }

    /// As [`Exchange::new`], for a request that is not to be sent twice, but for one that an idle connection has not taken.
    pub(super) fn once_only(live: &'a Live, running: &'a Running, cluster: usize) -> Self {
        let mut made = Self::new(live, running, cluster);
        made.left = 1;
        made
    }

    /// Sends a request, and returns the answer with its body, unless that is longer than `most` bytes. A server that fails
    /// is followed by another one, as the request changes nothing.
    ///
    /// # Errors
    ///
    /// Errors of the upstream: no server answers within `limit`.
    pub(super) async fn ask(
        mut self,
        connector: &Connector,
        head: &RequestHeader,
        body: Option<&Bytes>,
        most: usize,
        limit: Duration,
    ) -> Result<(ResponseHeader, Option<Bytes>)> {
        let own = self.running.clusters[self.cluster].time_limit();
        let limit = own.map_or(limit, |own| limit.min(own));
        let asked = tokio::time::timeout(limit, self.tries(connector, head, body, most)).await;
        match asked {
            Ok(answer) => answer,
            Err(_) => {
                let e = Error::explain(ReadTimedout, format!("no answer within {limit:?}"));
                let e = e.into_up();
                self.failed(&e);
                Err(e)
            }
        }
    }

    async fn tries(
        &mut self,
        connector: &Connector,
        head: &RequestHeader,
        body: Option<&Bytes>,
        most: usize,
    ) -> Result<(ResponseHeader, Option<Bytes>)> {
        let mut stale = 0;
        loop {
            let peer = self.pick()?;
            let mut reused = false;
            let done = self.once(connector, &peer, head, body, most, &mut reused);
            let e = match done.await {
                Ok(answer) => return Ok(answer),
                Err(e) => e.into_up(),
            };
            // The end of an idle connection says nothing of its server, which has not seen the request.
            let idle = reused && matches!(e.retry, RetryType::ReusedOnly);
            if (idle || was_not_processed(&e)) && stale < TRIES {
                stale += 1;
                continue;
            }
            self.left = self.left.saturating_sub(1);
            if !self.failed(&e) || self.left == 0 {
                return Err(e);
            }
        }
    }

    fn pick(&mut self) -> Result<Box<HttpPeer>> {
        self.end();
        let (running, index) = (self.running, self.cluster);
        let (tried, server) = (&mut self.tried, &mut self.server);
        self.live.with_cluster(running, index, |local, hands| {
            let cluster = &running.clusters[index];
            let picked = local.pick(cluster, tried, HashBy::default(), false, hands)?;
            let Pick::Peer(peer) = picked else {
                let why = "every server has as many requests as it may";
                return Err(Error::explain(HTTPStatus(503), why).into_up());
            };
            if let Some(series) = local.series(tried, hands.slots) {
                *server = series.begin(|m| m.open.add(1));
            }
            Ok(peer)
        })
    }

    async fn once(
        &mut self,
        connector: &Connector,
        peer: &HttpPeer,
        head: &RequestHeader,
        body: Option<&Bytes>,
        most: usize,
        reused: &mut bool,
    ) -> Result<(ResponseHeader, Option<Bytes>)> {
        let began = Instant::now();
        let (mut session, kept) = connector.get_http_session(peer).await?;
        *reused = kept;
        session.set_read_timeout(peer.options.read_timeout);
        session.set_write_timeout(peer.options.write_timeout);
        session.write_request_header(Box::new(head.clone())).await?;
        if let Some(body) = body {
            session.write_request_body(body.clone(), true).await?;
        }
        session.finish_request_body().await?;
        let answer = answer(&mut session).await?;
        self.answered(&answer, began.elapsed());
        let read = read(&mut session, most).await?;
        if session.response_done() {
            connector
                .release_http_session(session, peer, peer.idle_timeout())
                .await;
        }
        Ok((answer, read))
    }

    fn answered(&self, answer: &ResponseHeader, took: Duration) {
        let (running, index) = (self.running, self.cluster);
        self.live.with_cluster(running, index, |local, hands| {
            let cluster = &running.clusters[index];
            local.answered(cluster, &self.tried, answer.status, hands.slots);
        });
        self.server.with(|m| {
            m.responses.count(Class::of(answer.status.as_u16()));
            m.durations.add(took);
        });
    }

    /// Notes a failure of the server, and tells whether another one is left.
    fn failed(&mut self, e: &Error) -> bool {
        if !is_local_shortage(e) && !lacks_connect_permit(e) {
            self.server.with(|m| m.failures.count(failure(e)));
        }
        let (running, index, tried) = (self.running, self.cluster, &mut self.tried);
        self.live.with_cluster(running, index, |local, hands| {
            let cluster = &running.clusters[index];
            local.failed(cluster, tried, hands.slots, e)
        })
    }

    fn end(&mut self) {
        let server = std::mem::take(&mut self.server);
        server.with(|m| m.open.sub(1));
    }
}

/// Reads heads up to the last one.
async fn answer(session: &mut HttpSession) -> Result<ResponseHeader> {
    loop {
        session.read_response_header().await?;
        let Some(head) = session.response_header() else {
            return Error::e_explain(InvalidHTTPHeader, "an answer without a head");
        };
        if head.status.as_u16() == 101 {
            return Error::e_explain(InvalidHTTPHeader, "an upgrade that nobody asked for");
        }
        if !head.status.is_informational() {
            return Ok(head.clone());
        }
    }
}

/// Reads a body, unless it is longer than `most` bytes.
async fn read(session: &mut HttpSession, most: usize) -> Result<Option<Bytes>> {
    let mut body = BytesMut::new();
    while let Some(part) = session.read_response_body().await? {
        if body.len() + part.len() > most {
            return Ok(None);
        }
        body.extend_from_slice(&part);
    }
    Ok(Some(body.freeze()))
}
