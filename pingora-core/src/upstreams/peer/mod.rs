//! The peer to connect to, and how.
//!
//! A [`Peer`] says where to connect, what to do on top of the connection, and, by
//! [`reuse_hash`](Peer::reuse_hash), which idle connections will do as well. [`HttpPeer`] is the one for
//! HTTP, [`BasicPeer`] one for anything.

mod basic;
mod options;
mod policy;
mod reuse;
mod tracer;
mod traits;

use std::collections::BTreeMap;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::net::{IpAddr, SocketAddr as InetAddr, ToSocketAddrs};
use std::os::fd::AsRawFd;
use std::os::unix::net::SocketAddr as UnixAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pingora_error::{ErrorType::SocketError, OrErr, Result};

use crate::protocols::l4::socket::SocketAddr;
use crate::utils::tls::CertKey;
use reuse::{leads_to, stable_hash};

pub use crate::protocols::tls::ALPN;
pub use basic::BasicPeer;
<<<<<<< HEAD
pub use http::{Proxy, Scheme};
=======
>>>>>>> net
pub use options::PeerOptions;
pub use policy::{H1UpgradePolicy, HttpUpstreamRequestPolicy};
pub(crate) use reuse::is_at;
pub use tracer::{Tracer, Tracing};
pub use traits::{Peer, ProxyDigestUserDataHook};

<<<<<<< HEAD
/// A peer that speaks HTTP.
#[derive(Clone, Debug)]
pub struct HttpPeer {
    /// The address to connect to.
    pub _address: SocketAddr,
    /// With TLS or without.
    pub scheme: Scheme,
    /// The server name to ask for in the TLS handshake, empty for none.
    pub sni: String,
    /// The proxy to connect through, if any.
    pub proxy: Option<Proxy>,
    /// The certificate and key to show to the peer.
    pub client_cert_key: Option<Arc<CertKey>>,
    /// Peers of different groups do not share connections, for a reason that the other fields do not tell.
    pub group_key: u64,
    /// How to connect.
    pub options: PeerOptions,
}

/// Makes the [user data](crate::protocols::raw_connect::ProxyDigest::user_data) of a tunnel from the CONNECT
/// request and the proxy's answer.
pub type ProxyDigestUserDataHook = Arc<
    dyn Fn(&::http::request::Parts, &ResponseHeader) -> Option<Box<dyn Any + Send + Sync>>
        + Send
        + Sync
        + 'static,
>;

/// Somewhere to connect to, and how.
///
/// What is not required reads the peer's [options](Peer::get_peer_options).
pub trait Peer: Display + Clone {
    /// The address to connect to.
    fn address(&self) -> &SocketAddr;

    /// Whether to use TLS.
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

    /// The options of this peer, or `None` for one without any.
    fn get_peer_options(&self) -> Option<&PeerOptions> {
        None
    }

    /// The options of this peer, to change them.
    fn get_mut_peer_options(&mut self) -> Option<&mut PeerOptions> {
        None
    }

    /// Whether to check that the peer's certificate is trusted; `false` without options.
    fn verify_cert(&self) -> bool {
        self.get_peer_options().is_some_and(|o| o.verify_cert)
    }

    /// Whether to check that the peer's certificate is for the [server name](Peer::sni); `false` without
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

    /// How long an unused connection is kept; `None` for as long as the peer keeps it.
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

    /// How often to send a PING on an HTTP/2 connection.
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

    /// Whether to send the first data with the SYN where possible (RFC 7413).
    fn tcp_fast_open(&self) -> bool {
        self.get_peer_options().is_some_and(|o| o.tcp_fast_open)
    }

    /// Whether the connected socket `fd` leads to this peer.
    fn matches_fd<V: AsRawFd>(&self, fd: V) -> bool {
        leads_to(&fd, self.address())
    }

    /// Who to tell when a connection is made and when it ends.
    fn get_tracer(&self) -> Option<Tracer> {
        None
    }

    /// What to do with a TCP socket before it is connected.
    #[allow(clippy::type_complexity)] // A name for it would be one more public item.
    fn upstream_tcp_sock_tweak_hook(
        &self,
    ) -> Option<&Arc<dyn Fn(&TcpSocket) -> Result<()> + Send + Sync + 'static>> {
        self.get_peer_options()?
            .upstream_tcp_sock_tweak_hook
            .as_ref()
    }

    /// What makes the user data of the proxy's digest.
    fn proxy_digest_user_data_hook(&self) -> Option<&ProxyDigestUserDataHook> {
        self.get_peer_options()?
            .proxy_digest_user_data_hook
            .as_ref()
    }
=======
/// HTTP in clear text or over TLS.
#[derive(Clone, Debug, Hash, PartialEq)]
pub enum Scheme {
    /// In clear text.
    HTTP,
    /// Over TLS.
    HTTPS,
>>>>>>> net
}

impl Scheme {
    /// HTTPS if `tls`, else HTTP.
    pub fn from_tls_bool(tls: bool) -> Self {
        if tls {
            Scheme::HTTPS
        } else {
            Scheme::HTTP
        }
    }
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Scheme::HTTP => "HTTP",
            Scheme::HTTPS => "HTTPS",
        })
    }
}

/// An HTTP proxy that is asked to tunnel the connection (CONNECT, RFC 9110 section 9.3.6).
#[derive(Clone, Debug, Hash)]
pub struct Proxy {
    /// The Unix socket at which the proxy listens.
    pub next_hop: Box<Path>,
    /// The host to ask for.
    pub host: String,
    /// The port to ask for.
    pub port: u16,
    /// The fields of the request.
    pub headers: BTreeMap<String, Vec<u8>>,
}

impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "next_hop: {}, host: {}, port: {}",
            self.next_hop.display(),
            self.host,
            self.port
        )
    }
}

/// A peer that speaks HTTP.
#[derive(Clone, Debug)]
pub struct HttpPeer {
    /// The address to connect to.
    pub _address: SocketAddr,
    /// With TLS or without.
    pub scheme: Scheme,
    /// The server name to ask for in the TLS handshake, empty for none.
    pub sni: String,
    /// The proxy to connect through, if any.
    pub proxy: Option<Proxy>,
    /// The certificate and key to show to the peer.
    pub client_cert_key: Option<Arc<CertKey>>,
    /// Peers of different groups do not share connections, for a reason that the other fields do not tell.
    pub group_key: u64,
    /// How to connect.
    pub options: PeerOptions,
}

impl HttpPeer {
    fn at(addr: SocketAddr, tls: bool, sni: String) -> Self {
        HttpPeer {
            _address: addr,
            scheme: Scheme::from_tls_bool(tls),
            sni,
            proxy: None,
            client_cert_key: None,
            group_key: 0,
            options: PeerOptions::new(),
        }
    }

    /// A peer at `address`, over TLS with the server name `sni` if `tls`.
    ///
    /// A name is looked up by the system at once, which blocks the thread; the first answer is taken.
    ///
    /// # Panics
    /// When a name cannot be resolved or has no address.
    pub fn new<A: ToSocketAddrs>(address: A, tls: bool, sni: String) -> Self {
        let first = address.to_socket_addrs().map(|mut addrs| addrs.next());
        match first {
            Ok(Some(addr)) => Self::at(addr.into(), tls, sni),
            Ok(None) => panic!("HttpPeer::new: the name has no address"),
            Err(e) => panic!("HttpPeer::new: resolving the address: {e}"),
        }
    }

    /// A peer at the Unix socket `path`, over TLS with the server name `sni` if `tls`.
    ///
    /// # Errors
    /// `SocketError` when the path is too long for a socket, or has a zero byte.
    pub fn new_uds(path: &str, tls: bool, sni: String) -> Result<Self> {
        let addr = UnixAddr::from_pathname(path)
            .or_err_with(SocketError, || format!("not a Unix socket path: {path:?}"))?;
        Ok(Self::at(addr.into(), tls, sni))
    }

    /// A peer at `ip_addr` and `port` that is reached through the proxy at the Unix socket `next_hop`, which
    /// gets `headers` with its CONNECT request.
    pub fn new_proxy(
        next_hop: &str,
        ip_addr: IpAddr,
        port: u16,
        tls: bool,
        sni: &str,
        headers: BTreeMap<String, Vec<u8>>,
    ) -> Self {
        HttpPeer {
            proxy: Some(Proxy {
                next_hop: PathBuf::from(next_hop).into(),
                host: ip_addr.to_string(),
                port,
                headers,
            }),
            ..Self::at(InetAddr::new(ip_addr, port).into(), tls, sni.to_string())
        }
    }

    /// A peer at `address`, over TLS with the server name `sni`, that is shown a certificate.
    ///
    /// # Panics
    /// As [`HttpPeer::new`].
    pub fn new_mtls<A: ToSocketAddrs>(
        address: A,
        sni: String,
        client_cert_key: Arc<CertKey>,
    ) -> Self {
        HttpPeer {
            client_cert_key: Some(client_cert_key),
            ..Self::new(address, true, sni)
        }
    }

    /// Whether TLS is used.
    pub fn is_tls(&self) -> bool {
        self.scheme == Scheme::HTTPS
    }
}

impl Hash for HttpPeer {
    /// Covers what a connection, once made, cannot change: where it leads, and its TLS session.
    fn hash<H: Hasher>(&self, state: &mut H) {
        self._address.hash(state);
        self.scheme.hash(state);
        self.proxy.hash(state);
        self.sni.hash(state);
        self.client_cert_key.hash(state);
        self.options.verify_cert.hash(state);
        self.options.verify_hostname.hash(state);
        self.options.alternative_cn.hash(state);
        self.group_key.hash(state);
        self.options.max_h2_streams.hash(state);
        self.options.curves.hash(state);
        self.options.second_keyshare.hash(state);
    }
}

impl fmt::Display for HttpPeer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "addr: {}, scheme: {}", self._address, self.scheme)?;
        if !self.sni.is_empty() {
            write!(f, ", sni: {}", self.sni)?;
        }
        if let Some(proxy) = &self.proxy {
            write!(f, ", proxy: {proxy}")?;
        }
        if let Some(cert) = &self.client_cert_key {
            write!(f, ", client cert: {cert}")?;
        }
        Ok(())
    }
}

impl Peer for HttpPeer {
    fn address(&self) -> &SocketAddr {
        &self._address
    }

    fn tls(&self) -> bool {
        self.is_tls()
    }

    fn sni(&self) -> &str {
        &self.sni
    }

    fn reuse_hash(&self) -> u64 {
        stable_hash(self)
    }

    fn get_peer_options(&self) -> Option<&PeerOptions> {
        Some(&self.options)
    }

    fn get_mut_peer_options(&mut self) -> Option<&mut PeerOptions> {
        Some(&mut self.options)
    }

    fn get_proxy(&self) -> Option<&Proxy> {
        self.proxy.as_ref()
    }

    /// Through a proxy, the socket leads to the proxy.
    fn matches_fd<V: AsRawFd>(&self, fd: V) -> bool {
        match &self.proxy {
            None => leads_to(&fd, &self._address),
            Some(proxy) => UnixAddr::from_pathname(&proxy.next_hop)
                .is_ok_and(|hop| leads_to(&fd, &SocketAddr::Unix(hop))),
        }
    }

    fn get_client_cert_key(&self) -> Option<&Arc<CertKey>> {
        self.client_cert_key.as_ref()
    }

    fn get_tracer(&self) -> Option<Tracer> {
        self.options.tracer.clone()
    }
}

#[cfg(test)]
mod tests;
