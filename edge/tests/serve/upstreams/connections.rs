//! Servers to which so many connections may be open, over all workers and clusters.

use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{mpsc, Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;

use super::origins::{serve, Act};
use super::queue::{whole, Scene};
use crate::tools::*;

/// A server that counts the connections which are open to it at once.
struct Counted {
    address: SocketAddr,
    open: Arc<Open>,
    heads: Arc<Mutex<Vec<String>>>,
}

#[derive(Default)]
struct Open {
    all: Mutex<Vec<TcpStream>>,
    /// The most that were open, and all that were opened.
    most: AtomicUsize,
    total: AtomicUsize,
}

impl Open {
    /// Counts those that the other side has not closed.
    fn count(&self) -> usize {
        let mut all = self.all.lock().unwrap();
        all.retain(|stream| {
            let mut poll = libc::pollfd {
                fd: stream.as_raw_fd(),
                events: libc::POLLRDHUP,
                revents: 0,
            };
            // SAFETY: poll reads and writes one structure, which lives through the call.
            #[allow(unsafe_code)]
            let ended = unsafe { libc::poll(&raw mut poll, 1, 0) };
            ended == 0
        });
        all.len()
    }

    fn accepted(&self, stream: &TcpStream, max: usize) {
        self.all.lock().unwrap().push(stream.try_clone().unwrap());
        let mut count = self.count();
        // The end of one may still be on its way through the system.
        for _ in 0..100 {
            if count <= max {
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
            count = self.count();
        }
        self.most.fetch_max(count, Ordering::SeqCst);
        self.total.fetch_add(1, Ordering::SeqCst);
    }

    fn most(&self) -> usize {
        self.most.load(Ordering::SeqCst)
    }
}

impl Counted {
    /// Serves HTTP/1.1. More than `max` connections are looked at twice.
    fn start(max: usize, act: impl Fn(&str) -> Act + Send + Sync + 'static) -> Self {
        let act = Arc::new(act);
        Self::listen(max, move |stream, heads| {
            let act = act.clone();
            serve(stream, &heads, &move |head, _| act(head));
        })
    }

    /// Answers HTTP/2 in the clear.
    fn h2(max: usize) -> Self {
        Self::listen(max, |stream, _| {
            let runtime = tokio::runtime::Builder::new_current_thread();
            let runtime = { runtime }.enable_all().build().unwrap();
            runtime.block_on(async move {
                stream.set_nonblocking(true).unwrap();
                let stream = tokio::net::TcpStream::from_std(stream).unwrap();
                let Ok(mut connection) = h2::server::handshake(stream).await else {
                    return;
                };
                while let Some(Ok((_, mut respond))) = connection.accept().await {
                    let head = http::Response::builder().header("content-length", 1);
                    let head = head.body(()).unwrap();
                    // A stream may be reset meanwhile.
                    if let Ok(mut body) = respond.send_response(head, false) {
                        let _ = body.send_data(Bytes::from_static(b"x"), true);
                    }
                }
            });
        })
    }

    fn listen(
        max: usize,
        work: impl Fn(TcpStream, Arc<Mutex<Vec<String>>>) + Clone + Send + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = Counted {
            address: listener.local_addr().unwrap(),
            open: Arc::default(),
            heads: Arc::default(),
        };
        let (open, heads) = (server.open.clone(), server.heads.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let stream = stream.unwrap();
                open.accepted(&stream, max);
                let (work, heads) = (work.clone(), heads.clone());
                std::thread::spawn(move || {
                    let same = stream.try_clone().unwrap();
                    work(stream, heads);
                    // The list keeps it open otherwise.
                    let _ = same.shutdown(Shutdown::Both);
                });
            }
        });
        server
    }

    fn count(&self) -> usize {
        self.heads.lock().unwrap().len()
    }

    fn wait_for(&self, count: usize) {
        eventually("the server has the requests", || self.count() == count);
    }

    fn limited(&self, max: usize, more: &str) -> String {
        format!(
            "{{to: [{{address: '{}', max_connections: {max}}}]{more}}}",
            self.address
        )
    }
}

/// A server that holds each request until it is told, and echoes after an upgrade.
fn gate(max: usize) -> (Counted, mpsc::Sender<()>) {
    let (open, opened) = mpsc::channel();
    let opened = Mutex::new(opened);
    let server = Counted::start(max, move |head| {
        if head.contains("Upgrade") {
            return Act::Echo(
                "HTTP/1.1 101 X\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n".into(),
            );
        }
        // An error says that the test has ended.
        let _ = opened.lock().unwrap().recv();
        Act::Answer(200, "x".into())
    });
    (server, open)
}

fn well(max: usize) -> Counted {
    Counted::start(max, |_| Act::Answer(200, "x".into()))
}

/// Has many clients, of both workers, ask for something at once.
fn ask_at_once(scene: &Scene, clients: usize, each: usize) {
    std::thread::scope(|threads| {
        for _ in 0..clients {
            threads.spawn(|| {
                let mut client = scene.edge.connect();
                for _ in 0..each {
                    assert_eq!(client.ask("GET", "a", "/", "").status, 200);
                }
            });
        }
    });
}

/// Opens connections until both workers have sent requests to the server, and returns them.
fn clients_of_both_workers(scene: &Scene) -> Vec<Client> {
    let mut clients = Vec::new();
    eventually("both workers serve", || {
        let mut client = scene.edge.connect();
        assert_eq!(client.ask("GET", "a", "/", "").status, 200);
        clients.push(client);
        let status = scene.edge.connect_to(scene.admin);
        let status = { status }.ask("GET", "localhost", "/api/status", "").body;
        status.matches("\"worker\":").count() >= 2
    });
    clients
}

/// A server that accepts connections and says nothing; returns the number of those.
fn silent() -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (address, accepted) = (listener.local_addr().unwrap(), Arc::default());
    let count: Arc<AtomicUsize> = Arc::clone(&accepted);
    std::thread::spawn(move || {
        let mut all = Vec::new();
        for stream in listener.incoming() {
            all.push(stream.unwrap());
            count.fetch_add(1, Ordering::SeqCst);
        }
    });
    (address, accepted)
}

const QUEUE: &str = ", queue: {size: 100, timeout: 1h}";

#[test]
fn workers_together_never_open_more_and_all_are_served() {
    let (h1, h2) = (well(3), Counted::h2(2));
    for (server, max, more) in [(&h1, 3, ""), (&h2, 2, ", protocol: h2c")] {
        let scene = Scene::of(&server.limited(max, &format!("{QUEUE}{more}")));
        ask_at_once(&scene, 16, 30);
        let most = server.open.most();
        assert!((1..=max).contains(&most), "{most} of {max}");
        scene.wait_for_queue(0);
        assert_eq!(scene.metric("edge_upstream_connections_max"), max as f64);
        assert!(scene.metric("edge_upstream_connections_open") <= max as f64);
    }
}

#[test]
fn idle_connections_of_another_worker_give_way() {
    let (h1, h2) = (well(1), Counted::h2(1));
    for (server, more) in [(&h1, ""), (&h2, ", protocol: h2c")] {
        let scene = Scene::of(&server.limited(1, &format!("{QUEUE}{more}")));
        let mut clients = clients_of_both_workers(&scene);
        for _ in 0..3 {
            for client in &mut clients {
                assert_eq!(client.ask("GET", "a", "/", "").status, 200);
            }
        }
        assert_eq!(server.open.most(), 1);
        scene.wait_for_queue(0);
    }
}

#[test]
fn more_requests_than_the_queue_takes_are_refused_and_those_that_wait_for_too_long() {
    let (server, open) = gate(1);
    for (queue, fit) in [
        ("", 0),
        (", queue: {size: 5, timeout: 50ms}", 0),
        (", queue: {size: 1, timeout: 1h}", 1),
    ] {
        let scene = Scene::of(&server.limited(1, queue));
        let before = server.count();
        let mut clients = vec![scene.send("/1")];
        server.wait_for(before + 1);
        clients.extend((0..fit).map(|_| scene.send("/2")));
        scene.wait_for_queue(fit);
        let answer = scene.edge.get("a", "/refused");
        assert_eq!(
            (answer.status, answer.field("retry-after")),
            (503, Some("1"))
        );
        assert_eq!(scene.metric("edge_limited_requests_total"), 1.0);
        assert_eq!(scene.metric("edge_upstream_failures_total"), 0.0);
        for client in &mut clients {
            open.send(()).unwrap();
            assert!(client.rest().starts_with("HTTP/1.1 200"));
        }
        let queued = scene.metric("edge_queued_requests_total");
        let waited = if queue.is_empty() { 0 } else { 1 };
        assert_eq!(queued, f64::from(waited), "{queue}");
    }
    assert_eq!(server.open.most(), 1);
}

#[test]
fn a_request_goes_past_a_server_without_room() {
    let ((held, open), other) = (gate(1), well(1));
    let scene = Scene::of(&format!(
        "{{to: [{{address: '{}', max_connections: 1}}, {{address: '{}', backup: true, max_connections: 1}}]}}",
        held.address, other.address
    ));
    let mut first = scene.send("/");
    held.wait_for(1);
    for _ in 0..5 {
        assert_eq!(scene.edge.get("a", "/").status, 200);
    }
    assert_eq!(held.count(), 1);
    open.send(()).unwrap();
    assert!(first.rest().starts_with("HTTP/1.1 200"));
    assert_eq!((held.open.most(), other.open.most()), (1, 1));
}

#[test]
fn a_server_that_is_being_connected_to_is_waited_for_by_one_request_alone() {
    let ((dead, accepted), (server, open)) = (silent(), gate(1));
    let scene = Scene::of(&format!(
        "{{to: [{{address: '{dead}', max_connections: 1, tls: true, protocol: h1}}, {{address: '{}', max_connections: 1, backup: true}}], timeouts: {{connect: 1h}}{QUEUE}}}",
        server.address
    ));
    scene.post("/api/endpoints/drain", dead);
    let mut first = scene.send("/1");
    server.wait_for(1);
    let _tries = scene.send("/2");
    scene.wait_for_queue(1);
    let mut next = scene.send("/3");
    scene.wait_for_queue(2);
    scene.post("/api/endpoints/undrain", dead);
    eventually("one tries it", || accepted.load(Ordering::SeqCst) == 1);
    open.send(()).unwrap();
    assert!(first.rest().starts_with("HTTP/1.1 200"));
    server.wait_for(2);
    open.send(()).unwrap();
    assert!(next.rest().starts_with("HTTP/1.1 200"));
    scene.wait_for_queue(0);
    // One that comes now does not wait for it either.
    let mut last = scene.send("/4");
    server.wait_for(3);
    open.send(()).unwrap();
    assert!(last.rest().starts_with("HTTP/1.1 200"));
    assert_eq!(accepted.load(Ordering::SeqCst), 1);
}

#[test]
fn a_websocket_holds_its_connection_until_it_ends() {
    let (server, open) = gate(1);
    let scene = Scene::of(&server.limited(1, QUEUE));
    let mut socket = scene.edge.connect();
    socket.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n");
    server.wait_for(1);
    let mut waits = scene.send("/2");
    scene.wait_for_queue(1);
    drop(socket);
    open.send(()).unwrap();
    assert!(waits.rest().starts_with("HTTP/1.1 200"));
    assert_eq!(server.open.most(), 1);
}

#[test]
fn a_reload_changes_the_number() {
    let (server, open) = gate(2);
    let scene = Scene::of(&server.limited(1, QUEUE));
    let reload = |max: usize| {
        let proxy = server.limited(max, QUEUE);
        scene
            .edge
            .write_whole(&whole(scene.address, scene.admin, &proxy));
        scene.edge.hang_up();
        eventually("the number is taken", || {
            scene.metric("edge_upstream_connections_max") == max as f64
        });
    };
    let mut clients = vec![scene.send("/1")];
    server.wait_for(1);
    clients.push(scene.send("/2"));
    scene.wait_for_queue(1);
    reload(2);
    server.wait_for(2);
    assert_eq!(server.open.most(), 2);
    for client in &mut clients {
        open.send(()).unwrap();
        assert!(client.rest().starts_with("HTTP/1.1 200"));
    }
    // Those that are idle now are too many.
    reload(1);
    for n in 3..6 {
        let mut client = scene.send("/");
        server.wait_for(n);
        assert_eq!(server.open.count(), 1);
        open.send(()).unwrap();
        assert!(client.rest().starts_with("HTTP/1.1 200"));
    }
}

#[test]
fn clusters_and_copies_share_the_connections_of_a_server() {
    let server = well(1);
    let to = format!("{{address: '{}', max_connections: 1}}", server.address);
    let (address, admin) = (free(), free());
    let text = format!(
        "listen: '{address}'\nadmin: '{admin}'\nsites:
  - routes:
      - {{path: /copied, mirror: {{to: {{to: {to}}}}}, proxy: {{to: {to}{QUEUE}}}}}
      - {{path: /b/*, proxy: {{to: {to}, timeouts: {{read: 7s}}{QUEUE}}}}}\n"
    );
    let scene = Scene::whole(address, admin, &text);
    assert_eq!(scene.edge.get("a", "/copied").status, 200);
    eventually("the copy comes", || server.count() == 2);
    std::thread::scope(|threads| {
        for path in ["/copied", "/b/"].repeat(6) {
            let scene = &scene;
            threads.spawn(move || {
                let mut client = scene.edge.connect();
                for _ in 0..10 {
                    assert_eq!(client.ask("GET", "a", path, "").status, 200);
                }
            });
        }
    });
    assert_eq!(server.open.most(), 1);
    scene.wait_for_queue(0);
}
