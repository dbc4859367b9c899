use std::collections::VecDeque;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use parking_lot::Mutex as Lock;
use tokio::sync::{oneshot, Notify};

use super::*;
use crate::services::background::{background_service, BackgroundService};
use crate::services::{Service, ServiceReadyNotifier};
use crate::shutdown::upgrading;
use crate::worker::{self, Workers};

mod failure;
mod signals;

/// Stops the server when told.
struct Told(Lock<Option<oneshot::Receiver<ShutdownSignal>>>);

#[async_trait]
impl ShutdownSignalWatch for Told {
    async fn recv(&self) -> ShutdownSignal {
        let told = self.0.lock().take().unwrap();
        told.await.unwrap()
    }
}

/// A server that runs in a thread.
struct Run {
    stop: oneshot::Sender<ShutdownSignal>,
    thread: std::thread::JoinHandle<()>,
    phases: broadcast::Receiver<ExecutionPhase>,
    from_start: Option<broadcast::Receiver<ExecutionPhase>>,
}

fn run(server: Server) -> Run {
    let (stop, told) = oneshot::channel();
    let phases = server.watch_execution_phase();
    let from_start = Some(server.watch_execution_phase());
    let thread = std::thread::spawn(move || {
        server.run(RunArgs {
            shutdown_signal: Box::new(Told(Lock::new(Some(told)))),
        })
    });
    Run {
        stop,
        thread,
        phases,
        from_start,
    }
}

impl Run {
    /// Stops the server; the phases since its start, by name.
    fn stop(mut self, signal: ShutdownSignal) -> Vec<String> {
        self.stop.send(signal).unwrap();
        self.thread.join().unwrap();
        let mut phases = Vec::new();
        while let Ok(phase) = self.phases.try_recv() {
            phases.push(format!("{phase:?}"));
        }
        phases
    }
}

fn server(conf: ServerConf) -> Server {
    Server::new_with_opt_and_conf(None, conf)
}

fn no_steal(threads: usize) -> ServerConf {
    ServerConf {
        work_stealing: false,
        threads,
        ..Default::default()
    }
}

/// Notes when it starts, and is ready when told.
struct Noting {
    name: &'static str,
    log: Arc<Lock<Vec<String>>>,
    noted: Arc<Notify>,
    ready: Option<oneshot::Receiver<()>>,
}

#[async_trait]
impl ServiceWithDependents for Noting {
    async fn start_service(
        &mut self,
        _fds: Option<ListenFds>,
        mut shutdown: ShutdownWatch,
        _listeners_per_fd: usize,
        ready_notifier: ServiceReadyNotifier,
    ) {
        self.log.lock().push(self.name.to_owned());
        self.noted.notify_one();
        if let Some(ready) = self.ready.take() {
            ready.await.unwrap();
        }
        ready_notifier.notify_ready();
        shutdown.wait_for(|on| *on).await.unwrap();
    }

    fn name(&self) -> &str {
        self.name
    }

    fn on_startup_delay(&self, _time_waited: Duration) {
        self.log.lock().push(format!("{} waited", self.name));
    }
}

#[tokio::test]
async fn services_start_when_those_they_depend_on_are_ready() {
    for conf in [no_steal(2), ServerConf::default()] {
        let log = Arc::new(Lock::new(Vec::new()));
        let noted = Arc::new(Notify::new());
        let noting = |name, ready| Noting {
            name,
            log: log.clone(),
            noted: noted.clone(),
            ready,
        };
        let (ready_a, told_a) = oneshot::channel();
        let (ready_b, told_b) = oneshot::channel();
        let mut server = server(conf);
        let c = server.add_service(noting("c", None));
        let b = server.add_service(noting("b", Some(told_b)));
        let a = server.add_service(noting("a", Some(told_a)));
        c.add_dependencies([&b, &a]);
        b.add_dependency(&a);
        let running = run(server);
        noted.notified().await;
        assert_eq!(*log.lock(), ["a"]);
        ready_a.send(()).unwrap();
        noted.notified().await;
        assert_eq!(*log.lock(), ["a", "b waited", "b"]);
        ready_b.send(()).unwrap();
        noted.notified().await;
        assert_eq!(*log.lock(), ["a", "b waited", "b", "c waited", "c"]);
        running.stop(ShutdownSignal::GracefulTerminate);
    }
}

#[tokio::test]
async fn a_shutdown_does_not_start_what_waits() {
    let log = Arc::new(Lock::new(Vec::new()));
    let noted = Arc::new(Notify::new());
    let noting = |name, ready| Noting {
        name,
        log: log.clone(),
        noted: noted.clone(),
        ready,
    };
    let (ready, told) = oneshot::channel();
    let mut server = server(no_steal(1));
    let first = server.add_service(noting("first", Some(told)));
    let second = server.add_service(noting("second", None));
    second.add_dependency(first);
    let mut running = run(server);
    noted.notified().await;
    let watch = running.from_start.take().unwrap();
    let stopped = std::thread::spawn(move || running.stop(ShutdownSignal::GracefulTerminate));
    until(watch, "ShutdownGracePeriod").await;
    ready.send(()).unwrap();
    stopped.join().unwrap();
    assert_eq!(*log.lock(), ["first"]);
}

async fn until(mut phases: broadcast::Receiver<ExecutionPhase>, name: &str) {
    while format!("{:?}", phases.recv().await.unwrap()) != name {}
}

/// A background service that runs until the shutdown, and then for as long as `hold` says.
struct Holding {
    hold: Arc<Notify>,
    started: Arc<Notify>,
}

#[async_trait]
impl BackgroundService for Holding {
    async fn start(&self, mut shutdown: ShutdownWatch) {
        self.started.notify_one();
        shutdown.wait_for(|on| *on).await.unwrap();
        self.hold.notified().await;
    }
}

fn holding() -> (Holding, Arc<Notify>, Arc<Notify>) {
    let (hold, started) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let service = Holding {
        hold: hold.clone(),
        started: started.clone(),
    };
    (service, hold, started)
}

#[tokio::test]
async fn phases_of_a_graceful_stop() {
    let mut server = server(ServerConf::default());
    let mut before = server.watch_execution_phase();
    server.bootstrap();
    assert!(matches!(before.try_recv(), Ok(ExecutionPhase::Bootstrap)));
    assert!(matches!(
        before.try_recv(),
        Ok(ExecutionPhase::BootstrapComplete)
    ));
    let (service, hold, started) = holding();
    server.add_service(background_service("b", service));
    hold.notify_one();
    let mut running = run(server);
    let watch = running.from_start.take().unwrap();
    started.notified().await;
    until(watch, "Running").await;
    // Not after the 300 s of the grace period, as nothing is left to do.
    let phases = running.stop(ShutdownSignal::GracefulTerminate);
    assert_eq!(
        phases,
        [
            "Running",
            "GracefulTerminate",
            "ShutdownStarted",
            "ShutdownGracePeriod",
            "ShutdownRuntimes",
            "Terminated"
        ]
    );
}

#[tokio::test]
async fn phases_of_other_stops() {
    let phases = run(server(no_steal(1))).stop(ShutdownSignal::FastShutdown);
    let tail = ["ShutdownStarted", "ShutdownRuntimes", "Terminated"];
    assert!(phases.ends_with(&tail.map(String::from)), "{phases:?}");
    // Nothing to hand over: as a graceful stop.
    let phases = run(server(no_steal(1))).stop(ShutdownSignal::GracefulUpgrade);
    let tail = [
        "GracefulUpgradeTransferringFds",
        "ShutdownStarted",
        "ShutdownGracePeriod",
        "ShutdownRuntimes",
        "Terminated",
    ];
    assert!(phases.ends_with(&tail.map(String::from)), "{phases:?}");
    assert!(!upgrading());
}

/// Stops the server as the signals of the process would.
struct Signals(Lock<VecDeque<ShutdownSignal>>);

#[async_trait]
impl ShutdownSignalWatch for Signals {
    async fn recv(&self) -> ShutdownSignal {
        let next = self.0.lock().pop_front();
        match next {
            Some(signal) => signal,
            None => std::future::pending().await,
        }
    }

    fn is_process_signals(&self) -> bool {
        true
    }
}

/// The phases of a server with a socket that nobody takes.
fn phases_of_a_refused_upgrade(watch: impl ShutdownSignalWatch + Send + 'static) -> Vec<String> {
    let nowhere = std::env::temp_dir().join(format!("nobody-waits-{}", std::process::id()));
    let server = server(ServerConf {
        upgrade_sock: nowhere.to_str().unwrap().to_owned(),
        upgrade_sock_connect_accept_max_retries: Some(0),
        ..no_steal(1)
    });
    let mut phases = server.watch_execution_phase();
    let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    server.fds.lock().add("here".into(), socket.as_raw_fd());
    server.run(RunArgs {
        shutdown_signal: Box::new(watch),
    });
    let mut seen = Vec::new();
    while let Ok(phase) = phases.try_recv() {
        seen.push(format!("{phase:?}"));
    }
    seen
}

#[test]
fn a_server_whose_sockets_nobody_takes_goes_on() {
    let handing_over = "GracefulUpgradeTransferringFds";
    let end = [
        "ShutdownStarted",
        "ShutdownGracePeriod",
        "ShutdownRuntimes",
        "Terminated",
    ];
    let signals = [
        ShutdownSignal::GracefulUpgrade,
        ShutdownSignal::GracefulUpgrade,
        ShutdownSignal::GracefulTerminate,
    ];
    let phases = phases_of_a_refused_upgrade(Signals(Lock::new(signals.into())));
    let expected = [&[handing_over, handing_over, "GracefulTerminate"], &end[..]].concat();
    assert_eq!(phases[2..], expected);
    // Whoever watches by means of their own is asked once, and then it ends.
    let (stop, told) = oneshot::channel();
    stop.send(ShutdownSignal::GracefulUpgrade).unwrap();
    let phases = phases_of_a_refused_upgrade(Told(Lock::new(Some(told))));
    assert_eq!(phases[2..], [&[handing_over], &end[..]].concat());
    assert!(!upgrading());
}

#[tokio::test]
async fn the_server_waits_for_services_and_tasks() {
    for conf in [no_steal(3), ServerConf::default()] {
        let (service, hold, started) = holding();
        let mut server = server(conf);
        server.add_service(background_service("b", service));
        let mut running = run(server);
        started.notified().await;
        let watch = running.from_start.take().unwrap();
        let stopped = std::thread::spawn(move || running.stop(ShutdownSignal::GracefulTerminate));
        until(watch, "ShutdownGracePeriod").await;
        // Several of its ticks pass, and it is still there.
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert!(!stopped.is_finished());
        hold.notify_one();
        stopped.join().unwrap();
    }
}

#[tokio::test]
async fn the_grace_period_bounds_the_wait() {
    let (service, _hold, started) = holding();
    let mut server = server(ServerConf {
        grace_period_seconds: Some(0),
        graceful_shutdown_timeout_seconds: Some(0),
        ..no_steal(1)
    });
    server.add_service(background_service("b", service));
    let running = run(server);
    started.notified().await;
    running.stop(ShutdownSignal::GracefulTerminate);
}

/// Leaves a task behind on each worker, of which one is housekeeping that never ends.
struct Leaving {
    release: Arc<Notify>,
    started: Arc<Notify>,
    workers: Arc<AtomicUsize>,
}

#[async_trait]
impl Service for Leaving {
    async fn start_service(
        &mut self,
        fds: Option<ListenFds>,
        _shutdown: ShutdownWatch,
        listeners_per_fd: usize,
    ) {
        assert!(fds.is_some());
        assert_eq!(listeners_per_fd, 2);
        let workers = Workers::current();
        self.workers
            .store(workers.handles().len(), Ordering::Release);
        worker::spawn_housekeeping(std::future::pending());
        for handle in workers.handles() {
            let release = self.release.clone();
            handle.spawn(async move { release.notified().await });
        }
        self.started.notify_one();
    }

    fn name(&self) -> &str {
        "leaving"
    }

    fn threads(&self) -> Option<usize> {
        Some(2)
    }
}

#[tokio::test]
async fn housekeeping_does_not_hold_a_server_up_but_other_tasks_do() {
    for (work_stealing, workers) in [(false, 2), (true, 1)] {
        let leaving = Leaving {
            release: Arc::default(),
            started: Arc::default(),
            workers: Arc::default(),
        };
        let (release, started) = (leaving.release.clone(), leaving.started.clone());
        let seen = leaving.workers.clone();
        let mut server = server(ServerConf {
            work_stealing,
            listener_tasks_per_fd: 2,
            ..no_steal(7)
        });
        server.add_service(leaving);
        let mut running = run(server);
        started.notified().await;
        assert_eq!(seen.load(Ordering::Acquire), workers);
        let watch = running.from_start.take().unwrap();
        let stopped = std::thread::spawn(move || running.stop(ShutdownSignal::GracefulTerminate));
        until(watch, "ShutdownGracePeriod").await;
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert!(!stopped.is_finished());
        release.notify_waiters();
        stopped.join().unwrap();
    }
}

/// A connector on a runtime of the user's own has tasks there, of which the server's runtimes know nothing.
#[tokio::test]
async fn housekeeping_elsewhere_hides_no_task() {
    let housekeeping: Vec<_> = (0..8)
        .map(|_| worker::spawn_housekeeping(std::future::pending()))
        .collect();
    let here = tokio::runtime::Handle::current();
    while worker::housekeeping_tasks(&here) < housekeeping.len() {
        tokio::task::yield_now().await;
    }
    for conf in [no_steal(2), ServerConf::default()] {
        let leaving = Leaving {
            release: Arc::default(),
            started: Arc::default(),
            workers: Arc::default(),
        };
        let (release, started) = (leaving.release.clone(), leaving.started.clone());
        let mut server = server(ServerConf {
            listener_tasks_per_fd: 2,
            ..conf
        });
        server.add_service(leaving);
        let mut running = run(server);
        started.notified().await;
        let watch = running.from_start.take().unwrap();
        let stopped = std::thread::spawn(move || running.stop(ShutdownSignal::GracefulTerminate));
        until(watch, "ShutdownGracePeriod").await;
        // Several of its ticks pass, and it is still there.
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert!(!stopped.is_finished());
        release.notify_waiters();
        stopped.join().unwrap();
    }
    housekeeping.iter().for_each(|task| task.abort());
    for task in housekeeping {
        assert!(task.await.unwrap_err().is_cancelled());
    }
    assert_eq!(worker::housekeeping_tasks(&here), 0);
}

#[test]
fn the_command_line_makes_the_server() {
    let opt = |conf: Option<&str>| Opt {
        daemon: true,
        conf: conf.map(String::from),
        ..Default::default()
    };
    let server = Server::new(opt(None)).unwrap();
    assert!(server.configuration.daemon && server.options.is_some());
    assert_eq!(server.configuration.version, 1);
    let server = Server::new(None).unwrap();
    assert!(!server.configuration.daemon && server.options.is_none());
    let error = Server::new(opt(Some("/nonexistent/conf.yaml")))
        .err()
        .unwrap();
    assert!(
        error.to_string().contains("/nonexistent/conf.yaml"),
        "{error}"
    );
    let server = Server::new_with_opt_and_conf(opt(None), ServerConf::default());
    assert!(server.configuration.daemon);
}

#[test]
fn a_notifier_that_is_dropped_has_notified() {
    let (sender, watch) = watch::channel(false);
    let notifier = ServiceReadyNotifier::new(sender);
    assert!(!*watch.borrow());
    drop(notifier);
    assert!(*watch.borrow());
    let (sender, watch) = watch::channel(false);
    ServiceReadyNotifier::new(sender).notify_ready();
    assert!(*watch.borrow());
}

/// Tells what it was started with.
struct Telling(std::sync::mpsc::Sender<(usize, Option<Duration>)>);

#[async_trait]
impl ServiceWithDependents for Telling {
    async fn start_service(
        &mut self,
        _fds: Option<ListenFds>,
        mut shutdown: ShutdownWatch,
        listeners_per_fd: usize,
        ready_notifier: ServiceReadyNotifier,
    ) {
        let threshold = pingora_timeout::fast_timeout::fast_timeout_to_tokio_threshold();
        self.0.send((listeners_per_fd, threshold)).unwrap();
        ready_notifier.notify_ready();
        shutdown.wait_for(|on| *on).await.unwrap();
    }

    fn name(&self) -> &str {
        "telling"
    }
}

#[test]
fn what_services_find_when_they_start() {
    for (tasks, expected) in [(0, 1), (3, 3)] {
        // The threshold is one for the process, and other tests run servers in it.
        let ours = Some(Duration::from_secs(77));
        let found = (0..100).any(|_| {
            let (tell, told) = std::sync::mpsc::channel();
            let mut server = server(ServerConf {
                listener_tasks_per_fd: tasks,
                fast_timeout_to_tokio_threshold_seconds: Some(77),
                ..ServerConf::default()
            });
            server.add_service(Telling(tell));
            let running = run(server);
            let (listeners, threshold) = told.recv().unwrap();
            assert_eq!(listeners, expected);
            running.stop(ShutdownSignal::FastShutdown);
            threshold == ours
        });
        assert!(found);
    }
}
