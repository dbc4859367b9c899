//! Addresses that clients connect to.

use std::time::Duration;

use crate::config::model::Accept;
use crate::config::values::{Address, Mode, Network};

/// An address that clients connect to, and how they are taken there.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Listener {
    /// The address.
    pub address: Address,
    /// True if clients speak TLS.
    pub tls: bool,
    /// The way in which connections come to the workers.
    pub accept: Accept,
    /// Connections that may wait to be accepted; as many as the system allows when unset.
    pub backlog: Option<u32>,
    /// Connections that may be open at a time.
    pub max_connections: Option<usize>,
    /// The same for one client.
    pub max_connections_per_client: Option<usize>,
    /// The time limits of clients.
    pub timeouts: Option<ClientTimeouts>,
    /// True if clients may begin with HTTP/2 without TLS.
    pub h2c: bool,
    /// Connections of TCP Fast Open that may wait for the end of their handshake; off when unset.
    pub fast_open: Option<u32>,
    /// The probes of silent connections.
    pub keepalive: Option<Probes>,
    /// The load balancers that tell the addresses of their clients.
    pub proxy_protocol: Option<Balancers>,
    /// The permissions of a Unix socket.
    pub mode: Option<Mode>,
}

/// The time limits of clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ClientTimeouts {
    /// For a connection that has no request.
    pub idle: Duration,
    /// For the head of a request, and between two pieces of its body.
    pub read: Duration,
    /// For the handshake of TLS.
    pub handshake: Duration,
}

/// The probes of silent connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Probes {
    /// The silence before the first one.
    pub idle: Duration,
    /// The time between two.
    pub interval: Duration,
    /// The number that goes without an answer.
    pub count: u32,
}

/// Load balancers that speak the PROXY protocol.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Balancers {
    /// Their addresses.
    pub trusted: Vec<Network>,
    /// The time for the header.
    pub timeout: Duration,
}
