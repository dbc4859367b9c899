//! Servers as they are written on a command line.

use std::fmt;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::Path;
use std::str::FromStr;

use pingora_core::upstreams::peer::HttpPeer;
use pingora_core::upstreams::resolve::Resolver;

use crate::address::Address;

/// A server to pass requests to: `HOST:PORT`, an IP address or a name; `unix:/PATH`; or one of the first two as a
/// URL, `http://` or `https://`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    place: Place,
    scheme: Option<Scheme>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    Address(Address),
    /// A name with a port.
    Name(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scheme {
    Http,
    Https,
}

impl From<Address> for Target {
    fn from(address: Address) -> Self {
        Target {
            place: Place::Address(address),
            scheme: None,
        }
    }
}

impl Target {
    /// Whether it is to be spoken to with TLS; `None` when it was not said.
    pub fn tls(&self) -> Option<bool> {
        self.scheme.map(|scheme| scheme == Scheme::Https)
    }

    /// The name that its certificate has to be for, unless another is given; `None` for a Unix socket.
    pub fn host(&self) -> Option<String> {
        match &self.place {
            Place::Address(Address::Inet(addr)) => Some(addr.ip().to_string()),
            Place::Address(Address::Unix(_)) => None,
            Place::Name(name) => name.rsplit_once(':').map(|(host, _)| host.to_owned()),
        }
    }

    /// What is to be looked up, with a port; `None` for an address.
    pub fn name(&self) -> Option<&str> {
        match &self.place {
            Place::Address(_) => None,
            Place::Name(name) => Some(name),
        }
    }

    /// The addresses of the server. A name is looked up by the system, which blocks the thread.
    ///
    /// # Errors
    /// When a name has no address.
    pub fn addresses(&self) -> Result<Vec<Address>, String> {
        let name = match &self.place {
            Place::Address(address) => return Ok(vec![address.clone()]),
            Place::Name(name) => name,
        };
        let found: Vec<_> = match name.to_socket_addrs() {
            Ok(found) => found.map(Address::Inet).collect(),
            Err(e) => return Err(format!("cannot look up {name}: {e}")),
        };
        match found.is_empty() {
            true => Err(format!("cannot look up {name}: it has no address")),
            false => Ok(found),
        }
    }

    /// The peer at one of its addresses: in clear text, or with TLS to who proves to be `sni`.
    ///
    /// # Errors
    /// When the path is no valid socket path.
    pub fn peer(&self, address: &Address, sni: Option<&str>) -> Result<HttpPeer, String> {
        address.peer_named(sni)
    }
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = |why: &str| Err(format!("bad address '{text}': {why}"));
        let (scheme, port, rest) = match text.split_once("://") {
            None => (None, None, text),
            Some(("http", rest)) => (Some(Scheme::Http), Some(80), rest),
            Some(("https", rest)) => (Some(Scheme::Https), Some(443), rest),
            Some(_) => return bad("write http:// or https://"),
        };
        if scheme.is_none() && rest.starts_with("unix:") {
            return rest.parse::<Address>().map(Target::from);
        }
        let rest = match (scheme, rest.strip_suffix('/')) {
            (Some(_), Some(rest)) => rest,
            _ => rest,
        };
        if scheme.is_some() && rest.contains(['/', '?', '#']) {
            return bad("a path has no place here, for requests keep their own");
        }
        if rest.contains('@') {
            return bad("a user has no place here");
        }
        let with_port = match port {
            Some(port) if !has_port(rest) => format!("{rest}:{port}"),
            _ => rest.to_owned(),
        };
        let place = match with_port.parse::<SocketAddr>() {
            Ok(addr) if addr.port() != 0 => Place::Address(Address::Inet(addr)),
            Ok(_) => return bad("a server has no port 0"),
            Err(_) if Path::new(rest).is_absolute() => return bad("write unix:/PATH"),
            Err(_) if Resolver::new(with_port.as_str()).is_ok() => Place::Name(with_port),
            Err(_) => return bad("write HOST:PORT, as in localhost:9000, or unix:/PATH"),
        };
        Ok(Target { place, scheme })
    }
}

/// Whether a port follows the host, which may be an IPv6 address in brackets.
fn has_port(authority: &str) -> bool {
    let after_host = authority.rsplit(']').next().unwrap_or_default();
    after_host.contains(':')
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.scheme {
            None => "",
            Some(Scheme::Http) => "http://",
            Some(Scheme::Https) => "https://",
        })?;
        match &self.place {
            Place::Address(address) => address.fmt(f),
            Place::Name(name) => f.write_str(name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Target {
        text.parse().unwrap_or_else(|e| panic!("{text}: {e}"))
    }

    #[test]
    fn every_form_is_read_and_written_alike() {
        for text in [
            "127.0.0.1:80",
            "[::1]:8080",
            "unix:/run/origin.sock",
            "localhost:9000",
            "http://localhost:9000",
            "https://10.0.0.1:8443",
        ] {
            assert_eq!(read(text).to_string(), text);
        }
    }

    #[test]
    fn a_url_has_the_port_of_its_scheme() {
        for (text, as_read) in [
            ("http://localhost", "http://localhost:80"),
            ("https://localhost/", "https://localhost:443"),
            ("https://[::1]", "https://[::1]:443"),
            ("http://[::1]:81/", "http://[::1]:81"),
        ] {
            assert_eq!(read(text).to_string(), as_read);
        }
    }

    #[test]
    fn a_scheme_says_whether_there_is_tls() {
        assert_eq!(read("localhost:1").tls(), None);
        assert_eq!(read("http://localhost:1").tls(), Some(false));
        assert_eq!(read("https://localhost:1").tls(), Some(true));
        assert_eq!(
            read("https://localhost").host().as_deref(),
            Some("localhost")
        );
        assert_eq!(read("https://[::1]:2").host().as_deref(), Some("::1"));
        assert_eq!(read("unix:/x").host(), None);
    }

    #[test]
    fn a_name_is_looked_up_and_an_address_is_not() {
        let addresses = read("localhost:80").addresses();
        let addresses = addresses.expect("localhost has an address");
        assert!(addresses
            .iter()
            .all(|a| matches!(a, Address::Inet(a) if a.ip().is_loopback() && a.port() == 80)));
        assert_eq!(read("127.0.0.1:80").name(), None);
        assert_eq!(read("http://localhost").name(), Some("localhost:80"));
    }

    #[test]
    fn a_bad_one_is_named_and_the_form_is_told() {
        for text in [
            "",
            "localhost",
            "127.0.0.1",
            "127.0.0.1:65536",
            "127.0.0.1:0",
            "ftp://localhost",
            "http://localhost:80/path",
            "http://user@localhost:80",
            "http://",
            "unix:",
            "unix:a/b",
            "/run/origin.sock",
            "two words:80",
        ] {
            let error = text.parse::<Target>().expect_err(text);
            assert!(
                error.starts_with(&format!("bad address '{text}': ")),
                "{error}"
            );
        }
    }
}
