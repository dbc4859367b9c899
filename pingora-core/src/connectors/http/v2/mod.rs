//! HTTP/2 sessions to a peer: streams on connections that are kept.
//!
//! ```text
//!                     last stream ends                     own bucket full
//!  in use, with room ------------------> idle, the worker's ------------> idle, the overflow
//!       ^   |   ^                             |                                 |
//!       |   |   +--------- stream made -------+---------------------------------+
//!  ends |   | the last place is taken
//!       |   v
//!      full, known to its streams alone
//! ```
//!
//! A connection and the task that drives it stay with the worker that made them.

mod failure;
mod handshake;
mod in_use;
mod pending_connects;

use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use pingora_error::ErrorType::{ConnectTimedout, H2Downgrade, H2Error};
use pingora_error::{BError, Context as _, Error, Result};
use pingora_pool::{ConnectionMeta, ConnectionPool};
use tokio::runtime::Handle;
use tokio::time::Instant;

use crate::connectors::http::v1;
use crate::connectors::permit::{self, Closing};
use crate::connectors::pool::{self, Idle, IdlePool};
use crate::connectors::preference::H1Only;
use crate::connectors::{
    in_time, lacks_connect_permit, not_in_time, ConnectorOptions, TransportConnector,
};
use crate::limits::LIMITS;
use crate::protocols::http::client::HttpSession;
use crate::protocols::http::custom::client::Session;
use crate::protocols::http::v1::client::HttpSession as Http1Session;
use crate::protocols::http::v2::client::Http2Session;
use crate::protocols::{Stream, ALPN};
use crate::upstreams::peer::{is_at, Peer};
use crate::worker;

pub use crate::protocols::http::v2::client::conn::ConnectionRef;
pub use handshake::{handshake, H2HandshakeSettings};
pub use in_use::InUsePool;

use failure::{Failure, Manner};
use pending_connects::{Ended, PendingConnects};

/// Hands out HTTP/2 sessions: streams on kept connections, and on new ones.
pub struct Connector {
    transport: Arc<TransportConnector>,
    /// Sessions of HTTP/1.1, where there are such.
    h1: Option<v1::Connector>,
    /// Idle connections, each with the worker that made it.
    idle: Arc<IdlePool<ConnectionRef>>,
    /// Made when it is first wanted, which it rarely is.
    overflow: OnceLock<Arc<ConnectionPool<ConnectionRef>>>,
    size: usize,
    in_use: InUsePool,
    pending: PendingConnects<Arc<Failure>>,
    /// Peers that selected HTTP/1.1 when they were offered both.
    selected_h1: H1Only,
}

impl Connector {
    /// A connector with these options; without, one that keeps 128 idle connections.
    pub fn new(options: Option<ConnectorOptions>) -> Self {
        let mut options = options.unwrap_or_else(|| ConnectorOptions::new(LIMITS.upstream_pool));
        let size = std::mem::take(&mut options.keepalive_pool_size);
        let on_reuse = options.keepalive_pool_callback.take();
        let transport = Arc::new(TransportConnector::new(Some(options)));
        Connector::over(transport, None, IdlePool::new(size, on_reuse), size)
    }

    /// A connector that makes connections by `transport`, and knows who keeps those that turn out to be of HTTP/1.1.
    pub(super) fn over(
        transport: Arc<TransportConnector>,
        h1: Option<v1::Connector>,
        idle: Arc<IdlePool<ConnectionRef>>,
        size: usize,
    ) -> Self {
        Connector {
            transport,
            h1,
            idle,
            overflow: OnceLock::new(),
            size,
            in_use: InUsePool::new(),
            pending: PendingConnects::new(),
            selected_h1: H1Only::default(),
        }
    }

    /// The connector of the transport.
    pub fn transport(&self) -> &TransportConnector {
        &self.transport
    }

    /// Idle connections for which their workers had no room: what all workers share. It is asked before a new
    /// connection is made.
    pub fn idle_pool(&self) -> &Arc<ConnectionPool<ConnectionRef>> {
        self.overflow
            .get_or_init(|| Arc::new(ConnectionPool::new(self.size)))
    }

    /// Connections with streams in use and room for more.
    pub fn in_use_pool(&self) -> &InUsePool {
        &self.in_use
    }

    /// A session on a new connection to `peer`: of HTTP/1.1 when the TLS handshake selected that, or no protocol,
    /// and the peer may be spoken to so.
    ///
    /// Without TLS it is HTTP/2 by prior knowledge for a peer that takes nothing else (RFC 9113 section 3.3).
    ///
    /// # Errors
    /// Those of [`TransportConnector::new_stream`]; `H2Downgrade` when a peer that is to be reached by HTTP/2 only
    /// selected another protocol.
    ///
    /// # Cancel safety
    /// Dropping the future closes what was opened.
    pub async fn new_http_session<P: Peer + Send + Sync + 'static, C: Session>(
        &self,
        peer: &P,
    ) -> Result<HttpSession<C>> {
        in_time(peer, self.dial(peer)).await
    }

    async fn dial<P: Peer + Send + Sync + 'static, C: Session>(
        &self,
        peer: &P,
    ) -> Result<HttpSession<C>> {
        let stream = self.transport.make_stream(peer).await?;
        self.session_on(stream, peer).await
    }

    /// [`Connector::dial`], unless a limit allows no new connection and another worker keeps an idle one of HTTP/1.1; and
    /// whether the session is on that.
    async fn dial_or_take<P: Peer + Send + Sync + 'static, C: Session>(
        &self,
        peer: &P,
    ) -> Result<(HttpSession<C>, bool)> {
        let stream = match self.transport.dial(peer).await {
            Err(e) if lacks_connect_permit(&e) => match self.h1_elsewhere(peer) {
                Some(session) => return Ok((HttpSession::H1(session), true)),
                None => self.transport.make_stream(peer).await?,
            },
            dialed => dialed?,
        };
        Ok((self.session_on(stream, peer).await?, false))
    }

    fn h1_elsewhere<P: Peer>(&self, peer: &P) -> Option<Http1Session> {
        let h1 = self.h1.as_ref().filter(|_| least_version(peer) < 2)?;
        h1.session_elsewhere(peer, peer.reuse_hash())
    }

    /// A session on a new connection, of the version that was selected on it.
    async fn session_on<P: Peer, C: Session>(
        &self,
        stream: Stream,
        peer: &P,
    ) -> Result<HttpSession<C>> {
        let least = least_version(peer);
        match stream.selected_alpn_proto() {
            Some(ALPN::H2) => {}
            None if !peer.tls() && least == 2 => {}
            None | Some(ALPN::H1) if least < 2 => {
                self.selected_h1.insert(peer.reuse_hash());
                let mut session = Http1Session::new_with_options(stream, peer);
                session.set_key(peer.reuse_hash());
                return Ok(HttpSession::H1(session));
            }
            selected => return Err(not_selected(peer, selected)),
        }
        let session = self.first_session(stream, peer, false).await?;
        Ok(HttpSession::H2(session))
    }

    /// A session for an extended CONNECT (RFC 8441) to a peer that takes HTTP/2 alone, and whether its connection was
    /// used before; `None` when the peer takes no such request, by its SETTINGS.
    ///
    /// # Errors
    /// As [`Connector::new_http_session`].
    pub(super) async fn extended_session<P: Peer + Send + Sync + 'static>(
        &self,
        peer: &P,
    ) -> Result<Option<(Http2Session, bool)>> {
        if let Some(session) = self.kept_session(peer) {
            match session.conn.takes_extended_connect() {
                Some(true) => return Ok(Some((session, true))),
                taken => {
                    self.release_http_session(session, peer, peer.idle_timeout());
                    if taken == Some(false) {
                        return Ok(None);
                    }
                }
            }
        }
        let dialing = async {
            let stream = self.transport.make_stream(peer).await?;
            if peer.tls() && stream.selected_alpn_proto() != Some(ALPN::H2) {
                return Err(not_selected(peer, stream.selected_alpn_proto()));
            }
            self.first_session(stream, peer, true).await
        };
        let session = in_time(peer, dialing).await?;
        if session.conn.takes_extended_connect() == Some(true) {
            return Ok(Some((session, false)));
        }
        self.release_http_session(session, peer, peer.idle_timeout());
        Ok(None)
    }

    /// The first session of a new connection; with `settle` the SETTINGS of the peer are known.
    async fn first_session<P: Peer>(
        &self,
        stream: Stream,
        peer: &P,
        settle: bool,
    ) -> Result<Http2Session> {
        let conn = begin(stream, peer, settle).await?;
        let session = conn.spawn_stream().await?.ok_or_else(|| {
            Error::explain(H2Error, format!("no stream on a new connection to {peer}")).into_up()
        })?;
        if conn.more_streams_allowed() {
            self.in_use.insert(peer.reuse_hash(), conn);
        }
        Ok(prepared(session, peer))
    }

    /// A session on a connection that is being made already, or on one of its own; and whether the connection
    /// was made for another request. Where a limit allows no new one, it may be one of HTTP/1.1 of another worker.
    pub(super) async fn soon<P: Peer + Send + Sync + 'static, C: Session>(
        &self,
        peer: &P,
    ) -> Result<(HttpSession<C>, bool)> {
        // Waiting for the connection of another request is a part of being connected.
        in_time(peer, self.join_or_dial(peer)).await
    }

    async fn join_or_dial<P: Peer + Send + Sync + 'static, C: Session>(
        &self,
        peer: &P,
    ) -> Result<(HttpSession<C>, bool)> {
        let streams = peer.get_peer_options().map_or(1, |o| o.max_h2_streams);
        // A connection of HTTP/1.1 is nothing to wait for.
        if streams <= 1 || self.selected_h1.alpn_for(peer).is_some() {
            return self.dial_or_take(peer).await;
        }
        let (key, manner) = (peer.reuse_hash(), Manner::of(peer));
        if let Some(session) = self.joined(peer, key, &manner).await? {
            return Ok((HttpSession::H2(session), true));
        }
        let dialed = self.pending.begin(key, streams - 1);
        let made = self.dial_or_take(peer).await;
        let failure = |e: &BError| Failure::of(e, manner);
        dialed.end(made.as_ref().map(drop).map_err(failure));
        made
    }

    /// A session on a connection that is being made for another request; `None` when this one is to make one.
    ///
    /// # Errors
    /// That of the other request, where connecting for this one would have ended alike; `ConnectTimedout` when
    /// connecting for this one would have taken so long.
    async fn joined<P: Peer>(
        &self,
        peer: &P,
        key: u64,
        manner: &Manner,
    ) -> Result<Option<Http2Session>> {
        // As long as connecting may take: once for the transport, and once for the TLS handshake.
        let limit = peer.connection_timeout().map(|limit| match peer.tls() {
            true => limit.saturating_add(peer.tls_handshake_timeout().unwrap_or(limit)),
            false => limit,
        });
        let since = Instant::now();
        while let Some(mut place) = self.pending.join(key) {
            permit::joins(peer);
            let ended = match limit {
                None => place.ended().await,
                Some(limit) => {
                    let left = limit.saturating_sub(since.elapsed());
                    tokio::time::timeout(left, place.ended())
                        .await
                        .map_err(|_| not_in_time(peer, limit))?
                }
            };
            if let Some(session) = self.kept_session(peer) {
                return Ok(Some(session));
            }
            match ended {
                // It is full, or of HTTP/1.1: waiting once more would bring the same.
                Ended::Made => return Ok(None),
                Ended::Failed(failure) => match failure.for_manner(manner) {
                    Some(e) => return Err(e),
                    None => continue,
                },
                Ended::GivenUp => continue,
            }
        }
        Ok(None)
    }

    /// A session on a kept connection to `peer`, if there is one that takes a further stream.
    ///
    /// # Errors
    /// None today: a connection that failed counts as none.
    pub async fn reused_http_session<P: Peer + Send + Sync + 'static>(
        &self,
        peer: &P,
    ) -> Result<Option<Http2Session>> {
        Ok(self.kept_session(peer))
    }

    fn kept_session<P: Peer>(&self, peer: &P) -> Option<Http2Session> {
        let key = peer.reuse_hash();
        let session = self
            .in_use
            .stream(key, |conn| leads_to(conn, peer))
            .or_else(|| self.idle_session(key, peer))?;
        Some(prepared(session, peer))
    }

    fn idle_session<P: Peer>(&self, key: u64, peer: &P) -> Option<Http2Session> {
        let surplus = || {
            let conn = self.overflow.get()?.get(&key)?;
            if let Some(since) = conn.take_idle_since().filter(|_| !conn.is_closed()) {
                self.idle.tell_reuse(since.elapsed());
            }
            Some(conn)
        };
        while let Some(conn) = self.idle.take(key).or_else(surplus) {
            if !leads_to(&conn, peer) {
                log::warn!("an idle connection does not lead to {peer}, whose key it has");
                continue;
            }
            if let Ok(Some(session)) = conn.try_stream() {
                if conn.more_streams_allowed() {
                    self.in_use.insert(key, conn);
                }
                return Some(session);
            }
        }
        None
    }

    /// Ends a session's exchange. Its connection is kept, unless it has ended: for `idle_timeout` when that was
    /// its last stream. A stream that has not ended is reset with CANCEL.
    pub fn release_http_session<P: Peer + Send + Sync + 'static>(
        &self,
        session: Http2Session,
        peer: &P,
        idle_timeout: Option<Duration>,
    ) {
        let conn = session.conn.clone();
        let key = peer.reuse_hash();
        drop(session);
        if conn.is_closed() || conn.is_shutting_down() {
            self.in_use.remove(key, &conn);
        } else if conn.is_idle() {
            self.in_use.remove(key, &conn);
            if let Some(surplus) = self.idle.put(key, conn, idle_timeout) {
                self.put_overflow(key, surplus, idle_timeout);
            }
        } else if conn.listed().is_none() && conn.more_streams_allowed() {
            self.in_use.insert(key, conn);
        }
    }

    /// Keeps a connection for which this worker has no room, with a task that drops it when it is too old.
    fn put_overflow(&self, key: u64, conn: ConnectionRef, idle_timeout: Option<Duration>) {
        // Of those there none could be told to give way.
        if Handle::try_current().is_err() || conn.limit_key().is_some() {
            return;
        }
        let meta = ConnectionMeta::new(key, conn.id());
        let closed = conn.closed();
        if self.idle.tells_reuse() {
            conn.note_idle();
        }
        let pool = self.idle_pool().clone();
        let (evicted, used) = pool.put(&meta, conn);
        worker::spawn_housekeeping(async move {
            pool.idle_timeout(&meta, idle_timeout, evicted, closed, used)
                .await;
        });
    }

    /// From now on offers HTTP/1.1 only to `peer`, whatever its ALPN says.
    pub fn prefer_h1(&self, peer: &impl Peer) {
        self.transport.prefer_h1(peer);
    }
}

/// The least version of HTTP that the peer may be spoken to in.
fn least_version<P: Peer>(peer: &P) -> u8 {
    peer.get_alpn().map_or(1, ALPN::get_min_http_version)
}

/// Begins HTTP/2 on a new transport. The callers keep the time that connecting to the peer may take; where it has none,
/// its SETTINGS are not awaited for ever.
async fn begin<P: Peer>(stream: Stream, peer: &P, settle: bool) -> Result<ConnectionRef> {
    let mut settings = H2HandshakeSettings::new();
    settings.ping_interval = peer.h2_ping_interval();
    if let Some(options) = peer.get_peer_options() {
        settings.max_streams = options.max_h2_streams;
        settings.stream_window_size = options.h2_stream_window_size;
        settings.connection_window_size = options.h2_connection_window_size;
    }
    let beginning = handshake::begin(stream, settings, settle);
    let limited = peer.total_connection_timeout().is_some();
    let begun = match (settle && !limited).then_some(LIMITS.h2_upstream_settings) {
        None => beginning.await,
        Some(limit) => tokio::time::timeout(limit, beginning)
            .await
            .unwrap_or_else(|_| Error::e_explain(ConnectTimedout, "while beginning HTTP/2")),
    };
    begun
        .err_context(|| format!("HTTP/2 with peer: {peer}"))
        .map_err(Error::into_up)
}

/// A peer that is to be spoken to in HTTP/2 only has selected another protocol.
fn not_selected<P: Peer>(peer: &P, selected: Option<ALPN>) -> BError {
    let selected = selected.map_or("none".to_string(), |alpn| alpn.to_string());
    let mut e = Error::explain(
        H2Downgrade,
        format!("peer {peer} was to select HTTP/2, and selected {selected}"),
    );
    e.set_retry(false);
    e.into_up()
}

/// A session with the options of its peer.
fn prepared<P: Peer>(mut session: Http2Session, peer: &P) -> Http2Session {
    if let Some(options) = peer.get_peer_options() {
        session.read_timeout = options.read_timeout;
        session.write_timeout = options.write_timeout;
        session.response_header_timeout = options.response_header_timeout;
    }
    session
}

/// Returns true if the connection leads to the peer, as far as that is known. Two peers may have the same key.
fn leads_to<P: Peer>(conn: &ConnectionRef, peer: &P) -> bool {
    let digest = conn.digest();
    if digest.proxy_digest.is_some() || peer.get_proxy().is_some() {
        return true;
    }
    let socket = digest.socket_digest.as_ref();
    let remote = socket.and_then(|socket| socket.peer_addr.get()?.as_ref());
    remote.is_none_or(|remote| remote.as_inet().is_none() || is_at(remote, peer.address()))
}

impl Idle for ConnectionRef {
    fn poll_idle(&mut self, cx: &mut Context<'_>) -> Poll<pool::Ended> {
        if self.poll_usable(cx) {
            Poll::Pending
        } else {
            Poll::Ready(pool::Ended::Closed)
        }
    }

    /// The task that drives it stays where it is, and so do the requests.
    fn can_move(&self) -> bool {
        false
    }

    fn adopt(self) -> Option<Self> {
        None
    }

    fn limit_key(&self) -> Option<u64> {
        ConnectionRef::limit_key(self)
    }

    fn close(self) -> Closing {
        self.mark_shutdown();
        // Its task closes it when the last handle is gone.
        Closing(Some(self.closed()))
    }
}

#[cfg(test)]
mod tests;
