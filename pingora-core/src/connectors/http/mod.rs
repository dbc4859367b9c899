//! Connectors that hand out HTTP sessions.

use std::sync::atomic::AtomicU64;
use std::sync::Arc;
use std::time::Duration;

use pingora_error::ErrorType::{ConnectError, InternalError};
use pingora_error::{Error, Result};

use crate::connectors::ConnectorOptions;
use crate::protocols::http::client::HttpSession;
use crate::protocols::http::v1::client::HttpSession as Http1Session;
use crate::protocols::tls::ALPN;
use crate::upstreams::peer::Peer;

pub mod custom;
pub mod v1;

use custom::Connection;

/// Hands out HTTP sessions of the version that a peer's ALPN asks for.
pub struct Connector<C = ()>
where
    C: custom::Connector,
{
    h1: v1::Connector,
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
        Connector {
            h1: v1::Connector::new(options),
            custom,
        }
    }

    /// A session to `peer`, and whether its connection was used before.
    ///
    /// # Errors
    /// Those of [`TransportConnector::new_stream`](super::TransportConnector::new_stream);
    /// `InternalError` for a peer that is to be reached by HTTP/2 only, which is not built yet.
    ///
    /// # Cancel safety
    /// Dropping the future closes what was opened.
    pub async fn get_http_session<P: Peer + Send + Sync + 'static>(
        &self,
        peer: &P,
    ) -> Result<(HttpSession<C::Session>, bool)> {
        match peer.get_alpn() {
            Some(ALPN::Custom(_)) => Box::pin(self.custom_session(peer)).await,
            Some(alpn) if alpn.get_min_http_version() == 2 => Error::e_explain(
                InternalError,
                format!("peer {peer} takes HTTP/2 only, which is not built yet"),
            ),
            _ => {
                let (session, reused) = self.h1.get_http_session(peer).await?;
                Ok((HttpSession::H1(session), reused))
            }
        }
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
                    format!("peer {peer} chose {alpn}, which is not built yet"),
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
            HttpSession::Custom(session) => {
                self.custom
                    .release_http_session(session, peer, idle_timeout)
                    .await
            }
        }
    }

    /// From now on offers HTTP/1.1 only to `peer`, whatever its ALPN says.
    pub fn prefer_h1(&self, peer: &impl Peer) {
        self.h1.transport().prefer_h1(peer);
    }

    /// How many idle connections were dropped because they received data that nobody asked for.
    pub fn unexpected_data_connection_count(&self) -> u64 {
        self.h1.unexpected_data_connection_count()
    }

    /// The counter behind [`Connector::unexpected_data_connection_count`], to be read later.
    pub fn unexpected_data_connection_counter(&self) -> Arc<AtomicU64> {
        self.h1.unexpected_data_connection_counter()
    }
}
