//! What an origin may answer, in pieces of any size: no panic, no end of a body that was cut short, and
//! no connection that goes on with bytes nobody asked for. The first byte says what was asked, the second
//! how large the pieces are.
#![no_main]

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use libfuzzer_sys::fuzz_target;
use pingora_core::exchange::is_reusable;
use pingora_core::protocols::http::v1::client::HttpSession;
use pingora_core::protocols::http::HttpTask;
use pingora_http::RequestHeader;
use tokio::io::AsyncWriteExt;

struct Origin {
    method: &'static str,
    upgrade: bool,
    lenient: bool,
    closes: bool,
}

fn now<F: Future>(future: F) -> Option<F::Output> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    }
}

/// The messages that a response gives, until it ends, fails, or waits for ever.
fn response(origin: &Origin, pieces: &[&[u8]]) -> (Vec<u8>, Option<bool>, bool) {
    let (mut server, stream) = tokio::io::duplex(1 << 16);
    let mut session = HttpSession::new(Box::new(stream));
    session.set_allow_h1_response_invalid_content_length(origin.lenient);
    let mut head = RequestHeader::build(origin.method, b"/", None).expect("a head");
    if origin.upgrade {
        head.insert_header("Connection", "upgrade")
            .expect("a value");
        head.insert_header("Upgrade", "x").expect("a value");
    }
    let written = now(session.write_request_header(Box::new(head)));
    assert!(matches!(written, Some(Ok(_))));
    let mut pieces = pieces.iter();
    let mut body = Vec::new();
    let mut server = Some(&mut server);
    let mut closed = false;
    // A response of this many messages has an end, or never will.
    for _ in 0..100_000 {
        match now(session.read_response_task()) {
            Some(Ok(HttpTask::Body(data, end) | HttpTask::UpgradedBody(data, end))) => {
                body.extend_from_slice(&data.unwrap_or_default());
                if end {
                    return (body, Some(true), is_reusable(&session));
                }
            }
            Some(Ok(task)) if task.is_end() => return (body, Some(true), is_reusable(&session)),
            Some(Ok(_)) => {}
            Some(Err(_)) => {
                assert!(!is_reusable(&session));
                return (body, Some(false), false);
            }
            None => match (pieces.next(), &mut server) {
                (Some(piece), Some(server)) => {
                    assert!(matches!(now(server.write_all(piece)), Some(Ok(()))));
                }
                (None, Some(server)) if origin.closes && !closed => {
                    now(server.shutdown());
                    closed = true;
                }
                _ => {
                    assert!(!closed, "waits for a peer that has closed");
                    server.take();
                    return (body, None, false);
                }
            },
        }
    }
    panic!("a response without an end");
}

fuzz_target!(|data: &[u8]| {
    let [choice, size, answer @ ..] = data else {
        return;
    };
    if answer.len() > 1 << 15 {
        return;
    }
    let origin = Origin {
        method: ["GET", "HEAD", "CONNECT"][usize::from(choice & 3) % 3],
        upgrade: choice & 4 != 0,
        lenient: choice & 8 != 0,
        closes: choice & 16 != 0,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("a runtime");
    let _guard = runtime.enter();
    let (body, end, reusable) = response(&origin, &[answer]);
    let pieces: Vec<&[u8]> = answer.chunks(1 + usize::from(*size)).collect();
    let (cut_body, cut_end, cut_reusable) = response(&origin, &pieces);
    assert_eq!(cut_end, end);
    if end == Some(true) {
        assert_eq!(cut_body, body);
    }
    // What follows a response may still be on its way when it ends; it is then found in the pool.
    assert!(!reusable || cut_reusable);
});
