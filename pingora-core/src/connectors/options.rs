//! The options of a connector: the way in which it connects, and the number of connections that it keeps.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::server::configuration::ServerConf;

/// Is told how long a connection was idle when it is taken out of the pool to be used again.
pub type PoolCallback = Arc<dyn Fn(Duration) + Send + Sync>;

/// The way in which a connector connects, and the number of connections that it keeps.
#[derive(Clone)]
pub struct ConnectorOptions {
    /// A file with the certificates to trust, in place of the system's.
    pub ca_file: Option<String>,
    /// Files with the certificate and the key to show to peers.
    pub cert_key_file: Option<(String, String)>,
    /// Write the keys of TLS sessions to the file that `SSLKEYLOGFILE` names.
    pub debug_ssl_keylog: bool,
    /// The number of idle connections to keep; zero for none.
    pub keepalive_pool_size: usize,
    /// Connect on threads of their own: how many runtimes, and how many threads for each.
    pub offload_threadpool: Option<(usize, usize)>,
    /// IPv4 addresses to connect from, of which one is picked at random.
    pub bind_to_v4: Vec<SocketAddr>,
    /// IPv6 addresses to connect from, of which one is picked at random.
    pub bind_to_v6: Vec<SocketAddr>,
    /// Is told how long a connection was idle when it is used again.
    pub keepalive_pool_callback: Option<PoolCallback>,
}

impl ConnectorOptions {
    /// Options that keep `keepalive_pool_size` idle connections.
    pub fn new(keepalive_pool_size: usize) -> Self {
        ConnectorOptions {
            ca_file: None,
            cert_key_file: None,
            debug_ssl_keylog: false,
            keepalive_pool_size,
            offload_threadpool: None,
            bind_to_v4: Vec::new(),
            bind_to_v6: Vec::new(),
            keepalive_pool_callback: None,
        }
    }

    /// The options that a server's configuration asks for.
    ///
    /// `upstream_keepalive_pool_size` is for one thread, and multiplied by their number.
    ///
    /// # Panics
    /// When a `client_bind_to` entry is not an IP address.
    pub fn from_server_conf(server_conf: &ServerConf) -> Self {
        let addresses = |list: &[String], family: &str| {
            list.iter()
                .map(|ip| match ip.parse() {
                    Ok(ip) => SocketAddr::new(ip, 0),
                    Err(e) => panic!("client_bind_to_{family}: {ip:?}: {e}"),
                })
                .collect()
        };
        let threads = server_conf.threads.max(1);
        ConnectorOptions {
            ca_file: server_conf.ca_file.clone(),
            debug_ssl_keylog: server_conf.upstream_debug_ssl_keylog,
            offload_threadpool: server_conf.upstream_connect_offload_threadpool(),
            bind_to_v4: addresses(&server_conf.client_bind_to_ipv4, "ipv4"),
            bind_to_v6: addresses(&server_conf.client_bind_to_ipv6, "ipv6"),
            ..Self::new(
                server_conf
                    .upstream_keepalive_pool_size
                    .saturating_mul(threads),
            )
        }
    }
}
