//! The options of a peer.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use pingora_error::Result;
use tokio::net::TcpSocket;

use super::{HttpUpstreamRequestPolicy, ProxyDigestUserDataHook, Tracer, ALPN};
use crate::connectors::l4::Connect;
use crate::protocols::l4::bind_to::BindTo;
use crate::protocols::l4::ext::TcpKeepalive;
use crate::protocols::l4::permit::ConnectPermit;
use crate::protocols::tls::{CaType, HandshakeCompleteHook};

/// The options of a connection to a peer, its timeouts among them.
///
/// A timeout of `None` waits for as long as the system does.
#[non_exhaustive]
pub struct PeerOptions {
    /// The local address to connect from.
    pub bind_to: Option<BindTo>,
    /// The longest time to wait for the transport connection.
    pub connection_timeout: Option<Duration>,
    /// The longest time to wait for a connection with everything on top of it, such as TLS.
    pub total_connection_timeout: Option<Duration>,
    /// The longest time for a TLS handshake; `None` for `connection_timeout`.
    pub tls_handshake_timeout: Option<Duration>,
    /// The longest time from when the whole request was sent to when the whole head of its response has come, or a
    /// head of status 1xx before it; `None` for no limit but `read_timeout`, which each byte prolongs.
    pub response_header_timeout: Option<Duration>,
    /// The longest time between two reads; each read begins anew.
    pub read_timeout: Option<Duration>,
    /// The time for which an unused connection is kept; `None` for as long as the peer keeps it.
    pub idle_timeout: Option<Duration>,
    /// The longest time that a write may take.
    pub write_timeout: Option<Duration>,
    /// Check that the peer's certificate is trusted.
    pub verify_cert: bool,
    /// Check that the peer's certificate is for the server name that was asked for.
    pub verify_hostname: bool,
    /// Another name that the peer's certificate may be for.
    pub alternative_cn: Option<String>,
    /// The application protocols to offer in the TLS handshake, and without TLS the one to speak.
    pub alpn: ALPN,
    /// The certificates to trust in place of the connector's.
    pub ca: Option<Arc<CaType>>,
    /// The keepalive probes to turn on.
    pub tcp_keepalive: Option<TcpKeepalive>,
    /// The size of the receive buffer in bytes.
    pub tcp_recv_buf: Option<usize>,
    /// The differentiated services code point of what is sent, 0 to 63.
    pub dscp: Option<u8>,
    /// The time between two PINGs on an HTTP/2 connection; `None` or zero for none. One that is not answered within
    /// five seconds ends the connection.
    pub h2_ping_interval: Option<Duration>,
    /// The number of requests that may use an HTTP/2 connection at once; zero counts as one.
    pub max_h2_streams: usize,
    /// The flow-control window of an HTTP/2 stream in bytes, which bounds what is kept of a response that its
    /// client does not take; `None` for 2 MiB.
    pub h2_stream_window_size: Option<u32>,
    /// The flow-control window of an HTTP/2 connection in bytes, which bounds the same for all its streams
    /// together; `None` for 8 MiB.
    pub h2_connection_window_size: Option<u32>,
    /// Take an HTTP/1.1 response whose `Content-Length` cannot be read for one that ends with its connection,
    /// in place of refusing it.
    pub allow_h1_response_invalid_content_length: bool,
    /// The policy for what of a client's request goes on to the peer.
    pub http_upstream_request_policy: HttpUpstreamRequestPolicy,
    /// Fields to add to the CONNECT request when there is a proxy.
    pub extra_proxy_headers: BTreeMap<String, Vec<u8>>,
    /// The key exchange groups to offer in the TLS handshake, in the backend's notation.
    pub curves: Option<Cow<'static, str>>,
    /// Send a second key share when the first is of a post-quantum group, so that a server that lacks the group
    /// need not ask for another.
    ///
    /// With OpenSSL this is so where `curves` is unset; a list of groups says by itself of which to send a share
    /// (`*`), and sends one of the first alone if it does not. Without effect with BoringSSL, which sends
    /// both, and with rustls, which has no such group unless the program installs a provider of cryptography that does,
    /// and then sends both.
    pub second_keyshare: bool,
    /// Send the first data with the SYN where possible (RFC 7413).
    pub tcp_fast_open: bool,
    /// The tracer that is told when a connection is made and when it ends.
    pub tracer: Option<Tracer>,
    /// The permit that is asked before a connection is made. One that is kept serves requests without being asked; a peer
    /// without a permit may use it, too, unless its key is another one.
    pub connect_permit: Option<Arc<dyn ConnectPermit>>,
    /// The maker of transport connections in place of the connector.
    pub custom_l4: Option<Arc<dyn Connect + Send + Sync>>,
    /// The hook that is called with a TCP socket before it is connected.
    #[allow(clippy::type_complexity)] // A name for it would be one more public item.
    pub upstream_tcp_sock_tweak_hook:
        Option<Arc<dyn Fn(&TcpSocket) -> Result<()> + Send + Sync + 'static>>,
    /// The hook that makes the user data of the proxy's digest.
    pub proxy_digest_user_data_hook: Option<ProxyDigestUserDataHook>,
    /// The hook that is called with the TLS session when the handshake is complete; what it returns is kept in the
    /// digest.
    pub upstream_tls_handshake_complete_hook: Option<HandshakeCompleteHook>,
}

/// Does what the derived one does, in fewer instructions, since a peer is cloned for each request: what cannot fail is
/// copied last, right to its place, and an `Option` of a number without a look at what it is.
impl Clone for PeerOptions {
    #[inline(always)]
    fn clone(&self) -> Self {
        PeerOptions {
            bind_to: self.bind_to.clone(),
            alternative_cn: self.alternative_cn.clone(),
            alpn: self.alpn.clone(),
            ca: self.ca.clone(),
            tcp_keepalive: self.tcp_keepalive.clone(),
            extra_proxy_headers: self.extra_proxy_headers.clone(),
            curves: self.curves.clone(),
            tracer: self.tracer.clone(),
            connect_permit: self.connect_permit.clone(),
            custom_l4: self.custom_l4.clone(),
            upstream_tcp_sock_tweak_hook: self.upstream_tcp_sock_tweak_hook.clone(),
            proxy_digest_user_data_hook: self.proxy_digest_user_data_hook.clone(),
            upstream_tls_handshake_complete_hook: self.upstream_tls_handshake_complete_hook.clone(),
            connection_timeout: self.connection_timeout,
            total_connection_timeout: self.total_connection_timeout,
            tls_handshake_timeout: self.tls_handshake_timeout,
            response_header_timeout: self.response_header_timeout,
            read_timeout: self.read_timeout,
            idle_timeout: self.idle_timeout,
            write_timeout: self.write_timeout,
            verify_cert: self.verify_cert,
            verify_hostname: self.verify_hostname,
            tcp_recv_buf: self.tcp_recv_buf,
            dscp: self.dscp,
            h2_ping_interval: self.h2_ping_interval,
            max_h2_streams: self.max_h2_streams,
            h2_stream_window_size: self.h2_stream_window_size,
            h2_connection_window_size: self.h2_connection_window_size,
            allow_h1_response_invalid_content_length: self.allow_h1_response_invalid_content_length,
            http_upstream_request_policy: self.http_upstream_request_policy,
            second_keyshare: self.second_keyshare,
            tcp_fast_open: self.tcp_fast_open,
        }
    }
}

impl PeerOptions {
    /// Options that check certificates, speak HTTP/1.1 and set no timeout.
    #[allow(clippy::new_without_default)] // The type is public without it.
    pub fn new() -> Self {
        PeerOptions {
            bind_to: None,
            connection_timeout: None,
            total_connection_timeout: None,
            tls_handshake_timeout: None,
            response_header_timeout: None,
            read_timeout: None,
            idle_timeout: None,
            write_timeout: None,
            verify_cert: true,
            verify_hostname: true,
            alternative_cn: None,
            alpn: ALPN::H1,
            ca: None,
            tcp_keepalive: None,
            tcp_recv_buf: None,
            dscp: None,
            h2_ping_interval: None,
            max_h2_streams: 1,
            h2_stream_window_size: None,
            h2_connection_window_size: None,
            allow_h1_response_invalid_content_length: false,
            http_upstream_request_policy: HttpUpstreamRequestPolicy::standard(),
            extra_proxy_headers: BTreeMap::new(),
            curves: None,
            second_keyshare: true,
            tcp_fast_open: false,
            tracer: None,
            connect_permit: None,
            custom_l4: None,
            upstream_tcp_sock_tweak_hook: None,
            proxy_digest_user_data_hook: None,
            upstream_tls_handshake_complete_hook: None,
        }
    }

    /// Speaks HTTP of version `max` down to `min`, 1 or 2 each.
    pub fn set_http_version(&mut self, max: u8, min: u8) {
        self.alpn = ALPN::new(max, min);
    }
}

impl fmt::Debug for PeerOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // All but the hooks, which have nothing to show.
        f.debug_struct("PeerOptions")
            .field("bind_to", &self.bind_to)
            .field("connection_timeout", &self.connection_timeout)
            .field("total_connection_timeout", &self.total_connection_timeout)
            .field("tls_handshake_timeout", &self.tls_handshake_timeout)
            .field("response_header_timeout", &self.response_header_timeout)
            .field("read_timeout", &self.read_timeout)
            .field("idle_timeout", &self.idle_timeout)
            .field("write_timeout", &self.write_timeout)
            .field("verify_cert", &self.verify_cert)
            .field("verify_hostname", &self.verify_hostname)
            .field("alternative_cn", &self.alternative_cn)
            .field("alpn", &self.alpn)
            .field("ca", &self.ca)
            .field("tcp_keepalive", &self.tcp_keepalive)
            .field("tcp_recv_buf", &self.tcp_recv_buf)
            .field("dscp", &self.dscp)
            .field("h2_ping_interval", &self.h2_ping_interval)
            .field("max_h2_streams", &self.max_h2_streams)
            .field("h2_stream_window_size", &self.h2_stream_window_size)
            .field("h2_connection_window_size", &self.h2_connection_window_size)
            .field(
                "allow_h1_response_invalid_content_length",
                &self.allow_h1_response_invalid_content_length,
            )
            .field(
                "http_upstream_request_policy",
                &self.http_upstream_request_policy,
            )
            .field("extra_proxy_headers", &self.extra_proxy_headers)
            .field("curves", &self.curves)
            .field("second_keyshare", &self.second_keyshare)
            .field("tcp_fast_open", &self.tcp_fast_open)
            .field("tracer", &self.tracer)
            .field("connect_permit", &self.connect_permit)
            .field("custom_l4", &self.custom_l4)
            .finish_non_exhaustive()
    }
}

impl fmt::Display for PeerOptions {
    /// Returns what differs from connecting without options, as `name: value` with commas between.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "verify_cert: {}, verify_hostname: {}, alpn: {}",
            self.verify_cert, self.verify_hostname, self.alpn
        )?;
        if let Some(cn) = &self.alternative_cn {
            write!(f, ", alternative_cn: {cn}")?;
        }
        if let Some(addr) = self.bind_to.as_ref().and_then(|b| b.addr) {
            write!(f, ", bind_to: {addr}")?;
        }
        for (name, timeout) in [
            ("connection_timeout", self.connection_timeout),
            ("total_connection_timeout", self.total_connection_timeout),
            ("tls_handshake_timeout", self.tls_handshake_timeout),
            ("response_header_timeout", self.response_header_timeout),
            ("read_timeout", self.read_timeout),
            ("write_timeout", self.write_timeout),
            ("idle_timeout", self.idle_timeout),
            ("h2_ping_interval", self.h2_ping_interval),
        ] {
            if let Some(timeout) = timeout {
                write!(f, ", {name}: {timeout:?}")?;
            }
        }
        if let Some(ca) = &self.ca {
            f.write_str(", CA:")?;
            for cert in ca.iter() {
                write!(f, " (expires {})", cert.not_after())?;
            }
        }
        if let Some(ka) = &self.tcp_keepalive {
            write!(f, ", tcp_keepalive: {ka}")?;
        }
        if let Some(size) = self.tcp_recv_buf {
            write!(f, ", tcp_recv_buf: {size}")?;
        }
        if let Some(dscp) = self.dscp {
            write!(f, ", dscp: {dscp}")?;
        }
        Ok(())
    }
}
