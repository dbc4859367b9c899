//! Why a connection was not made, and whom that concerns.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use pingora_error::{BError, Error, ErrorSource, ErrorType, RetryType};

use crate::connectors::lacks_connect_permit;
use crate::protocols::l4::connect_error::is_local_shortage;
use crate::protocols::ALPN;
use crate::upstreams::peer::Peer;

/// Why a connection was not made.
pub(super) struct Failure {
    manner: Manner,
    etype: ErrorType,
    source: ErrorSource,
    retry: RetryType,
    text: String,
    /// True if this machine had nothing left for a connection, or a limit of connections no place, which may be over.
    shortage: bool,
}

impl Failure {
    /// The failure to connect in this manner.
    pub(super) fn of(e: &BError, manner: Manner) -> Arc<Self> {
        Arc::new(Failure {
            manner,
            etype: e.etype().clone(),
            source: e.esource().clone(),
            retry: e.retry,
            text: e.to_string(),
            shortage: is_local_shortage(e) || lacks_connect_permit(e),
        })
    }

    /// The error for another request that would have connected in this manner; `None` for one that might have
    /// succeeded.
    pub(super) fn for_manner(&self, manner: &Manner) -> Option<BError> {
        if self.manner != *manner || self.shortage {
            return None;
        }
        let context = format!(
            "the connection that another request was making: {}",
            self.text
        );
        let mut e = Error::explain(self.etype.clone(), context);
        e.esource = self.source.clone();
        e.retry = self.retry;
        Some(e)
    }
}

/// The options that decide how connecting to a peer ends, beside those that its key covers.
#[derive(Clone, PartialEq)]
pub(super) struct Manner {
    alpn: Option<ALPN>,
    limits: [Option<Duration>; 3],
    from: Option<SocketAddr>,
    ports: Option<(u16, u16)>,
    /// By their place in memory: two that are compared exist at the same time.
    hooks: [Option<usize>; 2],
}

impl Manner {
    pub(super) fn of<P: Peer>(peer: &P) -> Self {
        let bind_to = peer.bind_to();
        let custom = peer.get_peer_options().and_then(|o| o.custom_l4.as_ref());
        let tweak = peer.upstream_tcp_sock_tweak_hook();
        Manner {
            alpn: peer.get_alpn().cloned(),
            limits: [
                peer.connection_timeout(),
                peer.total_connection_timeout(),
                peer.tls_handshake_timeout(),
            ],
            from: bind_to.and_then(|from| from.addr),
            ports: bind_to.and_then(|from| from.port_range()),
            hooks: [
                custom.map(|hook| Arc::as_ptr(hook).cast::<()>().addr()),
                tweak.map(|hook| Arc::as_ptr(hook).cast::<()>().addr()),
            ],
        }
    }
}
