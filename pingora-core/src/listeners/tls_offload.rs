//! TLS handshakes on threads of their own, where the configuration wants that.

use super::tls::TlsSettings;
use crate::server::configuration::ServerConf;

impl TlsSettings {
    /// Does handshakes on threads of their own if the configuration wants that.
    pub fn set_offload_threadpool_from_server_conf(&mut self, server_conf: &ServerConf) {
        let (shards, threads) = server_conf
            .downstream_tls_offload_threadpool()
            .unwrap_or_default();
        self.set_offload_threadpool(shards, threads);
    }
}
