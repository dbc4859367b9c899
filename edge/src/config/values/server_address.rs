//! Where servers are.

use std::fmt;

use super::address::is_name;
use super::Address;
use crate::config::section::Scalar;

/// Where a server is, or where to ask for servers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ServerAddress {
    /// An address.
    At(Address),
    /// The name of SRV records (RFC 2782), each of which names a server.
    Srv(String),
}

impl ServerAddress {
    /// Tells whether it takes a look-up to know where it is.
    pub fn is_looked_up(&self) -> bool {
        matches!(self, Self::At(Address::Name(..)) | Self::Srv(_))
    }

    /// Returns the value of Host for requests of the proxy's own.
    pub fn host(&self) -> String {
        match self {
            Self::At(Address::Unix(_)) => "localhost".to_owned(),
            Self::At(address) => address.to_string(),
            Self::Srv(name) => domain(name).to_owned(),
        }
    }

    /// Returns the name that the server must prove to have; a Unix socket has none.
    pub fn proved_name(&self) -> Option<String> {
        match self {
            Self::At(Address::Ip(address)) => Some(address.ip().to_string()),
            Self::At(Address::Name(name, _)) => Some(name.clone()),
            Self::At(Address::Unix(_)) => None,
            // The names in the answer are whatever somebody on the way says (RFC 9525 section 6.1).
            Self::Srv(name) => Some(domain(name).to_owned()),
        }
    }
}

/// Returns the domain of the name of a service: `example.org` of `_http._tcp.example.org`.
fn domain(name: &str) -> &str {
    let mut domain = name;
    while let Some((_, rest)) = domain
        .split_once('.')
        .filter(|(label, _)| label.starts_with('_'))
    {
        domain = rest;
    }
    domain
}

impl fmt::Display for ServerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::At(address) => address.fmt(f),
            Self::Srv(name) => write!(f, "srv:{name}"),
        }
    }
}

impl Scalar for ServerAddress {
    const WHAT: &'static str = "an address";
    const ALLOWED: &'static str =
        "`IP:PORT`, `NAME:PORT`, `unix:/PATH` or `srv:NAME`, such as `10.0.0.1:9000`";

    fn parse(text: &str) -> Result<Self, String> {
        let Some(name) = text.strip_prefix("srv:") else {
            return Address::parse(text).map(Self::At);
        };
        let bare = name.trim_start_matches('/');
        if bare.len() < name.len() && is_name(bare) {
            return Err(format!("did you mean `srv:{bare}`?"));
        }
        if name.contains(':') {
            return Err("the port is in the records".into());
        }
        if !is_name(name) || domain(name).starts_with('_') {
            return Err(
                "the name is no name of a service, such as `_http._tcp.app.internal`".into(),
            );
        }
        Ok(Self::Srv(name.to_ascii_lowercase()))
    }

    fn show(&self) -> String {
        self.to_string()
    }
}
