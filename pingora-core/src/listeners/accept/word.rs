//! The accept mutex: a lock that is only tried for, between threads and, where there are several that have the
//! same socket, between processes.
//!
//! Between threads it is a word that is changed from free to held by compare-and-swap. Whoever has that asks for
//! the lock between processes, which the kernel keeps for a process and not for a thread; without it the word is
//! free again at once. Both are freed when the [`Turn`] is dropped: by a panic too, and when a runtime drops its
//! tasks. The lock between processes the kernel frees when the process is gone, whatever way it went.

// The model in `loom/` is made of this very file.
#[cfg(loom)]
use loom::sync::{
    atomic::{AtomicBool, Ordering},
    Arc,
};
#[cfg(not(loom))]
use std::sync::{
    atomic::{AtomicBool, Ordering},
    Arc,
};

/// A lock between processes.
pub(crate) trait Across {
    /// Takes it, if no other process has it.
    fn try_lock(&self) -> bool;

    /// Frees it.
    fn unlock(&self);
}

/// A lock that one acceptor of all has.
pub(crate) struct AcceptMutex<A> {
    held: AtomicBool,
    across: A,
}

impl<A: Across> AcceptMutex<A> {
    pub(crate) fn new(across: A) -> Arc<Self> {
        Arc::new(AcceptMutex {
            held: AtomicBool::new(false),
            across,
        })
    }

    /// Takes the lock, if no other thread and no other process has it.
    pub(crate) fn try_turn(mutex: &Arc<Self>) -> Option<Turn<A>> {
        // Looked at first: a load leaves the line with all who look.
        let held = &mutex.held;
        if held.load(Ordering::Relaxed)
            || held
                .compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed)
                .is_err()
        {
            return None;
        }
        if mutex.across.try_lock() {
            return Some(Turn(mutex.clone()));
        }
        mutex.held.store(false, Ordering::Release);
        None
    }
}

/// The lock, for as long as it is held.
pub(crate) struct Turn<A: Across>(Arc<AcceptMutex<A>>);

impl<A: Across> Drop for Turn<A> {
    fn drop(&mut self) {
        // In this order: a thread that finds the word free finds the other lock free too.
        self.0.across.unlock();
        self.0.held.store(false, Ordering::Release);
    }
}
