//! The choice among the servers of a cluster: pure, and each worker's own.
//!
//! Each worker takes turns and counts requests for itself, and begins at a place of its own. Over all of them the shares
//! come out as the weights say, as each worker's do.

use super::set::Set;

use super::random::Random;
use crate::config::model::Balance;

/// The choice of one worker.
#[derive(Debug)]
pub(super) struct Balancer {
    policy: Balance,
    weights: Vec<u64>,
    /// The sum of the weights up to each server; empty when all are the same.
    sums: Vec<u64>,
    /// The server whose turn it is.
    turn: usize,
    /// The lead of each server over its share; empty unless turns have weights.
    ahead: Vec<i128>,
    /// The hash of the address of each server.
    seeds: Vec<u64>,
}

/// The requests that each server has of this worker.
pub(super) trait Loads {
    /// Returns the number of open requests of a server.
    fn open(&self, index: usize) -> u32;

    /// Returns the time that an answer of a server is expected to take; 0 when nothing is known.
    fn expected(&self, index: usize) -> f64;
}

/// The part of one request in the choice.
pub(super) struct Wish<'a> {
    /// The servers that are not to be chosen.
    pub(super) passed: &'a Set,
    /// The hash of the text by which [`Balance::Hash`] chooses.
    pub(super) hash: u64,
}

impl Balancer {
    /// Begins to choose among servers with these weights and hashes of their addresses.
    pub(super) fn new(
        policy: Balance,
        weights: Vec<u64>,
        seeds: Vec<u64>,
        random: &mut Random,
    ) -> Self {
        let count = weights.len();
        let equal = weights.iter().all(|weight| *weight == weights[0]);
        let sum = |sum: &mut u64, weight: &u64| {
            *sum = sum.saturating_add(*weight);
            Some(*sum)
        };
        let sums = if equal {
            Vec::new()
        } else {
            weights.iter().scan(0, sum).collect()
        };
        let turns = policy == Balance::RoundRobin;
        let many = |wanted: bool| if wanted { count } else { 0 };
        Self {
            turn: random.below(count.max(1) as u64) as usize,
            ahead: vec![0; many(turns && !equal)],
            policy,
            weights,
            sums,
            seeds,
        }
    }

    /// Chooses a server that is not in `passed`; `None` when there is none.
    #[inline]
    pub(super) fn next(
        &mut self,
        wish: &Wish<'_>,
        loads: &impl Loads,
        random: &mut Random,
    ) -> Option<usize> {
        let passed = wish.passed;
        match self.policy {
            Balance::RoundRobin if self.ahead.is_empty() => self.in_turn(passed),
            Balance::RoundRobin => self.by_share(passed),
            Balance::Random => self.draw(passed, random),
            Balance::PeakEwma => self.sooner(passed, loads, random),
            Balance::LeastRequests => self.less_busy(passed, loads, random),
            Balance::Hash => self.highest(wish),
        }
    }

    /// Rendezvous hashing: each server has a number for the text, and the highest wins. A server that goes gives away only
    /// what it had, and one that comes takes from all the others. All workers, and all processes, choose alike.
    fn highest(&self, wish: &Wish<'_>) -> Option<usize> {
        let left = (0..self.weights.len()).filter(|index| !wish.passed.has(*index));
        let number = |index: usize| {
            let mixed = mix(wish.hash ^ self.seeds[index]);
            // Between 0 and 1, both left out. By this form the highest number falls to each in proportion to its weight.
            let point = ((mixed >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
            self.weights[index] as f64 / -point.ln()
        };
        left.map(|index| (index, number(index)))
            .max_by(|(_, one), (_, other)| one.total_cmp(other))
            .map(|(index, _)| index)
    }

    fn in_turn(&mut self, passed: &Set) -> Option<usize> {
        let mut order = (self.turn..self.weights.len()).chain(0..self.turn);
        let index = order.find(|index| !passed.has(*index))?;
        self.turn = if index + 1 < self.weights.len() {
            index + 1
        } else {
            0
        };
        Some(index)
    }

    /// Smooth weighted round robin: each server moves ahead by its weight, and the one that is furthest goes back by the
    /// sum. So a heavy one has its turns spread among those of the others.
    fn by_share(&mut self, passed: &Set) -> Option<usize> {
        let (mut best, mut sum) = (None, 0);
        for (index, weight) in self.weights.iter().enumerate() {
            if passed.has(index) {
                continue;
            }
            self.ahead[index] += i128::from(*weight);
            sum += i128::from(*weight);
            if best.is_none_or(|best: usize| self.ahead[index] > self.ahead[best]) {
                best = Some(index);
            }
        }
        self.ahead[best?] -= sum;
        best
    }

    /// Draws a server by weight.
    fn draw(&self, passed: &Set, random: &mut Random) -> Option<usize> {
        let count = self.weights.len();
        if passed.len() >= count {
            return None;
        }
        // Most of the time none is passed, and one draw is enough.
        for _ in 0..4 {
            let index = match self.sums.last() {
                None => random.below(count as u64) as usize,
                Some(sum) => {
                    let point = random.below(*sum);
                    self.sums.partition_point(|until| *until <= point)
                }
            };
            if !passed.has(index) {
                return Some(index);
            }
        }
        let left = || (0..count).filter(|index| !passed.has(*index));
        let sum = left().fold(0u64, |sum, index| sum.saturating_add(self.weights[index]));
        let mut point = random.below(sum);
        left().find(|index| {
            let weight = self.weights[*index];
            let found = point < weight;
            point = point.saturating_sub(weight);
            found
        })
    }

    /// Draws two servers, and takes the one whose answer is expected sooner, for its weight. A server of which nothing is
    /// known gets a request, and no second one until it has answered.
    fn sooner(&self, passed: &Set, loads: &impl Loads, random: &mut Random) -> Option<usize> {
        let one = self.draw(passed, random)?;
        let mut others = passed.clone();
        others.insert(one);
        let Some(other) = self.draw(&others, random) else {
            return Some(one);
        };
        let cost = |index: usize| {
            let (expected, open) = (loads.expected(index), f64::from(loads.open(index)));
            let whole = if expected > 0.0 {
                expected * (open + 1.0)
            } else {
                open * f64::MAX.sqrt()
            };
            whole / self.weights[index] as f64
        };
        if cost(other) < cost(one) {
            Some(other)
        } else {
            Some(one)
        }
    }

    /// Draws two servers, and takes the one that has fewer requests for its weight.
    fn less_busy(&self, passed: &Set, loads: &impl Loads, random: &mut Random) -> Option<usize> {
        let one = self.draw(passed, random)?;
        let mut others = passed.clone();
        others.insert(one);
        let Some(other) = self.draw(&others, random) else {
            return Some(one);
        };
        // Requests by weight, without a division.
        let load = |of: usize, by: usize| u128::from(loads.open(of)) * u128::from(self.weights[by]);
        if load(other, one) < load(one, other) {
            Some(other)
        } else {
            Some(one)
        }
    }
}

/// Hashes a text, the same in all processes (FNV-1a).
pub(super) fn hash(text: &[u8]) -> u64 {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
    mix(text.iter().fold(0xcbf2_9ce4_8422_2325, step))
}

/// Spreads a difference in any bit over all of them (the last steps of SplitMix64).
fn mix(mut bits: u64) -> u64 {
    bits = (bits ^ bits >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ bits >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ bits >> 31
}

#[cfg(test)]
mod tests;
