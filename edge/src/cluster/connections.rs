//! The connections that are open to a server, over all workers and clusters.
//!
//! They belong to the address: clusters whose requests go to the same one count together, and whichever of them makes room
//! calls the requests that wait for it in any. A connection counts from before it is made to after it was closed.

use std::any::Any;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use pingora_core::connectors::ConnectPermit;
use pingora_core::upstreams::peer::HttpPeer;

use super::queue::Queue;
use super::unique;
use crate::config::values::Address;

/// The maximum where none is told.
const UNLIMITED: u32 = u32::MAX;

/// The connections that are open to an address.
#[derive(Debug)]
pub(super) struct Connections {
    /// Tells them from those to other addresses.
    key: u64,
    max: AtomicU32,
    /// Tells this maximum from those before it.
    term: AtomicU64,
    open: AtomicU32,
    /// Those of the clusters that share them.
    queues: Mutex<Vec<Weak<Queue>>>,
    /// True if there is more than one.
    shared: AtomicBool,
}

/// The connections of all addresses for which they were ever limited, while anybody knows them.
static ALL: Mutex<BTreeMap<Address, Weak<Connections>>> = Mutex::new(BTreeMap::new());

impl Connections {
    /// Returns those to an address. Requests that wait in `queue` are called when there is room.
    pub(super) fn of(address: &Address, queue: &Arc<Queue>) -> Arc<Self> {
        let mut all = ALL.lock().unwrap_or_else(PoisonError::into_inner);
        let known = all.get(address).and_then(Weak::upgrade);
        let connections = known.unwrap_or_else(|| {
            all.retain(|_, connections| connections.strong_count() > 0);
            let new = Arc::new(Self {
                key: unique(),
                max: AtomicU32::new(UNLIMITED),
                term: AtomicU64::new(unique()),
                open: AtomicU32::new(0),
                queues: Mutex::default(),
                shared: AtomicBool::new(false),
            });
            all.insert(address.clone(), Arc::downgrade(&new));
            new
        });
        drop(all);
        let mut queues = connections.queues();
        queues.retain(|known| known.strong_count() > 0 && known.as_ptr() != Arc::as_ptr(queue));
        queues.push(Arc::downgrade(queue));
        connections.shared.store(queues.len() > 1, SeqCst);
        drop(queues);
        connections
    }

    fn queues(&self) -> MutexGuard<'_, Vec<Weak<Queue>>> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets the most that may be open, if any. Those above a lower one stay until they are idle.
    pub(super) fn set_max(&self, max: Option<u32>) {
        let max = max.unwrap_or(UNLIMITED);
        if self.max.swap(max, SeqCst) != max {
            self.term.store(unique(), SeqCst);
        }
    }

    /// Sets the most that may be open where nothing was told before.
    pub(super) fn begin_with(&self, max: u32) {
        let _ = self.max.compare_exchange(UNLIMITED, max, SeqCst, SeqCst);
    }

    /// Returns the number of those that are open.
    pub(super) fn open(&self) -> u32 {
        self.open.load(SeqCst)
    }

    /// Tells whether one more may be opened, without closing another one.
    pub(super) fn has_room(&self) -> bool {
        self.open() < self.max.load(SeqCst)
    }

    /// Limits the connections to a peer at the address. Kept ones from before the maximum was this one are not used by it:
    /// they were not counted, or are too many.
    pub(super) fn limit(self: &Arc<Self>, peer: &mut HttpPeer) {
        peer.group_key ^= self.term.load(SeqCst);
        peer.options.connect_permit = Some(Arc::new(Permit(self.clone())));
    }

    /// Tells those who wait that there may be room.
    fn call(&self) {
        // Outside of the lock: who is woken may drop a connection.
        let queues: Vec<_> = self.queues().iter().filter_map(Weak::upgrade).collect();
        queues.iter().for_each(|queue| queue.call());
    }

    /// Tells those who wait in other queues than that of the caller, where there are some.
    pub(super) fn call_others(&self) {
        if self.shared.load(SeqCst) {
            self.call();
        }
    }
}

/// Asks for places of the connections. Each worker has its own, so that requests count references that no other writes.
#[derive(Debug)]
struct Permit(Arc<Connections>);

impl ConnectPermit for Permit {
    fn acquire(&self) -> Option<Box<dyn Any + Send + Sync>> {
        let max = self.0.max.load(SeqCst);
        let more = |open: u32| (open < max).then(|| open + 1);
        let taken = self.0.open.fetch_update(SeqCst, SeqCst, more);
        taken.is_ok().then(|| Box::new(Place(self.0.clone())) as _)
    }

    fn key(&self) -> u64 {
        self.0.key
    }
}

/// A connection that is open.
struct Place(Arc<Connections>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, SeqCst);
        self.0.call();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(port: u16) -> Address {
        Address::Ip(([127, 0, 9, 9], port).into())
    }

    fn permit(connections: &Arc<Connections>) -> Permit {
        Permit(connections.clone())
    }

    #[test]
    fn clusters_share_the_connections_to_an_address_and_no_others() {
        let queue = Arc::default();
        let one = Connections::of(&address(1), &queue);
        let same = Connections::of(&address(1), &Arc::default());
        let other = Connections::of(&address(2), &queue);
        assert!(Arc::ptr_eq(&one, &same));
        assert_ne!(one.key, other.key);
        one.begin_with(2);
        same.begin_with(5);
        let places: Vec<_> = (0..3).map(|_| permit(&same).acquire()).collect();
        assert_eq!(places.iter().flatten().count(), 2);
        assert!(!one.has_room() && other.has_room());
        drop(places);
        assert_eq!(one.open(), 0);
        let key = one.key;
        drop((one, same));
        assert_ne!(Connections::of(&address(1), &queue).key, key);
    }

    #[test]
    fn a_lower_maximum_lets_those_that_are_open_be() {
        let connections = Connections::of(&address(3), &Arc::default());
        connections.set_max(Some(3));
        let mut places: Vec<_> = (0..3).map(|_| permit(&connections).acquire()).collect();
        connections.set_max(Some(2));
        for _ in 0..2 {
            assert!(permit(&connections).acquire().is_none());
            places.pop();
        }
        assert!(permit(&connections).acquire().is_some());
    }

    #[test]
    fn every_queue_of_an_address_is_called() {
        let queues: [Arc<Queue>; 2] = Default::default();
        let both = queues.each_ref().map(|q| Connections::of(&address(4), q));
        both[0].set_max(Some(1));
        let place = permit(&both[0]).acquire();
        let tickets = queues.each_ref().map(|queue| queue.enter(1, 1).unwrap());
        let is_called = |n: usize| {
            let called = tickets[n].called();
            futures::FutureExt::now_or_never(called).is_some()
        };
        // Who enters is called at once.
        assert!(is_called(0) && is_called(1));
        assert!(!is_called(0) && !is_called(1));
        drop(place);
        assert!(is_called(0) && is_called(1));
    }

    #[test]
    fn threads_never_have_more_than_the_limit_together() {
        let connections = Connections::of(&address(5), &Arc::default());
        connections.set_max(Some(3));
        let open = &AtomicU32::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                let permit = permit(&connections);
                scope.spawn(move || {
                    for _ in 0..5_000 {
                        if let Some(place) = permit.acquire() {
                            assert!(open.fetch_add(1, SeqCst) < 3);
                            open.fetch_sub(1, SeqCst);
                            drop(place);
                        }
                    }
                });
            }
        });
        assert_eq!(connections.open(), 0);
    }
}
