//! The peer to connect to, and how.
//!
//! A [`Peer`] says where to connect, what to do on top of the connection, and, by
//! [`reuse_hash`](Peer::reuse_hash), which idle connections will do as well. [`HttpPeer`] is the one for
//! HTTP, [`BasicPeer`] one for anything.

mod basic;
mod options;
mod policy;
mod proxy;
mod reuse;
mod traits;

use std::collections::BTreeMap;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::net::{IpAddr, SocketAddr as InetAddr, ToSocketAddrs};
use std::os::fd::AsRawFd;
use std::os::unix::net::SocketAddr as UnixAddr;
use std::path::PathBuf;
use std::sync::Arc;

use pingora_error::{
    Error,
    ErrorType::{ConnectError, SocketError},
    OrErr, Result,
};

use super::resolve::Resolver;
use crate::protocols::l4::socket::SocketAddr;
use crate::utils::tls::CertKey;
use reuse::{leads_to, stable_hash, trust_hash};

pub use crate::protocols::l4::tracer::{Tracer, Tracing};
pub use crate::protocols::tls::ALPN;
pub use basic::BasicPeer;
pub use options::PeerOptions;
pub use policy::{H1UpgradePolicy, HttpUpstreamRequestPolicy};
pub use proxy::{Proxy, ProxyDigestUserDataHook};
pub(crate) use reuse::is_at;
pub use traits::Peer;

/// HTTP in clear text or over TLS.
#[derive(Clone, Debug, Hash, PartialEq)]
pub enum Scheme {
    /// In clear text.
    HTTP,
    /// Over TLS.
    HTTPS,
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

/// A peer that speaks HTTP.
#[derive(Debug)]
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
    /// Peers of different groups do not share connections, for a reason that the key of connections does not cover,
    /// such as a `custom_l4` of their own.
    pub group_key: u64,
    /// The options of the connection.
    pub options: PeerOptions,
}

/// As for [`PeerOptions`].
impl Clone for HttpPeer {
    #[inline(always)]
    fn clone(&self) -> Self {
        HttpPeer {
            sni: self.sni.clone(),
            proxy: self.proxy.clone(),
            client_cert_key: self.client_cert_key.clone(),
            options: self.options.clone(),
            _address: self._address.clone(),
            scheme: self.scheme.clone(),
            group_key: self.group_key,
        }
    }
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
    /// A name is looked up by the system at once, which blocks the thread; the first answer is taken. That is for
    /// addresses and for names that are known to resolve. In a request, a name is better looked up by a
    /// [`Resolver`], which does not block and keeps the answer, or by
    /// [`HttpPeer::resolve`]; outside of one, [`HttpPeer::try_new`] returns an error in place of a panic.
    ///
    /// # Panics
    /// When a name cannot be resolved or has no address; never with a [`SocketAddr`](InetAddr).
    pub fn new<A: ToSocketAddrs>(address: A, tls: bool, sni: String) -> Self {
        match Self::try_new(address, tls, sni) {
            Ok(peer) => peer,
            Err(e) => panic!("HttpPeer::new: {e}"),
        }
    }

    /// A peer at `address`, over TLS with the server name `sni` if `tls`. A name is looked up by the system at once,
    /// which blocks the thread; the first answer is taken.
    ///
    /// # Errors
    /// `ConnectError` when a name cannot be resolved or has no address.
    pub fn try_new<A: ToSocketAddrs>(address: A, tls: bool, sni: String) -> Result<Self> {
        let first = address.to_socket_addrs().map(|mut addrs| addrs.next());
        match first {
            Ok(Some(addr)) => Ok(Self::at(addr.into(), tls, sni)),
            Ok(None) => Error::e_explain(ConnectError, "the name has no address"),
            Err(e) => Error::e_because(ConnectError, "resolving the address", e),
        }
    }

    /// A peer at `name`, which is `host:port`, over TLS with the server name `sni` if `tls`. The name is looked up by
    /// the system on a thread where that may block; the first answer is taken.
    ///
    /// This asks the system each time. A [`Resolver`] keeps the answer.
    ///
    /// # Errors
    /// `SocketError` when `name` is not of this form, `ConnectError` when it cannot be resolved, has no address, or
    /// ten seconds brought no answer.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing but the answer.
    pub async fn resolve(name: &str, tls: bool, sni: String) -> Result<Self> {
        let addr = Resolver::new(name)?.pick(0).await?;
        Ok(Self::at(addr.into(), tls, sni))
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

    /// Returns whether TLS is used.
    pub fn is_tls(&self) -> bool {
        self.scheme == Scheme::HTTPS
    }
}

impl Hash for HttpPeer {
    /// Covers what a connection, once made, cannot change: where it leads, and its TLS session.
    fn hash<H: Hasher>(&self, state: &mut H) {
        let options = &self.options;
        let own = (&self._address, &self.sni, self.group_key);
        (own, options.max_h2_streams).hash(state);
        // Most peers have none of these, which the bits below say at once.
        let (proxy, cert) = (&self.proxy, &self.client_cert_key);
        let (name, curves) = (&options.alternative_cn, &options.curves);
        let ca = options.ca.as_ref();
        let bits = [
            self.is_tls(),
            options.verify_cert,
            options.verify_hostname,
            options.second_keyshare,
            proxy.is_some(),
            cert.is_some(),
            name.is_some(),
            curves.is_some() | ca.is_some(),
        ];
        let bits = bits.iter().fold(0, |bits, bit| bits << 1 | u8::from(*bit));
        bits.hash(state);
        if bits & 0b1111 != 0 {
            (proxy, cert, name, curves).hash(state);
            // A connection that was verified under one CA, or opened with the credentials of one tenant, is not
            // for a peer with others.
            ca.map(trust_hash).hash(state);
            if proxy.is_some() {
                options.extra_proxy_headers.hash(state);
            }
        }
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
