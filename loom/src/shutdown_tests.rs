//! No wake-up is lost: whoever was told `Running` when it parked is woken by an `advance`.

use std::sync::Arc;
use std::task::{Wake, Waker};

use loom::sync::atomic::{AtomicBool, Ordering};
use loom::thread;

use crate::shutdown::{Registration, Registry, Stage};

struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Release);
    }
}

impl Flag {
    fn new() -> Arc<Self> {
        Arc::new(Flag(AtomicBool::new(false)))
    }

    /// Whether it was woken since the last time.
    fn take(&self) -> bool {
        self.0.swap(false, Ordering::AcqRel)
    }
}

/// A connection whose read has to wait.
struct Waiter {
    place: Registration,
    flag: Arc<Flag>,
}

impl Waiter {
    fn new(registry: &Arc<Registry>) -> Self {
        Waiter {
            place: registry.register(0),
            flag: Flag::new(),
        }
    }

    fn park(&mut self) -> Stage {
        self.place.park(&Waker::from(self.flag.clone()))
    }

    /// After the last `advance`: it saw the stage, or it was woken and sees it now.
    fn must_know(mut self, seen: Stage, last: Stage) {
        if seen < last {
            assert!(self.flag.take(), "parked at {seen:?}, and nobody woke it");
            assert_eq!(self.park(), last);
        }
    }
}

/// A thread that parks so many times, as a task does that is polled for other reasons too.
fn parking(mut waiter: Waiter, times: usize) -> thread::JoinHandle<(Waiter, Stage)> {
    thread::spawn(move || {
        let mut seen = Stage::Running;
        for _ in 0..times {
            seen = waiter.park();
        }
        (waiter, seen)
    })
}

#[test]
fn park_against_advance() {
    loom::model(|| {
        let registry = Registry::new(1);
        let parking = parking(Waiter::new(&registry), 1);
        registry.advance(Stage::Closing);
        let (waiter, seen) = parking.join().unwrap();
        waiter.must_know(seen, Stage::Closing);
    });
}

/// The second time the waker is known, and no lock is taken.
#[test]
fn park_again_against_advance() {
    loom::model(|| {
        let registry = Registry::new(1);
        let mut waiter = Waiter::new(&registry);
        assert_eq!(waiter.park(), Stage::Running);
        let parking = parking(waiter, 1);
        registry.advance(Stage::Closing);
        let (waiter, seen) = parking.join().unwrap();
        waiter.must_know(seen, Stage::Closing);
    });
}

#[test]
fn park_against_both_stages() {
    loom::model(|| {
        let registry = Registry::new(1);
        let parking = parking(Waiter::new(&registry), 2);
        registry.advance(Stage::Draining);
        registry.advance(Stage::Closing);
        let (waiter, seen) = parking.join().unwrap();
        waiter.must_know(seen, Stage::Closing);
    });
}

/// The task moved, or a `select!` of the user's polls it with another waker: the new one counts.
#[test]
fn another_waker_against_advance() {
    loom::model(|| {
        let registry = Registry::new(1);
        let mut waiter = Waiter::new(&registry);
        waiter.park();
        waiter.flag = Flag::new();
        let parking = parking(waiter, 1);
        registry.advance(Stage::Closing);
        let (waiter, seen) = parking.join().unwrap();
        waiter.must_know(seen, Stage::Closing);
    });
}

#[test]
fn two_waiters_on_one_list() {
    loom::model(|| {
        let registry = Registry::new(1);
        let one = parking(Waiter::new(&registry), 1);
        let two = parking(Waiter::new(&registry), 1);
        registry.advance(Stage::Closing);
        for parking in [one, two] {
            let (waiter, seen) = parking.join().unwrap();
            waiter.must_know(seen, Stage::Closing);
        }
    });
}

/// Places are given back and taken again while the list is walked; each waiter has one to itself.
#[test]
fn register_and_drop_against_advance() {
    loom::model(|| {
        let registry = Registry::new(1);
        let mut leaves = Waiter::new(&registry);
        let comes = {
            let registry = registry.clone();
            thread::spawn(move || {
                let mut waiter = Waiter::new(&registry);
                let seen = waiter.park();
                (waiter, seen)
            })
        };
        let advancing = {
            let registry = registry.clone();
            thread::spawn(move || registry.advance(Stage::Closing))
        };
        leaves.park();
        let Waiter { place, .. } = leaves;
        drop(place);
        let (waiter, seen) = comes.join().unwrap();
        advancing.join().unwrap();
        waiter.must_know(seen, Stage::Closing);
    });
}

/// Two who advance at once, as a cleanup and a drain that ends do: the later stage stays.
#[test]
fn advance_against_advance() {
    loom::model(|| {
        let registry = Registry::new(1);
        let mut waiter = Waiter::new(&registry);
        let seen = waiter.park();
        let draining = {
            let registry = registry.clone();
            thread::spawn(move || registry.advance(Stage::Draining))
        };
        registry.advance(Stage::Closing);
        draining.join().unwrap();
        assert_eq!(registry.stage(), Stage::Closing);
        waiter.must_know(seen, Stage::Closing);
    });
}
