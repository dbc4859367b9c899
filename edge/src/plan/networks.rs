//! Networks with a word about each, of which the narrowest that holds an address counts.

use std::net::IpAddr;

use crate::config::values::Network;

/// Networks that are allowed or denied. A look-up costs one binary search for each length of network there is.
#[derive(Debug, Default)]
pub(super) struct Networks {
    /// For IPv4 and IPv6, from the narrowest on.
    levels: [Vec<Level>; 2],
}

/// The networks of one length.
#[derive(Debug)]
struct Level {
    bits: u8,
    /// Their first addresses in order, and whether they are allowed.
    entries: Vec<(u128, bool)>,
}

impl Networks {
    /// Makes a list; where a network is both allowed and denied, it is denied.
    pub(super) fn new<'n>(networks: impl IntoIterator<Item = (&'n Network, bool)>) -> Self {
        let mut made = Self::default();
        for (network, allowed) in networks {
            let (family, base, _) = number(network.base());
            let levels = &mut made.levels[family];
            let bits = network.bits();
            let level = match levels.iter().position(|level| level.bits == bits) {
                Some(index) => &mut levels[index],
                None => {
                    levels.push(Level {
                        bits,
                        entries: Vec::new(),
                    });
                    levels.sort_by_key(|level| std::cmp::Reverse(level.bits));
                    let index = levels.iter().position(|level| level.bits == bits);
                    &mut levels[index.unwrap_or(0)]
                }
            };
            level.entries.push((base, allowed));
        }
        for level in made.levels.iter_mut().flatten() {
            // The denial comes first, and stays.
            level.entries.sort_unstable();
            level.entries.dedup_by_key(|(base, _)| *base);
        }
        made
    }

    /// Tells whether an address is allowed; `None` when no network holds it. An IPv4 address within IPv6 counts as what
    /// it is.
    pub(super) fn find(&self, ip: IpAddr) -> Option<bool> {
        let (family, address, width) = number(ip.to_canonical());
        self.levels[family].iter().find_map(|level| {
            let shift = u32::from(width - level.bits);
            let base = (address.checked_shr(shift).unwrap_or(0))
                .checked_shl(shift)
                .unwrap_or(0);
            let found = level.entries.binary_search_by_key(&base, |(base, _)| *base);
            found.ok().map(|index| level.entries[index].1)
        })
    }
}

/// Returns the family of an address, its number and its number of bits.
fn number(ip: IpAddr) -> (usize, u128, u8) {
    match ip {
        IpAddr::V4(v4) => (0, u32::from(v4).into(), 32),
        IpAddr::V6(v6) => (1, v6.into(), 128),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::section::Scalar;

    #[test]
    fn the_narrowest_network_counts_and_a_denial_before_the_same_allowed() {
        let networks = |all: &[(&str, bool)]| {
            let all: Vec<_> = all
                .iter()
                .map(|(n, allowed)| (Network::parse(n).unwrap(), *allowed))
                .collect();
            Networks::new(all.iter().map(|(n, allowed)| (n, *allowed)))
        };
        let list = networks(&[
            ("10.0.0.0/8", true),
            ("10.1.0.0/16", false),
            ("10.1.2.3", true),
            ("10.9.0.0/16", true),
            ("10.9.0.0/16", false),
            ("::/0", false),
            ("2001:db8::/32", true),
            ("::ffff:192.0.2.0/120", false),
            ("::ffff:192.0.2.7", true),
        ]);
        for (ip, expected) in [
            ("10.0.0.1", Some(true)),
            ("10.1.2.2", Some(false)),
            ("10.1.2.3", Some(true)),
            ("10.9.0.1", Some(false)),
            ("11.0.0.1", None),
            ("::ffff:10.1.2.3", Some(true)),
            ("192.0.2.1", Some(false)),
            ("::ffff:192.0.2.1", Some(false)),
            ("192.0.2.7", Some(true)),
            ("192.0.3.1", None),
            ("2001:db8::1", Some(true)),
            ("2001:db9::1", Some(false)),
        ] {
            assert_eq!(list.find(ip.parse().unwrap()), expected, "{ip}");
        }
        let every = networks(&[("0.0.0.0/0", true)]);
        assert_eq!(every.find("255.255.255.255".parse().unwrap()), Some(true));
        assert_eq!(every.find("::1".parse().unwrap()), None);
        let every = networks(&[("::ffff:0.0.0.0/96", true)]);
        assert_eq!(every.find("192.0.2.1".parse().unwrap()), Some(true));
        for bad in ["::ffff:0.0.0.0/95", "::ffff:192.0.2.0/64", "::ffff:0:0/129"] {
            assert!(Network::parse(bad).is_err(), "{bad}");
        }
    }
}
