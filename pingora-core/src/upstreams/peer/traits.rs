//! The traits of a peer, for connectors.

use std::fmt::Display;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::Duration;

use pingora_error::Result;
use tokio::net::TcpSocket;

use super::reuse::leads_to;
use super::{PeerOptions, Proxy, ProxyDigestUserDataHook, Tracer, ALPN};
use crate::protocols::l4::bind_to::BindTo;
use crate::protocols::l4::ext::TcpKeepalive;
use crate::protocols::l4::socket::SocketAddr;
use crate::protocols::tls::{CaType, HandshakeCompleteHook};
use crate::utils::tls::CertKey;

/// Somewhere to connect to, and how.
///
/// Each provided method reads the peer's [options](Peer::get_peer_options).
pub trait Peer: Display + Clone {
    /// The address to connect to.
    fn address(&self) -> &SocketAddr;

    /// Returns whether to use TLS.
    fn tls(&self) -> bool;

    /// The server name to ask for in the TLS handshake (SNI), empty for none.
    fn sni(&self) -> &str;

    /// The key under which connections are kept: peers with the same key may use each other's.
    ///
    /// Asked for on every request, so it should be cheap.
    fn reuse_hash(&self) -> u64;

    /// The proxy to connect through, if any.
    fn get_proxy(&self) -> Option<&Proxy> {
        None
    }

    /// The hook that makes the user data of the proxy's digest.
    fn proxy_digest_user_data_hook(&self) -> Option<&ProxyDigestUserDataHook> {
        self.get_peer_options()?
            .proxy_digest_user_data_hook
            .as_ref()
    }

    /// The options of this peer, or `None` for one without any.
    fn get_peer_options(&self) -> Option<&PeerOptions> {
        None
    }

    /// The options of this peer, to change them.
    fn get_mut_peer_options(&mut self) -> Option<&mut PeerOptions> {
        None
    }

    /// Returns whether to check that the peer's certificate is trusted; `false` without options.
    fn verify_cert(&self) -> bool {
        self.get_peer_options().is_some_and(|o| o.verify_cert)
    }

    /// Returns whether to check that the peer's certificate is for the [server name](Peer::sni); `false` without
    /// options.
    fn verify_hostname(&self) -> bool {
        self.get_peer_options().is_some_and(|o| o.verify_hostname)
    }

    /// Another name that the peer's certificate may be for.
    fn alternative_cn(&self) -> Option<&String> {
        self.get_peer_options()?.alternative_cn.as_ref()
    }

    /// The local address to connect from.
    fn bind_to(&self) -> Option<&BindTo> {
        self.get_peer_options()?.bind_to.as_ref()
    }

    /// The longest time to wait for the transport connection.
    fn connection_timeout(&self) -> Option<Duration> {
        self.get_peer_options()?.connection_timeout
    }

    /// The longest time to wait for a connection with everything on top of it, such as TLS.
    fn total_connection_timeout(&self) -> Option<Duration> {
        self.get_peer_options()?.total_connection_timeout
    }

    /// The longest time for a TLS handshake.
    fn tls_handshake_timeout(&self) -> Option<Duration> {
        let own = self
            .get_peer_options()
            .and_then(|o| o.tls_handshake_timeout);
        own.or_else(|| self.connection_timeout())
    }

    /// Returns how long an unused connection is kept; `None` for as long as the peer keeps it.
    fn idle_timeout(&self) -> Option<Duration> {
        self.get_peer_options()?.idle_timeout
    }

    /// The application protocols to offer in the TLS handshake.
    fn get_alpn(&self) -> Option<&ALPN> {
        self.get_peer_options().map(|o| &o.alpn)
    }

    /// The certificates to trust in place of the connector's.
    fn get_ca(&self) -> Option<&Arc<CaType>> {
        self.get_peer_options()?.ca.as_ref()
    }

    /// The certificate and key to show to the peer.
    fn get_client_cert_key(&self) -> Option<&Arc<CertKey>> {
        None
    }

    /// The keepalive probes to turn on.
    fn tcp_keepalive(&self) -> Option<&TcpKeepalive> {
        self.get_peer_options()?.tcp_keepalive.as_ref()
    }

    /// Returns how often to send a PING on an HTTP/2 connection.
    fn h2_ping_interval(&self) -> Option<Duration> {
        self.get_peer_options()?.h2_ping_interval
    }

    /// The size of the receive buffer in bytes.
    fn tcp_recv_buf(&self) -> Option<usize> {
        self.get_peer_options()?.tcp_recv_buf
    }

    /// The differentiated services code point of what is sent, 0 to 63.
    fn dscp(&self) -> Option<u8> {
        self.get_peer_options()?.dscp
    }

    /// Returns whether to send the first data with the SYN where possible (RFC 7413).
    fn tcp_fast_open(&self) -> bool {
        self.get_peer_options().is_some_and(|o| o.tcp_fast_open)
    }

    /// Returns whether the connected socket `fd` leads to this peer.
    fn matches_fd<V: AsRawFd>(&self, fd: V) -> bool {
        leads_to(&fd, self.address())
    }

    /// The tracer that is told when a connection is made and when it ends.
    fn get_tracer(&self) -> Option<Tracer> {
        None
    }

    /// The hook that is called with a TCP socket before it is connected.
    #[allow(clippy::type_complexity)] // A name for it would be one more public item.
    fn upstream_tcp_sock_tweak_hook(
        &self,
    ) -> Option<&Arc<dyn Fn(&TcpSocket) -> Result<()> + Send + Sync + 'static>> {
        self.get_peer_options()?
            .upstream_tcp_sock_tweak_hook
            .as_ref()
    }

    /// The hook that is called with the TLS session when the handshake is complete.
    fn upstream_tls_handshake_complete_hook(&self) -> Option<&HandshakeCompleteHook> {
        self.get_peer_options()?
            .upstream_tls_handshake_complete_hook
            .as_ref()
    }
}
