//! Addresses of servers of names.

use std::net::{IpAddr, SocketAddr};

use crate::config::section::Scalar;

/// The port on which names are asked for.
const PORT: u16 = 53;

/// A server of names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct NameServer(pub SocketAddr);

impl Scalar for NameServer {
    const WHAT: &'static str = "a server of names";
    const ALLOWED: &'static str = "`IP` or `IP:PORT`, such as `10.0.0.2` or `127.0.0.1:5353`";

    fn parse(text: &str) -> Result<Self, String> {
        if let Ok(ip) = text.parse::<IpAddr>() {
            return Ok(Self(SocketAddr::new(ip, PORT)));
        }
        match text.parse::<SocketAddr>() {
            Ok(address) if address.port() == 0 => Err("the port is 0".into()),
            Ok(address) => Ok(Self(address)),
            Err(_) => Err(String::new()),
        }
    }

    fn show(&self) -> String {
        if self.0.port() == PORT {
            self.0.ip().to_string()
        } else {
            self.0.to_string()
        }
    }
}
