//! Hosts: the normal form of a request's, and the site of each.

use std::borrow::Cow;
use std::collections::HashMap;

use crate::config::values::HostPattern;

/// Brings the host of a request into its normal form: without port and final dot, in lower case. `None` when it is none.
pub fn normalise(host: &str) -> Option<Cow<'_, str>> {
    let name = match host.strip_prefix('[') {
        Some(rest) => {
            let (address, port) = rest.split_once(']')?;
            if !(port.is_empty() || is_port(port.strip_prefix(':')?)) {
                return None;
            }
            let address: std::net::Ipv6Addr = address.parse().ok()?;
            return Some(Cow::Owned(format!("[{address}]")));
        }
        None => match host.split_once(':') {
            Some((name, port)) if is_port(port) => name,
            Some(_) => return None,
            None => host,
        },
    };
    let name = name.strip_suffix('.').unwrap_or(name);
    let mut before = b'.';
    let is_name = name.bytes().all(|b| {
        let begins = std::mem::replace(&mut before, b) == b'.';
        match b {
            b'.' => !begins,
            b => b.is_ascii_alphanumeric() || b == b'-' || b == b'_',
        }
    });
    if name.is_empty() || name.len() > 253 || !is_name {
        return None;
    }
    if name.bytes().any(|b| b.is_ascii_uppercase()) {
        return Some(Cow::Owned(name.to_ascii_lowercase()));
    }
    Some(Cow::Borrowed(name))
}

fn is_port(port: &str) -> bool {
    port.len() <= 5 && port.bytes().all(|b| b.is_ascii_digit())
}

/// The site of each host. The exact name wins, then the longest `*.NAME`, then `*`.
#[derive(Debug, Default)]
pub(super) struct Hosts {
    exact: HashMap<String, usize>,
    below: HashMap<String, usize>,
    any: Option<usize>,
}

impl Hosts {
    /// Gives a host to a site; returns the site that has it already.
    pub(super) fn insert(&mut self, host: &HostPattern, site: usize) -> Option<usize> {
        match host {
            HostPattern::Exact(name) => self.exact.insert(name.clone(), site),
            HostPattern::Below(name) => self.below.insert(name.clone(), site),
            HostPattern::Any => self.any.replace(site),
        }
    }

    /// Returns the site of a host in its normal form.
    pub(super) fn find(&self, host: &str) -> Option<usize> {
        if let Some(site) = self.exact.get(host) {
            return Some(*site);
        }
        if !self.below.is_empty() {
            let mut rest = host;
            while let Some((_, parent)) = rest.split_once('.') {
                if let Some(site) = self.below.get(parent) {
                    return Some(*site);
                }
                rest = parent;
            }
        }
        self.any
    }
}
