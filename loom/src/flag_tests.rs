//! The flag of a proxy that shuts down, which a connection loads before it reads a head and after: each one that waits is
//! woken and finds it set, and one that has seen it never sees it gone.
//!
//! Flag and waiters are the real ones. The order in which they are used, which is that of `http_cleanup` and of
//! `handle_new_request` (`pingora-proxy/src/flow/shutdown.rs`), is written down here once more: those need sessions, and
//! these a runtime.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

use loom::future::block_on;
use loom::thread;

use crate::exchange::{Registry, Stage};
use crate::shutdown_flag::ShutdownFlag;

/// The end of a connection.
#[derive(Debug, PartialEq)]
enum End {
    /// It found the flag before it read.
    Before,
    /// It was woken while it waited for a head.
    Woken,
}

/// A connection that has so many requests, whose heads are there at once, and then waits for another.
fn connection(flag: &ShutdownFlag, registry: &Arc<Registry>, requests: usize) -> (usize, End) {
    let mut place = registry.register(0);
    let mut served = 0;
    let mut last = false;
    loop {
        if flag.is_set() {
            return (served, End::Before);
        }
        assert!(!last, "the flag was set, and is not");
        if served == requests {
            block_on(poll_fn(|cx| match place.park(cx.waker()) {
                Stage::Running => Poll::Pending,
                _ => Poll::Ready(()),
            }));
            assert!(flag.is_set(), "woken before the flag was set");
            return (served, End::Woken);
        }
        served += 1;
        last = flag.is_set();
    }
}

fn stopped_after(requests: usize) {
    loom::model(move || {
        let registry = Registry::new(1);
        let flag = Arc::new(ShutdownFlag::new());
        let serving = {
            let (flag, registry) = (flag.clone(), registry.clone());
            thread::spawn(move || connection(&flag, &registry, requests))
        };
        flag.set();
        registry.advance(Stage::Draining);
        // A wake-up that is lost is a thread that never ends, which loom tells.
        let (served, end) = serving.join().unwrap();
        assert!(served == requests || end == End::Before);
    });
}

#[test]
fn a_connection_that_waits_is_woken() {
    stopped_after(0);
}

#[test]
fn a_kept_connection_ends_after_a_request() {
    stopped_after(1);
    stopped_after(2);
}

/// Two connections on the list of one worker.
#[test]
fn all_are_woken() {
    let mut model = loom::model::Builder::new();
    // Every order of three threads takes minutes.
    model.preemption_bound = Some(2);
    model.check(|| {
        let registry = Registry::new(1);
        let flag = Arc::new(ShutdownFlag::new());
        let serving = [0, 1].map(|requests| {
            let (flag, registry) = (flag.clone(), registry.clone());
            thread::spawn(move || connection(&flag, &registry, requests))
        });
        flag.set();
        registry.advance(Stage::Draining);
        for serving in serving {
            serving.join().unwrap();
        }
    });
}
