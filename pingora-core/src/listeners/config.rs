//! One endpoint: where to listen, and how.

use std::fs::Permissions;
use std::sync::Arc;
use std::time::Duration;

use super::accept::{AcceptStrategy, Limits, Open, Settings, WorkerPool};
use super::clients::Clients;
use super::connection_filter::ConnectionFilter;
use super::entrance::Entrance;
use super::l4::{Manner, ServerAddress, TcpSocketOptions};
use super::pre_tls::PreTlsCallback;
use super::proxied::ProxyProtocol;
use crate::limits::LIMITS;
use crate::protocols::http::ConnectionSettings;
use crate::protocols::l4::stream::L4BufferSettings;
use crate::protocols::tls::listeners::TlsSettings;
use crate::shutdown::Registry;

/// One endpoint to listen on, and how.
pub struct ListenerConfig {
    pub(super) address: ServerAddress,
    pub(super) tls: Option<TlsSettings>,
    handshake_timeout: Duration,
    l4_buffer: L4BufferSettings,
    accept: Option<AcceptStrategy>,
    proxied: Option<ProxyProtocol>,
    backlog: Option<u32>,
    max_connections: Option<usize>,
    max_connections_per_client: Option<usize>,
    http: Option<ConnectionSettings>,
}

impl ListenerConfig {
    /// A TCP endpoint, as `127.0.0.1:80`, `[::]:80` or `localhost:80`.
    pub fn tcp(addr: impl Into<String>) -> Self {
        ServerAddress::Tcp(addr.into(), None).into()
    }

    /// A Unix socket with this path.
    pub fn uds(addr: impl Into<String>) -> Self {
        ServerAddress::Uds(addr.into(), None).into()
    }

    /// Sets the socket options; they are of no use to a Unix socket, which is told in the log.
    pub fn tcp_socket_options(mut self, options: TcpSocketOptions) -> Self {
        match &mut self.address {
            ServerAddress::Tcp(_, current) => *current = Some(options),
            ServerAddress::Uds(path, _) => log::warn!("TCP options have no effect on {path}"),
        }
        self
    }

    /// Sets the permissions of the Unix socket, 0666 otherwise; they are of no use to TCP, which is
    /// told in the log.
    pub fn permissions(mut self, permissions: Permissions) -> Self {
        match &mut self.address {
            ServerAddress::Uds(_, current) => *current = Some(permissions),
            ServerAddress::Tcp(addr, _) => log::warn!("permissions have no effect on {addr}"),
        }
        self
    }

    /// Serves TLS.
    pub fn tls(mut self, settings: TlsSettings) -> Self {
        self.tls = Some(settings);
        self
    }

    /// Sets how long a client may take for the TLS handshake, and before that for what a `PreTlsProcess` waits
    /// for, 60 s each otherwise; then it is disconnected.
    ///
    /// At a shutdown a client that has sent nothing yet is disconnected with the idle ones, and the others may
    /// take `shutdown_read_timeout_seconds` more.
    pub fn tls_handshake_timeout(mut self, limit: Duration) -> Self {
        self.handshake_timeout = limit;
        self
    }

    /// Sets the sizes of the connections' buffers.
    pub fn l4_buffer(mut self, settings: L4BufferSettings) -> Self {
        self.l4_buffer = settings;
        self
    }

    /// Takes the addresses of clients from the PROXY protocol of trusted load balancers.
    pub fn proxy_protocol(mut self, balancers: ProxyProtocol) -> Self {
        self.proxied = Some(balancers);
        self
    }

    /// Sets how connections come to the workers; otherwise the service's listeners or the server say it.
    pub fn accept_strategy(mut self, strategy: AcceptStrategy) -> Self {
        self.accept = Some(strategy);
        self
    }

    /// Sets how many connections may wait to be accepted, 65,535 otherwise. The system cuts it to its own limit
    /// (`net.core.somaxconn`).
    pub fn backlog(mut self, connections: u32) -> Self {
        self.backlog = Some(connections);
        self
    }

    /// Sets how many connections of this endpoint may be open at a time; none has a limit of its own otherwise.
    ///
    /// One more is accepted and closed at once, without a byte; it counts as [`refused`](super::WorkerCounts::refused), and
    /// is told in the log at most once a second. The limit is not divided among the workers, so that none of them
    /// refuses while others have room: who accepts adds up what each of them has, which are reads only. So `workers - 1`
    /// more may come in where several workers accept at the same moment, and none with
    /// [`AcceptStrategy::Shared`] and one task for each socket.
    pub fn max_connections(mut self, connections: usize) -> Self {
        self.max_connections = Some(connections);
        self
    }

    /// Sets how many connections of this endpoint one client may have open at a time: an IPv4 address, or an IPv6
    /// network of 64 bits. It is exact over all workers, and costs a connection two locks of its client's part of the
    /// clients.
    ///
    /// One more is closed before TLS, and counts as [`clients_refused`](super::AcceptCounts::clients_refused). The client is
    /// that which the PROXY protocol tells where there is one. Clients of Unix sockets have no address, and no limit.
    /// Connections that were accepted while the endpoint had no such limit do not count.
    pub fn max_connections_per_client(mut self, connections: usize) -> Self {
        self.max_connections_per_client = Some(connections);
        self
    }

    /// Sets what HTTP does otherwise on the connections of this endpoint than the application says.
    pub fn http(mut self, settings: ConnectionSettings) -> Self {
        self.http = Some(settings);
        self
    }

    /// Returns the manner of listening; `at_once` says that nothing is waited for.
    pub(super) fn manner(&self, at_once: bool) -> Manner {
        Manner {
            backlog: self.backlog,
            at_once,
        }
    }

    /// Returns how connections come to the workers. Unix sockets cannot be shared out.
    pub(super) fn strategy(&self, common: &Common, settings: &Settings) -> AcceptStrategy {
        let told = self.accept.or(common.accept);
        match told.unwrap_or(settings.strategy) {
            AcceptStrategy::Reuseport if self.is_unix() => AcceptStrategy::Shared,
            strategy => strategy,
        }
    }

    pub(super) fn is_unix(&self) -> bool {
        matches!(self.address, ServerAddress::Uds(..))
    }

    /// Returns the limits of connections; the count of those that are open is that of `before`.
    pub(super) fn limits(
        &self,
        common: &Common,
        workers: usize,
        before: Option<&Limits>,
    ) -> Limits {
        Limits {
            service: common.max_connections,
            endpoint: self.max_connections,
            open: before.map_or_else(|| Open::new(workers), |limits| limits.open.clone()),
        }
    }

    /// Returns the way of its connections to the application. The TLS settings are used up by this.
    ///
    /// # Errors
    /// One line, when these are refused.
    pub(super) fn entrance(
        &mut self,
        common: &Common,
        (pool, settings): (&Arc<WorkerPool>, &Settings),
        before: Option<&Entrance>,
    ) -> Result<Arc<Entrance>, String> {
        let tls = self.tls.take().map(TlsSettings::try_build).transpose();
        let tls = tls.map_err(|e| {
            let address = self.address.as_ref();
            format!("cannot listen on {address} with TLS: {e}")
        })?;
        let counted = before.and_then(|entrance| entrance.clients.as_ref());
        let clients = || counted.map_or_else(Clients::new, |(_, clients)| clients.clone());
        Ok(Arc::new(Entrance {
            filter: common.filter.clone(),
            proxied: self.proxied.clone(),
            clients: self
                .max_connections_per_client
                .map(|most| (most, clients())),
            pool: pool.clone(),
            pre_tls: common.pre_tls.clone(),
            tls,
            handshake_timeout: self.handshake_timeout,
            shutdown_timeout: settings.shutdown_timeout,
            keep_idle: settings.keep_idle,
            closing: Registry::new(pool.len()),
            l4_buffer: self.l4_buffer,
            http: self.http.clone().map(Arc::new),
        }))
    }
}

/// What the endpoints of a service have in common.
#[derive(Clone, Default)]
pub(super) struct Common {
    pub(super) filter: Option<Arc<dyn ConnectionFilter>>,
    pub(super) pre_tls: Option<PreTlsCallback>,
    pub(super) accept: Option<AcceptStrategy>,
    pub(super) max_connections: Option<usize>,
}

impl From<ServerAddress> for ListenerConfig {
    fn from(address: ServerAddress) -> Self {
        ListenerConfig {
            address,
            tls: None,
            handshake_timeout: LIMITS.client_handshake,
            l4_buffer: L4BufferSettings::default(),
            accept: None,
            proxied: None,
            backlog: None,
            max_connections: None,
            max_connections_per_client: None,
            http: None,
        }
    }
}
