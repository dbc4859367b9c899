//! Connections of a real server that is told to stop.

use super::common::{forward_to, Origin, Proxy, Setup};
use super::*;
use std::io::{self, Write};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{mpsc, Arc, Mutex};
use std::time::Instant;

/// Far longer than a test waits, so that a server which ends does so because nothing is left.
const NEVER: u64 = 300;

fn setup() -> Setup {
    let mut setup = Setup::default();
    setup.conf.grace_period_seconds = Some(NEVER);
    setup.conf.shutdown_read_timeout_seconds = 60;
    setup
}

fn connect(proxy: &Proxy) -> Client {
    Client::over(UnixStream::connect(proxy.path()).unwrap())
}

/// An idle connection, whose end says that the flag is set.
fn canary(proxy: &Proxy) -> Client {
    let mut canary = connect(proxy);
    canary.get();
    canary
}

#[test]
fn idle_connections_over_tcp_end_by_a_fin() {
    let origin = Origin::answering(HELLO);
    let mut setup = setup();
    setup.tcp = true;
    setup.conf.threads = 2;
    let proxy = Proxy::start_with(setup, forward_to(origin.path()));
    let mut clients: Vec<Client> = (0..20)
        .map(|_| Client::over_tcp(TcpStream::connect(proxy.tcp()).unwrap()))
        .collect();
    clients.iter_mut().for_each(Client::get);
    proxy.begin_shutdown();
    clients.iter_mut().for_each(Client::expect_fin);
    for client in &mut clients {
        // Crosses the FIN: nobody answers it, but the connection is not reset for it either.
        client.socket.write_all(GET.as_bytes()).unwrap();
        assert!(client.socket.take_error().unwrap().is_none(), "a reset");
        client.expect_fin();
    }
    drop(clients);
    proxy.wait();
}

#[test]
fn thousands_of_idle_connections_end_and_the_server_with_them() {
    let origin = Origin::answering(HELLO);
    let mut setup = setup();
    setup.conf.threads = 2;
    let proxy = Proxy::start_with(setup, forward_to(origin.path()));
    let mut clients: Vec<Client> = (0..2000).map(|_| canary(&proxy)).collect();
    proxy.begin_shutdown();
    let limit = Instant::now() + PATIENCE;
    for client in &mut clients {
        let left = limit.saturating_duration_since(Instant::now());
        client
            .socket
            .set_read_timeout(Some(left.max(Duration::from_millis(1))))
            .unwrap();
        client.expect_fin();
    }
    drop(clients);
    proxy.wait();
}

#[test]
fn a_server_without_connections_ends_before_its_grace_period() {
    let origin = Origin::answering(HELLO);
    let proxy = Proxy::start_with(setup(), forward_to(origin.path()));
    proxy.begin_shutdown();
    proxy.wait();
}

#[test]
fn a_head_sent_by_half_may_be_completed() {
    let origin = Origin::answering(HELLO);
    let proxy = Proxy::start_with(setup(), forward_to(origin.path()));
    let (mut fresh, mut used) = (connect(&proxy), canary(&proxy));
    let mut canary = canary(&proxy);
    for client in [&mut fresh, &mut used] {
        client.wire.send("GET / HTTP/1.1\r\nHo");
    }
    proxy.begin_shutdown();
    canary.expect_fin();
    for client in [&mut fresh, &mut used] {
        client.expect_open();
        client.wire.send("st: a\r\n\r\n");
        client.expect_last();
    }
    drop((fresh, used, canary));
    proxy.wait();
}

#[test]
fn a_head_that_is_never_completed_ends_with_its_connection() {
    let origin = Origin::answering(HELLO);
    let mut setup = setup();
    setup.conf.shutdown_read_timeout_seconds = 1;
    let proxy = Proxy::start_with(setup, forward_to(origin.path()));
    let (mut client, mut canary) = (canary(&proxy), canary(&proxy));
    client.wire.send("GET / HTTP/1.1\r\nHo");
    proxy.begin_shutdown();
    canary.expect_fin();
    if client.wire.has_more() {
        let response = client.wire.read_response();
        assert_eq!(response.status(), 408);
        assert_eq!(response.field("Connection"), Some("close"));
    }
    client.expect_fin();
    drop((client, canary));
    proxy.wait();
}

/// Answers canaries, and a request for `/held` by these two parts: each when the test says so.
fn holding(parts: [&'static str; 2]) -> (Origin, mpsc::Receiver<()>, mpsc::Sender<()>) {
    let (arrived, has_arrived) = mpsc::channel();
    let (go, may_go) = mpsc::channel();
    let (arrived, may_go) = (Mutex::new(arrived), Mutex::new(may_go));
    let origin = Origin::scripted(move |mut wire, _| {
        while wire.has_more() {
            if !wire.read_message().head.starts_with("GET /held ") {
                wire.send(HELLO);
                continue;
            }
            wire.send(parts[0]);
            arrived.lock().unwrap().send(()).unwrap();
            may_go.lock().unwrap().recv().unwrap();
            wire.send(parts[1]);
        }
    });
    (origin, has_arrived, go)
}

#[test]
fn a_request_in_flight_is_answered_with_close() {
    let (origin, arrived, go) = holding(["", HELLO]);
    let proxy = Proxy::start_with(setup(), forward_to(origin.path()));
    let (mut client, mut canary) = (connect(&proxy), canary(&proxy));
    client.wire.send("GET /held HTTP/1.1\r\nHost: a\r\n\r\n");
    arrived.recv().unwrap();
    proxy.begin_shutdown();
    canary.expect_fin();
    client.expect_open();
    go.send(()).unwrap();
    client.expect_last();
    drop((client, canary));
    proxy.wait();
}

#[test]
fn a_response_whose_head_is_out_is_completed() {
    let (origin, arrived, go) = holding(HELLO.split_at(HELLO.len() - 2).into());
    let proxy = Proxy::start_with(setup(), forward_to(origin.path()));
    let (mut client, mut canary) = (connect(&proxy), canary(&proxy));
    client.wire.send("GET /held HTTP/1.1\r\nHost: a\r\n\r\n");
    arrived.recv().unwrap();
    let head = client.wire.read_head();
    assert!(!head.contains("close"), "{head}");
    proxy.begin_shutdown();
    canary.expect_fin();
    go.send(()).unwrap();
    assert_eq!(client.wire.read_exact(5), b"hello");
    client.expect_fin();
    drop((client, canary));
    proxy.wait();
}

/// Clients ask, some on one connection and some on a new one each time, until nobody listens any more.
/// What was sent is answered, also on a connection that was made while the listener closed.
fn no_request_is_lost_under_load<F>(connect: F)
where
    F: Fn(&Proxy) -> io::Result<Client> + Send + Sync + 'static,
{
    const CLIENTS: usize = 16;
    const LAST_GET: &str = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    let arrived = Arc::new(AtomicUsize::new(0));
    let origin = Origin::scripted({
        let arrived = arrived.clone();
        move |mut wire, _| {
            while wire.has_more() {
                wire.read_message();
                arrived.fetch_add(1, Ordering::SeqCst);
                wire.send(HELLO);
            }
        }
    });
    let mut setup = setup();
    setup.tcp = true;
    setup.conf.threads = 2;
    setup.conf.shutdown_drain_seconds = Some(1);
    let proxy = Proxy::start_with(setup, forward_to(origin.path()));
    // One more that stays idle while the others are asking.
    let mut idle = canary(&proxy);
    let answered = AtomicUsize::new(1);
    std::thread::scope(|threads| {
        for number in 0..CLIENTS {
            let (proxy, connect, answered) = (&proxy, &connect, &answered);
            let request = if number % 2 == 0 { GET } else { LAST_GET };
            threads.spawn(move || {
                while let Ok(mut client) = connect(proxy) {
                    loop {
                        client.wire.send(request);
                        let response = client.wire.read_response();
                        assert_eq!(response.text(), "hello");
                        answered.fetch_add(1, Ordering::SeqCst);
                        if response.field("Connection") == Some("close") {
                            break;
                        }
                    }
                    client.expect_fin();
                }
            });
        }
        eventually("every client is at it", || {
            answered.load(Ordering::SeqCst) > 20 * CLIENTS
        });
        proxy.begin_shutdown();
    });
    idle.expect_fin();
    drop(idle);
    proxy.wait();
    assert_eq!(
        arrived.load(Ordering::SeqCst),
        answered.load(Ordering::SeqCst)
    );
}

#[test]
fn no_request_is_lost_over_unix_sockets() {
    no_request_is_lost_under_load(|proxy| UnixStream::connect(proxy.path()).map(Client::over));
}

#[test]
fn no_request_is_lost_over_tcp() {
    no_request_is_lost_under_load(|proxy| {
        let socket = TcpStream::connect(proxy.tcp())?;
        // To a port where nobody listens, a client may by chance be connected with itself.
        if socket.local_addr()? == socket.peer_addr()? {
            return Err(ErrorKind::ConnectionRefused.into());
        }
        Ok(Client::over_tcp(socket))
    });
}
