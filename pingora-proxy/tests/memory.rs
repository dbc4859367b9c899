//! A long body costs no more memory than a short one, however slowly it is read.
//!
//! Alone in its process, whose memory is what it looks at.

#![allow(clippy::unwrap_used)]

mod common;

use common::*;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

const PIECE: usize = 64 * 1024;
const BODY: usize = 1024 * 1024 * 1024;
/// What may have left the sender without having come to the reader: in sockets and in the proxy.
const UNDER_WAY: usize = 16 * 1024 * 1024;
/// By how much this process may grow meanwhile.
const GROWTH: usize = 64 * 1024 * 1024;

fn send_body(wire: &mut Wire, sent: &AtomicUsize) {
    let piece = vec![b'a'; PIECE];
    for _ in 0..BODY / PIECE {
        wire.send(&piece);
        sent.fetch_add(PIECE, Ordering::SeqCst);
    }
}

/// Reads the body, with a rest every now and then, in which the sender could run ahead.
fn read_slowly(wire: &mut Wire, sent: &AtomicUsize) {
    let (before, piece) = (resident(), vec![b'a'; PIECE]);
    for n in 1..=BODY / PIECE {
        assert!(wire.read_exact(PIECE) == piece);
        if n % 16 == 0 {
            std::thread::sleep(Duration::from_millis(2));
            let ahead = sent.load(Ordering::SeqCst).saturating_sub(n * PIECE);
            assert!(ahead <= UNDER_WAY, "{ahead} bytes are under way");
            let grown = resident().saturating_sub(before);
            assert!(grown < GROWTH, "{grown} bytes more in memory");
        }
    }
}

/// One test for both directions: side by side, each would see the memory of the other.
#[test]
fn a_long_body_is_never_held_in_memory() {
    static SENT: AtomicUsize = AtomicUsize::new(0);
    let origin = Origin::scripted(|mut wire, number| {
        wire.read_head();
        if number == 0 {
            wire.send(format!(
                "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {BODY}\r\n\r\n"
            ));
            send_body(&mut wire, &SENT);
        } else {
            read_slowly(&mut wire, &SENT);
            wire.send("HTTP/1.1 204 No Content\r\n\r\n");
        }
    });
    let proxy = Proxy::to(&origin);

    let mut client = proxy.connect();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    client.read_head();
    read_slowly(&mut client, &SENT);

    SENT.store(0, Ordering::SeqCst);
    client.send(format!(
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {BODY}\r\n\r\n"
    ));
    send_body(&mut client, &SENT);
    assert_eq!(client.read_response().status(), 204);
    assert_eq!(origin.accepted(), 2);
}
