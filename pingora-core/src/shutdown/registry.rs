//! Shutdown, for connections that wait: waiters that cost nothing per request.
//!
//! A connection registers once, in the list of its worker. From then on a request only loads the flag:
//! when its read has to wait, the connection *parks*, which compares its waker with a local copy and loads
//! the flag. [`Registry::advance`] stores the flag and then takes the lock of each list and wakes everyone in it.
//!
//! No wake-up is lost: a waker is put into the list under the list's lock and *before* the flag is loaded.
//! Either that lock comes after the one that `advance` takes, and then the load sees the flag; or it comes
//! before, and then `advance` finds the waker.

use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

// The model in `loom/` is made of this very file.
#[cfg(loom)]
use loom::sync::{
    atomic::{AtomicU64, AtomicU8, Ordering},
    Mutex, MutexGuard,
};
#[cfg(not(loom))]
use std::sync::{
    atomic::{AtomicU64, AtomicU8, Ordering},
    Mutex, MutexGuard,
};

/// The stage of a shutdown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// No shutdown.
    Running,
    /// Requests are still answered, each the last of its connection; idle connections are kept.
    Draining,
    /// Idle connections are kept until the shutdown read timeout is over.
    Expiring,
    /// Idle connections close.
    Closing,
}

/// The shutdown flag of one application, and the connections that wait for it.
#[derive(Debug)]
pub struct Registry {
    stage: AtomicU8,
    /// The time for which idle connections are kept once the shutdown has begun, in milliseconds.
    keep: AtomicU64,
    lists: Box<[List]>,
}

/// The waiting connections of one worker, on cache lines of their own.
#[repr(align(128))]
#[derive(Debug, Default)]
struct List(Mutex<Slots>);

#[derive(Debug, Default)]
struct Slots {
    wakers: Vec<Option<Waker>>,
    free: Vec<usize>,
}

impl Registry {
    /// A registry with so many lists; workers share one only when there are more of them.
    pub fn new(lists: usize) -> Arc<Self> {
        Arc::new(Registry {
            stage: AtomicU8::new(Stage::Running as u8),
            keep: AtomicU64::new(0),
            lists: (0..lists.max(1)).map(|_| List::default()).collect(),
        })
    }

    /// The stage: one load of a line that nobody writes before the end.
    pub fn stage(&self) -> Stage {
        match self.stage.load(Ordering::Acquire) {
            0 => Stage::Running,
            1 => Stage::Draining,
            2 => Stage::Expiring,
            _ => Stage::Closing,
        }
    }

    /// Returns whether the shutdown has begun.
    pub fn is_shutting_down(&self) -> bool {
        self.stage() != Stage::Running
    }

    /// Enters a stage and wakes every waiting connection, so that it sees it. Stages never go back.
    pub fn advance(&self, stage: Stage) {
        self.stage.fetch_max(stage as u8, Ordering::Release);
        for list in &self.lists {
            // Woken outside the lock: waking runs foreign code.
            let wakers: Vec<Waker> = slots(list).wakers.iter().flatten().cloned().collect();
            wakers.into_iter().for_each(Waker::wake);
        }
    }

    /// Sets the time for which idle connections are kept once the shutdown has begun, which it has not yet.
    pub fn keep_idle(&self, keep: Duration) {
        let keep = u64::try_from(keep.as_millis()).unwrap_or(u64::MAX);
        self.keep.store(keep, Ordering::Relaxed);
    }

    /// The time for which idle connections are kept once the shutdown has begun; zero without one.
    pub fn kept_idle(&self) -> Duration {
        Duration::from_millis(self.keep.load(Ordering::Relaxed))
    }

    /// Registers a connection of the given worker; it leaves when the registration is dropped.
    pub fn register(self: &Arc<Self>, worker: usize) -> Registration {
        let list = worker % self.lists.len();
        let mut slots = slots(&self.lists[list]);
        let slot = slots.free.pop().unwrap_or(slots.wakers.len());
        if slot == slots.wakers.len() {
            slots.wakers.push(None);
        }
        drop(slots);
        Registration {
            registry: self.clone(),
            list,
            slot,
            waker: None,
        }
    }
}

fn slots(list: &List) -> MutexGuard<'_, Slots> {
    // A waker that panicked while it was cloned leaves the lists as good as before.
    list.0
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// A connection's place in a [`Registry`].
#[derive(Debug)]
pub struct Registration {
    registry: Arc<Registry>,
    list: usize,
    slot: usize,
    /// A copy of the waker in the list.
    waker: Option<Waker>,
}

impl Registration {
    /// Returns whether this is a place in `registry`.
    pub fn is_in(&self, registry: &Arc<Registry>) -> bool {
        Arc::ptr_eq(&self.registry, registry)
    }

    /// The stage of the registry.
    pub fn stage(&self) -> Stage {
        self.registry.stage()
    }

    /// The time for which a connection is kept that becomes idle in the shutdown, of which its client was not told.
    pub fn kept_idle(&self) -> Duration {
        self.registry.kept_idle()
    }

    /// To be called when a read has to wait: says which stage it is, and from now on `waker` is woken
    /// when there is a later one. Takes a lock only when it would wake another task than the last time.
    pub fn park(&mut self, waker: &Waker) -> Stage {
        if !self
            .waker
            .as_ref()
            .is_some_and(|known| known.will_wake(waker))
        {
            slots(&self.registry.lists[self.list]).wakers[self.slot] = Some(waker.clone());
            self.waker = Some(waker.clone());
        }
        self.registry.stage()
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        let mut slots = slots(&self.registry.lists[self.list]);
        slots.wakers[self.slot] = None;
        slots.free.push(self.slot);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;
    use std::task::Wake;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn who_is_parked_is_woken_and_who_left_is_not() {
        let registry = Registry::new(4);
        let (stays, leaves) = (Arc::new(Count::default()), Arc::new(Count::default()));
        let mut here = registry.register(1);
        let mut gone = registry.register(1);
        assert_eq!(here.park(&stays.clone().into()), Stage::Running);
        assert_eq!(gone.park(&leaves.clone().into()), Stage::Running);
        drop(gone);
        registry.advance(Stage::Draining);
        registry.advance(Stage::Closing);
        assert_eq!(stays.0.load(Ordering::SeqCst), 2);
        assert_eq!(leaves.0.load(Ordering::SeqCst), 0);
        assert_eq!(here.park(&stays.into()), Stage::Closing);
    }

    #[test]
    fn stages_do_not_go_back_and_slots_are_used_again() {
        let registry = Registry::new(1);
        registry.advance(Stage::Closing);
        registry.advance(Stage::Draining);
        assert_eq!(registry.stage(), Stage::Closing);
        for _ in 0..10 {
            drop(registry.register(0));
        }
        assert_eq!(slots(&registry.lists[0]).wakers.len(), 1);
    }
}
