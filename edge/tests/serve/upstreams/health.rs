//! Servers that fail, are checked, and come back.

use std::net::TcpListener;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;

use super::origins::*;
use super::queue::Scene;
use crate::tools::*;

/// A server whose health has a status, and whose other answers are its name.
fn named(name: &'static str) -> (Script, Arc<AtomicUsize>) {
    let status = Arc::new(AtomicUsize::new(200));
    let told = status.clone();
    let script = Script::start(move |head, _| {
        if head.starts_with("GET /healthz ") {
            let status = told.load(Ordering::SeqCst);
            return Act::Answer(status as u16, "all is well".into());
        }
        Act::Answer(200, name.into())
    });
    (script, status)
}

fn bodies(edge: &Edge, path: &str) -> Vec<String> {
    let mut client = edge.connect();
    let mut all: Vec<_> = (0..20)
        .map(|_| client.ask("GET", "a", path, "").body)
        .collect();
    all.sort();
    all.dedup();
    all
}

const QUICK: &str = "interval: 20ms, timeout: 10s, healthy_after: 2, unhealthy_after: 2";

#[test]
fn a_server_whose_check_fails_gets_no_request_until_it_succeeds() {
    let ((a, status), (b, _)) = (named("a"), named("b"));
    let mut edge = Edge::start(&format!(
        "  - routes: {{proxy: {{to: ['{}', '{}'], health: {{path: /healthz, host: check.test, headers: {{x-check: '1'}}, body: is well, {QUICK}}}}}}}\n",
        a.address, b.address
    ));
    eventually("both get requests", || bodies(&edge, "/") == ["a", "b"]);
    status.store(503, Ordering::SeqCst);
    edge.wait_for_log("is down: its check failed: it answered 503");
    assert_eq!(bodies(&edge, "/"), ["b"]);
    let check = a
        .heads()
        .into_iter()
        .find(|head| head.starts_with("GET /healthz"))
        .unwrap();
    assert!(
        check.to_lowercase().contains("host: check.test\r\n"),
        "{check}"
    );
    assert!(check.to_lowercase().contains("x-check: 1\r\n"), "{check}");
    status.store(200, Ordering::SeqCst);
    edge.wait_for_log("is up: its checks succeed");
    assert_eq!(bodies(&edge, "/"), ["a", "b"]);
}

#[test]
fn when_all_are_down_the_answer_is_503() {
    let address = free();
    let mut edge = Edge::start(&format!(
        "  - routes: {{proxy: {{to: '{address}', health: {{kind: tcp, initially: down, {QUICK}}}}}}}\n"
    ));
    assert_eq!(edge.get("a", "/").status, 503);
    let listener = TcpListener::bind(address).unwrap();
    let _origin = Script::start_at(listener, |_, _| Act::Answer(200, "here".into()));
    edge.wait_for_log("is up: its checks succeed");
    assert_eq!(edge.get("a", "/").body, "here");
    // A change of the cluster keeps what is known.
    edge.write(&format!(
        "  - routes: {{proxy: {{to: '{address}', health: {{kind: tcp, initially: down, interval: 1h}}}}}}\n"
    ));
    edge.hang_up();
    edge.wait_for_log("the configuration is taken");
    assert_eq!(edge.get("a", "/").body, "here");
}

#[test]
fn the_health_service_of_grpc_is_asked() {
    let grpc = Grpc::start();
    let mut edge = Edge::start(&format!(
        "  - routes: {{proxy: {{to: '{}', protocol: h2c, health: {{kind: grpc, service: app.Echo, {QUICK}}}}}}}\n",
        grpc.address
    ));
    let checked = || {
        let calls = grpc.calls.lock().unwrap();
        calls.first().cloned()
    };
    eventually("it is checked", || checked().is_some());
    let message = b"\0\0\0\0\x0a\x0a\x08app.Echo".to_vec();
    assert_eq!(
        checked(),
        Some(("/grpc.health.v1.Health/Check".to_owned(), message))
    );
    assert_eq!(edge.get("a", "/").status, 200);
    grpc.status.store(2, Ordering::SeqCst);
    edge.wait_for_log("its health service says 2, and not 1 (SERVING)");
    assert_eq!(edge.get("a", "/").status, 503);
    grpc.status.store(1, Ordering::SeqCst);
    edge.wait_for_log("is up: its checks succeed");
}

#[test]
fn a_check_has_a_port_and_a_time_limit_of_its_own() {
    let (origin, _) = named("a");
    let (checked, status) = named("check");
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut edge = Edge::start(&format!(
        "  - routes:
      - {{path: /port, proxy: {{to: '{0}', health: {{path: /healthz, port: {1}, expect: 204, interval: 20ms}}}}}}
      - {{path: /slow, proxy: {{to: '{0}', health: {{path: /healthz, port: {2}, interval: 20ms, timeout: 50ms}}}}}}
",
        origin.address,
        checked.address.port(),
        silent.local_addr().unwrap().port()
    ));
    let mut said = [
        edge.wait_for_log("is down: its check failed"),
        edge.wait_for_log("is down: its check failed"),
    ];
    said.sort_by_key(|line| line.contains("no answer within 50ms"));
    assert!(said[0].contains("it answered 200"), "{said:?}");
    assert!(said[1].contains("no answer within 50ms"), "{said:?}");
    status.store(204, Ordering::SeqCst);
    edge.wait_for_log("is up: its checks succeed");
    assert_eq!(edge.get("a", "/port").body, "a");
    assert_eq!(edge.get("a", "/slow").status, 503);
}

#[test]
fn statuses_that_are_told_count_as_failures() {
    let (good, _) = named("good");
    let bad = Script::start(|_, _| Act::Answer(503, "bad".into()));
    let mut edge = Edge::start(&format!(
        "  - routes: {{proxy: {{to: ['{}', '{}'], passive_health: {{max_fails: 2, eject_for: 1h, statuses: 5xx}}}}}}\n",
        bad.address, good.address
    ));
    let mut client = edge.connect();
    while bad.count() < 2 {
        client.ask("GET", "a", "/", "");
    }
    edge.wait_for_log("it is left alone for 3600s: it answered 503");
    eventually("only the other one is asked", || {
        (0..20).all(|_| edge.get("a", "/").body == "good")
    });
    assert_eq!(bad.count(), 2);
}

#[test]
fn a_circuit_breaker_answers_503_until_a_try_succeeds() {
    let fails = Arc::new(AtomicUsize::new(1));
    let told = fails.clone();
    let origin = Script::start(move |_, _| match told.load(Ordering::SeqCst) {
        0 => Act::Answer(200, "well".into()),
        _ => Act::Answer(500, "ill".into()),
    });
    let mut edge = Edge::start(&format!(
        "  - routes: {{proxy: {{to: '{}', circuit_breaker: {{error_rate: 50%, window: 1s, min_requests: 5, open_for: 200ms}}}}}}\n",
        origin.address
    ));
    eventually("it opens", || edge.get("a", "/").status == 503);
    edge.wait_for_log("the circuit breaker opens");
    fails.store(0, Ordering::SeqCst);
    eventually("it closes", || edge.get("a", "/").status == 200);
}

/// The state of each server, as the admin interface at `admin` tells it.
fn states(client: &mut Client) -> Vec<(String, u64)> {
    let answer = client.ask("GET", "localhost", "/api/status", "");
    let all: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
    let servers = all["clusters"][0]["endpoints"].as_array().unwrap();
    let state = |server: &serde_json::Value| {
        let status = server["status"].as_str().unwrap().to_owned();
        (status, server["failed"].as_u64().unwrap())
    };
    servers.iter().map(state).collect()
}

#[test]
fn a_lack_of_descriptors_is_the_fault_of_no_server() {
    let (origins, [address, admin]) = ([named("a"), named("b")], [free(), free()]);
    let mut edge = Edge::start_whole(
        address,
        &format!(
            "listen: {address}
admin: {admin}
sites:
  - routes:
      - {{path: /here, respond: 200}}
      - proxy:
          to: ['{}', '{}']
          passive_health: {{max_fails: 1, eject_for: 1h}}
          circuit_breaker: {{error_rate: 1%, window: 100ms, min_requests: 1, open_for: 1h}}
          health: {{path: /healthz, {QUICK}}}
",
            origins[0].0.address, origins[1].0.address
        ),
    );
    let up = |failed| vec![("up".to_owned(), failed); 2];
    let mut asking = edge.connect_to(admin);
    assert_eq!(states(&mut asking), up(0));
    // They are accepted once they are answered.
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let mut client = edge.connect();
            assert_eq!(client.ask("GET", "a", "/here", "").status, 200);
            client
        })
        .collect();
    let before = edge.limit_files(1);
    let line = edge.wait_for_log("cannot be checked, its state stays");
    assert!(line.contains("Too many open files"), "{line}");
    for mut client in clients {
        assert_eq!(client.ask("GET", "a", "/", "").status, 502);
    }
    assert_eq!(states(&mut asking), up(0));
    edge.limit_files(before);
    eventually("both get requests", || bodies(&edge, "/") == ["a", "b"]);
    assert_eq!(states(&mut asking), up(0));
}

#[test]
fn the_end_of_a_request_s_time_is_the_fault_of_a_server_that_had_all_of_it() {
    let origin = Script::start(|_, _| Act::Wait);
    let scene = Scene::of(&format!(
        "{{to: '{}', passive_health: {{max_fails: 1, eject_for: 1h}}, timeouts: {{request: 200ms}}}}",
        origin.address
    ));
    let mut asking = scene.edge.connect_to(scene.admin);
    let mut slow = scene.edge.connect();
    slow.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nhalf");
    assert!(slow.rest().starts_with("HTTP/1.1 504"));
    assert_eq!(states(&mut asking), [("up".to_owned(), 0)]);
    assert_eq!(scene.edge.get("a", "/").status, 504);
    assert_eq!(states(&mut asking), [("ejected".to_owned(), 1)]);
}

#[test]
fn a_server_is_not_blamed_for_the_time_that_a_request_has_waited_for_it() {
    let switching = "HTTP/1.1 101 X\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    let origin = Script::start(move |_, _| Act::Echo(switching.into()));
    let scene = Scene::of(&format!(
        "{{to: [{{address: '{}', max_requests: 1}}], queue: {{size: 5, timeout: 1h}},
           passive_health: {{max_fails: 1, eject_for: 1h}}, timeouts: {{request: 50ms}}}}",
        origin.address
    ));
    let mut tunnel = scene.edge.connect();
    tunnel.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n");
    assert!(tunnel.line().starts_with("HTTP/1.1 101"));
    let mut waits = scene.send("/");
    scene.wait_for_queue(1);
    // Its time is over before it has a server.
    std::thread::sleep(std::time::Duration::from_millis(60));
    drop(tunnel);
    assert!(waits.rest().starts_with("HTTP/1.1 504"));
    let mut asking = scene.edge.connect_to(scene.admin);
    assert_eq!(states(&mut asking), [("up".to_owned(), 0)]);
}
