//! Listening: endpoints, their socket options, and how connections are accepted.

mod accept;
mod bound;
mod clients;
mod config;
#[cfg(feature = "connection_filter")]
pub mod connection_filter;
#[cfg(not(feature = "connection_filter"))]
#[path = "connection_filter_sync.rs"]
mod connection_filter;
mod endpoint;
mod entrance;
pub(crate) mod fds;
mod handle;
mod inherited;
mod l4;
mod pre_tls;
mod proxied;
mod serving;
#[cfg(test)]
mod tests;
#[cfg(any(feature = "rustls", feature = "openssl_derived"))]
mod tls_offload;

use std::fs::Permissions;
use std::sync::Arc;

use pingora_error::Result;

#[cfg(test)]
use crate::listeners::fds::ListenFds;
#[cfg(test)]
use crate::worker::Workers;

pub use crate::protocols::http::ConnectionSettings;
pub use crate::protocols::l4::stream::{
    L4BufferSettings, DEFAULT_L4_READ_BUFFER_SIZE, DEFAULT_L4_WRITE_BUFFER_SIZE,
};
pub use crate::protocols::tls::callbacks::{TlsAccept, TlsAcceptCallbacks};
pub use crate::protocols::tls::listeners as tls;
pub use crate::protocols::tls::ALPN;
pub use accept::{AcceptCounts, AcceptStrategy, WorkerCounts};
pub use bound::BoundAddresses;
pub use config::ListenerConfig;
pub use connection_filter::{AcceptAllFilter, ConnectionFilter};
pub use handle::{EndpointHandle, PendingEndpoint};
pub use l4::{ServerAddress, TcpSocketOptions};
pub use pre_tls::{PreTlsCallback, PreTlsProcess};
pub use proxied::ProxyProtocol;

pub(crate) use accept::{Connect, WorkerPool};
/// The server's settings for accepting.
pub(crate) mod accepting {
    pub(crate) use super::accept::Settings;
}
use config::Common;
#[cfg(test)]
pub(crate) use endpoint::Endpoint;
pub(crate) use entrance::Entrance;
use serving::Parts;
pub(crate) use serving::Serving;
use tls::TlsSettings;

/// The endpoints of a service.
#[derive(Default)]
pub struct Listeners {
    endpoints: Vec<ListenerConfig>,
    common: Common,
    bound: bound::Telling,
    commands: handle::Commands,
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
        let mut endpoint = ListenerConfig::from(l4);
        endpoint.tls = tls;
        self.add_listener(endpoint);
    }

    /// Adds an endpoint.
    pub fn add_listener(&mut self, endpoint: ListenerConfig) {
        self.endpoints.push(endpoint);
    }

    /// Sets how connections come to the workers, at all endpoints that do not say it themselves; otherwise the
    /// server does.
    pub fn set_accept_strategy(&mut self, strategy: AcceptStrategy) {
        self.common.accept = Some(strategy);
    }

    /// Sets what is done with connections before TLS, at all endpoints.
    pub fn set_pre_tls_callback(&mut self, callback: PreTlsCallback) {
        self.common.pre_tls = Some(callback);
    }

    /// Sets which connections are served, at all endpoints.
    #[cfg(feature = "connection_filter")]
    pub fn set_connection_filter(&mut self, filter: Arc<dyn ConnectionFilter>) {
        self.filter_connections(filter);
    }

    pub(crate) fn filter_connections(&mut self, filter: Arc<dyn ConnectionFilter>) {
        self.common.filter = Some(filter);
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

    /// Returns a handle that adds endpoints to the service, and removes them, while it runs.
    ///
    /// While there is one, a service without endpoints runs on, and waits for the first.
    pub fn endpoint_handle(&self) -> EndpointHandle {
        self.commands.handle()
    }

    /// Sets how many connections of all endpoints together may be open at a time, beside the limit that an endpoint may
    /// have of its own; see [`ListenerConfig::max_connections`] for what becomes of one more.
    pub fn set_max_connections(&mut self, connections: usize) {
        self.common.max_connections = Some(connections);
    }

    /// Gives all to the service that starts. The endpoints, with their TLS settings, are used up by this.
    pub(crate) fn start(&mut self) -> Parts {
        Parts {
            endpoints: std::mem::take(&mut self.endpoints),
            common: self.common.clone(),
            bound: self.bound.clone(),
            commands: self.commands.take(),
        }
    }

    /// Listens on all endpoints: on the sockets in `fds` where they are, on new ones elsewhere,
    /// which are then added there. The TLS settings are used up by this.
    ///
    /// # Errors
    /// One line that names the endpoint and what is in the way.
    #[cfg(test)]
    pub(crate) async fn listen(
        &mut self,
        fds: Option<&ListenFds>,
        workers: usize,
    ) -> std::result::Result<Vec<Endpoint>, String> {
        let handle = tokio::runtime::Handle::current();
        let pool = WorkerPool::new(Workers::new(vec![handle; workers]));
        let settings = accepting::Settings::current();
        let mut endpoints = Vec::new();
        for config in self.endpoints.drain(..) {
            let opened = Endpoint::open(config, &self.common, fds, (&pool, &settings), false);
            endpoints.push(opened.await?);
        }
        Ok(endpoints)
    }
}
