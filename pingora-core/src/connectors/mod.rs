//! Connections to upstream peers: how they are made, kept and found again.

pub mod http;
pub mod l4;
mod options;
mod permit;
mod pool;
mod preference;
pub(crate) mod tls;
mod transport;
pub(crate) mod tunnel;

use std::future::{poll_fn, Future};
use std::net::SocketAddr;
use std::pin::{pin, Pin};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use pingora_error::{
    BError, Context as _, Error,
    ErrorType::{ConnectTimedout, SocketError},
    Result,
};
use tokio::io::{AsyncRead, ReadBuf};

use crate::limits::LIMITS;
use crate::protocols::tls::connectors::TlsConnector;
use crate::protocols::tls::{reregister, transport as socket_of};
use crate::protocols::{Stream, ALPN};
use crate::upstreams::peer::{is_at, Peer};
use crate::utils::offload::Offload;
use pool::{Ended, Idle, IdlePool};
use preference::H1Only;

pub use crate::protocols::l4::permit::{lacks_connect_permit, ConnectPermit};
pub use l4::Connect as L4Connect;
pub use options::{ConnectorOptions, PoolCallback};

/// Makes connections to peers, with TLS where they want it, and keeps idle ones for later.
///
/// Idle connections are kept by the thread that releases them, and found by it first; see
/// [`ConnectorOptions::keepalive_pool_size`] for how many.
pub struct TransportConnector {
    tls: TlsConnector,
    pool: Arc<IdlePool<Stream>>,
    offload: Option<Offload>,
    bind_to_v4: Vec<SocketAddr>,
    bind_to_v6: Vec<SocketAddr>,
    h1_only: H1Only,
}

impl TransportConnector {
    /// A connector with these options; without, one that keeps 128 idle connections.
    pub fn new(options: Option<ConnectorOptions>) -> Self {
        let mut options = options.unwrap_or_else(|| ConnectorOptions::new(LIMITS.upstream_pool));
        TransportConnector {
            pool: IdlePool::new(
                options.keepalive_pool_size,
                options.keepalive_pool_callback.take(),
            ),
            offload: options
                .offload_threadpool
                .map(|(pools, threads)| Offload::new("connect", pools, threads)),
            bind_to_v4: std::mem::take(&mut options.bind_to_v4),
            bind_to_v6: std::mem::take(&mut options.bind_to_v6),
            tls: tls::client(options),
            h1_only: H1Only::default(),
        }
    }

    /// Makes a new connection to `peer`.
    ///
    /// # Errors
    /// Why it cannot be made, by cause and naming the peer: see [`ErrorType`](pingora_error::ErrorType).
    /// `ConnectTimedout` also when [`total_connection_timeout`](Peer::total_connection_timeout) has passed. One that
    /// [`lacks_connect_permit`] knows when the peer's connections are limited, and as many are in use as may be open.
    ///
    /// # Cancel safety
    /// Dropping the future closes what was opened.
    pub async fn new_stream<P: Peer + Send + Sync + 'static>(&self, peer: &P) -> Result<Stream> {
        in_time(peer, self.make_stream(peer)).await
    }

    /// [`new_stream`](Self::new_stream), for callers that keep the time that connecting may take in total.
    pub(in crate::connectors) async fn make_stream<P: Peer + Send + Sync + 'static>(
        &self,
        peer: &P,
    ) -> Result<Stream> {
        loop {
            match self.dial(peer).await {
                // Each time one that was idle is gone, and another dial may have taken its place.
                Err(e) if lacks_connect_permit(&e) && permit::make_way(peer).await => {}
                made => return made,
            }
        }
    }

    /// Makes a new connection as [`make_stream`](Self::make_stream) does, for which no other one gives way.
    pub(in crate::connectors) async fn dial<P: Peer + Send + Sync + 'static>(
        &self,
        peer: &P,
    ) -> Result<Stream> {
        let bind_to = transport::bind_to(peer, &self.bind_to_v4, &self.bind_to_v6);
        let alpn = self.h1_only.alpn_for(peer);
        match &self.offload {
            None => connect(peer, bind_to, alpn, &self.tls).await,
            Some(offload) => {
                let (theirs, ctx) = (peer.clone(), self.tls.clone());
                let connecting = async move { connect(&theirs, bind_to, alpn, &ctx).await };
                let stream = offload.run(peer.reuse_hash(), connecting).await?;
                adopt_here(stream)
            }
        }
    }

    /// An idle connection to `peer`, if one is kept that is still open and quiet.
    pub async fn reused_stream<P: Peer + Send + Sync>(&self, peer: &P) -> Option<Stream> {
        let stream = self.pool.take(peer.reuse_hash())?;
        if leads_elsewhere(&stream, peer) {
            // Two peers have the same key. It does not make sense to keep such connections.
            log::warn!("an idle connection does not lead to {peer}, whose key it has");
            return None;
        }
        Some(stream)
    }

    /// Keeps an idle connection under `key`, which is its peer's [`reuse_hash`](Peer::reuse_hash), until
    /// it is wanted again, or ends, or `idle_timeout` has passed; closes it when enough are kept.
    pub fn release_stream(&self, stream: Stream, key: u64, idle_timeout: Option<Duration>) {
        // A connection for which there is no room closes.
        drop(self.pool.put(key, stream, idle_timeout));
    }

    /// A connection to `peer`, and whether it was used before.
    ///
    /// # Errors
    /// As [`new_stream`](Self::new_stream).
    ///
    /// # Cancel safety
    /// Dropping the future closes what was opened.
    pub async fn get_stream<P: Peer + Send + Sync + 'static>(
        &self,
        peer: &P,
    ) -> Result<(Stream, bool)> {
        if let Some(stream) = self.reused_stream(peer).await {
            return Ok((stream, true));
        }
        Ok((self.new_stream(peer).await?, false))
    }

    /// From now on offers HTTP/1.1 only to `peer`, whatever its ALPN says.
    pub fn prefer_h1(&self, peer: &impl Peer) {
        self.h1_only.insert(peer.reuse_hash());
    }

    /// Returns true if [`prefer_h1`](TransportConnector::prefer_h1) was called for `peer`.
    pub(in crate::connectors) fn prefers_h1(&self, peer: &impl Peer) -> bool {
        self.h1_only.alpn_for(peer).is_some()
    }

    /// Returns the number of idle connections that were dropped because they received data that nobody asked for.
    pub fn unexpected_data_connection_count(&self) -> u64 {
        self.pool.unexpected_data().load(Ordering::Relaxed)
    }

    /// The counter behind
    /// [`unexpected_data_connection_count`](Self::unexpected_data_connection_count), to be read later.
    pub fn unexpected_data_connection_counter(&self) -> Arc<AtomicU64> {
        self.pool.unexpected_data().clone()
    }
}

/// Connects within the time that the peer has for all of it.
pub(in crate::connectors) async fn in_time<P: Peer, T>(
    peer: &P,
    connecting: impl Future<Output = Result<T>>,
) -> Result<T> {
    let Some(limit) = peer.total_connection_timeout() else {
        return connecting.await;
    };
    let connected = tokio::time::timeout(limit, connecting).await;
    connected.unwrap_or_else(|_| Err(not_in_time(peer, limit)))
}

/// A peer could not be connected to in the time that it has for that.
pub(in crate::connectors) fn not_in_time<P: Peer>(peer: &P, limit: Duration) -> BError {
    let why = format!("not connected within {limit:?} in total, peer: {peer}");
    Error::explain(ConnectTimedout, why).into_up()
}

async fn connect<P: Peer + Send + Sync>(
    peer: &P,
    bind_to: Option<l4::BindTo>,
    alpn: Option<ALPN>,
    ctx: &TlsConnector,
) -> Result<Stream> {
    let stream = transport::connect(peer, bind_to).await?;
    if !peer.tls() {
        return Ok(Box::new(stream));
    }
    let stream = tls::connect(stream, peer, alpn, ctx)
        .await
        .err_context(|| format!("TLS with peer: {peer}"))
        .map_err(Error::into_up)?;
    Ok(Box::new(stream))
}

/// Has the reactor of this worker watch a connection that another thread made.
fn adopt_here(stream: Stream) -> Result<Stream> {
    if !stream.can_move() {
        // It works where it is, only with a detour.
        return Ok(stream);
    }
    stream.adopt().ok_or_else(|| {
        Error::explain(
            SocketError,
            "registering a connection that another thread made",
        )
    })
}

/// Returns true if the connection is known to lead to another address than the peer's.
pub(in crate::connectors) fn leads_elsewhere<P: Peer>(stream: &Stream, peer: &P) -> bool {
    // A key may leave out whether there is TLS, as that of a `BasicPeer` does.
    if stream.get_ssl().is_some() != peer.tls() {
        return true;
    }
    let Some(socket) = socket_of(&**stream) else {
        return false;
    };
    // Compared in memory: asking the system would cost a call per request.
    socket
        .known_peer()
        .is_some_and(|remote| !is_at(&(*remote).into(), peer.address()))
}

impl Idle for Stream {
    fn limit_key(&self) -> Option<u64> {
        socket_of(&**self)?.limit_key()
    }

    fn poll_idle(&mut self, cx: &mut Context<'_>) -> Poll<Ended> {
        let mut byte = [0];
        let mut buf = ReadBuf::new(&mut byte);
        // A task that has used up its budget would be told that every connection is quiet.
        let read =
            tokio::task::unconstrained(poll_fn(|cx| Pin::new(&mut *self).poll_read(cx, &mut buf)));
        match pin!(read).poll(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Ok(())) if !buf.filled().is_empty() => Poll::Ready(Ended::UnexpectedData),
            Poll::Ready(_) => Poll::Ready(Ended::Closed),
        }
    }

    fn can_move(&self) -> bool {
        socket_of(&**self).is_some()
    }

    fn adopt(self) -> Option<Self> {
        reregister(self)
            .inspect_err(|e| log::debug!("taking over an idle connection: {e}"))
            .ok()
    }
}

#[cfg(test)]
mod tests;
