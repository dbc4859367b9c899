//! Tunnels through an HTTP proxy (CONNECT, RFC 9110 section 9.3.6).

use std::any::Any;
use std::fmt;

use pingora_http::ResponseHeader;

pub use crate::connectors::tunnel::{connect, generate_connect_header};

/// The proxy's answer to CONNECT.
#[derive(Debug)]
pub struct ProxyDigest {
    /// The head of the answer.
    pub response: Box<ResponseHeader>,
    /// The value that the peer's [hook](crate::upstreams::peer::ProxyDigestUserDataHook) made of it.
    pub user_data: Option<Box<dyn Any + Send + Sync>>,
}

impl ProxyDigest {
    /// A digest of the answer `response`.
    pub fn new(
        response: Box<ResponseHeader>,
        user_data: Option<Box<dyn Any + Send + Sync>>,
    ) -> Self {
        ProxyDigest {
            response,
            user_data,
        }
    }
}

/// The cause of an error: the proxy refused to tunnel.
#[derive(Debug)]
pub struct ConnectProxyError {
    /// The head of its answer.
    pub response: Box<ResponseHeader>,
}

impl ConnectProxyError {
    /// The refusal `response`, in a box as errors want it.
    pub fn boxed_new(response: Box<ResponseHeader>) -> Box<Self> {
        Box::new(ConnectProxyError { response })
    }
}

impl fmt::Display for ConnectProxyError {
    /// The status, and what `Proxy-Status` (RFC 9209) says if it is there.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the proxy answered {}", self.response.status)?;
        if let Some(value) = self.response.headers.get("proxy-status") {
            write!(f, ", Proxy-Status: {}", value.as_bytes().escape_ascii())?;
        }
        Ok(())
    }
}

impl std::error::Error for ConnectProxyError {}
