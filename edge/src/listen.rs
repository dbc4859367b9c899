//! The addresses that clients connect to, and their change while requests are served.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use pingora_core::listeners::{
    AcceptStrategy, ConnectionSettings, EndpointHandle, ListenerConfig, PendingEndpoint,
    ProxyProtocol, TcpSocketOptions,
};
use pingora_core::protocols::TcpKeepalive;
use pingora_core::server::configuration::ServerConf;

use crate::config::model::Accept;
use crate::config::section::Scalar;
use crate::config::values::Address;
use crate::live::Live;
use crate::plan::{Listener, Probes};
use crate::tls;

/// Makes endpoints of what a plan says.
pub struct Opener {
    live: Arc<Live>,
    conf: Arc<ServerConf>,
}

impl Opener {
    pub(crate) fn new(live: Arc<Live>, conf: Arc<ServerConf>) -> Self {
        Self { live, conf }
    }

    /// Returns the endpoint of a listener.
    ///
    /// # Errors
    ///
    /// When TLS cannot be had.
    pub(crate) fn config(&self, listener: &Listener) -> Result<ListenerConfig, String> {
        let bind = bind(&listener.address);
        let mut config = match &listener.address {
            Address::Unix(_) => {
                let mode = listener.mode.map_or(0o666, |mode| mode.0);
                ListenerConfig::uds(bind).permissions(Permissions::from_mode(mode))
            }
            _ => ListenerConfig::tcp(bind).tcp_socket_options(tcp_options(listener)),
        };
        if listener.tls {
            let refused = |e| format!("{}: {e}", listener.address);
            let mut settings = tls::settings(&self.live).map_err(refused)?;
            settings.set_offload_threadpool_from_server_conf(&self.conf);
            config = config.tls(settings);
        }
        config = config.accept_strategy(match listener.accept {
            Accept::Shared => AcceptStrategy::Shared,
            Accept::Exclusive => AcceptStrategy::Exclusive,
            Accept::Reuseport => AcceptStrategy::Reuseport,
            Accept::Mutex => AcceptStrategy::Mutex,
        });
        if let Some(connections) = listener.backlog {
            config = config.backlog(connections);
        }
        if let Some(most) = listener.max_connections {
            config = config.max_connections(most);
        }
        if let Some(most) = listener.max_connections_per_client {
            config = config.max_connections_per_client(most);
        }
        if let Some(of) = &listener.proxy_protocol {
            let trusted = of.trusted.iter().map(Scalar::show);
            let balancers = ProxyProtocol::from_sources(trusted).map_err(|e| e.to_string())?;
            config = config.proxy_protocol(balancers.timeout(of.timeout));
        }
        if let Some(timeouts) = &listener.timeouts {
            config = config.tls_handshake_timeout(timeouts.handshake);
        }
        let mut http = ConnectionSettings::default();
        http.h2c = Some(listener.h2c);
        http.idle = listener.timeouts.map(|timeouts| timeouts.idle);
        http.read = listener.timeouts.map(|timeouts| timeouts.read);
        // Connections carry these: those of most listeners need none.
        if listener.h2c || listener.timeouts.is_some() {
            config = config.http(http);
        }
        Ok(config)
    }
}

/// Returns the name by which an endpoint is known.
pub(crate) fn bind(address: &Address) -> String {
    match address {
        Address::Unix(path) => path.to_string_lossy().into_owned(),
        other => other.to_string(),
    }
}

/// Returns the options by which an address of IPv6 is for IPv6 alone, whatever the system's default is: all addresses of
/// IPv4 may be listened on beside all those of IPv6.
pub(crate) fn family(address: &Address) -> TcpSocketOptions {
    let mut options = TcpSocketOptions::default();
    options.ipv6_only = address.is_ipv6().then_some(true);
    options
}

fn tcp_options(listener: &Listener) -> TcpSocketOptions {
    let mut options = family(&listener.address);
    options.tcp_fastopen = listener.fast_open.map(|queue| queue as usize);
    let probes = |probes: Probes| TcpKeepalive {
        idle: probes.idle,
        interval: probes.interval,
        count: probes.count as usize,
        #[cfg(target_os = "linux")]
        user_timeout: std::time::Duration::ZERO,
    };
    options.tcp_keepalive = listener.keepalive.map(probes);
    options
}

/// The endpoints of the service that runs.
pub struct Addresses {
    opener: Opener,
    endpoints: EndpointHandle,
}

/// A change of the endpoints that is sure to succeed.
pub struct Change {
    start: Vec<(Address, PendingEndpoint)>,
    remove: Vec<Address>,
}

impl Addresses {
    pub(crate) fn new(opener: Opener, endpoints: EndpointHandle) -> Self {
        Self { opener, endpoints }
    }

    /// Binds the addresses that are new, without serving there. Those that stay and are not the same become others by the
    /// change, and keep their sockets.
    ///
    /// # Errors
    ///
    /// Every address that cannot be had. Nothing has changed then.
    pub(crate) async fn prepare(
        &self,
        old: &[Listener],
        new: &[Listener],
    ) -> Result<Change, Vec<String>> {
        let mut problems = Vec::new();
        let mut start = Vec::new();
        for listener in new.iter().filter(|listener| !old.contains(listener)) {
            let address = &listener.address;
            let bound = match self.opener.config(listener) {
                Ok(config) => self.endpoints.bind(config).await.map_err(|e| {
                    let why = e
                        .context
                        .as_ref()
                        .map(|context| context.as_str().to_owned());
                    why.unwrap_or_else(|| e.to_string()) + &in_the_way(address, old)
                }),
                Err(e) => Err(e),
            };
            match bound {
                Ok(bound) => start.push((address.clone(), bound)),
                Err(why) => problems.push(format!("`listen`: {why}")),
            }
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        let stays = |of: &Address| new.iter().any(|listener| listener.address == *of);
        let gone = old.iter().map(|listener| &listener.address);
        let remove = gone.filter(|address| !stays(address)).cloned().collect();
        Ok(Change { start, remove })
    }

    /// Serves at the new addresses, and closes those that are gone; requests under way there go on.
    pub(crate) async fn apply(&self, change: Change) {
        for (address, bound) in change.start {
            match bound.start().await {
                Ok(_) => log::info!("`listen`: {address} is served"),
                Err(e) => log::error!("`listen`: {address} is not served: {e}"),
            }
        }
        for address in change.remove {
            match self.endpoints.remove(&bind(&address)).await {
                Ok(()) => log::info!("`listen`: {address} is closed"),
                Err(e) => log::error!("`listen`: {address} is not closed: {e}"),
            }
        }
    }
}

/// Tells which listener that is there keeps another one from its address: one on every address of the same port, or one on
/// a single address.
fn in_the_way(wanted: &Address, old: &[Listener]) -> String {
    let overlap = old.iter().find(|listener| {
        let there = &listener.address;
        there.includes(wanted) || wanted.includes(there)
    });
    overlap.map_or_else(String::new, |there| {
        format!(
            " (`{}` overlaps it: take that out by a reload of its own first)",
            there.address
        )
    })
}
