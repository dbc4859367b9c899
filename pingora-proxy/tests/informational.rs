//! 1xx without an end, for a client that takes nothing, cost little memory.
//!
//! Alone in its process, whose memory is what it looks at.

#![allow(clippy::unwrap_used)]

mod common;
#[path = "h2/raw.rs"]
#[allow(dead_code)]
mod raw;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;

use common::h2_origin::{h2_peer, Frames, H2Origin};
use common::*;
use pingora_core::apps::HttpServerOptions;
use pingora_core::upstreams::peer::HttpPeer;
use raw::*;

/// Each with a field of some kilobytes, they come to 64 MiB.
const ANSWERS: usize = 16 * 1024;
const FIELD: usize = 4096;
const LIMIT: usize = 12 << 20;

fn h1_origin(sent: &Arc<AtomicBool>) -> Origin {
    let sent = sent.clone();
    Origin::scripted(move |mut wire, _| {
        let field = "x".repeat(FIELD);
        while wire.has_more() {
            wire.read_message();
            for _ in 0..ANSWERS {
                wire.send(format!("HTTP/1.1 103 Early Hints\r\nX: {field}\r\n\r\n"));
            }
            wire.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
            sent.store(true, Ordering::SeqCst);
        }
    })
}

fn h2_origin(sent: &Arc<AtomicBool>) -> H2Origin {
    let sent = sent.clone();
    H2Origin::start(move |stream, _| {
        let sent = sent.clone();
        async move {
            let mut frames = Frames::begin(stream).await;
            let field = "x".repeat(FIELD);
            let informational = block(&[(":status", "103"), ("x", &field)]);
            while let Some((_, _, id, _)) = frames.next_of(HEADERS).await {
                for _ in 0..ANSWERS {
                    frames.send(HEADERS, END_HEADERS, id, &informational).await;
                }
                // 200
                frames.send(HEADERS, END_HEADERS, id, &[0x88]).await;
                frames.send(DATA, END_STREAM, id, b"ok").await;
                sent.store(true, Ordering::SeqCst);
            }
        }
    })
}

fn proxy(peer: HttpPeer) -> Proxy {
    let mut options = HttpServerOptions::default();
    options.h2c = true;
    let setup = Setup {
        options,
        ..Setup::default()
    };
    Proxy::start_with(setup, Forward { peer })
}

/// The client reads nothing until the origin has sent everything.
fn check(name: &str, proxy: &Proxy, sent: &AtomicBool) {
    let before = resident();
    let mut h1 = proxy.connect();
    h1.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    eventually(name, || sent.swap(false, Ordering::SeqCst));
    let grown = resident().saturating_sub(before);
    println!("{name}, H1: {} KiB", grown / 1024);
    assert!(grown < LIMIT, "{name}, H1: {grown} bytes more in memory");
    let mut heads = 0;
    while h1.read_head().starts_with("HTTP/1.1 103 ") {
        heads += 1;
    }
    assert!(heads > 0, "{name}");
    h1.read_until("ok");

    let before = resident();
    let mut h2 = Raw::new(proxy);
    h2.request(1, "GET", &[], true);
    eventually(name, || sent.swap(false, Ordering::SeqCst));
    let grown = resident().saturating_sub(before);
    println!("{name}, H2: {} KiB", grown / 1024);
    assert!(grown < LIMIT, "{name}, H2: {grown} bytes more in memory");
    assert_eq!(h2.read_until(DATA, 1).payload, b"ok");
}

#[test]
fn what_nobody_takes() {
    let sent = Arc::new(AtomicBool::new(false));
    let h1 = h1_origin(&sent);
    let peer = HttpPeer::new_uds(&h1.path().to_string_lossy(), false, String::new()).unwrap();
    check("an origin of HTTP/1.1", &proxy(peer), &sent);
    let h2 = h2_origin(&sent);
    check("an origin of HTTP/2", &proxy(h2_peer(&h2.path())), &sent);
}
