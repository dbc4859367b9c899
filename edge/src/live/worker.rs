//! The part of the generation that runs which one worker has.

use std::cell::RefCell;
use std::ops::Deref;
use std::sync::atomic::Ordering;
use std::sync::Arc;

use super::counted::LocalLimits;
use super::{Live, Running};
use crate::cluster::{Hands, Local, Random, Slots, Tried};
use crate::limits::concurrent::LocalConcurrent;
use crate::limits::rate::{LocalRates, Verdict};
use crate::plan::cache::CacheRule;
use crate::plan::path::BadPath;
use crate::plan::{Found, Request, Route, Scratch};

thread_local! {
    static WORKER: RefCell<Option<Worker>> = const { RefCell::new(None) };
}

/// References that wait for a request. More are dropped.
const SPARE: usize = 1024;

/// The memory of one worker. Only its own thread knows it.
pub(crate) struct Worker {
    running: Arc<Running>,
    /// By the index of their clusters.
    clusters: Vec<Local>,
    scratch: Scratch,
    pub(crate) random: Random,
    slots: Slots,
    limits: LocalLimits,
    /// References to `running` that ended requests have left.
    spare: Vec<Arc<Running>>,
}

/// A request's reference to its generation. Its drop leaves it to the next request, without a count.
pub(crate) struct Lease(Option<Arc<Running>>);

impl Lease {
    /// Makes one of a generation that is shared: it costs a count.
    pub(crate) fn of(running: Arc<Running>) -> Self {
        Self(Some(running))
    }

    /// Shares the generation, which costs a count.
    pub(crate) fn share(&self) -> Arc<Running> {
        // Only `drop` takes it.
        #[allow(clippy::expect_used, reason = "as above")]
        self.0.clone().expect("a lease holds a generation")
    }
}

impl Deref for Lease {
    type Target = Running;

    #[inline]
    fn deref(&self) -> &Running {
        // Only `drop` takes it.
        #[allow(clippy::expect_used, reason = "as above")]
        self.0.as_deref().expect("a lease holds a generation")
    }
}

impl Drop for Lease {
    #[inline]
    fn drop(&mut self) {
        let Some(running) = self.0.take() else { return };
        // A thread that ends has none any more.
        let _ = WORKER.try_with(|worker| {
            if let Ok(Some(worker)) = worker.try_borrow_mut().as_deref_mut() {
                worker.keep(running);
            }
        });
    }
}

impl Live {
    /// Lends the worker of this thread, with the generation that runs.
    #[inline]
    pub(crate) fn with<T>(&self, f: impl FnOnce(&mut Worker) -> T) -> T {
        WORKER.with_borrow_mut(|worker| {
            let current = self.generation.load(Ordering::Acquire);
            match worker {
                Some(worker) if worker.running.generation == current => f(worker),
                _ => f(self.refreshed(worker)),
            }
        })
    }

    #[cold]
    fn refreshed<'a>(&self, worker: &'a mut Option<Worker>) -> &'a mut Worker {
        let running = self.current();
        let (mut random, mut slots, scratch, mut known, mut limits) = match worker.take() {
            Some(old) => (old.random, old.slots, old.scratch, old.clusters, old.limits),
            None => Default::default(),
        };
        limits.refresh(&running.limits, slots.is_moving());
        let mut hands = Hands {
            random: &mut random,
            slots: &mut slots,
        };
        let mut local = |cluster| match known.iter().position(|local| local.is_of(cluster)) {
            Some(index) => known.swap_remove(index),
            None => Local::of(cluster, &mut hands),
        };
        let clusters = running.clusters.iter();
        let clusters = clusters.map(|cluster| local(cluster)).collect();
        // After the new ones have joined: the slots of servers that stay are kept.
        known.into_iter().for_each(|local| local.leave(&mut slots));
        worker.insert(Worker {
            running,
            clusters,
            scratch,
            random,
            slots,
            limits,
            spare: Vec::new(),
        })
    }

    /// Returns the generation for a request.
    #[inline]
    pub(crate) fn lease(&self) -> Lease {
        self.with(|worker| {
            let spare = worker.spare.pop();
            Lease(Some(spare.unwrap_or_else(|| worker.running.clone())))
        })
    }

    /// Lends the worker's own of a cluster of a generation, which may be an older one.
    #[inline]
    pub(crate) fn with_cluster<T>(
        &self,
        running: &Running,
        index: usize,
        f: impl FnOnce(&mut Local, &mut Hands<'_>) -> T,
    ) -> T {
        self.with(|worker| {
            let cluster = &running.clusters[index];
            let mut hands = Hands {
                random: &mut worker.random,
                slots: &mut worker.slots,
            };
            let local = if worker.running.generation == running.generation {
                worker.clusters.get_mut(index)
            } else {
                let mut all = worker.clusters.iter_mut();
                all.find(|local| local.is_of(cluster))
            };
            match local {
                Some(local) => {
                    local.refresh(cluster, &mut hands);
                    f(local, &mut hands)
                }
                // A request that is older than a reload goes to servers that no route has any more.
                None => {
                    let mut local = Local::of(cluster, &mut hands);
                    let done = f(&mut local, &mut hands);
                    local.leave(&mut worker.slots);
                    done
                }
            }
        })
    }
}

impl Live {
    /// Judges a request by the rate with this index, and counts it if it passes.
    #[inline]
    pub(crate) fn judge(&self, running: &Running, index: usize, key: u64, now: u64) -> Verdict {
        let limit = &running.limits.rates[index];
        self.with(|worker| match worker.limits.rate(limit, index) {
            Some(local) => local.judge(limit, key, now),
            None => LocalRates::default().judge(limit, key, now),
        })
    }

    /// Takes a place in the limit of requests at a time with this index; `false` when there is none.
    #[inline]
    pub(crate) fn enter(&self, running: &Running, index: usize, key: u64, now: u64) -> bool {
        let limit = &running.limits.concurrent[index];
        self.with(|worker| match worker.limits.concurrent(limit, index) {
            Some(local) => local.enter(limit, key, now),
            None => LocalConcurrent::default().enter(limit, key, now),
        })
    }
}

/// Leaves a place in a limit of requests at a time.
#[inline]
pub(crate) fn leave(running: &Running, index: usize, key: u64) {
    let limit = &running.limits.concurrent[index];
    let left = WORKER.try_with(|worker| {
        let mut worker = worker.try_borrow_mut().ok()?;
        let local = worker.as_mut()?.limits.concurrent(limit, index)?;
        local.leave(limit, key);
        Some(())
    });
    // A thread that ends, or a worker that has forgotten the limit.
    if !matches!(left, Ok(Some(()))) {
        limit.give_back(key);
    }
}

/// Counts a request off its server, at its end.
#[inline]
pub(crate) fn release(tried: &mut Tried) {
    // A thread that ends counts nothing any more.
    let _ = WORKER.try_with(|worker| {
        if let Ok(Some(worker)) = worker.try_borrow_mut().as_deref_mut() {
            tried.release(&mut worker.slots);
        }
    });
    // A thread that has given no request to a server.
    if tried.is_open() {
        tried.release_elsewhere();
    }
}

impl Worker {
    #[inline]
    fn keep(&mut self, running: Arc<Running>) {
        if Arc::ptr_eq(&running, &self.running) && self.spare.len() < SPARE {
            self.spare.push(running);
        }
    }

    /// Returns the route of a request in a site of a generation.
    #[inline]
    pub(crate) fn find<'r>(
        &mut self,
        running: &'r Running,
        site: usize,
        request: &Request,
    ) -> Option<Found<'r>> {
        let random = self.random.next();
        let plan = &running.plan;
        plan.find_in(site, request, random, &mut self.scratch)
    }

    /// Tells whether a request goes past the cache of its route.
    pub(crate) fn bypasses(
        &mut self,
        running: &Running,
        rule: &CacheRule,
        request: &Request,
    ) -> bool {
        running.plan.bypasses(rule, request, &mut self.scratch)
    }

    /// Returns the address that a route sends a request to, if it does.
    pub(crate) fn location(
        &mut self,
        running: &Running,
        route: &Route,
        request: &Request,
    ) -> Option<String> {
        running.plan.location(route, request, &mut self.scratch)
    }

    /// Returns the path and query that a route's rewrite makes.
    pub(crate) fn target(
        &mut self,
        running: &Running,
        route: &Route,
        request: &Request,
    ) -> Result<Vec<u8>, BadPath> {
        let target = running.plan.target(route, request, &mut self.scratch);
        target.map(|target| target.into_owned().into_bytes())
    }
}
