//! What a client of HTTP/2 does not take costs little memory.
//!
//! Alone in its process, whose memory is what it looks at.

#![allow(clippy::unwrap_used)]

mod common;
#[path = "h2/raw.rs"]
#[allow(dead_code)]
mod raw;

use common::*;
use pingora_core::apps::HttpServerOptions;
use raw::*;

const STREAMS: u32 = 100;
const LIMIT: usize = 4 << 20;

/// A client that asks for much and takes nothing.
fn hold(proxy: &Proxy) -> Raw {
    const INITIAL_WINDOW_SIZE: u16 = 4;
    let mut raw = Raw::with_settings(proxy, &[(INITIAL_WINDOW_SIZE, 0)]);
    for n in 0..STREAMS {
        raw.request(2 * n + 1, "GET", &[], true);
    }
    let mut heads = 0;
    while heads < STREAMS {
        let frame = raw.read();
        assert!(
            ![DATA, RST_STREAM, GOAWAY].contains(&frame.kind),
            "{frame:?}"
        );
        heads += u32::from(frame.kind == HEADERS);
    }
    // Some turns of the server, in which it could read on.
    for _ in 0..100 {
        raw.send(PING, 0, 0, &[1; 8]);
        raw.read_until(PING, 0);
    }
    raw
}

#[test]
fn a_hundred_answers_that_nobody_takes() {
    let nginx = Nginx::start();
    std::fs::write(nginx.file("index.html"), vec![b'm'; 1 << 20]).unwrap();
    let mut options = HttpServerOptions::default();
    options.h2c = true;
    let setup = Setup {
        options,
        ..Setup::default()
    };
    let proxy = Proxy::start_with(setup, forward_to(nginx.path()));
    // The first such client also pays for what a process makes once, and the test for its own part of it. It stays,
    // so that nothing of it is used again.
    let _first = hold(&proxy);
    let before = resident();
    let mut raw = hold(&proxy);
    let grown = resident().saturating_sub(before);
    println!("{} KiB for {STREAMS} streams", grown / 1024);
    assert!(grown < LIMIT, "{grown} bytes more in memory");

    // And what was held comes whole.
    raw.send(WINDOW_UPDATE, 0, 0, &(1_u32 << 30).to_be_bytes());
    for n in 0..STREAMS {
        raw.send(WINDOW_UPDATE, 0, 2 * n + 1, &(1_u32 << 21).to_be_bytes());
    }
    let (mut received, mut ended) = (0, 0);
    while ended < STREAMS {
        let frame = raw.read();
        if frame.kind == DATA {
            received += frame.payload.len();
            ended += u32::from(frame.ends_stream());
        }
        assert!(![RST_STREAM, GOAWAY].contains(&frame.kind), "{frame:?}");
    }
    assert_eq!(received, (STREAMS as usize) << 20);
}
