//! Servers that may have so many requests at a time, and the requests that wait for them.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{mpsc, Arc, Barrier, Mutex};

use super::origins::*;
use crate::goaway::{Frames, END_STREAM, HEADERS, SETTINGS};
use crate::tools::*;

/// A server that holds each request until it is told.
struct Gate {
    script: Script,
    open: mpsc::Sender<()>,
}

impl Gate {
    fn start() -> Self {
        let (open, opened) = mpsc::channel();
        let opened = Mutex::new(opened);
        let script = Script::start(move |head, _| {
            if head.contains("Upgrade") {
                return Act::Echo(
                    "HTTP/1.1 101 X\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n".into(),
                );
            }
            // An error says that the test has ended.
            let _ = opened.lock().unwrap().recv();
            Act::Answer(200, "x".into())
        });
        Self { script, open }
    }

    fn paths(&self) -> Vec<String> {
        let path = |head: &String| head.split(' ').nth(1).unwrap().to_owned();
        self.script.heads().iter().map(path).collect()
    }

    fn wait_for(&self, count: usize) {
        eventually("the server has the requests", || {
            self.script.count() == count
        });
    }
}

pub struct Scene {
    pub edge: Edge,
    pub admin: SocketAddr,
    pub address: SocketAddr,
}

pub fn whole(address: SocketAddr, admin: SocketAddr, proxy: &str) -> String {
    format!("listen: '{address}'\nadmin: '{admin}'\nsites:\n  - routes: {{proxy: {proxy}}}\n")
}

impl Scene {
    pub fn of(proxy: &str) -> Self {
        let (address, admin) = (free(), free());
        Self::whole(address, admin, &whole(address, admin, proxy))
    }

    pub fn whole(address: SocketAddr, admin: SocketAddr, text: &str) -> Self {
        let edge = Edge::start_whole(address, text);
        eventually("its admin interface listens", || {
            std::net::TcpStream::connect(admin).is_ok()
        });
        Self {
            edge,
            admin,
            address,
        }
    }

    pub fn metric(&self, name: &str) -> f64 {
        let answer = self
            .edge
            .connect_to(self.admin)
            .ask("GET", "localhost", "/metrics", "");
        let lines = answer.body.lines().filter(|line| line.starts_with(name));
        lines
            .map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap())
            .sum()
    }

    pub fn wait_for_queue(&self, length: usize) {
        eventually("so many wait", || {
            self.metric("edge_upstream_queue_length") == length as f64
        });
    }

    /// Asks the admin interface for something that is done to a server.
    pub fn post(&self, path: &str, server: SocketAddr) {
        let body = format!("{{\"endpoint\": \"{server}\"}}");
        let mut client = self.edge.connect_to(self.admin);
        client.send(&format!(
            "POST {path} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            self.admin,
            body.len()
        ));
        let answer = client.rest();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }

    pub fn send(&self, path: &str) -> Client {
        let mut client = self.edge.connect();
        client.send(&format!(
            "GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
        ));
        client
    }
}

fn limited(address: SocketAddr, more: &str) -> String {
    format!("{{to: [{{address: '{address}', max_requests: 1}}]{more}}}")
}

#[test]
fn requests_wait_in_their_order_and_more_than_fit_are_refused() {
    let gate = Gate::start();
    let scene = Scene::of(&limited(
        gate.script.address,
        ", queue: {size: 2, timeout: 1h}",
    ));
    let mut clients = vec![scene.send("/1")];
    gate.wait_for(1);
    for n in [1, 2] {
        clients.push(scene.send(&format!("/{}", n + 1)));
        scene.wait_for_queue(n);
    }
    for _ in 0..2 {
        let answer = scene.edge.get("a", "/refused");
        assert_eq!(
            (answer.status, answer.field("retry-after")),
            (503, Some("1"))
        );
    }
    for (n, client) in clients.iter_mut().enumerate() {
        gate.wait_for(n + 1);
        gate.open.send(()).unwrap();
        assert!(client.rest().starts_with("HTTP/1.1 200"));
    }
    assert_eq!(gate.paths(), ["/1", "/2", "/3"]);
    assert_eq!(scene.metric("edge_queued_requests_total"), 2.0);
    assert_eq!(scene.metric("edge_limited_requests_total"), 2.0);
    assert_eq!(scene.metric("edge_upstream_requests_max"), 1.0);
    assert_eq!(scene.metric("edge_upstream_queue_max"), 2.0);
    assert!(scene.metric("edge_queue_seconds_total") > 0.0);
    scene.wait_for_queue(0);
}

#[test]
fn a_request_without_a_queue_is_refused_and_one_that_waits_for_too_long() {
    let gate = Gate::start();
    for queue in ["", ", queue: {size: 5, timeout: 50ms}"] {
        let scene = Scene::of(&limited(gate.script.address, queue));
        let before = gate.script.count();
        let mut first = scene.send("/");
        gate.wait_for(before + 1);
        let answer = scene.edge.get("a", "/");
        assert_eq!(
            (answer.status, answer.field("retry-after")),
            (503, Some("1"))
        );
        gate.open.send(()).unwrap();
        assert!(first.rest().starts_with("HTTP/1.1 200"));
        scene.wait_for_queue(0);
    }
}

const WEBSOCKET: &str = "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// Has a WebSocket take the only place of a server. The route is limited after that: a handshake has no more time than other
/// requests.
fn occupied(more: &str, limit: &str) -> (Scene, Client) {
    let server = Script::start(|head, _| {
        Act::Echo(if head.contains("Upgrade") {
            "HTTP/1.1 101 X\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n".into()
        } else {
            "HTTP/1.1 200 X\r\nConnection: close\r\nContent-Length: 3\r\nCache-Control: max-age=10\r\nAge: 50\r\n\r\nold".into()
        })
    });
    let (address, admin) = (free(), free());
    let whole = |limit: &str| {
        let more = format!(", queue: {{size: 5, timeout: 1h}}{more}{limit}");
        let proxy = limited(server.address, &more);
        format!("listen: {{address: '{address}', h2c: true}}\nadmin: '{admin}'\nerrors: {{body: page}}\nsites:\n  - routes: {{proxy: {proxy}}}\n")
    };
    let mut scene = Scene::whole(address, admin, &whole(""));
    assert_eq!(scene.edge.get("a", "/").body, "old");
    let mut socket = scene.edge.connect();
    socket.send(WEBSOCKET);
    while socket.line() != "\r\n" {}
    scene.edge.write_whole(&whole(limit));
    scene.edge.hang_up();
    scene.edge.wait_for_log("the configuration is taken");
    (scene, socket)
}

#[test]
fn the_time_of_a_request_is_over_in_the_queue_too() {
    for limit in [
        ", timeouts: {request: 100ms}",
        ", retries: {timeout: 100ms}",
    ] {
        let (scene, _socket) = occupied("", limit);
        let before = scene.metric("edge_queued_requests_total");
        assert_eq!(scene.edge.get("a", "/").status, 504);
        scene.wait_for_queue(0);
        let queued = scene.metric("edge_queued_requests_total") - before;
        assert_eq!(queued, 1.0);
    }
}

#[test]
fn nobody_waits_behind_one_whose_time_is_over_and_who_takes_no_answer() {
    for (cache, status, body) in [
        ("", 504, "page"),
        (", cache: {stale_if_error: 1h}", 200, "old"),
    ] {
        let (scene, _socket) = occupied(cache, ", timeouts: {request: 100ms}");
        let answer = scene.edge.get("a", "/");
        assert_eq!((answer.status, &*answer.body), (status, body));
        let mut frames = Frames::connect(scene.address);
        let no_window = [0, 4, 0, 0, 0, 0];
        frames.send(SETTINGS, 0, 0, &no_window);
        frames.begin_request(1, "/", "", END_STREAM);
        frames.until(HEADERS, 1);
        assert_eq!(scene.metric("edge_upstream_queue_length"), 0.0);
    }
}

#[test]
fn a_client_that_goes_away_leaves_the_queue() {
    let gate = Gate::start();
    let scene = Scene::of(&limited(
        gate.script.address,
        ", queue: {size: 5, timeout: 1h}",
    ));
    let mut first = scene.send("/1");
    gate.wait_for(1);
    let gone = scene.send("/gone");
    scene.wait_for_queue(1);
    let mut last = scene.send("/2");
    scene.wait_for_queue(2);
    drop(gone);
    scene.wait_for_queue(1);
    for client in [&mut first, &mut last] {
        gate.open.send(()).unwrap();
        assert!(client.rest().starts_with("HTTP/1.1 200"));
    }
    assert_eq!(gate.paths(), ["/1", "/2"]);
}

#[test]
fn a_websocket_is_counted_until_it_ends() {
    let gate = Gate::start();
    let scene = Scene::of(&limited(
        gate.script.address,
        ", queue: {size: 5, timeout: 1h}",
    ));
    let mut socket = scene.edge.connect();
    socket.send(WEBSOCKET);
    gate.wait_for(1);
    let mut waits = scene.send("/2");
    scene.wait_for_queue(1);
    drop(socket);
    gate.open.send(()).unwrap();
    assert!(waits.rest().starts_with("HTTP/1.1 200"));
}

#[test]
fn a_server_that_comes_back_and_a_higher_limit_wake_those_who_wait() {
    let (one, two) = (Gate::start(), Gate::start());
    let proxy = |max: u32| {
        format!(
            "{{to: [{{address: '{}', max_requests: {max}}}, {{address: '{}', max_requests: 1}}], queue: {{size: 5, timeout: 1h}}}}",
            one.script.address, two.script.address
        )
    };
    let scene = Scene::of(&proxy(1));
    scene.post("/api/endpoints/drain", two.script.address);
    let mut clients = vec![scene.send("/1")];
    one.wait_for(1);
    clients.push(scene.send("/2"));
    scene.wait_for_queue(1);
    scene.post("/api/endpoints/undrain", two.script.address);
    two.wait_for(1);
    clients.push(scene.send("/3"));
    scene.wait_for_queue(1);
    scene
        .edge
        .write_whole(&whole(scene.address, scene.admin, &proxy(2)));
    scene.edge.hang_up();
    one.wait_for(2);
    for gate in [&one.open, &two.open, &one.open] {
        gate.send(()).unwrap();
    }
    for client in &mut clients {
        assert!(client.rest().starts_with("HTTP/1.1 200"));
    }
}

#[test]
fn workers_together_never_exceed_the_limit_and_all_are_served() {
    const CLIENTS: usize = 16;
    const MOST: usize = 3;
    let (open, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    // Those that come first wait for each other, and until all others are in the queue.
    let (first, go) = (AtomicUsize::new(0), Arc::new(Barrier::new(MOST + 1)));
    let (counts, goes) = ((open.clone(), most.clone()), go.clone());
    let origin = Script::start(move |_, _| {
        counts.1.fetch_max(
            counts.0.fetch_add(1, Ordering::SeqCst) + 1,
            Ordering::SeqCst,
        );
        if first.fetch_add(1, Ordering::SeqCst) < MOST {
            goes.wait();
        }
        std::thread::yield_now();
        counts.0.fetch_sub(1, Ordering::SeqCst);
        Act::Answer(200, "x".into())
    });
    let scene = Scene::of(&format!(
        "{{to: [{{address: '{}', max_requests: {MOST}}}], queue: {{size: 100, timeout: 1h}}}}",
        origin.address
    ));
    std::thread::scope(|threads| {
        for _ in 0..CLIENTS {
            threads.spawn(|| {
                let mut client = scene.edge.connect();
                (0..50).for_each(|_| assert_eq!(client.ask("GET", "a", "/", "").status, 200));
            });
        }
        scene.wait_for_queue(CLIENTS - MOST);
        go.wait();
    });
    assert_eq!(most.load(Ordering::SeqCst), MOST);
    assert!(scene.metric("edge_queued_requests_total") >= (CLIENTS - MOST) as f64);
    scene.wait_for_queue(0);
}
