//! The connections of each client, where an endpoint limits them.

use std::collections::hash_map::{Entry, RandomState};
use std::collections::HashMap;
use std::hash::BuildHasher;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use parking_lot::Mutex;

/// Parts with a lock of their own, so that workers seldom wait for each other. A connection takes one lock when it is
/// accepted and one when it ends; a request takes none.
const PARTS: usize = 64;

/// The connections of each client.
pub(super) struct Clients {
    parts: Box<[Mutex<HashMap<IpAddr, usize>>]>,
    hasher: RandomState,
}

/// A connection's place among those of its client; given up at its end.
pub(crate) struct Place {
    of: Arc<Clients>,
    client: IpAddr,
}

impl Clients {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Clients {
            parts: (0..PARTS).map(|_| Mutex::default()).collect(),
            hasher: RandomState::new(),
        })
    }

    /// Counts a connection of a client; `None` when it has `most` already.
    pub(super) fn place(self: &Arc<Self>, address: IpAddr, most: usize) -> Option<Box<Place>> {
        let client = client(address);
        let mut part = self.part(&client).lock();
        let count = part.entry(client).or_default();
        if *count >= most {
            return None;
        }
        *count += 1;
        let of = self.clone();
        Some(Box::new(Place { of, client }))
    }

    fn part(&self, client: &IpAddr) -> &Mutex<HashMap<IpAddr, usize>> {
        &self.parts[self.hasher.hash_one(client) as usize % PARTS]
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut part = self.of.part(&self.client).lock();
        if let Entry::Occupied(mut count) = part.entry(self.client) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}

/// The addresses that one client has: an IPv4 address is one, in IPv6 it is the network of 64 bits, any address of which a
/// client may take.
fn client(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64).into(),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_has_so_many_places_and_gets_them_back() {
        let clients = Clients::new();
        let place = |address: &str| clients.place(address.parse().unwrap(), 2);
        let (one, two) = (place("192.0.2.1").unwrap(), place("::ffff:192.0.2.1"));
        assert!(two.is_some() && place("192.0.2.1").is_none());
        assert!(place("192.0.2.2").is_some());
        drop(one);
        let again = place("192.0.2.1");
        assert!(again.is_some() && place("192.0.2.1").is_none());
        let v6 = [place("2001:db8::1"), place("2001:db8::2")];
        assert!(v6.iter().all(Option::is_some) && place("2001:db8::3").is_none());
        assert!(place("2001:db8:0:1::1").is_some());
        drop((two, again, v6));
        assert!(clients.parts.iter().all(|part| part.lock().is_empty()));
    }
}
