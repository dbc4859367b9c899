//! Counts of requests: shared by generations as long as the limits stay the same, and each worker's own.

use std::sync::Arc;

use crate::auth::Users;
use crate::cluster::unique;
use crate::limits::concurrent::{Concurrent, LocalConcurrent};
use crate::limits::gcra::Quota;
use crate::limits::rate::{Limiter, LocalRates};
use crate::plan::Plan;

/// The limits of a generation, by the indexes that its plan has for them.
#[derive(Default)]
pub(crate) struct Limits {
    pub(crate) rates: Vec<Arc<Limiter>>,
    pub(crate) concurrent: Vec<Arc<Concurrent>>,
    pub(crate) users: Vec<Arc<Users>>,
}

impl Limits {
    /// Makes those of a plan. One that is as before keeps its counts; those of routes that differ by nothing but their
    /// actions do so in their order.
    pub(super) fn of(plan: &Plan, before: Option<&Self>) -> Self {
        let mut known = before.map_or_else(Vec::new, |before| before.rates.clone());
        let rates = plan.rates.iter().map(|limit| {
            take(&mut known, |known| known.key == limit.key).unwrap_or_else(|| {
                let quota = Quota::new(limit.count, limit.period, limit.burst);
                Arc::new(Limiter::new(unique(), limit.key.clone(), quota))
            })
        });
        let mut known = before.map_or_else(Vec::new, |before| before.concurrent.clone());
        let concurrent = plan.concurrent.iter().map(|limit| {
            take(&mut known, |known| known.key == limit.key).unwrap_or_else(|| {
                Arc::new(Concurrent::new(unique(), limit.key.clone(), limit.max))
            })
        });
        let users = plan.realms.iter().map(|realm| {
            let known = before.and_then(|before| before.users.iter().find(|u| u.key == realm.key));
            known.cloned().unwrap_or_else(|| Arc::new(Users::of(realm)))
        });
        Self {
            users: users.collect(),
            rates: rates.collect(),
            concurrent: concurrent.collect(),
        }
    }
}

/// Takes the first one that fits, so that no two limits have one count.
fn take<L>(known: &mut Vec<Arc<L>>, fits: impl Fn(&L) -> bool) -> Option<Arc<L>> {
    let index = known.iter().position(|known| fits(known))?;
    Some(known.remove(index))
}

/// A worker's own of the limits, each with the id of the limit.
#[derive(Default)]
pub(super) struct LocalLimits {
    rates: Vec<(u64, LocalRates)>,
    concurrent: Vec<(u64, LocalConcurrent)>,
}

impl LocalLimits {
    /// Takes the limits of another generation, and keeps what is of the same ones. Where requests are `moving` between
    /// threads there is nothing of those at a time: what one takes here could never be given back there.
    pub(super) fn refresh(&mut self, limits: &Limits, moving: bool) {
        let ids = limits.rates.iter().map(|limit| limit.id);
        self.rates = kept(std::mem::take(&mut self.rates), ids);
        let own = limits.concurrent.iter().filter(|_| !moving);
        let ids = own.map(|limit| limit.id);
        self.concurrent = kept(std::mem::take(&mut self.concurrent), ids);
    }

    /// Returns the worker's own of a rate; none when it is of a generation that has gone.
    #[inline]
    pub(super) fn rate(&mut self, limit: &Limiter, index: usize) -> Option<&mut LocalRates> {
        local(&mut self.rates, limit.id, index)
    }

    /// Returns the worker's own of a limit of requests at a time, likewise.
    #[inline]
    pub(super) fn concurrent(
        &mut self,
        limit: &Concurrent,
        index: usize,
    ) -> Option<&mut LocalConcurrent> {
        local(&mut self.concurrent, limit.id, index)
    }
}

fn kept<L: Default>(mut old: Vec<(u64, L)>, ids: impl Iterator<Item = u64>) -> Vec<(u64, L)> {
    let own = |id| match old.iter().position(|(known, _)| *known == id) {
        Some(index) => old.swap_remove(index),
        None => (id, L::default()),
    };
    ids.map(own).collect()
}

fn local<L>(all: &mut [(u64, L)], id: u64, index: usize) -> Option<&mut L> {
    let index = match all.get(index) {
        Some((known, _)) if *known == id => index,
        _ => all.iter().position(|(known, _)| *known == id)?,
    };
    Some(&mut all[index].1)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::path::Path;

    use super::*;
    use crate::config::{self, OneFile};

    fn plan() -> Plan {
        let text = "listen: 127.0.0.1:80
sites:
  - routes:
      - {weight: 9, rate_limit: 5/s, concurrent_requests: 5, respond: {body: a}}
      - {weight: 1, rate_limit: 5/s, concurrent_requests: 5, respond: {body: b}}\n";
        let file = OneFile(text.to_owned());
        Plan::compile(&config::load(Path::new("edge.yaml"), &file).unwrap()).unwrap()
    }

    #[test]
    fn a_worker_remembers_no_requests_that_may_end_on_another_thread() {
        let limits = Limits::of(&plan(), None);
        let mut local = LocalLimits::default();
        for (moving, kept) in [(false, true), (true, false)] {
            local.refresh(&limits, moving);
            for (index, limit) in limits.concurrent.iter().enumerate() {
                assert_eq!(local.concurrent(limit, index).is_some(), kept);
            }
            assert!(local.rate(&limits.rates[0], 0).is_some());
        }
    }

    #[test]
    fn limits_of_routes_that_are_alike_keep_counts_of_their_own() {
        let plan = plan();
        let first = Limits::of(&plan, None);
        let second = Limits::of(&plan, Some(&first));
        let rates = |limits: &Limits| limits.rates.iter().map(|l| l.id).collect::<Vec<_>>();
        let concurrent =
            |limits: &Limits| limits.concurrent.iter().map(|l| l.id).collect::<Vec<_>>();
        assert_ne!(first.rates[0].id, first.rates[1].id);
        assert_eq!(rates(&first), rates(&second));
        assert_eq!(concurrent(&first), concurrent(&second));
    }
}
