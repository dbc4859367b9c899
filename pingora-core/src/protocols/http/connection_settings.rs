//! The settings of HTTP for the connections of one endpoint.

use std::time::Duration;

/// The settings of HTTP for the connections of one endpoint, for
/// [`ListenerConfig::http`](crate::listeners::ListenerConfig::http). What is `None` is as the application says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConnectionSettings {
    /// Serve HTTP/2 to clients that begin with it on a connection without TLS
    /// ([`HttpServerOptions::h2c`](crate::apps::HttpServerOptions::h2c)).
    pub h2c: Option<bool>,
    /// The time for which a connection without a request is kept, in whole seconds and one at least: 60 s unless the
    /// application says otherwise.
    pub idle: Option<Duration>,
    /// The time that a request head of HTTP/1.x may take from its first byte, and a request body between two pieces: 60 s
    /// unless the application says otherwise. A client that waits for a 100 or is being answered already may be silent
    /// for longer, as may the two sides of a tunnel.
    pub read: Option<Duration>,
}

impl ConnectionSettings {
    /// Returns `idle` in whole seconds.
    pub(crate) fn idle_seconds(&self) -> Option<u64> {
        self.idle.map(|idle| idle.as_secs().max(1))
    }
}
