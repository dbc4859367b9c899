//! The admin interface.

use crate::config::values::{Address, HostPattern, Secret};

/// The admin interface: where it is, and who may use it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admin {
    /// The address.
    pub address: Address,
    /// The token that clients must know.
    pub token: Option<Secret>,
    /// The hosts by which a browser may ask, beside `localhost` and the address itself.
    pub allow_hosts: Vec<HostPattern>,
}

impl Admin {
    /// Tells whether a host, in its normal form, is one by which a client may ask. Names that are not listed are not:
    /// whoever owns one can have it lead here (DNS rebinding). An address leads only to itself.
    pub fn allows(&self, host: &str) -> bool {
        let ip = host.trim_start_matches('[').trim_end_matches(']');
        if let Ok(ip) = ip.parse::<std::net::IpAddr>() {
            let own = match &self.address {
                Address::Ip(own) => {
                    let loopback = own.ip().is_loopback() && ip.is_loopback();
                    own.ip().is_unspecified() || own.ip() == ip || loopback
                }
                Address::Name(..) | Address::Unix(_) => false,
            };
            if own {
                return true;
            }
        }
        host == "localhost" || self.allow_hosts.iter().any(|allowed| allowed.matches(host))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::section::Scalar;

    fn admin(address: &str, hosts: &[&str]) -> Admin {
        Admin {
            address: Address::parse(address).unwrap(),
            token: None,
            allow_hosts: hosts
                .iter()
                .map(|h| HostPattern::parse(h).unwrap())
                .collect(),
        }
    }

    #[test]
    fn names_are_allowed_by_name_and_addresses_lead_to_themselves() {
        let cases = [
            ("127.0.0.1:1", "localhost", true),
            ("127.0.0.1:1", "127.0.0.1", true),
            ("127.0.0.1:1", "[::1]", true),
            ("127.0.0.1:1", "192.0.2.1", false),
            ("127.0.0.1:1", "evil.example", false),
            ("127.0.0.1:1", "localhost.evil.example", false),
            ("127.0.0.1:1", "a.example", true),
            ("127.0.0.1:1", "x.b.example", true),
            ("127.0.0.1:1", "b.example", false),
            ("127.0.0.1:1", "xb.example", false),
            ("192.0.2.1:1", "192.0.2.1", true),
            ("192.0.2.1:1", "127.0.0.1", false),
            ("0.0.0.0:1", "192.0.2.7", true),
            ("0.0.0.0:1", "evil.example", false),
            ("unix:/a", "localhost", true),
            ("unix:/a", "evil.example", false),
            ("unix:/a", "127.0.0.1", false),
        ];
        for (address, host, allowed) in cases {
            let admin = admin(address, &["a.example", "*.b.example"]);
            assert_eq!(admin.allows(host), allowed, "{host} at {address}");
        }
    }
}
