//! The keys of `listen`.

use std::time::Duration;

use crate::config::section::{choice, section, At};
use crate::config::values::{Address, Mode, Network};

section! {
    /// An address that clients connect to.
    pub struct Listen("a listener", short: address) {
        /// The address, such as `0.0.0.0:80`, or `unix:/PATH`.
        address: At<Address>,
        /// True if clients speak TLS here. If unset, they do on port 443 when a site has certificates.
        tls: Option<bool> = None,
        /// The way in which connections come to the worker threads.
        accept: Accept = Accept::Shared,
        /// Connections that may wait to be accepted. If unset, as many as the system allows.
        backlog: Option<At<u32>> = None,
        /// Connections that may be open at a time; one more is closed at once. If unset, any number.
        max_connections: Option<At<u32>> = None,
        /// The same for one client: an IPv4 address, or an IPv6 network of 64 bits.
        max_connections_per_client: Option<At<u32>> = None,
        /// The time limits of clients.
        timeouts: Option<ClientTimeouts> = None,
        /// True if clients may begin with HTTP/2 without TLS.
        h2c: bool = false,
        /// The options of the TCP sockets.
        tcp: Option<Tcp> = None,
        /// The load balancers that tell the addresses of their clients by the PROXY protocol.
        proxy_protocol: Option<ProxyProtocol> = None,
        /// The permissions of a Unix socket. If unset, `0666`.
        mode: Option<At<Mode>> = None,
    }
}

choice! {
    /// The ways in which connections come to the workers.
    pub enum Accept("a way to accept") {
        /// One acceptor gives each connection to the worker that has the fewest.
        Shared = "shared",
        /// Each worker has a thread of its own that accepts; the kernel wakes one of them for a connection.
        Exclusive = "exclusive",
        /// Each worker has a socket of its own (`SO_REUSEPORT`), among which the kernel spreads connections.
        Reuseport = "reuseport",
        /// The workers take turns at accepting.
        Mutex = "mutex",
    }
}

section! {
    /// The time limits of clients.
    pub struct ClientTimeouts("time limits of clients") {
        /// For a connection that has no request.
        idle: Duration = Duration::from_secs(60),
        /// For the head of a request from its first byte on, and between two pieces of its body.
        read: Duration = Duration::from_secs(60),
        /// For the handshake of TLS.
        handshake: Duration = Duration::from_secs(60),
    }
}

section! {
    /// The options of TCP sockets.
    pub struct Tcp("options of TCP") {
        /// Connections of TCP Fast Open that may wait for the end of their handshake. If unset, it is off.
        fast_open: Option<At<u32>> = None,
        /// The probes of connections on which nothing comes. If unset, there are none.
        keepalive: Option<Keepalive> = None,
    }
}

section! {
    /// Probes that find out whether a silent client is still there.
    pub struct Keepalive("probes of TCP", short: idle) {
        /// The silence before the first one.
        idle: Duration,
        /// The time between two.
        interval: Duration = Duration::from_secs(15),
        /// The number that goes without an answer before the connection is closed.
        count: u32 = 5,
    }
}

section! {
    /// Load balancers that tell the addresses of their clients.
    pub struct ProxyProtocol("the PROXY protocol", short: trusted) {
        /// The addresses and networks of the load balancers. Their connections must begin with a header of version 1 or 2;
        /// those of others are served as they are.
        trusted: Vec<Network>,
        /// The time for the header.
        timeout: Duration = Duration::from_secs(5),
    }
}
