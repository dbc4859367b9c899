//! Listening: endpoints, their socket options, and how connections are accepted.

mod accept;
mod bound;
#[cfg(feature = "connection_filter")]
pub mod connection_filter;
#[cfg(not(feature = "connection_filter"))]
#[path = "connection_filter_sync.rs"]
mod connection_filter;
mod endpoint;
mod entrance;
pub(crate) mod fds;
mod inherited;
mod l4;
mod pre_tls;
mod proxied;
#[cfg(test)]
mod tests;
#[cfg(any(feature = "rustls", feature = "openssl_derived"))]
mod tls_offload;

use std::fs::Permissions;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::Duration;

use pingora_error::Result;

use crate::limits::LIMITS;
use crate::listeners::fds::ListenFds;
use crate::protocols::l4::socket::SocketAddr;
use crate::shutdown::Registry;

pub use crate::protocols::l4::stream::{
    L4BufferSettings, DEFAULT_L4_READ_BUFFER_SIZE, DEFAULT_L4_WRITE_BUFFER_SIZE,
};
pub use crate::protocols::tls::callbacks::{TlsAccept, TlsAcceptCallbacks};
pub use crate::protocols::tls::listeners as tls;
pub use crate::protocols::tls::ALPN;
pub use accept::{AcceptCounts, AcceptStrategy, WorkerCounts};
pub use bound::BoundAddresses;
pub use connection_filter::{AcceptAllFilter, ConnectionFilter};
pub use l4::{ServerAddress, TcpSocketOptions};
pub use pre_tls::{PreTlsCallback, PreTlsProcess};
pub use proxied::ProxyProtocol;

pub(crate) use accept::{run as accept_connections, WorkerPool};
/// The server's settings for accepting.
pub(crate) mod accepting {
    pub(crate) use super::accept::Settings;
}
pub(crate) use endpoint::Endpoint;
use entrance::Entrance;
use tls::TlsSettings;

/// One endpoint to listen on, and how.
pub struct ListenerConfig {
    address: ServerAddress,
    tls: Option<TlsSettings>,
    handshake_timeout: Duration,
    l4_buffer: L4BufferSettings,
    accept: Option<AcceptStrategy>,
    proxied: Option<ProxyProtocol>,
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

    /// Sets how long a client may take for the TLS handshake, and before that for what a [`PreTlsProcess`] waits
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
        }
    }
}

/// The endpoints of a service.
#[derive(Default)]
pub struct Listeners {
    endpoints: Vec<ListenerConfig>,
    filter: Option<Arc<dyn ConnectionFilter>>,
    pre_tls: Option<PreTlsCallback>,
    accept: Option<AcceptStrategy>,
    bound: bound::Telling,
}

impl Listeners {
    /// No endpoints yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// One TCP endpoint.
    pub fn tcp(addr: &str) -> Self {
        Self::at(ListenerConfig::tcp(addr))
    }

    /// One Unix socket, with permissions 0666 unless others are given.
    pub fn uds(addr: &str, perm: Option<Permissions>) -> Self {
        Self::at(ServerAddress::Uds(addr.into(), perm).into())
    }

    /// One TLS endpoint with the certificate and key in these PEM files.
    ///
    /// # Errors
    /// When the files cannot be used, or the build has no TLS backend.
    pub fn tls(addr: &str, cert_path: &str, key_path: &str) -> Result<Self> {
        let settings = TlsSettings::intermediate(cert_path, key_path)?;
        Ok(Self::at(ListenerConfig::tcp(addr).tls(settings)))
    }

    fn at(endpoint: ListenerConfig) -> Self {
        Listeners {
            endpoints: vec![endpoint],
            ..Self::default()
        }
    }

    /// Adds a TCP endpoint.
    pub fn add_tcp(&mut self, addr: &str) {
        self.add_address(ServerAddress::Tcp(addr.into(), None));
    }

    /// Adds a TCP endpoint with socket options.
    pub fn add_tcp_with_settings(&mut self, addr: &str, sock_opt: TcpSocketOptions) {
        self.add_address(ServerAddress::Tcp(addr.into(), Some(sock_opt)));
    }

    /// Adds a Unix socket, with permissions 0666 unless others are given.
    pub fn add_uds(&mut self, addr: &str, perm: Option<Permissions>) {
        self.add_address(ServerAddress::Uds(addr.into(), perm));
    }

    /// Adds a TLS endpoint with the certificate and key in these PEM files.
    ///
    /// # Errors
    /// When the files cannot be used, or the build has no TLS backend.
    pub fn add_tls(&mut self, addr: &str, cert_path: &str, key_path: &str) -> Result<()> {
        let settings = TlsSettings::intermediate(cert_path, key_path)?;
        self.add_tls_with_settings(addr, None, settings);
        Ok(())
    }

    /// Adds a TLS endpoint with socket options.
    pub fn add_tls_with_settings(
        &mut self,
        addr: &str,
        sock_opt: Option<TcpSocketOptions>,
        settings: TlsSettings,
    ) {
        self.add_endpoint(ServerAddress::Tcp(addr.into(), sock_opt), Some(settings));
    }

    /// Adds an endpoint without TLS.
    pub fn add_address(&mut self, addr: ServerAddress) {
        self.add_endpoint(addr, None);
    }

    /// Adds an endpoint, with or without TLS.
    pub fn add_endpoint(&mut self, l4: ServerAddress, tls: Option<TlsSettings>) {
        self.add_listener(ListenerConfig { tls, ..l4.into() });
    }

    /// Adds an endpoint.
    pub fn add_listener(&mut self, endpoint: ListenerConfig) {
        self.endpoints.push(endpoint);
    }

    /// Sets how connections come to the workers, at all endpoints that do not say it themselves; otherwise the
    /// server does.
    pub fn set_accept_strategy(&mut self, strategy: AcceptStrategy) {
        self.accept = Some(strategy);
    }

    /// Sets what is done with connections before TLS, at all endpoints.
    pub fn set_pre_tls_callback(&mut self, callback: PreTlsCallback) {
        self.pre_tls = Some(callback);
    }

    /// Sets which connections are served, at all endpoints.
    #[cfg(feature = "connection_filter")]
    pub fn set_connection_filter(&mut self, filter: Arc<dyn ConnectionFilter>) {
        self.filter_connections(filter);
    }

    pub(crate) fn filter_connections(&mut self, filter: Arc<dyn ConnectionFilter>) {
        self.filter = Some(filter);
    }

    /// The addresses of the endpoints, as they were added.
    pub fn addresses(&self) -> Vec<String> {
        let address = |endpoint: &ListenerConfig| endpoint.address.as_ref().to_owned();
        self.endpoints.iter().map(address).collect()
    }

    /// Returns what tells the addresses that the endpoints are bound to, once they are listened on.
    pub fn bound_addresses(&self) -> BoundAddresses {
        self.bound.addresses()
    }

    /// Listens on all endpoints: on the sockets in `fds` where they are, on new ones elsewhere,
    /// which are then added there. The TLS settings are used up by this. Each of the workers gets a
    /// socket where the strategy says so.
    ///
    /// # Errors
    /// One line that names the endpoint and what is in the way.
    pub(crate) async fn listen(
        &mut self,
        fds: Option<&ListenFds>,
        workers: usize,
    ) -> std::result::Result<Vec<Endpoint>, String> {
        let mut endpoints = Vec::with_capacity(self.endpoints.len());
        for config in &mut self.endpoints {
            let address = &config.address;
            let tls = config.tls.take().map(TlsSettings::try_build).transpose();
            let tls = tls.map_err(|e| {
                let address = address.as_ref();
                format!("cannot listen on {address} with TLS: {e}")
            })?;
            let mut strategy = config
                .accept
                .or(self.accept)
                .unwrap_or_else(|| accepting::Settings::current().strategy);
            let mut listening = l4::listen(address, fds).await?;
            if strategy == AcceptStrategy::Reuseport {
                if listening.unix {
                    strategy = AcceptStrategy::Shared;
                } else {
                    listening.share(address, workers)?;
                }
            }
            endpoints.push(Endpoint {
                listening,
                strategy,
                entrance: Arc::new(Entrance {
                    filter: self.filter.clone(),
                    proxied: config.proxied.clone(),
                    pre_tls: self.pre_tls.clone(),
                    tls,
                    handshake_timeout: config.handshake_timeout,
                    shutdown_timeout: accepting::Settings::current().shutdown_timeout,
                    closing: Registry::new(workers),
                    l4_buffer: config.l4_buffer,
                }),
            });
        }
        let address = |endpoint: &Endpoint| {
            let socket = endpoint.listening.socket.as_raw_fd();
            SocketAddr::from_raw_fd(socket, false)
        };
        // The system knows the address of a socket that listens.
        self.bound
            .tell(endpoints.iter().filter_map(address).collect());
        Ok(endpoints)
    }
}
