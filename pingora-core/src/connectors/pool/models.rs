//! Models of the pool, checked by loom in every order of events: workers that put and take, and a sweep beside them.
//!
//! That no connection is given twice is in the types: it is moved. What is checked is that none is lost, that there are
//! not too many, that somebody looks after those that lie idle, and that one which is dropped may come back to the pool.

use std::sync::atomic::AtomicBool as Plain;

use loom::thread;

use super::*;
use crate::worker::act_as;

const KEY: u64 = 1;

/// A connection that says that it was closed, and then asks its pool for another one.
struct Conn {
    fate: Arc<Fate>,
    pool: Weak<IdlePool<Conn>>,
}

#[derive(Default)]
struct Fate {
    closed: Plain,
    /// True if it has ended, so that it is of no use any more.
    ended: Plain,
}

impl Fate {
    fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }
}

impl Idle for Conn {
    fn poll_idle(&mut self, _: &mut Context<'_>) -> Poll<Ended> {
        match self.fate.ended.load(Ordering::Relaxed) {
            true => Poll::Ready(Ended::Closed),
            false => Poll::Pending,
        }
    }

    fn can_move(&self) -> bool {
        true
    }

    fn adopt(self) -> Option<Self> {
        Some(self)
    }

    fn limit_key(&self) -> Option<u64> {
        None
    }
}

impl Drop for Conn {
    fn drop(&mut self) {
        let twice = self.fate.closed.swap(true, Ordering::Relaxed);
        assert!(!twice, "closed twice");
        // With a key that nobody has: it looks into both buckets, which must not be locked by who drops it.
        if let Some(pool) = self.pool.upgrade() {
            assert!(pool.take(7).is_none());
        }
    }
}

/// A pool of three, with two workers that have a connection each: so there is room for one that is shared.
struct Pool {
    pool: Arc<IdlePool<Conn>>,
    own: [Arc<Fate>; 2],
}

impl Pool {
    fn new() -> Self {
        let pool = IdlePool::new(3, None);
        let own = [0, 1].map(|worker| {
            act_as(worker);
            put(&pool, 10 + worker as u64)
        });
        act_as(0);
        Pool { pool, own }
    }

    /// Those of the workers are where they were, and the counts are right.
    fn check(&self) {
        assert!(self.own.iter().all(|fate| !fate.is_closed()));
        self.check_counts();
    }

    fn check_counts(&self) {
        for worker in 0..self.own.len() {
            let own = self.pool.buckets.get(worker).unwrap();
            assert_eq!(own.bucket.lock().len(), 1);
            assert_eq!(own.bucket.lock().len(), own.len.load(Ordering::Relaxed));
        }
        let shared = self.pool.shared.lock().len();
        assert_eq!(shared, self.pool.shared_len.load(Ordering::Relaxed));
        assert!(shared <= 1);
    }
}

/// Puts a new connection.
fn put(pool: &Arc<IdlePool<Conn>>, key: u64) -> Arc<Fate> {
    let fate = Arc::new(Fate::default());
    let conn = Conn {
        fate: fate.clone(),
        pool: Arc::downgrade(pool),
    };
    assert!(pool.put(key, conn, None).is_none());
    fate
}

/// Runs as a worker, on a thread of its own.
fn worker<T: 'static>(
    index: usize,
    pool: &Pool,
    work: impl FnOnce(&Arc<IdlePool<Conn>>) -> T + 'static,
) -> thread::JoinHandle<T> {
    let pool = pool.pool.clone();
    thread::spawn(move || {
        act_as(index);
        work(&pool)
    })
}

#[test]
fn a_shared_one_goes_to_one_of_two() {
    loom::model(|| {
        let pool = Pool::new();
        let fate = put(&pool.pool, KEY);
        let other = worker(1, &pool, |pool| pool.take(KEY));
        let here = pool.pool.take(KEY);
        let there = other.join().unwrap();
        assert_eq!(
            [here.is_some(), there.is_some()]
                .iter()
                .filter(|got| **got)
                .count(),
            1
        );
        assert!(!fate.is_closed());
        pool.check();
    });
}

#[test]
fn one_that_comes_while_another_worker_asks_is_taken_or_kept() {
    loom::model(|| {
        let pool = Pool::new();
        let other = worker(1, &pool, |pool| pool.take(KEY));
        let fate = put(&pool.pool, KEY);
        let there = other.join().unwrap();
        let kept = pool.pool.take(KEY);
        assert_ne!(there.is_some(), kept.is_some());
        assert!(!fate.is_closed());
        pool.check();
    });
}

/// The count of the shared ones, by which workers see that there is none, does not fall behind.
#[test]
fn one_that_comes_while_another_goes_is_found() {
    loom::model(|| {
        let pool = Pool::new();
        put(&pool.pool, KEY);
        let other = worker(1, &pool, |pool| pool.take(KEY));
        let fate = put(&pool.pool, KEY);
        assert!(other.join().unwrap().is_some());
        // Where there was no place, the worker's oldest one has given its own.
        pool.check_counts();
        assert!(!fate.is_closed() && !pool.own[1].is_closed());
        assert!(pool.pool.take(KEY).is_some());
    });
}

#[test]
fn of_two_that_come_to_the_last_place_one_takes_that_of_an_older_one() {
    loom::model(|| {
        let pool = Pool::new();
        let other = worker(1, &pool, |pool| put(pool, KEY));
        let here = put(&pool.pool, KEY);
        let there = other.join().unwrap();
        assert!(!here.is_closed() && !there.is_closed());
        assert_ne!(pool.own[0].is_closed(), pool.own[1].is_closed());
        pool.check_counts();
        assert!(pool.pool.take(KEY).is_some());
    });
}

/// The task that sweeps may run on another thread than its worker, where tasks move.
#[test]
fn a_sweep_loses_nothing() {
    loom::model(|| {
        let pool = Pool::new();
        let fate = put(&pool.pool, KEY);
        let sweep = worker(2, &pool, |pool| pool.sweep(0, false));
        let own = pool.pool.take(10);
        let shared = pool.pool.take(KEY);
        sweep.join().unwrap();
        assert!(own.is_some() && shared.is_some());
        assert!(!fate.is_closed() && !pool.own[0].is_closed());
    });
}

/// One that is idle is found, whoever looks after it meanwhile.
#[test]
fn a_sweep_hides_nothing_from_another_worker() {
    loom::model(|| {
        let pool = Pool::new();
        let other = worker(1, &pool, |pool| pool.take_elsewhere(10));
        pool.pool.sweep(0, false);
        let found = other.join().unwrap();
        assert!(found.is_some() && !pool.own[0].is_closed());
    });
}

#[test]
fn a_sweep_drops_what_has_ended_while_others_come() {
    loom::model(|| {
        let pool = Pool::new();
        let ended = put(&pool.pool, KEY);
        ended.ended.store(true, Ordering::Relaxed);
        let sweep = worker(2, &pool, |pool| pool.sweep(0, false));
        let taken = pool.pool.take(KEY);
        assert!(taken.is_none());
        let next = put(&pool.pool, KEY);
        assert!(sweep.join().unwrap());
        assert!(ended.is_closed());
        // There was room for it, unless the sweep had the other one in its hand and gave its place back.
        assert_eq!(next.is_closed(), pool.pool.take(KEY).is_none());
        pool.check();
    });
}

/// When the sweep of an empty bucket is the last, who puts something there begins another one.
#[test]
fn somebody_looks_after_what_is_put_while_the_last_sweep_ends() {
    loom::model(|| {
        let pool = Pool::new();
        drop(pool.pool.take(10));
        let begun = crate::worker::housekeeping();
        let sweep = worker(2, &pool, |pool| pool.sweep(0, true));
        put(&pool.pool, KEY);
        let goes_on = sweep.join().unwrap();
        assert!(goes_on || crate::worker::housekeeping() > begun);
    });
}

/// At the end of a server its workers let go of the pool, and so does a sweep that is under way.
#[test]
fn all_are_closed_with_the_last_that_holds_the_pool() {
    loom::model(|| {
        let Pool { pool, own } = Pool::new();
        let weak = Arc::downgrade(&pool);
        let sweep = thread::spawn(move || {
            act_as(2);
            weak.upgrade().map(|pool| pool.sweep(0, false))
        });
        let other = {
            let pool = pool.clone();
            thread::spawn(move || {
                act_as(1);
                put(&pool, KEY)
            })
        };
        drop(pool);
        let shared = other.join().unwrap();
        sweep.join().unwrap();
        for fate in own.into_iter().chain([shared]) {
            assert!(fate.is_closed());
        }
    });
}
