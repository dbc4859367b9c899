use std::future::Future;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use socket2::Socket;
use tokio::runtime::Runtime;

use super::acceptor::*;
use super::pool::To;
use super::*;
use crate::listeners::tests::{
    connect_from, exchange, is_closed, own_address, runtime_of, tcp_service, Dir, Echo, Greeting,
    NotFrom, Running,
};
use crate::listeners::{ListenerConfig, Listeners, TcpSocketOptions};
use crate::server::transfer_fd::{Patience, Trust};
use crate::server::{Fds, ListenFds};
use crate::services::listening::Service;

mod ends;
mod files;
mod live;

fn settings(strategy: AcceptStrategy) -> Settings {
    Settings {
        strategy,
        // The tests of turns take as many of these as there are turns.
        mutex_delay: Duration::from_millis(1),
        ..Settings::default()
    }
}

/// So many workers with a runtime each, or one runtime of so many threads.
fn workers(n: usize, stealing: bool) -> Vec<Runtime> {
    if stealing {
        vec![runtime_of(n)]
    } else {
        (0..n).map(|_| runtime_of(1)).collect()
    }
}

fn start(app: &Arc<Echo>, strategy: AcceptStrategy, workers: Vec<Runtime>) -> Running {
    let fds = ListenFds::default();
    Running::with(tcp_service(app), workers, 1, fds, settings(strategy))
}

/// Has an endpoint close that accepts since a moment ago, and waits until it has.
async fn close(endpoint: Endpoint, connect: impl Connect) {
    let pool = WorkerPool::new(crate::worker::Workers::current());
    let (_end, until) = tokio::sync::watch::channel(Some(End::Close));
    let with = (pool, Settings::current());
    let accepting = super::start(endpoint, 0, 1, with, until, connect);
    assert!(accepting.unwrap().ended().await.is_none());
}

/// Every strategy with workers of their own, and with the threads of one runtime.
fn each_way(test: impl Fn(AcceptStrategy, bool)) {
    for strategy in AcceptStrategy::ALL {
        for stealing in [false, true] {
            test(strategy, stealing);
        }
    }
}

/// A reactor takes a descriptor once, however many tasks wait for it.
#[test]
fn several_tasks_at_a_socket_in_one_runtime() {
    let app = Arc::new(Echo::default());
    let (runtimes, fds) = (workers(4, true), ListenFds::default());
    let shared = settings(AcceptStrategy::Shared);
    let running = Running::with(tcp_service(&app), runtimes, 2, fds, shared);
    let client = TcpStream::connect(running.address()).unwrap();
    exchange(&client, b"1");
    running.stop();
}

fn accepted(running: &Running) -> Vec<u64> {
    let counts = running.counts.per_worker();
    counts.iter().map(|worker| worker.accepted).collect()
}

#[test]
fn names() {
    for strategy in AcceptStrategy::ALL {
        assert_eq!(strategy.to_string().parse(), Ok(strategy));
        let yaml = format!("accept_strategy: {strategy}");
        let conf = crate::server::configuration::ServerConf::from_yaml(&yaml).unwrap();
        assert_eq!(conf.accepting().strategy, strategy);
    }
    let text = "best".parse::<AcceptStrategy>().unwrap_err();
    assert_eq!(
        text,
        "\"best\" is no accept strategy; there are shared, exclusive, reuseport, mutex"
    );
}

#[test]
fn each_serves_over_tcp_and_unix_sockets_with_a_filter_and_preprocessing() {
    each_way(|strategy, stealing| {
        let dir = Dir::new(&format!("each-{strategy}-{stealing}"));
        let path = dir.path("sock");
        let app = Arc::new(Echo::default());
        let mut service = tcp_service(&app);
        service.add_uds(&path, None);
        service.set_connection_filter(Arc::new(NotFrom("127.0.0.9".parse().unwrap())));
        service.endpoints().set_pre_tls_callback(Arc::new(Greeting));
        let fds = ListenFds::default();
        let settings = settings(strategy);
        let running = Running::with(service, workers(3, stealing), 1, fds, settings);
        let tcp = *running.fds.lock().get(&own_address()).unwrap();
        let tcp = crate::protocols::l4::socket::SocketAddr::from_raw_fd(tcp, false);
        let tcp = *tcp.unwrap().as_inet().unwrap();
        let mut refused = connect_from("127.0.0.9", tcp);
        let _ = refused.write_all(b"g1");
        assert!(is_closed(&refused));
        for _ in 0..5 {
            let mut client = TcpStream::connect(tcp).unwrap();
            client.write_all(b"g").unwrap();
            exchange(&client, b"1a");
            let mut client = UnixStream::connect(&path).unwrap();
            client.write_all(b"g").unwrap();
            exchange(&client, b"1a");
        }
        assert_eq!(app.threads.lock().values().sum::<usize>(), 10);
        assert_eq!(accepted(&running).iter().sum::<u64>(), 11);
        running.stop();
        assert!(TcpStream::connect(tcp).is_err());
        assert!(UnixStream::connect(&path).is_err());
    });
}

#[test]
fn who_accepts_serves_where_each_worker_accepts() {
    for strategy in [
        AcceptStrategy::Exclusive,
        AcceptStrategy::Reuseport,
        AcceptStrategy::Mutex,
    ] {
        let app = Arc::new(Echo::default());
        let running = start(&app, strategy, workers(3, false));
        let clients: Vec<TcpStream> = (0..60)
            .map(|_| {
                let client = TcpStream::connect(running.address()).unwrap();
                exchange(&client, b"1");
                client
            })
            .collect();
        let mut served: Vec<u64> = app.threads.lock().values().map(|&n| n as u64).collect();
        let mut accepted = accepted(&running);
        accepted.retain(|&n| n > 0);
        accepted.sort_unstable();
        served.sort_unstable();
        assert_eq!(accepted, served, "{strategy}");
        drop(clients);
        running.stop();
    }
}

/// The kernel's hash leaves no socket of four without any of 400 connections: it would with a chance of 10^-49.
#[test]
fn reuseport_gives_each_worker_some() {
    for stealing in [false, true] {
        let app = Arc::new(Echo::default());
        let running = start(&app, AcceptStrategy::Reuseport, workers(4, stealing));
        for _ in 0..400 {
            exchange(TcpStream::connect(running.address()).unwrap(), b"1");
        }
        let accepted = accepted(&running);
        assert_eq!(accepted.len(), 4);
        assert!(accepted.iter().all(|&n| n > 0), "{accepted:?}");
        running.stop();
    }
}

#[test]
fn an_endpoint_chooses_for_itself() {
    let app = Arc::new(Echo::default());
    let listener = ListenerConfig::tcp("127.0.0.1:0").accept_strategy(AcceptStrategy::Reuseport);
    let mut listeners = Listeners::new();
    listeners.set_accept_strategy(AcceptStrategy::Mutex);
    listeners.add_listener(listener);
    listeners.add_tcp("127.0.0.2:0");
    let endpoints = |workers| async move {
        let endpoints = listeners.listen(None, workers).await.unwrap();
        let way = |e: &Endpoint| (e.strategy, e.listening.sockets().count());
        endpoints.iter().map(way).collect::<Vec<_>>()
    };
    let found = runtime_of(1).block_on(endpoints(3));
    let expected = [(AcceptStrategy::Reuseport, 3), (AcceptStrategy::Mutex, 1)];
    assert_eq!(found, expected);
    let mut service = tcp_service(&app);
    service.set_accept_strategy(AcceptStrategy::Reuseport);
    let fds = ListenFds::default();
    let settings = settings(AcceptStrategy::Shared);
    let running = Running::with(service, workers(2, false), 1, fds.clone(), settings);
    assert_eq!(sockets_of(&fds, &own_address()), 2);
    running.stop();
    assert!(fds.lock().is_empty());
}

fn sockets_of(fds: &ListenFds, bind: &str) -> usize {
    fds.lock().sockets(bind).len()
}

#[test]
fn reuseport_and_its_option_must_not_differ() {
    let options = TcpSocketOptions {
        so_reuseport: Some(false),
        ..Default::default()
    };
    let mut listeners = Listeners::new();
    listeners.add_tcp_with_settings("127.0.0.1:0", options);
    listeners.set_accept_strategy(AcceptStrategy::Reuseport);
    let text = runtime_of(1).block_on(async { listeners.listen(None, 2).await.err().unwrap() });
    assert!(text.contains("127.0.0.1:0") && text.contains("so_reuseport"));
}

/// By chance two programs must not share a port: the first socket is bound as any other is.
#[test]
fn reuseport_does_not_join_others() {
    let other = Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    other.set_reuse_port(true).unwrap();
    let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
    other.bind(&any.into()).unwrap();
    other.listen(1).unwrap();
    let address = other.local_addr().unwrap().as_socket().unwrap().to_string();
    let mut listeners = Listeners::tcp(&address);
    listeners.set_accept_strategy(AcceptStrategy::Reuseport);
    let text = runtime_of(1).block_on(async { listeners.listen(None, 2).await.err().unwrap() });
    assert!(text.contains("in use"), "{text}");
}

#[test]
fn a_worker_that_is_nearly_full_sits_out() {
    let rt = runtime_of(1);
    let handles = vec![rt.handle().clone(), rt.handle().clone()];
    let pool = WorkerPool::new(crate::worker::Workers::new(handles));
    let open = Open::new(2);
    let take = |slot, n| {
        for _ in 0..n {
            pool.hand_over(To::Slot(slot), slot, &open, std::future::pending());
        }
    };
    take(0, 14);
    assert!(pool.has_room(0, 16));
    take(0, 1);
    assert!(!pool.has_room(0, 16) && pool.has_room(1, 16));
    // The last places are taken when nobody has more, and none beyond.
    take(1, 15);
    assert!(pool.has_room(0, 16) && pool.has_room(1, 16));
    take(0, 1);
    assert!(!pool.has_room(0, 16) && pool.has_room(1, 16));
    rt.shutdown_background();
}

#[test]
fn turns_fill_all_workers_and_no_more() {
    for stealing in [false, true] {
        let app = Arc::new(Echo::default());
        let settings = Settings {
            worker_connections: Some(8),
            ..settings(AcceptStrategy::Mutex)
        };
        let fds = ListenFds::default();
        let service = tcp_service(&app);
        let running = Running::with(service, workers(2, stealing), 1, fds, settings);
        let mut clients = Vec::new();
        for _ in 0..16 {
            let client = TcpStream::connect(running.address()).unwrap();
            exchange(&client, b"1");
            clients.push(client);
        }
        assert_eq!(accepted(&running), [8, 8]);
        // One more has to wait for a place.
        let mut late = TcpStream::connect(running.address()).unwrap();
        late.write_all(b"1").unwrap();
        drop(clients.pop());
        let mut byte = [0];
        late.read_exact(&mut byte).unwrap();
        running.stop();
    }
}

/// A worker whose turn it is goes away: another one takes the next.
#[test]
fn the_turn_of_a_worker_that_is_gone_ends() {
    let root = runtime_of(1);
    let mut pair: Vec<Option<Runtime>> = workers(2, false).into_iter().map(Some).collect();
    let handles = pair.iter().flatten().map(|w| w.handle().clone()).collect();
    let app = Arc::new(Echo::default());
    let mut service = tcp_service(&app);
    let counts = service.accept_counts();
    let fds = ListenFds::default();
    let table = Some(fds.clone());
    let (stop, watch) = tokio::sync::watch::channel(false);
    let serving = settings(AcceptStrategy::Mutex).scope(async move {
        use crate::services::Service as _;
        service.start_service(table, watch, 1).await
    });
    let serving = root.spawn(crate::worker::Workers::new(handles).scope(serving));
    while fds.lock().is_empty() {
        assert!(!serving.is_finished());
        std::thread::yield_now();
    }
    let (_, raw) = fds.lock().serialize();
    let address = crate::protocols::l4::socket::SocketAddr::from_raw_fd(raw[0], false);
    let address = *address.unwrap().as_inet().unwrap();
    exchange(TcpStream::connect(address).unwrap(), b"1");
    let accepted = |worker: usize| counts.per_worker()[worker].accepted;
    // It has had a turn, and may well have the next one too.
    let holder = usize::from(accepted(0) == 0);
    pair[holder].take().unwrap().shutdown_background();
    let before = accepted(1 - holder);
    while accepted(1 - holder) == before {
        let mut client = TcpStream::connect(address).unwrap();
        // The worker may have taken its last connection with it.
        let _ = client.write_all(b"1").and_then(|()| client.read(&mut [0]));
    }
    stop.send_replace(true);
    root.block_on(serving).unwrap();
}
