//! The seam for connectors of a protocol of the user's own.

use std::time::Duration;

use async_trait::async_trait;
use pingora_error::ErrorType::InternalError;
use pingora_error::{Error, Result};

use crate::protocols::http::custom::client::Session;
use crate::protocols::Stream;
use crate::upstreams::peer::Peer;

/// The session that a custom connector made of its connection.
pub enum Connection<S: Session> {
    /// A session of the custom protocol.
    Session(S),
    /// The transport, because the peer speaks HTTP.
    Stream(Stream),
}

/// Makes sessions of a protocol of the user's own.
#[async_trait]
pub trait Connector: Send + Sync + Unpin + 'static {
    /// The sessions it makes.
    type Session: Session;

    /// A new or a kept session, and whether it is a kept one.
    async fn get_http_session<P: Peer + Send + Sync + 'static>(
        &self,
        peer: &P,
    ) -> Result<(Connection<Self::Session>, bool)>;

    /// A kept session.
    async fn reused_http_session<P: Peer + Send + Sync + 'static>(
        &self,
        peer: &P,
    ) -> Option<Self::Session>;

    /// Takes a session back, to be kept.
    async fn release_http_session<P: Peer + Send + Sync + 'static>(
        &self,
        mut session: Self::Session,
        peer: &P,
        idle_timeout: Option<Duration>,
    );
}

/// No custom protocol: a peer that asks for one gets an error.
#[async_trait]
impl Connector for () {
    type Session = ();

    async fn get_http_session<P: Peer + Send + Sync + 'static>(
        &self,
        peer: &P,
    ) -> Result<(Connection<()>, bool)> {
        Error::e_explain(
            InternalError,
            format!("no custom connector to reach {peer} with"),
        )
    }

    async fn reused_http_session<P: Peer + Send + Sync + 'static>(&self, _peer: &P) -> Option<()> {
        None
    }

    async fn release_http_session<P: Peer + Send + Sync + 'static>(
        &self,
        _session: (),
        _peer: &P,
        _idle_timeout: Option<Duration>,
    ) {
    }
}
