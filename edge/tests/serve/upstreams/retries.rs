//! Requests that are tried again.

use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Barrier;

use super::origins::*;
use crate::tools::*;

/// A server that does this with the first requests, and answers the others with their bodies.
fn after(count: usize, first: fn() -> Act) -> Script {
    let seen = AtomicUsize::new(0);
    Script::start(move |_, body| {
        if seen.fetch_add(1, Ordering::SeqCst) < count {
            first()
        } else {
            Act::Answer(200, format!("got {body}"))
        }
    })
}

fn edge_with(origin: &Script, retries: &str) -> Edge {
    Edge::start(&format!(
        "  - routes: {{proxy: {{to: '{}', passive_health: 0, retries: {retries}}}, response_headers: {{set: {{x-path: '{{path}}'}}}}}}\n",
        origin.address
    ))
}

#[test]
fn a_request_is_tried_again_for_the_statuses_that_are_told() {
    let unavailable = || Act::Answer(503, "later".into());
    let origin = after(2, unavailable);
    let edge = edge_with(&origin, "{attempts: 3, on: 503}");
    let answer = edge.get("a", "/x");
    assert_eq!((answer.status, &*answer.body), (200, "got "));
    assert_eq!(answer.field("x-path"), Some("/x"));
    assert_eq!(origin.count(), 3);
    // When no try is left, the client gets the last answer.
    let origin = after(9, unavailable);
    let edge = edge_with(&origin, "{attempts: 2, on: 5xx}");
    let answer = edge.get("a", "/x");
    assert_eq!((answer.status, &*answer.body), (503, "later"));
    assert_eq!(answer.field("x-path"), Some("/x"));
    assert_eq!(origin.count(), 2);
    let edge = edge_with(&origin, "{attempts: 2, on: 502}");
    assert_eq!(edge.get("a", "/x").status, 503);
    assert_eq!(origin.count(), 3);
}

#[test]
fn ends_of_idle_connections_count_as_no_tries() {
    const CLIENTS: usize = 8;
    thread_local! {
        static SEEN: Cell<usize> = const { Cell::new(0) };
    }
    let (connections, all) = (AtomicUsize::new(0), Barrier::new(CLIENTS));
    // Each connection serves one request, and ends with the next one. Of those after the first eight, every other one serves none.
    let origin = Script::start(move |_, _| {
        if SEEN.replace(1) > 0 {
            return Act::Close;
        }
        let before = connections.fetch_add(1, Ordering::SeqCst);
        if before < CLIENTS {
            all.wait();
        } else if before % 2 == 0 {
            return Act::Close;
        }
        Act::Answer(200, String::new())
    });
    let edge = edge_with(&origin, "{attempts: 2, on: reset, budget: 100%}");
    let mut clients: Vec<_> = (0..CLIENTS).map(|_| edge.connect()).collect();
    std::thread::scope(|threads| {
        for client in &mut clients {
            threads.spawn(|| assert_eq!(client.ask("GET", "a", "/", "").status, 200));
        }
    });
    // One of the two workers has four of the connections at least.
    for client in &mut clients {
        assert_eq!(client.ask("GET", "a", "/", "").status, 200);
    }
}

#[test]
fn only_what_may_be_sent_twice_is_tried_again_with_its_body() {
    let unavailable = || Act::Answer(503, "later".into());
    let origin = after(1, unavailable);
    let edge = edge_with(&origin, "{on: 503}");
    let length = "Content-Length: 0\r\n";
    assert_eq!(edge.connect().ask("POST", "a", "/", length).status, 503);
    let origin = after(1, unavailable);
    let edge = edge_with(&origin, "{on: 503, methods: [POST]}");
    // The line end after the fields is of the body.
    let body = "Content-Length: 7\r\n\r\nhello";
    let answer = edge.connect().ask("POST", "a", "/", body);
    assert_eq!((answer.status, &*answer.body), (200, "got hello\r\n"));
    assert_eq!(edge.get("a", "/").status, 200);
}

#[test]
fn a_body_counts_once_against_its_limit_in_all_tries() {
    let origin = after(2, || Act::Close);
    let edge = Edge::start(&format!(
        "  - max_body_size: 8B
    routes: {{proxy: {{to: '{}', passive_health: 0, retries: {{on: reset}}}}}}\n",
        origin.address
    ));
    let body = "Content-Length: 7\r\n\r\nhello";
    let answer = edge.connect().ask("PUT", "a", "/", body);
    assert_eq!((answer.status, &*answer.body), (200, "got hello\r\n"));
    assert_eq!(origin.count(), 3);
}

#[test]
fn connections_that_break_off_and_answers_that_are_late_are_told_apart() {
    let origin = after(1, || Act::Close);
    let edge = edge_with(&origin, "{on: reset}");
    assert_eq!(edge.get("a", "/").status, 200);
    let origin = after(1, || Act::Close);
    let edge = edge_with(&origin, "{on: connect}");
    assert_eq!(edge.get("a", "/").status, 502);
    let origin = after(1, || Act::Wait);
    let edge = edge_with(&origin, "{on: timeout, try_timeout: 2s}");
    assert_eq!(edge.get("a", "/").status, 200);
    let origin = after(1, || Act::Wait);
    let edge = edge_with(&origin, "{on: reset, try_timeout: 100ms}");
    assert_eq!(edge.get("a", "/").status, 504);
}

#[test]
fn all_tries_together_have_a_time_limit() {
    let origin = after(usize::MAX, || Act::Wait);
    let edge = edge_with(
        &origin,
        "{on: timeout, attempts: 16, try_timeout: 1h, timeout: 2s}",
    );
    assert_eq!(edge.get("a", "/").status, 504);
    assert_eq!(origin.count(), 1);
}

#[test]
fn a_connection_that_is_refused_is_made_again() {
    let address = free();
    let edge = Edge::start(&format!(
        "  - routes: {{proxy: {{to: '{address}', passive_health: 0, retries: {{attempts: 4}}}}}}\n"
    ));
    assert_eq!(edge.get("a", "/").status, 502);
    let origin = after(0, || Act::Close);
    let more = Edge::start(&format!(
        "  - routes: {{proxy: {{to: ['{address}', '{}'], passive_health: 0, retries: {{attempts: 2}}}}}}\n",
        origin.address
    ));
    // POST too: nothing was sent.
    for _ in 0..6 {
        let answer = more
            .connect()
            .ask("POST", "a", "/", "Content-Length: 0\r\n");
        assert_eq!(answer.status, 200);
    }
}

#[test]
fn retries_are_bounded_by_their_budget() {
    let origin = after(usize::MAX, || Act::Answer(503, String::new()));
    let edge = edge_with(&origin, "{on: 503, attempts: 2, budget: 20%}");
    // One connection, so one worker: ten tries are saved, and each request adds a fifth of one.
    let mut client = edge.connect();
    for _ in 0..100 {
        assert_eq!(client.ask("GET", "a", "/", "").status, 503);
    }
    let tries = origin.count();
    assert!((125..=130).contains(&tries), "{tries}");
}

#[test]
fn a_server_that_does_not_speak_http_2_is_passed_over() {
    let old = Script::start(|_, _| Act::Answer(400, "no such version".into()));
    let new = free();
    let _nginx = Nginx::start(new, &format!("listen {new} http2;"));
    let edge = Edge::start(&format!(
        "  - routes: {{proxy: {{to: ['{}', '{new}'], protocol: h2c, passive_health: 1}}}}\n",
        old.address
    ));
    let length = "Content-Length: 0\r\n";
    for _ in 0..4 {
        // It has taken nothing: whatever the method is, the request can be sent again.
        let answer = edge.connect().ask("POST", "a", "/", length);
        assert_eq!((answer.status, &*answer.body), (200, "HTTP/2.0 a"));
    }
    let asked = old.heads();
    let asked = asked.iter().filter(|head| head.starts_with("PRI * "));
    assert_eq!(asked.count(), 1, "it is left alone after the first failure");
    // One that closes has refused as well.
    let gone = Script::start(|_, _| Act::Close);
    let edge = Edge::start(&format!(
        "  - routes: {{proxy: {{to: ['{}', '{new}'], protocol: h2c, passive_health: 1}}}}\n",
        gone.address
    ));
    for _ in 0..4 {
        assert_eq!(edge.get("a", "/").body, "HTTP/2.0 a");
    }
    assert_eq!(gone.count(), 1);
    let alone = Edge::start(&format!(
        "  - routes: {{proxy: {{to: '{}', protocol: h2c}}}}\n",
        old.address
    ));
    assert_eq!(alone.get("a", "/").status, 502);
}
