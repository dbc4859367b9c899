//! Host names of sites.

use std::fmt;
use std::net::IpAddr;

use super::address::is_name;
use crate::config::section::Scalar;

/// The hosts of a site, in lower case.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum HostPattern {
    /// This name or IP address.
    Exact(String),
    /// Every name that ends with a dot and this one.
    Below(String),
    /// Every host that no other site has.
    Any,
}

impl HostPattern {
    /// Tells whether it stands for a host in its normal form.
    pub fn matches(&self, host: &str) -> bool {
        match self {
            Self::Exact(name) => name == host,
            Self::Below(name) => {
                let rest = host.strip_suffix(name.as_str());
                rest.is_some_and(|rest| rest.ends_with('.'))
            }
            Self::Any => true,
        }
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(name) => f.write_str(name),
            Self::Below(name) => write!(f, "*.{name}"),
            Self::Any => f.write_str("*"),
        }
    }
}

impl Scalar for HostPattern {
    const WHAT: &'static str = "a host";
    const ALLOWED: &'static str =
        "a name, `*.NAME` for all names below it, an IP address, or `*` for every other host";

    fn parse(text: &str) -> Result<Self, String> {
        let host = text.to_ascii_lowercase();
        if host == "*" {
            return Ok(Self::Any);
        }
        if !host.is_ascii() {
            return Err("write it as it stands in DNS, `xn--…`".into());
        }
        let ip = host.trim_start_matches('[').trim_end_matches(']');
        if let Ok(ip) = ip.parse::<IpAddr>() {
            return Ok(Self::Exact(match ip {
                IpAddr::V4(ip) => ip.to_string(),
                IpAddr::V6(ip) => format!("[{ip}]"),
            }));
        }
        if host.contains(':') {
            return Err("a host has no port and no scheme here".into());
        }
        match host.strip_prefix("*.") {
            Some(below) if is_name(below) => Ok(Self::Below(below.to_owned())),
            None if is_name(&host) => Ok(Self::Exact(host)),
            _ if host.contains('*') => {
                Err("a `*` stands for whole labels at the front only".into())
            }
            _ => Err(String::new()),
        }
    }

    fn show(&self) -> String {
        self.to_string()
    }
}
