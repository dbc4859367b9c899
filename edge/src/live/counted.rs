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
    /// Makes those of a plan. One that is as before keeps its counts.
    pub(super) fn of(plan: &Plan, before: Option<&Self>) -> Self {
        let rates = plan.rates.iter().map(|limit| {
            let known = before.and_then(|before| before.rates.iter().find(|l| l.key == limit.key));
            known.cloned().unwrap_or_else(|| {
                let quota = Quota::new(limit.count, limit.period, limit.burst);
                Arc::new(Limiter::new(unique(), limit.key.clone(), quota))
            })
        });
        let concurrent = plan.concurrent.iter().map(|limit| {
            let known =
                before.and_then(|before| before.concurrent.iter().find(|l| l.key == limit.key));
            known.cloned().unwrap_or_else(|| {
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

/// A worker's own of the limits, each with the id of the limit.
#[derive(Default)]
pub(super) struct LocalLimits {
    rates: Vec<(u64, LocalRates)>,
    concurrent: Vec<(u64, LocalConcurrent)>,
}

impl LocalLimits {
    /// Takes the limits of another generation, and keeps what is of the same ones.
    pub(super) fn refresh(&mut self, limits: &Limits) {
        let ids = limits.rates.iter().map(|limit| limit.id);
        self.rates = kept(std::mem::take(&mut self.rates), ids);
        let ids = limits.concurrent.iter().map(|limit| limit.id);
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
