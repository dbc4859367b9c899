//! Connectors that hand out HTTP sessions.

use std::sync::atomic::AtomicU64;
use std::sync::Arc;
use std::time::Duration;

use pingora_error::ErrorType::ConnectError;
use pingora_error::{Error, Result};

use crate::connectors::pool::IdlePool;
use crate::connectors::{ConnectorOptions, TransportConnector};
use crate::exchange::ConnectorHooks;
use crate::limits::LIMITS;
use crate::protocols::http::client::HttpSession;
use crate::protocols::http::v1::client::HttpSession as Http1Session;
use crate::protocols::tls::ALPN;
use crate::upstreams::peer::Peer;

pub mod custom;
pub mod v1;
pub mod v2;

use custom::Connection;

/// Hands out HTTP sessions of the version that a peer's ALPN asks for.
pub struct Connector<C = ()>
where
    C: custom::Connector,
{
    /// The transport connector of both versions.
    transport: Arc<TransportConnector>,
    h1: v1::Connector,
    h2: v2::Connector,
    custom: C,
}

impl Connector<()> {
    /// A connector with these options; without, one that keeps 128 idle connections.
    pub fn new(options: Option<ConnectorOptions>) -> Self {
        Connector::new_custom(options, ())
    }
}

impl<C> Connector<C>
where
    C: custom::Connector,
{
    /// A connector that also reaches peers of a protocol of the user's own.
    pub fn new_custom(options: Option<ConnectorOptions>, custom: C) -> Self {
        let mut options = options.unwrap_or_else(|| ConnectorOptions::new(LIMITS.upstream_pool));
        let size = std::mem::take(&mut options.keepalive_pool_size);
        let on_reuse = options.keepalive_pool_callback.take();
        let transport = Arc::new(TransportConnector::new(Some(options)));
        let h1 = v1::Connector::over(transport.clone(), IdlePool::new(size, on_reuse.clone()));
        let idle = IdlePool::new(size, on_reuse);
        Connector {
            h2: v2::Connector::over(transport.clone(), Some(h1.clone()), idle, size),
            h1,
            transport,
            custom,
        }
    }

    /// A session to `peer`, and whether its connection was used before.
    ///
    /// HTTP/2 is spoken over TLS when the handshake selects it, and without TLS to a peer that takes nothing
    /// else. A peer that takes either is spoken to over a kept connection of either version, HTTP/2 first.
    ///
    /// # Errors
    /// Those of [`TransportConnector::new_stream`] and of
    /// [`v2::Connector::new_http_session`](v2::Connector::new_http_session).
    ///
    /// # Cancel safety
    /// Dropping the future closes what was opened.
    pub async fn get_http_session<P: Peer + Send + Sync + 'static>(
        &self,
        peer: &P,
    ) -> Result<(HttpSession<C::Session>, bool)> {
        match peer.get_alpn() {
            None | Some(ALPN::H1) => {}
            Some(ALPN::Custom(_)) => return Box::pin(self.custom_session(peer)).await,
            Some(ALPN::H2) => return self.h2_session(peer, false).await,
            // Without TLS there is nothing that could select HTTP/2.
            Some(ALPN::H2H1) if peer.tls() && !self.transport.prefers_h1(peer) => {
                return self.h2_session(peer, true).await
            }
            Some(ALPN::H2H1) => {}
        }
        let (session, reused) = self.h1.get_http_session(peer).await?;
        Ok((HttpSession::H1(session), reused))
    }

    async fn h2_session<P: Peer + Send + Sync + 'static>(
        &self,
        peer: &P,
        or_h1: bool,
    ) -> Result<(HttpSession<C::Session>, bool)> {
        if let Some(session) = self.h2.reused_http_session(peer).await? {
            return Ok((HttpSession::H2(session), true));
        }
        if or_h1 {
            if let Some(session) = self.h1.reused_http_session(peer).await {
                return Ok((HttpSession::H1(session), true));
            }
        }
        // Boxed: making a connection is rare, and its state would be a part of every request's.
        Box::pin(self.h2.soon(peer)).await
    }

    async fn custom_session<P: Peer + Send + Sync + 'static>(
        &self,
        peer: &P,
    ) -> Result<(HttpSession<C::Session>, bool)> {
        let (connection, reused) = self.custom.get_http_session(peer).await?;
        match connection {
            Connection::Session(session) => Ok((HttpSession::Custom(session), reused)),
            Connection::Stream(stream) => match stream.selected_alpn_proto() {
                None | Some(ALPN::H1) => {
                    let session = Http1Session::new_with_options(stream, peer);
                    Ok((HttpSession::H1(session), reused))
                }
                Some(alpn) => Error::e_explain(
                    ConnectError,
                    format!("peer {peer} selected {alpn}, of which its connector made no session"),
                ),
            },
        }
    }

    /// Ends a session's exchange: its connection is kept when it can carry another one, else closed.
    pub async fn release_http_session<P: Peer + Send + Sync + 'static>(
        &self,
        session: HttpSession<C::Session>,
        peer: &P,
        idle_timeout: Option<Duration>,
    ) {
        match session {
            HttpSession::H1(h1) => self.h1.release_http_session(h1, peer, idle_timeout).await,
            HttpSession::H2(h2) => self.h2.release_http_session(h2, peer, idle_timeout),
            HttpSession::Custom(session) => {
                self.custom
                    .release_http_session(session, peer, idle_timeout)
                    .await
            }
        }
    }

    /// From now on offers HTTP/1.1 only to `peer`, whatever its ALPN says.
    pub fn prefer_h1(&self, peer: &impl Peer) {
        self.transport.prefer_h1(peer);
    }

    /// Returns the number of idle connections that were dropped because they received data that nobody asked for.
    pub fn unexpected_data_connection_count(&self) -> u64 {
        self.h1.unexpected_data_connection_count()
    }

    /// The counter behind [`Connector::unexpected_data_connection_count`], to be read later.
    pub fn unexpected_data_connection_counter(&self) -> Arc<AtomicU64> {
        self.h1.unexpected_data_connection_counter()
    }
}

impl<C> ConnectorHooks<C::Session> for Connector<C>
where
    C: custom::Connector,
{
    fn kept_http_session<P: Peer>(&self, peer: &P) -> Option<HttpSession<C::Session>> {
        match peer.get_alpn() {
            None | Some(ALPN::H1) => {
                let session = self.h1.kept_session(peer, peer.reuse_hash())?;
                Some(HttpSession::H1(session))
            }
            _ => None,
        }
    }

    async fn get_websocket_session<P: Peer + Send + Sync + 'static>(
        &self,
        peer: &P,
    ) -> Result<Option<(HttpSession<C::Session>, bool)>> {
        match peer.get_alpn() {
            Some(ALPN::H2) => {
                let extended = self.h2.extended_session(peer).await?;
                Ok(extended.map(|(session, reused)| (HttpSession::H2(session), reused)))
            }
            _ => self.get_http_session(peer).await.map(Some),
        }
    }

    fn keep_http_session<P: Peer>(
        &self,
        session: HttpSession<C::Session>,
        peer: &P,
        idle_timeout: Option<Duration>,
    ) -> Option<HttpSession<C::Session>> {
        match session {
            HttpSession::H1(session) => {
                let back = self.h1.keep_session(session, peer, idle_timeout);
                back.map(HttpSession::H1)
            }
            other => Some(other),
        }
    }
}
