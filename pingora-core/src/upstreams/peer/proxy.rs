//! Proxies on the way to a peer.

use std::any::Any;
use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use http::request::Parts;
use pingora_http::ResponseHeader;

/// Makes the [user data](crate::protocols::raw_connect::ProxyDigest::user_data) of a tunnel from the CONNECT
/// request and the proxy's answer.
pub type ProxyDigestUserDataHook = Arc<
    dyn Fn(&Parts, &ResponseHeader) -> Option<Box<dyn Any + Send + Sync>> + Send + Sync + 'static,
>;

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
