//! The shares of the addresses of a name.

use std::collections::{BTreeSet, HashSet};
use std::net::{IpAddr, SocketAddr};

use crate::cluster::WEIGHT;
use crate::names::ServiceAddress;

/// An address that was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cluster) struct Spot {
    pub(in crate::cluster) address: SocketAddr,
    /// Its part of the weight of its server, beside the parts of the others.
    pub(in crate::cluster) share: u64,
    /// The number of priorities that come before its own; it stands in for those that have them.
    pub(in crate::cluster) rank: u16,
    /// The weight in its record.
    pub(in crate::cluster) weight: Option<u16>,
}

impl Spot {
    /// Returns its part of a weight, beside all others of its server that get requests when it does.
    pub(in crate::cluster) fn part(&self, whole: u64, all: &[Self]) -> u64 {
        let beside = all.iter().filter(|spot| spot.rank == self.rank);
        let sum: u128 = beside.map(|spot| u128::from(spot.share)).sum();
        let part = u128::from(whole) * u128::from(self.share) / sum.max(1);
        u64::try_from(part).unwrap_or(u64::MAX)
    }
}

/// Returns addresses that share a weight evenly.
pub(super) fn evenly(addresses: &[IpAddr], port: u16) -> Vec<Spot> {
    let spot = |ip: &IpAddr| Spot {
        address: SocketAddr::new(*ip, port),
        share: 1,
        rank: 0,
        weight: None,
    };
    addresses.iter().map(spot).collect()
}

/// Returns addresses with the shares that their records have (RFC 2782), and their ranks: those of the lowest priority get the
/// requests, and those of each higher one while none below can take them.
pub(super) fn by_record(places: &[ServiceAddress]) -> Vec<Spot> {
    let priorities: BTreeSet<u16> = places.iter().map(|place| place.priority).collect();
    let weighed = places.iter().filter(|place| place.weight > 0);
    let weighed: HashSet<u16> = weighed.map(|place| place.priority).collect();
    let spot = |place: &ServiceAddress| {
        let share = match place.weight {
            // "A very small chance", beside others that have a weight.
            0 if weighed.contains(&place.priority) => 1,
            weight => u64::from(weight.max(1)) * WEIGHT / place.addresses.max(1) as u64,
        };
        Spot {
            address: place.address,
            share: share.max(1),
            rank: u16::try_from(priorities.range(..place.priority).count()).unwrap_or(u16::MAX),
            weight: Some(place.weight),
        }
    };
    places.iter().map(spot).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(port: u16, priority: u16, weight: u16, addresses: usize) -> ServiceAddress {
        ServiceAddress {
            address: SocketAddr::from(([127, 0, 0, 1], port)),
            priority,
            weight,
            addresses,
        }
    }

    fn told(places: &[ServiceAddress]) -> Vec<(u64, u16)> {
        let spots = by_record(places).into_iter();
        spots.map(|spot| (spot.share, spot.rank)).collect()
    }

    #[test]
    fn addresses_have_the_shares_of_their_records() {
        let all = [place(1, 10, 3, 1), place(2, 10, 1, 2), place(3, 10, 1, 2)];
        let half = WEIGHT / 2;
        assert_eq!(told(&all), [(3 * WEIGHT, 0), (half, 0), (half, 0)]);
        // Nothing is weighed where all weights are 0, and next to nothing where others are more.
        let none = [place(1, 0, 0, 1), place(2, 0, 0, 1)];
        assert_eq!(told(&none), [(WEIGHT, 0), (WEIGHT, 0)]);
        let some = [place(1, 0, 0, 1), place(2, 0, u16::MAX, 1)];
        assert_eq!(told(&some)[0], (1, 0));
    }

    #[test]
    fn each_priority_has_its_rank() {
        let priorities = [20, 10, 30, u16::MAX, 20];
        let all = priorities.map(|priority| place(priority, priority, 1, 1));
        let ranks: Vec<_> = told(&all).into_iter().map(|(_, rank)| rank).collect();
        assert_eq!(ranks, [1, 0, 2, 3, 1]);
        assert_eq!(told(&[]), []);
    }
}
