//! The choice among the servers of a cluster: pure, and each worker's own.
//!
//! Each worker takes turns and counts requests for itself, and begins at a place of its own. Over all of them the shares
//! come out as the weights say, as each worker's do.

use crate::upstreams::Set;

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
    /// The requests that each server has of this worker; empty unless they decide.
    requests: Vec<u32>,
    /// The hash of the address of each server.
    seeds: Vec<u64>,
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
            requests: vec![0; many(policy == Balance::LeastRequests)],
            policy,
            weights,
            sums,
            seeds,
        }
    }

    /// Chooses a server that is not in `passed`; `None` when there is none.
    #[inline]
    pub(super) fn next(&mut self, wish: &Wish<'_>, random: &mut Random) -> Option<usize> {
        let passed = wish.passed;
        match self.policy {
            Balance::RoundRobin if self.ahead.is_empty() => self.in_turn(passed),
            Balance::RoundRobin => self.by_share(passed),
            Balance::Random => self.draw(passed, random),
            Balance::LeastRequests => self.less_busy(passed, random),
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

    /// Draws two servers, and takes the one that has fewer requests for its weight.
    fn less_busy(&self, passed: &Set, random: &mut Random) -> Option<usize> {
        let one = self.draw(passed, random)?;
        let mut others = passed.clone();
        others.insert(one);
        let Some(other) = self.draw(&others, random) else {
            return Some(one);
        };
        // Requests by weight, without a division.
        let load =
            |of: usize, by: usize| u128::from(self.requests[of]) * u128::from(self.weights[by]);
        if load(other, one) < load(one, other) {
            Some(other)
        } else {
            Some(one)
        }
    }

    /// Counts a request that a server was given.
    #[inline]
    pub(super) fn began(&mut self, index: usize) {
        if let Some(requests) = self.requests.get_mut(index) {
            *requests = requests.saturating_add(1);
        }
    }

    /// Counts a request off.
    #[inline]
    pub(super) fn ended(&mut self, index: usize) {
        if let Some(requests) = self.requests.get_mut(index) {
            *requests = requests.saturating_sub(1);
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
mod tests {
    use super::*;

    const ALL: [Balance; 4] = [
        Balance::RoundRobin,
        Balance::Random,
        Balance::LeastRequests,
        Balance::Hash,
    ];

    fn any(passed: &Set) -> Wish<'_> {
        Wish { passed, hash: 0 }
    }

    fn seeds(count: usize) -> Vec<u64> {
        (0..count).map(|index| hash(&[index as u8])).collect()
    }

    fn balancer(policy: Balance, weights: &[u64]) -> (Balancer, Random) {
        let mut random = Random::default();
        let balancer = Balancer::new(policy, weights.to_vec(), seeds(weights.len()), &mut random);
        (balancer, random)
    }

    fn counts(policy: Balance, weights: &[u64], passed: &Set, n: usize) -> Vec<usize> {
        let (mut balancer, mut random) = balancer(policy, weights);
        let mut counts = vec![0; weights.len()];
        for n in 0..n {
            let hash = hash(&n.to_be_bytes());
            let wish = Wish { passed, hash };
            counts[balancer.next(&wish, &mut random).unwrap()] += 1;
        }
        counts
    }

    #[test]
    fn turns_go_round() {
        let (mut balancer, mut random) = balancer(Balance::RoundRobin, &[7, 7, 7]);
        let mut next = || balancer.next(&any(&Set::default()), &mut random).unwrap();
        let first: Vec<_> = (0..3).map(|_| next()).collect();
        let again: Vec<_> = (0..3).map(|_| next()).collect();
        assert_eq!(first, again);
        let mut sorted = first;
        sorted.sort_unstable();
        assert_eq!(sorted, [0, 1, 2]);
    }

    #[test]
    fn turns_with_weights_are_spread() {
        let (mut balancer, mut random) = balancer(Balance::RoundRobin, &[5, 1, 1]);
        let order: Vec<_> = (0..7)
            .map(|_| balancer.next(&any(&Set::default()), &mut random).unwrap())
            .collect();
        assert_eq!(order, [0, 0, 1, 0, 2, 0, 0]);
    }

    #[test]
    fn shares_are_those_of_the_weights() {
        for policy in [Balance::Random, Balance::LeastRequests, Balance::Hash] {
            let counts = counts(policy, &[3, 1], &Set::default(), 40_000);
            // Ten standard deviations.
            assert!(counts[0].abs_diff(30_000) < 900, "{policy:?} {counts:?}");
        }
    }

    #[test]
    fn none_that_is_passed_is_chosen() {
        let weights = [1, 1_000_000, 1];
        let mut passed = Set::default();
        passed.insert(1);
        for policy in ALL {
            let counts = counts(policy, &weights, &passed, 10_000);
            assert_eq!(counts[1], 0, "{policy:?}");
            assert!(counts[0].abs_diff(5000) < 600, "{policy:?} {counts:?}");
        }
        passed.insert(0);
        passed.insert(2);
        for policy in ALL {
            let (mut balancer, mut random) = balancer(policy, &weights);
            assert_eq!(
                balancer.next(&any(&passed), &mut random),
                None,
                "{policy:?}"
            );
        }
    }

    #[test]
    fn the_server_with_fewer_requests_is_preferred() {
        let (mut balancer, mut random) = balancer(Balance::LeastRequests, &[1, 1]);
        balancer.began(0);
        for _ in 0..100 {
            assert_eq!(balancer.next(&any(&Set::default()), &mut random), Some(1));
        }
        balancer.ended(0);
        let chosen: Vec<_> = (0..100)
            .map(|_| balancer.next(&any(&Set::default()), &mut random))
            .collect();
        assert!(chosen.contains(&Some(0)) && chosen.contains(&Some(1)));
    }

    #[test]
    fn a_heavy_server_may_have_more_requests() {
        let (mut balancer, mut random) = balancer(Balance::LeastRequests, &[4, 1]);
        (0..3).for_each(|_| balancer.began(0));
        balancer.began(1);
        for _ in 0..100 {
            assert_eq!(balancer.next(&any(&Set::default()), &mut random), Some(0));
        }
    }

    #[test]
    fn nobody_is_chosen_of_none() {
        for policy in ALL {
            let (mut balancer, mut random) = balancer(policy, &[]);
            assert_eq!(balancer.next(&any(&Set::default()), &mut random), None);
        }
    }

    #[test]
    fn most_texts_stay_where_they_are_when_a_server_goes() {
        let (mut balancer, mut random) = balancer(Balance::Hash, &[1; 10]);
        let mut gone = Set::default();
        gone.insert(3);
        for n in 0..1000u32 {
            let hash = hash(&n.to_be_bytes());
            let mut next = |passed: &Set| balancer.next(&Wish { passed, hash }, &mut random);
            let before = next(&Set::default());
            assert_eq!(before, next(&Set::default()));
            if before != Some(3) {
                assert_eq!(before, next(&gone));
            }
        }
    }
}
