//! Limits that requests are counted against.

use std::hash::Hasher;
use std::net::IpAddr;

use http::StatusCode;

use super::request::Request;
use crate::config::values::{Part, Template, Variable};

/// A rate that requests may not exceed.
#[derive(Debug)]
pub struct RateLimit {
    /// Its place in the file and its settings in print: the same in two plans when nothing about it changed.
    pub key: String,
    /// The facts that requests are counted by.
    pub by: LimitedBy,
    /// Requests in a time.
    pub count: u32,
    /// That time.
    pub period: std::time::Duration,
    /// Requests that may come at once.
    pub burst: u32,
    /// The status of a refused request.
    pub status: StatusCode,
    /// True if answers tell of it.
    pub headers: bool,
}

/// A number of requests at a time.
#[derive(Debug)]
pub struct ConcurrentRequests {
    /// Its place in the file and its settings in print: the same in two plans when nothing about it changed.
    pub key: String,
    /// The facts that requests are counted by; all together if unset.
    pub by: Option<LimitedBy>,
    /// The number.
    pub max: u32,
    /// The status of a refused request.
    pub status: StatusCode,
}

/// The facts that requests are counted by.
#[derive(Debug)]
pub struct LimitedBy(pub(super) Template);

impl LimitedBy {
    /// Hashes what a request is counted by. `client` says which addresses are one client.
    pub fn hash(
        &self,
        request: &Request,
        client: impl Fn(IpAddr) -> IpAddr,
        mut hasher: impl Hasher,
    ) -> u64 {
        for part in self.0.parts() {
            match part {
                // The same in all, but that it stands between two others.
                Part::Text(_) => hasher.write_u8(0xff),
                Part::Variable(Variable::ClientIp) => match request.client.map(&client) {
                    Some(IpAddr::V4(v4)) => hasher.write(&v4.octets()),
                    Some(IpAddr::V6(v6)) => hasher.write(&v6.octets()),
                    None => hasher.write_u8(0),
                },
                Part::Variable(variable) => {
                    let value = request.value(variable);
                    // Two values beside each other are not taken for two others.
                    hasher.write_usize(value.len());
                    hasher.write(&value);
                }
            }
        }
        hasher.finish()
    }
}
