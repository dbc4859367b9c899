//! Rates and counts that requests may not exceed, over all workers together.
//!
//! A limit is shared, and so exact, but a request seldom writes what workers share: a worker takes several requests' worth
//! at once ([`rate`], [`concurrent`]), and gives them out by itself. What it has not given out is missing to the others,
//! which is at most an eighth of the limit for all workers together.

pub(crate) mod concurrent;
pub(crate) mod gcra;
mod local;
pub(crate) mod rate;
mod shards;

use std::net::{IpAddr, Ipv6Addr};
use std::sync::OnceLock;
use std::time::Instant;

/// Returns a moment in nanoseconds since the first one that was asked for in this process.
pub(crate) fn nanos(at: Instant) -> u64 {
    static FIRST: OnceLock<Instant> = OnceLock::new();
    let since = at.saturating_duration_since(*FIRST.get_or_init(|| at));
    // In 584 years.
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// Returns the addresses that count as one client: an IPv4 address, and a /64 of IPv6, which one client has whole.
pub(crate) fn client_of(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(v6) => Ipv6Addr::from(u128::from(v6) & !u128::from(u64::MAX)).into(),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_of_ipv6_is_its_64() {
        for (one, other, same) in [
            ("2001:db8::1", "2001:db8::ffff:ffff:ffff:ffff", true),
            ("2001:db8::1", "2001:db8:0:1::1", false),
            ("192.0.2.1", "::ffff:192.0.2.1", true),
            ("192.0.2.1", "192.0.2.2", false),
        ] {
            let client = |ip: &str| client_of(ip.parse().unwrap());
            assert_eq!(client(one) == client(other), same, "{one} {other}");
        }
    }
}
