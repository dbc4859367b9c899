//! What a client can do to make the server work for nothing, and where it ends.

use super::common::*;
use super::h2_proxy;
use super::raw::*;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;

/// An origin that answers nothing, and how many requests reached it.
fn silent() -> (Origin, Arc<AtomicUsize>) {
    let requests = Arc::new(AtomicUsize::new(0));
    let count = requests.clone();
    let origin = Origin::scripted(move |mut wire, _| {
        if wire.has_more() {
            wire.read_head();
            count.fetch_add(1, Ordering::SeqCst);
            // Until the proxy gives up the request.
            wire.read_to_end();
        }
    });
    (origin, requests)
}

/// Has `attack` say frames until the server takes no more, and gives its goodbye. `attack` gets the number of
/// its call, from 0, and stops by itself after `most`.
fn attack(raw: &mut Raw, most: u32, attack: impl Fn(u32) -> Vec<u8>) -> u32 {
    for n in 0..most {
        if raw.wire.send_if_taken(attack(n)).is_err() {
            break;
        }
    }
    raw.read_goaway()
}

fn stream(n: u32) -> u32 {
    2 * n + 1
}

fn opened(n: u32, fields: &[(&str, &str)]) -> Vec<u8> {
    frame(HEADERS, END_HEADERS, stream(n), &head("POST", fields))
}

fn reset(n: u32) -> Vec<u8> {
    frame(RST_STREAM, 0, stream(n), &CANCEL.to_be_bytes())
}

#[test]
fn rapid_reset_in_a_burst() {
    let (origin, requests) = silent();
    let proxy = h2_proxy(&origin);
    let mut raw = Raw::new(&proxy);
    let burst: Vec<u8> = (0..5000)
        .flat_map(|n| [opened(n, &[]), reset(n)].concat())
        .collect();
    let _ = raw.wire.send_if_taken(burst);
    assert_eq!(raw.read_goaway(), ENHANCE_YOUR_CALM);
    drop(raw);
    drop(proxy);
    let reached = requests.load(Ordering::SeqCst);
    println!("{reached} requests reached the origin");
    assert!(reached <= 100, "{reached} requests reached the origin");
}

#[test]
fn rapid_reset_at_a_pace() {
    let (origin, requests) = silent();
    let proxy = h2_proxy(&origin);
    let mut raw = Raw::new(&proxy);
    let mut n = 0;
    // One at a time, each as far as the origin, so that nothing is ever waiting in the server.
    while raw.wire.send_if_taken(opened(n, &[])).is_ok() {
        n += 1;
        let mut looks = 0;
        while requests.load(Ordering::SeqCst) < n as usize && looks < 20_000 {
            looks += 1;
            std::thread::yield_now();
        }
        let _ = raw.wire.send_if_taken(reset(n - 1));
        assert!(n < 1000, "never sent away");
    }
    assert_eq!(raw.read_goaway(), ENHANCE_YOUR_CALM);
    assert!(n >= 100, "a window of cancelled requests is no attack: {n}");
}

#[test]
fn resets_that_the_server_is_made_to_send() {
    let overflow = |n| {
        let more = frame(WINDOW_UPDATE, 0, stream(n), &0x7fff_ffff_u32.to_be_bytes());
        [opened(n, &[]), more].concat()
    };
    let mismatch = |n| {
        let data = frame(DATA, END_STREAM, stream(n), b"x");
        [opened(n, &[("content-length", "5")]), data].concat()
    };
    let trailers = |n| {
        let trailers = block(&[("connection", "close")]);
        let trailers = frame(HEADERS, END_HEADERS | END_STREAM, stream(n), &trailers);
        [opened(n, &[]), trailers].concat()
    };
    let depends_on_itself = |n| {
        let mut on_itself = stream(n).to_be_bytes().to_vec();
        on_itself.push(16);
        let priority = frame(PRIORITY, 0, stream(n), &on_itself);
        [opened(n, &[]), priority].concat()
    };
    let uppercase = |n| opened(n, &[("Upper", "x")]);
    let padded = |n| opened(n, &[("padded", " x")]);
    type Attack<'a> = (&'a str, &'a dyn Fn(u32) -> Vec<u8>);
    let attacks: [Attack<'_>; 6] = [
        ("window overflow", &overflow),
        ("content-length mismatch", &mismatch),
        ("malformed trailers", &trailers),
        ("priority on itself", &depends_on_itself),
        ("malformed for the library", &uppercase),
        ("malformed at the border", &padded),
    ];
    for (name, each) in attacks {
        let (origin, requests) = silent();
        let proxy = h2_proxy(&origin);
        let mut raw = Raw::new(&proxy);
        let code = attack(&mut raw, 2000, each);
        assert_eq!(code, ENHANCE_YOUR_CALM, "{name}");
        drop(raw);
        drop(proxy);
        let reached = requests.load(Ordering::SeqCst);
        println!("{name}: {reached} reached the origin");
        assert!(reached <= 256, "{name}: {reached} reached the origin");
    }
}

#[test]
fn floods_of_what_has_to_be_answered() {
    let floods: [(&str, Vec<u8>); 5] = [
        ("settings", frame(SETTINGS, 0, 0, &[])),
        (
            "settings with values",
            frame(SETTINGS, 0, 0, &[0, 4, 0, 1, 0, 0]),
        ),
        ("pings", frame(PING, 0, 0, &[7; 8])),
        ("priority", frame(PRIORITY, 0, 3, &[0, 0, 0, 1, 0])),
        ("unknown", frame(0x77, 0, 0, b"?")),
    ];
    for (name, flood) in floods {
        let (origin, requests) = silent();
        let proxy = h2_proxy(&origin);
        let mut raw = Raw::new(&proxy);
        let code = attack(&mut raw, 100_000, |_| flood.clone());
        assert_eq!(code, ENHANCE_YOUR_CALM, "{name}");
        assert_eq!(requests.load(Ordering::SeqCst), 0, "{name}");
    }
}

#[test]
fn empty_pieces_of_a_body() {
    let (origin, _) = silent();
    let proxy = h2_proxy(&origin);
    let mut raw = Raw::new(&proxy);
    raw.request(1, "POST", &[], false);
    let code = attack(&mut raw, 100_000, |_| frame(DATA, 0, 1, &[]));
    assert_eq!(code, ENHANCE_YOUR_CALM);
}

#[test]
fn continuation_without_an_end() {
    let full = block(&[("x", &"y".repeat(16_000))]);
    let pieces: [(&str, Vec<u8>); 2] = [("full", full), ("empty", Vec::new())];
    for (name, piece) in pieces {
        let (origin, requests) = silent();
        let proxy = h2_proxy(&origin);
        let mut raw = Raw::new(&proxy);
        raw.send(HEADERS, END_STREAM, 1, &head("GET", &[]));
        let mut sent = 0;
        while sent < 10_000 && raw.try_send(CONTINUATION, 0, 1, &piece) {
            sent += 1;
        }
        assert_eq!(raw.read_goaway(), ENHANCE_YOUR_CALM, "{name}");
        assert_eq!(requests.load(Ordering::SeqCst), 0, "{name}");
    }
}

#[test]
fn a_field_block_that_unfolds() {
    let (origin, requests) = silent();
    let proxy = h2_proxy(&origin);
    let mut raw = Raw::new(&proxy);
    // One field of nearly the whole table, then references to it of one byte each: 64 MiB of fields.
    let mut bomb = block(&[
        (":method", "GET"),
        (":scheme", "http"),
        (":path", "/"),
        (":authority", "a"),
    ]);
    let mut field = block(&[("bomb", &"b".repeat(4000))]);
    field[0] = 0x40;
    bomb.extend(field);
    bomb.extend([0xbe; 10_000]);
    raw.send(HEADERS, END_HEADERS | END_STREAM, 1, &bomb);
    assert_eq!(raw.read_goaway(), ENHANCE_YOUR_CALM);
    assert_eq!(requests.load(Ordering::SeqCst), 0);
}

#[test]
fn a_head_that_is_too_large_is_refused_alone() {
    let origin = Origin::answering("HTTP/1.1 204 No Content\r\n\r\n");
    let proxy = h2_proxy(&origin);
    let mut raw = Raw::new(&proxy);
    let large = "v".repeat(10_000);
    let fields: Vec<(&str, &str)> = (0..7).map(|_| ("large", large.as_str())).collect();
    let block = head("GET", &fields);
    let (first, rest) = block.split_at(16_000);
    raw.send(HEADERS, END_STREAM, 1, first);
    let mut pieces = rest.chunks(16_000).peekable();
    while let Some(piece) = pieces.next() {
        let flags = if pieces.peek().is_none() {
            END_HEADERS
        } else {
            0
        };
        raw.send(CONTINUATION, flags, 1, piece);
    }
    // A 431, or a stream that is refused.
    loop {
        let frame = raw.read();
        if frame.id == 1 {
            assert!(matches!(frame.kind, HEADERS | RST_STREAM), "{frame:?}");
            break;
        }
    }
    raw.assert_alive(3);
    assert_eq!(origin.accepted(), 1);
}

#[test]
fn streams_beyond_the_limit_are_refused() {
    let (origin, requests) = silent();
    let proxy = h2_proxy(&origin);
    let mut raw = Raw::new(&proxy);
    for n in 0..101 {
        raw.request(stream(n), "GET", &[], true);
    }
    assert_eq!(raw.read_reset(stream(100)), 7, "REFUSED_STREAM");
    eventually("the others reach the origin", || {
        requests.load(Ordering::SeqCst) == 100
    });
}

#[test]
fn who_measures_its_line_while_it_loads_is_served() {
    let body = vec![b'x'; 4 << 20];
    let mut response =
        format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len()).into_bytes();
    response.extend(&body);
    let origin = Origin::answering(response);
    let proxy = h2_proxy(&origin);
    let mut raw = Raw::with_settings(&proxy, &[(4, 1 << 30)]);
    raw.send(WINDOW_UPDATE, 0, 0, &(1_u32 << 30).to_be_bytes());
    raw.request(1, "GET", &[], true);
    let (mut received, mut pings) = (0, 0);
    loop {
        let frame = raw.read();
        match frame.kind {
            DATA => {
                received += frame.payload.len();
                if frame.ends_stream() {
                    break;
                }
                raw.send(PING, 0, 0, &[1; 8]);
                pings += 1;
            }
            GOAWAY => panic!("sent away after {pings} pings"),
            _ => {}
        }
    }
    assert_eq!(received, body.len());
    assert!(pings > 200, "{pings} pings are no measure");
}
