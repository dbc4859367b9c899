//! The hand-over of the cache's lock in every order of events.
//!
//! Requests for one key are served by the real proxy over connections in memory, and polled by hand. A run chooses who
//! has the next turn, what the origin does, and what goes wrong; a search has all runs that leave the usual course of
//! things at most so often, each from the start, as loom does it. More is left at random. Between two awaits a request
//! has its turn alone, so that the insides of `pingora-cache` are not what is checked here.
//!
//! In each run:
//! - A key has one writer at a time, and another one only when the time of the first is up.
//! - Every request ends, without the help of a timeout: a wake-up that is lost leaves a run stuck.
//! - The permit to write comes back, and a later request need not wait.
//! - What is discarded is gone before others look up, and nobody is sent a part of it as whole.
//! - A request that has waited looks up again, as often as it may, or goes upstream without the cache.
//!
//! `CACHE_LOCK_DEEPER=1` has runs leave the usual course once more, and has more of them at random.

#![allow(clippy::unwrap_used, unreachable_pub)]

mod app;
mod cache;
mod choices;
mod origin;
mod pipe;
mod rules;
mod run;
mod scenario;
mod world;

use std::collections::BTreeSet;
use std::time::Duration;

use choices::{Budget, Choices};
use run::Proxy;
use scenario::{Scenario, Stale, LOCK_AGE};
use world::World;

fn deeper() -> usize {
    let deeper = std::env::var("CACHE_LOCK_DEEPER");
    deeper.map_or(0, |deeper| deeper.parse().unwrap())
}

/// Runs `work` where nothing but it has time pass, and one task in the background is polled whenever it yields.
#[track_caller]
fn in_runtime<T>(work: impl std::future::Future<Output = Result<T, String>>) -> T {
    // The timers of `pingora-cache` shall be tokio's, which can be stopped.
    pingora_timeout::fast_timeout::set_fast_timeout_to_tokio_threshold(Some(Duration::ZERO));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .event_interval(1)
        .build()
        .unwrap();
    // What a turn may do is not limited, as all turns are one of the runtime's.
    let done = runtime.block_on(tokio::task::unconstrained(work));
    done.unwrap_or_else(|e| panic!("{e}"))
}

/// Has all runs with at most so many deviations from the usual order, and so many faults. Requests that wait come to these
/// `ends`, each in one of the runs at least.
#[track_caller]
fn search(scenario: Scenario, order: usize, faults: usize, ends: &[&str]) {
    let budget = Budget {
        order: order + deeper(),
        faults,
    };
    let world = World::new(scenario);
    let runs = in_runtime(async {
        let proxy = Proxy::new(world);
        let mut choices = Choices::first(budget);
        for runs in 1.. {
            match proxy.run(choices).await?.next() {
                Some(next) => choices = Choices::given(next, budget),
                None => return Ok(runs),
            }
        }
        Ok(0)
    });
    println!("{runs} runs of {scenario:?}");
    let reached = &world.state().ends;
    let missing: BTreeSet<_> = ends.iter().filter(|end| !reached.contains(**end)).collect();
    assert!(
        missing.is_empty(),
        "not reached: {missing:?} of {reached:?}"
    );
}

/// Has runs at random.
#[track_caller]
fn wander(scenario: Scenario) {
    let budget = Budget {
        order: usize::MAX,
        faults: 3,
    };
    let runs = 30 + 2_000 * deeper() as u64;
    in_runtime(async {
        let proxy = Proxy::new(World::new(scenario));
        for seed in 0..runs {
            proxy.run(Choices::random(seed, budget)).await?;
        }
        Ok(())
    });
}

const ENDS: [&str; 6] = [
    "Done: Hit",
    "Done: Miss",
    "TransientError: Miss",
    "AgeTimeout: Hit",
    "AgeTimeout: Miss",
    "GiveUp: CacheLockGiveUp",
];

#[test]
fn nothing_is_stored() {
    search(Scenario::default(), 2, 1, &ENDS);
}

#[test]
fn three_requests_meet() {
    let three = Scenario {
        requests: 3,
        ..Scenario::default()
    };
    search(three, 1, 1, &ENDS);
}

#[test]
fn a_response_is_read_while_it_is_stored() {
    let streams = Scenario {
        streams: true,
        ..Scenario::default()
    };
    search(streams, 2, 1, &ENDS);
}

#[test]
fn a_stale_response_is_served_while_it_is_revalidated() {
    let stale = Scenario {
        stale: Some(Stale::Served),
        ..Scenario::default()
    };
    search(stale, 2, 1, &[]);
}

#[test]
fn a_stale_response_is_revalidated_first() {
    let stale = Scenario {
        stale: Some(Stale::Waited),
        ..Scenario::default()
    };
    let ends = ["Done: Hit", "TransientError: Stale", "AgeTimeout: Stale"];
    search(stale, 2, 1, &ends);
}

#[test]
fn a_purge_meets_them() {
    for streams in [false, true] {
        for stale in [None, Some(Stale::Served), Some(Stale::Waited)] {
            let purge = Scenario {
                purge: true,
                streams,
                stale,
                ..Scenario::default()
            };
            search(purge, 1, 1, &[]);
        }
    }
}

#[test]
fn lookups_after_waits_have_a_limit() {
    let none = Scenario {
        retries: Some(0),
        ..Scenario::default()
    };
    let ends = [
        "Done: CacheLockRetryLimit",
        "TransientError: CacheLockRetryLimit",
        "AgeTimeout: CacheLockRetryLimit",
    ];
    search(none, 1, 1, &ends);
    let one = Scenario {
        requests: 4,
        retries: Some(1),
        ..Scenario::default()
    };
    search(one, 0, 1, &[]);
}

#[test]
fn waits_have_a_limit() {
    let limited = Scenario {
        wait_timeout: Some(LOCK_AGE / 2),
        ..Scenario::default()
    };
    search(limited, 1, 1, &["WaitTimeout: CacheLockTimeout"]);
}

#[test]
fn a_fill_is_of_no_use_to_those_behind_it() {
    let unusable = Scenario {
        unusable: true,
        ..Scenario::default()
    };
    search(unusable, 1, 1, &["GiveUp: Custom(\"unusable\")"]);
}

#[test]
fn anything_at_random() {
    for requests in [3, 6] {
        for streams in [false, true] {
            for stale in [None, Some(Stale::Served), Some(Stale::Waited)] {
                let scenario = Scenario {
                    requests,
                    purge: true,
                    streams,
                    stale,
                    ..Scenario::default()
                };
                wander(scenario);
            }
        }
    }
}
