//! Models of requests that wait for a connection which another one makes, on threads between which tasks move.

use loom::future::block_on;
use loom::thread;

use super::*;
use crate::worker::act_as;

const KEY: u64 = 1;

type Pending = PendingConnects<&'static str>;

/// A place for as long as the model runs, as connectors are for as long as their requests.
fn pending() -> &'static Pending {
    act_as(0);
    Box::leak(Box::new(PendingConnects::new()))
}

/// The end of a dial, and the word that those who wait for it get.
type Outcome = (fn(Dialed<'static, &'static str>), &'static str);

const OUTCOMES: [Outcome; 3] = [
    (|dialed| dialed.end(Ok(())), "made"),
    (|dialed| dialed.end(Err("refused")), "refused"),
    (drop, "given up"),
];

/// Waits, for ever if nobody tells, which loom finds.
fn told(mut place: Place<'_, &'static str>) -> &'static str {
    match block_on(place.ended()) {
        Ended::Made => "made",
        Ended::Failed(why) => why,
        Ended::GivenUp => "given up",
    }
}

/// Runs on another thread, as which it is another worker.
fn elsewhere<T: 'static>(work: impl FnOnce() -> T + 'static) -> thread::JoinHandle<T> {
    thread::spawn(|| {
        act_as(1);
        work()
    })
}

#[test]
fn who_finds_a_dial_is_told_how_it_ended() {
    for (end, expected) in OUTCOMES {
        loom::model(move || {
            let pending = pending();
            let dialed = pending.begin(KEY, 1);
            let dialing = elsewhere(move || end(dialed));
            if let Some(place) = pending.join(KEY) {
                assert_eq!(told(place), expected);
            }
            dialing.join().unwrap();
            assert!(pending.join(KEY).is_none(), "it has ended");
        });
    }
}

#[test]
fn all_who_wait_are_told() {
    for (end, expected) in OUTCOMES {
        let mut model = loom::model::Builder::new();
        // Every order of three threads takes minutes.
        model.preemption_bound = Some(2);
        model.check(move || {
            let pending = pending();
            let dialed = pending.begin(KEY, 2);
            let places = [(); 2].map(|()| pending.join(KEY).unwrap());
            assert!(pending.join(KEY).is_none(), "there are two places");
            let [one, other] = places;
            let waiting = elsewhere(move || told(one));
            let dialing = elsewhere(move || end(dialed));
            assert_eq!(told(other), expected);
            assert_eq!(waiting.join().unwrap(), expected);
            dialing.join().unwrap();
        });
    }
}

#[test]
fn a_place_that_is_given_back_is_had_once() {
    loom::model(|| {
        let pending = pending();
        let dialed = pending.begin(KEY, 1);
        let left = pending.join(KEY).unwrap();
        let leaving = elsewhere(move || drop(left));
        let at_once = pending.join(KEY);
        leaving.join().unwrap();
        let later = pending.join(KEY);
        assert_ne!(at_once.is_some(), later.is_some());
        assert!(pending.join(KEY).is_none());
        drop(dialed);
    });
}

#[test]
fn a_place_of_a_dial_that_ended_is_none_of_the_next_one() {
    loom::model(|| {
        let pending = pending();
        let first = pending.begin(KEY, 1);
        let left = pending.join(KEY).unwrap();
        let leaving = elsewhere(move || drop(left));
        first.end(Ok(()));
        let second = pending.begin(KEY, 1);
        leaving.join().unwrap();
        let place = pending.join(KEY);
        assert!(place.is_some() && pending.join(KEY).is_none());
        drop(second);
    });
}
