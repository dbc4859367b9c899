//! Choices, without servers.

#![allow(clippy::unwrap_used)]

use super::*;

const ALL: [Balance; 5] = [
    Balance::RoundRobin,
    Balance::Random,
    Balance::LeastRequests,
    Balance::PeakEwma,
    Balance::Hash,
];

/// Open requests of servers; of others there are none.
struct Open(&'static [u32]);

impl Loads for Open {
    fn open(&self, index: usize) -> u32 {
        self.0.get(index).copied().unwrap_or(0)
    }

    fn expected(&self, _: usize) -> f64 {
        1.0
    }
}

const NONE: Open = Open(&[]);

fn any(passed: &Set) -> Wish<'_> {
    Wish { passed, hash: 0 }
}

fn seeds(count: usize) -> Vec<u64> {
    (0..count).map(|index| hash(&[index as u8])).collect()
}

fn balancer(policy: Balance, weights: &[u64]) -> (Balancer, Random) {
    let mut random = Random::seeded(1);
    let balancer = Balancer::new(policy, weights.to_vec(), seeds(weights.len()), &mut random);
    (balancer, random)
}

fn counts(policy: Balance, weights: &[u64], passed: &Set, n: usize) -> Vec<usize> {
    let (mut balancer, mut random) = balancer(policy, weights);
    let mut counts = vec![0; weights.len()];
    for n in 0..n {
        let hash = hash(&n.to_be_bytes());
        let wish = Wish { passed, hash };
        counts[balancer.next(&wish, &NONE, &mut random).unwrap()] += 1;
    }
    counts
}

#[test]
fn turns_go_round() {
    let (mut balancer, mut random) = balancer(Balance::RoundRobin, &[7, 7, 7]);
    let mut next = || {
        balancer
            .next(&any(&Set::default()), &NONE, &mut random)
            .unwrap()
    };
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
        .map(|_| {
            balancer
                .next(&any(&Set::default()), &NONE, &mut random)
                .unwrap()
        })
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
            balancer.next(&any(&passed), &NONE, &mut random),
            None,
            "{policy:?}"
        );
    }
}

#[test]
fn the_server_with_fewer_requests_is_preferred() {
    let (mut balancer, mut random) = balancer(Balance::LeastRequests, &[1, 1]);
    for _ in 0..100 {
        assert_eq!(
            balancer.next(&any(&Set::default()), &Open(&[1]), &mut random),
            Some(1)
        );
    }
    let chosen: Vec<_> = (0..100)
        .map(|_| balancer.next(&any(&Set::default()), &NONE, &mut random))
        .collect();
    assert!(chosen.contains(&Some(0)) && chosen.contains(&Some(1)));
}

#[test]
fn a_heavy_server_may_have_more_requests() {
    let (mut balancer, mut random) = balancer(Balance::LeastRequests, &[4, 1]);
    for _ in 0..100 {
        assert_eq!(
            balancer.next(&any(&Set::default()), &Open(&[3, 1]), &mut random),
            Some(0)
        );
    }
}

#[test]
fn nobody_is_chosen_of_none() {
    for policy in ALL {
        let (mut balancer, mut random) = balancer(policy, &[]);
        assert_eq!(
            balancer.next(&any(&Set::default()), &NONE, &mut random),
            None
        );
    }
}

#[test]
fn most_texts_stay_where_they_are_when_a_server_goes() {
    let (mut balancer, mut random) = balancer(Balance::Hash, &[1; 10]);
    let mut gone = Set::default();
    gone.insert(3);
    for n in 0..1000u32 {
        let hash = hash(&n.to_be_bytes());
        let mut next = |passed: &Set| balancer.next(&Wish { passed, hash }, &NONE, &mut random);
        let before = next(&Set::default());
        assert_eq!(before, next(&Set::default()));
        if before != Some(3) {
            assert_eq!(before, next(&gone));
        }
    }
}
