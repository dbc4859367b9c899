//! Things that are used again on the thread that is done with them, so that a request takes them from its worker
//! and not from the allocator.

use std::cell::RefCell;
use std::thread::LocalKey;

/// So many of a kind are kept by a thread.
const KEEP: usize = 64;

/// The boxes of one kind that a thread keeps for reuse.
#[derive(Debug)]
pub(crate) struct FreeList<T>(RefCell<Vec<T>>);

impl<T> FreeList<T> {
    /// None yet.
    pub(crate) const fn new() -> Self {
        FreeList(RefCell::new(Vec::new()))
    }
}

/// One of those that the thread keeps.
pub(crate) fn take<T>(list: &'static LocalKey<FreeList<T>>) -> Option<T> {
    list.try_with(|s| s.0.borrow_mut().pop()).ok().flatten()
}

/// Keeps `thing`, unless there are enough, or the thread is about to end.
pub(crate) fn give<T>(list: &'static LocalKey<FreeList<T>>, thing: T) {
    let left = list.try_with(|s| {
        let mut kept = s.0.borrow_mut();
        if kept.len() < KEEP {
            kept.push(thing);
            None
        } else {
            Some(thing)
        }
    });
    // Dropped when nothing is borrowed any more: to drop it may run any code.
    drop(left);
}

/// Returns true if nothing more is kept.
pub(crate) fn is_full<T>(list: &'static LocalKey<FreeList<T>>) -> bool {
    list.try_with(|s| s.0.borrow().len() >= KEEP)
        .unwrap_or(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    thread_local! {
        static NUMBERS: FreeList<usize> = const { FreeList::new() };
    }

    #[test]
    fn what_was_given_is_taken_up_to_a_number() {
        assert_eq!(take(&NUMBERS), None);
        assert!(!is_full(&NUMBERS));
        (0..2 * KEEP).for_each(|n| give(&NUMBERS, n));
        assert!(is_full(&NUMBERS));
        let taken = std::iter::from_fn(|| take(&NUMBERS)).count();
        assert_eq!(taken, KEEP);
        assert_eq!(take(&NUMBERS), None);
    }
}
