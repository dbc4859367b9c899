//! Servers as they are written on a command line.

use std::net::ToSocketAddrs;
use std::str::FromStr;

use pingora_core::upstreams::peer::HttpPeer;

use crate::config::section::Scalar;
use crate::config::values::Address;

/// A server to pass requests to: `HOST:PORT`, an IP address or a name; `unix:/PATH`; or one of the first two as a URL,
/// `http://` or `https://`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    /// Its address.
    pub address: Address,
    /// True if it is to be spoken to with TLS; `None` when it was not said.
    pub tls: Option<bool>,
}

impl Upstream {
    /// Returns the addresses of the server. A name is looked up by the system, which blocks the thread.
    ///
    /// # Errors
    ///
    /// When a name has no address.
    pub fn addresses(&self) -> Result<Vec<Address>, String> {
        let Address::Name(name, port) = &self.address else {
            return Ok(vec![self.address.clone()]);
        };
        let failed = |why: String| format!("cannot look up {name}:{port}: {why}");
        let found = (name.as_str(), *port).to_socket_addrs();
        let found: Vec<_> = found
            .map_err(|e| failed(e.to_string()))?
            .map(Address::Ip)
            .collect();
        if found.is_empty() {
            return Err(failed("it has no address".to_owned()));
        }
        Ok(found)
    }

    /// Returns peers at all addresses of the server, which are spoken to in the clear.
    ///
    /// # Errors
    ///
    /// When a name has no address, a path is none of a socket, or TLS is asked for.
    pub fn peers(&self) -> Result<Vec<HttpPeer>, String> {
        if self.tls == Some(true) {
            return Err(format!("{}: there is no TLS to servers here", self.address));
        }
        let peer = |address: &Address| match address {
            Address::Ip(address) => Ok(HttpPeer::new(*address, false, String::new())),
            Address::Name(..) => Err(format!("{address} is not looked up")),
            Address::Unix(path) => {
                let path = path.to_str().ok_or("the path of a socket is UTF-8")?;
                let peer = HttpPeer::new_uds(path, false, String::new());
                peer.map_err(|e| format!("cannot connect to {address}: {e}"))
            }
        };
        self.addresses()?.iter().map(peer).collect()
    }
}

impl FromStr for Upstream {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = |why: &str| format!("bad address '{text}': {why}");
        let (tls, port, rest) = match text.split_once("://") {
            None => (None, None, text),
            Some(("http", rest)) => (Some(false), Some(80), rest),
            Some(("https", rest)) => (Some(true), Some(443), rest),
            Some(_) => return Err(bad("write http:// or https://")),
        };
        let rest = match (tls, rest.strip_suffix('/')) {
            (Some(_), Some(rest)) => rest,
            _ => rest,
        };
        if tls.is_some() && rest.contains(['/', '?', '#']) {
            return Err(bad("a path has no place here, for requests keep their own"));
        }
        if rest.contains('@') {
            return Err(bad("a user has no place here"));
        }
        let with_port = match port {
            Some(port) if !has_port(rest) => format!("{rest}:{port}"),
            _ => rest.to_owned(),
        };
        let address = Address::parse(&with_port).map_err(|why| {
            bad(&format!(
                "{why}; write HOST:PORT, as in localhost:9000, or unix:/PATH"
            ))
        });
        Ok(Self {
            address: address?,
            tls,
        })
    }
}

/// Tells whether a port follows the host, which may be an IPv6 address in brackets.
fn has_port(authority: &str) -> bool {
    let after_host = authority.rsplit(']').next().unwrap_or_default();
    after_host.contains(':')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Upstream {
        text.parse().unwrap_or_else(|e| panic!("{text}: {e}"))
    }

    #[test]
    fn every_form_is_read() {
        for (text, address, tls) in [
            ("127.0.0.1:80", "127.0.0.1:80", None),
            ("[::1]:8080", "[::1]:8080", None),
            ("unix:/run/origin.sock", "unix:/run/origin.sock", None),
            ("localhost:9000", "localhost:9000", None),
            ("http://localhost:9000", "localhost:9000", Some(false)),
            ("https://10.0.0.1:8443", "10.0.0.1:8443", Some(true)),
            // The port is that of the scheme.
            ("http://localhost", "localhost:80", Some(false)),
            ("https://localhost/", "localhost:443", Some(true)),
            ("https://[::1]", "[::1]:443", Some(true)),
            ("http://[::1]:81/", "[::1]:81", Some(false)),
        ] {
            let read = read(text);
            assert_eq!(
                (read.address.to_string().as_str(), read.tls),
                (address, tls)
            );
        }
    }

    #[test]
    fn a_name_is_looked_up_and_an_address_is_not() {
        let addresses = read("localhost:80").addresses().unwrap();
        let is_local = |address: &Address| matches!(address, Address::Ip(a) if a.ip().is_loopback() && a.port() == 80);
        assert!(addresses.iter().all(is_local));
        assert_eq!(read("[::1]:80").peers().unwrap().len(), 1);
        assert!(read("https://[::1]").peers().is_err());
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
            "https://unix:/x",
            "unix:",
            "unix:a/b",
            "/run/origin.sock",
            "two words:80",
        ] {
            let error = text.parse::<Upstream>().expect_err(text);
            let begins = format!("bad address '{text}': ");
            assert!(error.starts_with(&begins), "{error}");
        }
    }
}
