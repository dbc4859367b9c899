//! The error of a limit that workers share.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use proptest::prelude::*;

use super::*;

const SECOND: u64 = 1_000_000_000;

fn limiter(rate: u32, burst: u32) -> Limiter {
    Limiter::new(
        1,
        String::new(),
        Quota::new(rate, Duration::from_secs(1), burst),
    )
}

fn passes(verdict: Verdict) -> bool {
    matches!(verdict, Verdict::Passes(_))
}

proptest! {
    /// Compares workers with a bucket that sees each request at once.
    #[test]
    fn no_request_too_many_and_at_most_a_quarter_of_the_burst_too_few(
        rate in 1u32..400,
        burst in 1u32..800,
        workers in 1usize..9,
        // A worker, the requests that it has, and the time until then in units of a 1/64 s.
        steps in prop::collection::vec((0usize..9, 1u32..120, 0u64..900), 1..120),
        quick in any::<bool>(),
    ) {
        let limiter = limiter(rate, burst);
        let mut locals: Vec<_> = (0..workers).map(|_| LocalRates::default()).collect();
        let (mut exact, mut now) = (Bucket::default(), 0);
        for (worker, requests, later) in steps {
            now += if quick { later % 4 } else { later } * SECOND / 64;
            let local = &mut locals[worker % workers];
            for _ in 0..requests {
                let level = exact.level(&limiter.quota, now);
                let passed = passes(local.judge(&limiter, 7, now));
                if passed {
                    prop_assert!(level >= 1, "too many");
                    exact.take(&limiter.quota, now, 1);
                } else {
                    prop_assert!(level < 1 + burst.div_ceil(4), "too few: {} of {}", level, burst);
                }
            }
        }
    }

    /// Small bursts are exact.
    #[test]
    fn a_burst_of_less_than_sixteen_has_no_error(
        rate in 1u32..40,
        burst in 1u32..16,
        steps in prop::collection::vec((0usize..4, 0u64..64), 1..300),
    ) {
        let limiter = limiter(rate, burst);
        let mut locals: Vec<_> = (0..4).map(|_| LocalRates::default()).collect();
        let (mut exact, mut now) = (Bucket::default(), 0);
        for (worker, later) in steps {
            now += later * SECOND / 64;
            let passed = passes(locals[worker].judge(&limiter, 7, now));
            prop_assert_eq!(passed, exact.level(&limiter.quota, now) >= 1);
            if passed {
                exact.take(&limiter.quota, now, 1);
            }
        }
    }
}

/// Threads that ask for one key as fast as they can, at times that all of them see.
#[test]
fn the_sum_over_threads_is_within_the_error() {
    const THREADS: usize = 8;
    let (rate, burst) = (100, 400);
    let limiter = &limiter(rate, burst);
    let (clock, passed) = (&AtomicU64::new(0), &AtomicU64::new(0));
    let barrier = &std::sync::Barrier::new(THREADS);
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            scope.spawn(move || {
                let mut local = LocalRates::default();
                for step in 0..200u64 {
                    let now = clock.load(Ordering::SeqCst);
                    // Half of them rest half of the time, with what they have leased.
                    let rests = thread % 2 == 0 && step % 16 < 8;
                    while !rests && passes(local.judge(limiter, 7, now)) {
                        passed.fetch_add(1, Ordering::SeqCst);
                    }
                    if barrier.wait().is_leader() {
                        let sum = passed.load(Ordering::SeqCst);
                        let exact = u64::from(burst) + now * u64::from(rate) / SECOND;
                        assert!(sum <= exact, "{sum} of {exact} at {now}");
                        assert!(
                            sum + u64::from(burst) / 4 >= exact,
                            "{sum} of {exact} at {now}"
                        );
                        clock.fetch_add(SECOND / 8 + step, Ordering::SeqCst);
                    }
                    barrier.wait();
                }
            });
        }
    });
}

#[test]
fn a_key_that_is_far_from_its_limit_is_seldom_asked_for() {
    let limiter = limiter(1000, 8000);
    let mut local = LocalRates::default();
    let mut asked = 0;
    for n in 0..4000u64 {
        let before = limiter.shared.with(7, |shared| shared.bucket);
        assert!(passes(local.judge(&limiter, 7, n * SECOND / 1000)));
        asked += u32::from(limiter.shared.with(7, |shared| shared.bucket) != before);
    }
    assert!(asked < 30, "{asked}");
}

#[test]
fn memory_is_bounded_whatever_keys_come() {
    let limiter = limiter(1, 100);
    let mut local = LocalRates::default();
    let key = |n: u64| limiter.hasher.hash_one(n);
    for n in 0..200_000u64 {
        assert!(passes(local.judge(&limiter, key(n), n)));
    }
    assert!(limiter.shared.len() <= 65_536);
    assert!(local.keys.len() <= 16 * 1024);
    // One that has used up its rate is remembered beside many that have not.
    let busy = key(u64::MAX);
    let now = SECOND;
    while passes(local.judge(&limiter, busy, now)) {}
    for n in 300_000..320_000u64 {
        local.judge(&limiter, key(n), now);
    }
    assert!(!passes(LocalRates::default().judge(&limiter, busy, now)));
}

#[test]
fn a_refusal_tells_when_to_come_again() {
    let limiter = limiter(2, 1);
    let mut local = LocalRates::default();
    assert_eq!(local.judge(&limiter, 7, 0), Verdict::Passes(0));
    assert_eq!(local.judge(&limiter, 7, 0), Verdict::Refused(SECOND / 2));
    assert_eq!(
        local.judge(&limiter, 7, SECOND / 4),
        Verdict::Refused(SECOND / 4)
    );
    assert_eq!(local.judge(&limiter, 7, SECOND / 2), Verdict::Passes(0));
    assert_eq!(Verdict::retry_after(1), 1);
}
