//! A runtime that moves tasks between threads (`work_stealing: true`).

use super::tools::*;
use super::upstreams::origins::{Act, Script};

const CLIENTS: usize = 8;
const EACH: usize = 50;

#[test]
fn requests_go_well_where_tasks_move_over_a_reload_and_a_stop() {
    let origin = Script::start(|head, body| {
        if head.contains("Upgrade") {
            let answer = "HTTP/1.1 101 X\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
            return Act::Echo(answer.into());
        }
        Act::Answer(200, body.to_owned())
    });
    let address = free();
    let text = |name: &str| {
        format!(
            "listen: '{address}'\nserver: {{work_stealing: true}}\nsites:\n  - routes:\n      - response_headers: {{set: {{x-file: {name}}}}}\n        proxy: {{to: [{{address: '{}', max_requests: 4}}], queue: {{size: 50, timeout: 1h}}, balance: peak_ewma}}\n",
            origin.address
        )
    };
    let mut edge = Edge::start_whole(address, &text("one"));
    let mut socket = edge.connect();
    socket.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n");
    assert!(socket.line().starts_with("HTTP/1.1 101"));
    while socket.line() != "\r\n" {}
    std::thread::scope(|threads| {
        for _ in 0..CLIENTS {
            threads.spawn(|| {
                let mut client = edge.connect();
                for _ in 0..EACH {
                    assert_eq!(client.ask("GET", "a", "/", "").status, 200);
                }
                eventually("the new file is served on a kept connection", || {
                    let answer = client.ask("GET", "a", "/", "");
                    assert_eq!(answer.status, 200);
                    answer.field("x-file") == Some("two")
                });
            });
        }
        eventually("half of them were served", || {
            origin.count() > CLIENTS * EACH / 2
        });
        edge.write_whole(&text("two"));
        edge.hang_up();
    });
    socket.send("echo\n");
    assert_eq!(socket.line(), "echo\n");
    drop(socket);
    // A request that is under way when the process is to end.
    let mut client = edge.connect();
    assert_eq!(client.ask("GET", "a", "/", "").status, 200);
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbo");
    edge.terminate();
    client.send("dy");
    let answer = client.rest();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(answer.ends_with("body"), "{answer}");
    edge.wait_for_end();
}
