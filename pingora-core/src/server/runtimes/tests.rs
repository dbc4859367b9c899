use std::collections::BTreeSet;
use std::sync::mpsc::channel;
use std::thread::ThreadId;
use std::time::Instant;

use super::*;

fn started(conf: &ServerConf) -> ServiceRuntime {
    ServiceRuntime::new("test", None, conf, conf.runtime_opts()).unwrap()
}

fn with(set: impl FnOnce(&mut ServerConf)) -> ServerConf {
    let mut conf = ServerConf::default();
    set(&mut conf);
    conf
}

#[test]
fn threads_are_apart_or_share_their_work() {
    for (threads, expected) in [(0, 1), (1, 1), (3, 3)] {
        let apart = started(&with(|c| (c.threads, c.work_stealing) = (threads, false)));
        assert_eq!(apart.handles().len(), expected);
        let workers = apart.handles().iter().map(|h| h.metrics().num_workers());
        assert!(workers.eq(vec![1; expected]));
        apart.shut_down(Duration::ZERO);

        let sharing = started(&with(|c| (c.threads, c.work_stealing) = (threads, true)));
        assert_eq!(sharing.handles().len(), 1);
        assert_eq!(sharing.handles()[0].metrics().num_workers(), expected);
        sharing.shut_down(Duration::ZERO);
    }
}

#[test]
fn threads_for_blocking_work_are_limited() {
    let runtime = started(&with(|c| c.max_blocking_threads = Some(1)));
    let (second, seen) = channel();
    let (first, outcome) = channel();
    let handle = runtime.handles()[0].clone();
    // One that had a thread of its own would be seen long before.
    handle
        .spawn_blocking(move || first.send(seen.recv_timeout(Duration::from_millis(300)).is_err()));
    handle.spawn_blocking(move || second.send(()));
    assert!(outcome.recv().unwrap(), "a second thread");
    runtime.shut_down(Duration::ZERO);
}

#[test]
fn idle_threads_for_blocking_work_end() {
    // The default is 10 s, for which none of them is idle here.
    let runtime = started(&with(|c| c.blocking_threads_ttl_seconds = Some(0)));
    let handle = runtime.handles()[0].clone();
    let mut threads = BTreeSet::new();
    let end = Instant::now() + Duration::from_secs(60);
    while threads.len() < 2 {
        assert!(Instant::now() < end, "one thread stays");
        let (tell, told) = channel();
        handle.spawn_blocking(move || tell.send(format!("{:?}", id())));
        threads.insert(told.recv().unwrap());
        std::thread::yield_now();
    }
    runtime.shut_down(Duration::ZERO);
}

fn id() -> ThreadId {
    std::thread::current().id()
}

#[test]
fn what_has_no_effect_is_told() {
    assert!(idle_settings(&ServerConf::default()).is_empty());
    assert!(idle_settings(&with(|c| c.version = 1)).is_empty());
    let daemon = |c: &mut ServerConf| {
        c.error_log = Some("log".into());
        c.user = Some("nobody".into());
        c.group = Some("nogroup".into());
        c.working_directory = Some("/".into());
        c.daemon_wait_for_ready = true;
    };
    let names = |conf: &ServerConf| -> Vec<&str> {
        let idle = idle_settings(conf);
        idle.into_iter().map(|(name, _)| name).collect()
    };
    let of_a_daemon = [
        "error_log",
        "user",
        "group",
        "working_directory",
        "daemon_wait_for_ready",
    ];
    assert_eq!(names(&with(daemon)), of_a_daemon);
    let in_one = with(|c| {
        daemon(c);
        c.daemon = true;
        c.version = 2;
        c.runtime_metrics_poll_time_histogram_buckets = Some(9);
        // Without work stealing it has none, however tokio is built.
        (c.runtime_enable_alt_timer, c.work_stealing) = (true, false);
    });
    let told = [
        "version",
        "runtime_enable_alt_timer",
        "runtime_metrics_poll_time_histogram_*",
    ];
    assert_eq!(names(&in_one), told);
}
