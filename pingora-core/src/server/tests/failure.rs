//! Services that cannot start or go on.

use super::*;
use crate::apps::ServerApp;
use crate::protocols::Stream;
use crate::services::listening;

/// Runs a server that nobody stops until it fails.
fn run_to_failure(server: Server) -> Failure {
    let (_never, told) = oneshot::channel();
    let run_args = RunArgs {
        shutdown_signal: Box::new(Told(Lock::new(Some(told)))),
    };
    server.try_run(run_args).unwrap_err()
}

/// A server with a service whose address is taken, one that waits for it, and one that runs until the shutdown.
fn failing(taken: &std::net::TcpListener, log: &Arc<Lock<Vec<String>>>) -> Server {
    let mut server = server(no_steal(1));
    let mut listening = listening::Service::new("taken".into(), NoApp);
    listening.add_tcp("127.0.0.1:0");
    listening.add_tcp(&taken.local_addr().unwrap().to_string());
    let listening = server.add_service(listening);
    let noting = |name| Noting {
        name,
        log: log.clone(),
        noted: Arc::default(),
        ready: None,
    };
    server
        .add_service(noting("dependent"))
        .add_dependency(listening);
    server.add_service(noting("other"));
    server
}

/// Serves nobody.
struct NoApp;

#[async_trait]
impl ServerApp for NoApp {
    async fn process_new(self: &Arc<Self>, _: Stream, _: &ShutdownWatch) -> Option<Stream> {
        None
    }
}

#[test]
fn a_service_that_cannot_listen_ends_the_server() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let log = Arc::new(Lock::new(Vec::new()));
    let server = failing(&taken, &log);
    let (fds, mut phases) = (server.fds.clone(), server.watch_execution_phase());
    let failure = run_to_failure(server).to_string();
    let expected = format!("cannot listen on {address}: ");
    assert!(failure.starts_with(&expected), "{failure}");
    // The other service, if it got so far, has seen the shutdown; the address that was free is left again.
    assert!(!log.lock().contains(&"dependent".to_owned()));
    assert!(fds.lock().is_empty());
    let mut seen = Vec::new();
    while let Ok(phase) = phases.try_recv() {
        seen.push(format!("{phase:?}"));
    }
    let tail = [
        "ShutdownStarted",
        "ShutdownGracePeriod",
        "ShutdownRuntimes",
        "Terminated",
    ];
    assert!(seen.ends_with(&tail.map(String::from)), "{seen:?}");
}

/// Work that was begun before another service fails has its time to end.
#[tokio::test]
async fn a_failure_lets_other_services_end() {
    let (service, hold, started) = holding();
    let mut server = server(no_steal(1));
    server.add_service(background_service("b", service));
    let (fail, failing) = oneshot::channel();
    server.add_service(background_service("f", Failing(Lock::new(Some(failing)))));
    let phases = server.watch_execution_phase();
    let run = std::thread::spawn(move || run_to_failure(server));
    started.notified().await;
    fail.send("no more").unwrap();
    until(phases, "ShutdownGracePeriod").await;
    assert!(!run.is_finished());
    hold.notify_one();
    let failure = run.join().unwrap();
    assert_eq!(failure, Failure::from("no more".to_owned()));
}

/// Fails when told.
struct Failing(Lock<Option<oneshot::Receiver<&'static str>>>);

#[async_trait]
impl BackgroundService for Failing {
    async fn start(&self, _shutdown: ShutdownWatch) {
        let told = self.0.lock().take().unwrap();
        Failure::from(told.await.unwrap().to_owned()).report();
    }
}

/// The old process would have handed its sockets over, and ended.
#[test]
fn a_daemon_that_cannot_be_takes_no_sockets_over() {
    let user = ServerConf {
        user: Some("no-such-user".to_owned()),
        ..no_steal(1)
    };
    let pid_file = ServerConf {
        pid_file: "/no/such/folder/pid".to_owned(),
        ..no_steal(1)
    };
    for (conf, culprit) in [(user, "no-such-user"), (pid_file, "/no/such/folder/pid")] {
        let conf = ServerConf {
            daemon: true,
            upgrade_sock: "/no/such/folder/sock".to_owned(),
            ..conf
        };
        let opt = Opt {
            upgrade: true,
            ..Opt::default()
        };
        let failure = run_to_failure(Server::new_with_opt_and_conf(opt, conf)).to_string();
        assert!(failure.contains(culprit), "{failure}");
    }
}

#[test]
fn an_upgrade_without_an_old_process_fails_as_a_service_too() {
    let nowhere = std::env::temp_dir().join(format!("no-old-one-{}", std::process::id()));
    let conf = ServerConf {
        upgrade_sock: nowhere.to_str().unwrap().to_owned(),
        upgrade_sock_connect_accept_max_retries: Some(0),
        ..no_steal(1)
    };
    let opt = Opt {
        upgrade: true,
        ..Opt::default()
    };
    let log = Arc::new(Lock::new(Vec::new()));
    let mut server = Server::new_with_opt_and_conf(opt, conf);
    let bootstrap = server.bootstrap_as_a_service();
    let dependent = Noting {
        name: "dependent",
        log: log.clone(),
        noted: Arc::default(),
        ready: None,
    };
    server.add_service(dependent).add_dependency(bootstrap);
    let failure = run_to_failure(server).to_string();
    let expected = "cannot take over sockets from the old process at ";
    assert!(failure.starts_with(expected), "{failure}");
    assert!(log.lock().is_empty());
}
