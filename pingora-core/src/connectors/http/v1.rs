//! HTTP/1.1 sessions to a peer.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use pingora_error::Result;

use crate::connectors::pool::{Ended, Idle, IdlePool};
use crate::connectors::{
    in_time, lacks_connect_permit, leads_elsewhere, ConnectorOptions, TransportConnector,
};
use crate::limits::LIMITS;
use crate::protocols::http::v1::client::HttpSession;
use crate::protocols::Stream;
use crate::upstreams::peer::Peer;

/// Hands out HTTP/1.1 sessions, on new connections and on kept ones.
///
/// The pool keeps the session and not the bare connection, so that nothing needs to be made anew for the
/// next exchange on it.
#[derive(Clone)]
pub struct Connector {
    transport: Arc<TransportConnector>,
    pool: Arc<IdlePool<HttpSession>>,
}

impl Connector {
    /// A connector with these options; without, one that keeps 128 idle connections.
    pub fn new(options: Option<ConnectorOptions>) -> Self {
        let mut options = options.unwrap_or_else(|| ConnectorOptions::new(LIMITS.upstream_pool));
        // The transport makes connections; they are kept here.
        let size = std::mem::take(&mut options.keepalive_pool_size);
        let pool = IdlePool::new(size, options.keepalive_pool_callback.take());
        Connector::over(Arc::new(TransportConnector::new(Some(options))), pool)
    }

    /// A connector that makes connections by `transport`.
    pub(super) fn over(
        transport: Arc<TransportConnector>,
        pool: Arc<IdlePool<HttpSession>>,
    ) -> Self {
        Connector { transport, pool }
    }

    /// A session to `peer`, and whether its connection was used before.
    ///
    /// # Errors
    /// Those of [`TransportConnector::new_stream`].
    ///
    /// # Cancel safety
    /// Dropping the future closes what was opened.
    pub async fn get_http_session<P: Peer + Send + Sync + 'static>(
        &self,
        peer: &P,
    ) -> Result<(HttpSession, bool)> {
        let key = peer.reuse_hash();
        if let Some(session) = self.kept_session(peer, key) {
            return Ok((session, true));
        }
        // Boxed: making a connection is rare, and its state would be a part of every request's.
        Box::pin(self.new_session(peer, key)).await
    }

    async fn new_session<P: Peer + Send + Sync + 'static>(
        &self,
        peer: &P,
        key: u64,
    ) -> Result<(HttpSession, bool)> {
        let connecting = async {
            let stream = match self.transport.dial(peer).await {
                Err(e) if lacks_connect_permit(&e) => match self.session_elsewhere(peer, key) {
                    Some(session) => return Ok((session, true)),
                    None => self.transport.make_stream(peer).await?,
                },
                made => made?,
            };
            let mut session = HttpSession::new_with_options(stream, peer);
            session.set_key(key);
            Ok((session, false))
        };
        in_time(peer, connecting).await
    }

    /// A session on a connection that another worker keeps idle, for a peer to which a limit allows no new one.
    pub(super) fn session_elsewhere<P: Peer>(&self, peer: &P, key: u64) -> Option<HttpSession> {
        prepared(self.pool.take_elsewhere(key)?, peer)
    }

    /// A session on an idle connection to `peer`, if one is kept that is still open and quiet.
    pub async fn reused_http_session<P: Peer + Send + Sync + 'static>(
        &self,
        peer: &P,
    ) -> Option<HttpSession> {
        self.kept_session(peer, peer.reuse_hash())
    }

    pub(super) fn kept_session<P: Peer>(&self, peer: &P, key: u64) -> Option<HttpSession> {
        prepared(self.pool.take(key)?, peer)
    }

    /// Ends a session's exchange: its connection is kept when it can carry another one, else closed.
    pub async fn release_http_session<P: Peer + Send + Sync + 'static>(
        &self,
        session: HttpSession,
        peer: &P,
        idle_timeout: Option<Duration>,
    ) {
        if let Some(mut session) = self.keep_session(session, peer, idle_timeout) {
            Box::pin(async move { session.shutdown().await }).await;
        }
    }

    /// Keeps the connection of a session when it can carry another exchange; else the session comes back.
    pub(super) fn keep_session<P: Peer>(
        &self,
        mut session: HttpSession,
        peer: &P,
        idle_timeout: Option<Duration>,
    ) -> Option<HttpSession> {
        if !session.is_reusable() {
            return Some(session);
        }
        let key = session.key().unwrap_or_else(|| peer.reuse_hash());
        session.set_key(key);
        session.next_exchange();
        // A connection for which there is no room closes.
        drop(self.pool.put(key, session, idle_timeout));
        None
    }

    /// Returns the number of idle connections that were dropped because they received data that nobody asked for.
    pub fn unexpected_data_connection_count(&self) -> u64 {
        self.pool.unexpected_data().load(Ordering::Relaxed)
    }

    /// The counter behind [`Connector::unexpected_data_connection_count`], to be read later.
    pub fn unexpected_data_connection_counter(&self) -> Arc<AtomicU64> {
        self.pool.unexpected_data().clone()
    }
}

/// An idle session with the options of its peer, if it leads there.
fn prepared<P: Peer>(mut session: HttpSession, peer: &P) -> Option<HttpSession> {
    if leads_elsewhere(session.stream(), peer) {
        log::warn!("an idle connection does not lead to {peer}, whose key it has");
        return None;
    }
    session.apply_options(peer);
    Some(session)
}

impl HttpSession {
    /// A session with the options of its peer: timeouts, and what is forgiven to the origin.
    pub fn new_with_options<P: Peer>(stream: Stream, peer: &P) -> Self {
        let mut session = HttpSession::new(stream);
        session.apply_options(peer);
        session
    }

    fn apply_options<P: Peer>(&mut self, peer: &P) {
        if let Some(options) = peer.get_peer_options() {
            self.read_timeout = options.read_timeout;
            self.write_timeout = options.write_timeout;
            self.response_header_timeout = options.response_header_timeout;
            self.set_allow_h1_response_invalid_content_length(
                options.allow_h1_response_invalid_content_length,
            );
        }
    }
}

impl Idle for HttpSession {
    fn limit_key(&self) -> Option<u64> {
        self.stream().limit_key()
    }

    fn poll_idle(&mut self, cx: &mut Context<'_>) -> Poll<Ended> {
        match HttpSession::poll_idle(self, cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Ok(n)) if n > 0 => Poll::Ready(Ended::UnexpectedData),
            Poll::Ready(_) => Poll::Ready(Ended::Closed),
        }
    }

    fn can_move(&self) -> bool {
        self.stream().can_move()
    }

    fn adopt(mut self) -> Option<Self> {
        let stream = self.replace_stream(None).adopt()?;
        self.replace_stream(Some(stream));
        Some(self)
    }
}
