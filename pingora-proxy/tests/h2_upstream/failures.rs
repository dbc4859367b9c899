//! What goes wrong, on either side and at every stage.

use super::common::h2_origin::*;
use super::common::*;
use bytes::Bytes;
use h2::Reason;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::Notify;

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const POST: &str = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello";

#[test]
fn an_early_answer_is_whole_though_the_request_is_reset() {
    let origin = H2Origin::start(|stream, _| async move {
        let mut frames = Frames::begin(stream).await;
        let (_, _, id, _) = frames.next_of(HEADERS).await.unwrap();
        frames.send(HEADERS, 4, id, b"\x08\x03413").await;
        frames.send(DATA, 1, id, b"too much").await;
        frames.send(RST_STREAM, 0, id, &[0; 4]).await;
        while frames.next().await.is_some() {}
    });
    let proxy = h2_proxy(&origin.path());
    let mut client = proxy.connect();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000000\r\n\r\nhello");
    let response = client.read_response();
    assert_eq!((response.status(), response.text()), (413, "too much"));
}

#[test]
fn a_reset_before_the_head_is_a_bad_gateway() {
    for reason in [Reason::INTERNAL_ERROR, Reason::CANCEL, Reason::NO_ERROR] {
        let origin = H2Origin::streams(move |_, mut respond, _| async move {
            respond.send_reset(reason);
        });
        let proxy = h2_proxy(&origin.path());
        let mut client = proxy.connect();
        client.send(GET);
        assert_eq!(client.read_response().status(), 502, "{reason:?}");
    }
}

#[test]
fn a_reset_within_the_body_cuts_the_response_short() {
    for reason in [Reason::INTERNAL_ERROR, Reason::NO_ERROR] {
        let came = Arc::new(Notify::new());
        let comes = came.clone();
        let origin = H2Origin::streams(move |_, mut respond, _| {
            let comes = comes.clone();
            async move {
                let mut stream = respond.send_response(status(200), false).unwrap();
                stream
                    .send_data(Bytes::from_static(b"part"), false)
                    .unwrap();
                // The reset must not overtake the data.
                comes.notified().await;
                stream.send_reset(reason);
            }
        });
        let proxy = h2_proxy(&origin.path());
        let mut client = proxy.connect();
        client.send(GET);
        assert!(client.read_head().starts_with("HTTP/1.1 200 "));
        client.read_until("part");
        came.notify_one();
        let rest = client.read_to_end();
        assert!(!rest.ends_with(b"0\r\n\r\n"), "{reason:?}");
    }
}

#[test]
fn a_length_that_does_not_match_is_no_whole_response() {
    for (length, body) in [("3", "hello"), ("8", "hello")] {
        let origin = H2Origin::start(move |stream, _| async move {
            let mut frames = Frames::begin(stream).await;
            let (_, _, id, _) = frames.next_of(HEADERS).await.unwrap();
            let head = [&b"\x88\x0f\x0d\x01"[..], length.as_bytes()].concat();
            frames.send(HEADERS, 4, id, &head).await;
            frames.send(DATA, 1, id, body.as_bytes()).await;
            while frames.next().await.is_some() {}
        });
        let proxy = h2_proxy(&origin.path());
        let mut client = proxy.connect();
        client.send(GET);
        let said = String::from_utf8(client.read_to_end()).unwrap();
        let (head, body) = said.split_once("\r\n\r\n").unwrap();
        let refused = head.starts_with("HTTP/1.1 502 ");
        assert!(refused || body.len() < length.parse().unwrap(), "{said}");
    }
}

#[test]
fn a_refused_stream_is_tried_again_whatever_its_method() {
    let seen = Arc::new(AtomicUsize::new(0));
    let count = seen.clone();
    let origin = H2Origin::streams(move |request, mut respond, _| {
        let number = count.fetch_add(1, Ordering::SeqCst);
        async move {
            if number == 0 {
                respond.send_reset(Reason::REFUSED_STREAM);
                return;
            }
            let mut body = request.into_body();
            let mut received = Vec::new();
            while let Some(data) = body.data().await {
                received.extend_from_slice(&data.unwrap());
            }
            let mut stream = respond.send_response(status(200), false).unwrap();
            stream.send_data(received.into(), true).unwrap();
        }
    });
    let proxy = h2_proxy(&origin.path());
    let mut client = proxy.connect();
    client.send(POST);
    let response = client.read_response();
    assert_eq!((response.status(), response.text()), (200, "hello"));
    assert_eq!(seen.load(Ordering::SeqCst), 2);
}

#[test]
fn a_goaway_that_leaves_the_request_out_sends_it_elsewhere() {
    let origin = H2Origin::start(|stream, number| async move {
        let mut frames = Frames::begin(stream).await;
        let (_, _, id, _) = frames.next_of(HEADERS).await.unwrap();
        if number == 0 {
            // Last stream 0, NO_ERROR: nothing was processed.
            frames.send(GOAWAY, 0, 0, &[0; 8]).await;
        } else {
            frames.answer(id).await;
        }
        while frames.next().await.is_some() {}
    });
    let proxy = h2_proxy(&origin.path());
    let mut client = proxy.connect();
    client.send(POST);
    assert_eq!(client.read_response().status(), 200);
    assert_eq!(origin.accepted(), 2);
}

#[test]
fn a_goaway_lets_the_streams_below_it_finish() {
    let origin = H2Origin::start(|stream, _| async move {
        let mut frames = Frames::begin(stream).await;
        let (_, _, id, _) = frames.next_of(HEADERS).await.unwrap();
        let goaway = [&id.to_be_bytes()[..], &[0; 4]].concat();
        frames.send(GOAWAY, 0, 0, &goaway).await;
        frames.answer(id).await;
        while frames.next().await.is_some() {}
    });
    let proxy = h2_proxy(&origin.path());
    let mut client = proxy.connect();
    for _ in 0..3 {
        client.send(POST);
        assert_eq!(client.read_response().status(), 200);
    }
    // Each connection took one request and no other.
    assert_eq!(origin.accepted(), 3);
}

#[test]
fn a_kept_connection_that_died_is_replaced() {
    let origin = H2Origin::start(|stream, number| async move {
        let mut frames = Frames::begin(stream).await;
        let (_, _, id, _) = frames.next_of(HEADERS).await.unwrap();
        frames.answer(id).await;
        if number == 0 {
            // It closes upon the next request, which may have been processed for all that is known.
            frames.next_of(HEADERS).await.unwrap();
            return;
        }
        while frames.next().await.is_some() {}
    });
    let proxy = h2_proxy(&origin.path());
    let mut client = proxy.connect();
    for _ in 0..2 {
        client.send(GET);
        assert_eq!(client.read_response().status(), 200);
    }
    assert_eq!(origin.accepted(), 2);
}

#[test]
fn what_may_have_been_processed_is_not_sent_again() {
    let origin = H2Origin::start(|stream, number| async move {
        let mut frames = Frames::begin(stream).await;
        let (_, _, id, _) = frames.next_of(HEADERS).await.unwrap();
        if number == 0 {
            frames.answer(id).await;
            frames.next_of(HEADERS).await.unwrap();
        }
    });
    let proxy = h2_proxy(&origin.path());
    let mut client = proxy.connect();
    client.send(POST);
    assert_eq!(client.read_response().status(), 200);
    client.send(POST);
    assert_eq!(client.read_response().status(), 502);
    assert_eq!(origin.accepted(), 1);
}

#[test]
fn an_origin_that_does_not_speak_http2_is_a_bad_gateway() {
    let origin = Origin::scripted(|mut wire, _| {
        wire.read_until("SM\r\n\r\n");
        wire.send("HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
    });
    let proxy = h2_proxy(&origin.path());
    let mut client = proxy.connect();
    client.send(GET);
    assert_eq!(client.read_response().status(), 502);
}

#[test]
fn an_origin_that_closes_at_once_is_a_bad_gateway() {
    let origin = H2Origin::start(|stream, _| async move { drop(stream) });
    let proxy = h2_proxy(&origin.path());
    let mut client = proxy.connect();
    client.send(GET);
    assert_eq!(client.read_response().status(), 502);
}

/// What the origin sees of a client that leaves when `begin` was sent, and `head` came or not.
fn leaving(begin: &str, answer_first: bool) -> u32 {
    let (seen, sees) = mpsc::channel();
    let seen = Mutex::new(seen);
    let origin = H2Origin::start(move |stream, _| {
        let seen = seen.lock().unwrap().clone();
        async move {
            let mut frames = Frames::begin(stream).await;
            let (_, _, id, _) = frames.next_of(HEADERS).await.unwrap();
            if answer_first {
                frames.send(HEADERS, 4, id, &[0x88]).await;
                frames.send(DATA, 0, id, b"part").await;
            } else {
                seen.send(None).unwrap();
            }
            let (_, _, which, reason) = frames.next_of(RST_STREAM).await.unwrap();
            assert_eq!(which, id);
            seen.send(Some(u32::from_be_bytes(reason.try_into().unwrap())))
                .unwrap();
        }
    });
    let proxy = h2_proxy(&origin.path());
    let mut client = proxy.connect();
    client.send(begin);
    match answer_first {
        true => drop(client.read_until("part")),
        false => drop(sees.recv_timeout(PATIENCE).unwrap()),
    }
    drop(client);
    sees.recv_timeout(PATIENCE).unwrap().unwrap()
}

#[test]
fn a_client_that_leaves_cancels_its_stream() {
    const CANCEL: u32 = 8;
    assert_eq!(leaving(GET, false), CANCEL);
    assert_eq!(leaving(GET, true), CANCEL);
    let part = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\npart";
    assert_eq!(leaving(part, false), CANCEL);
    assert_eq!(leaving(part, true), CANCEL);
}

#[test]
fn a_silent_origin_times_out() {
    let origin = H2Origin::start(|stream, _| async move {
        let mut frames = Frames::begin(stream).await;
        while frames.next().await.is_some() {}
    });
    let (short, long) = (Some(Duration::from_millis(100)), Some(PATIENCE));
    for (read, head) in [(short, None), (long, short), (None, short)] {
        let mut peer = h2_peer(&origin.path());
        peer.options.read_timeout = read;
        peer.options.response_header_timeout = head;
        let proxy = Proxy::start(Forward { peer });
        let mut client = proxy.connect();
        client.send(GET);
        assert_eq!(client.read_response().status(), 504);
    }
}

#[test]
fn an_origin_that_takes_nothing_times_out() {
    let origin = H2Origin::start(|stream, _| async move {
        let mut frames = Frames::begin(stream).await;
        // The window of a stream stays at the 65,535 bytes that it has at first.
        while frames.next().await.is_some() {}
    });
    let mut peer = h2_peer(&origin.path());
    peer.options.write_timeout = Some(Duration::from_millis(100));
    let proxy = Proxy::start(Forward { peer });
    let mut client = proxy.connect();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n");
    client.send(vec![b'x'; 100_000]);
    assert_eq!(client.read_response().status(), 504);
}

#[test]
fn a_connection_on_which_no_ping_is_answered_is_given_up() {
    let origin = H2Origin::start(|stream, number| async move {
        let mut frames = Frames::begin(stream).await;
        let (_, _, id, _) = frames.next_of(HEADERS).await.unwrap();
        if number > 0 {
            frames.answer(id).await;
        }
        while frames.next().await.is_some() {}
    });
    let mut peer = h2_peer(&origin.path());
    peer.options.h2_ping_interval = Some(Duration::from_millis(10));
    let proxy = Proxy::start(Forward { peer });
    let mut client = proxy.connect();
    client.send(GET);
    assert_eq!(client.read_response().status(), 502);
    let mut next = proxy.connect();
    next.send(GET);
    assert_eq!(next.read_response().status(), 200);
    assert_eq!(origin.accepted(), 2);
}

#[test]
fn pings_that_are_answered_keep_the_connection() {
    let origin = H2Origin::start(|stream, _| async move {
        let mut frames = Frames::begin(stream).await;
        let (_, _, id, _) = frames.next_of(HEADERS).await.unwrap();
        for _ in 0..3 {
            let (_, flags, _, payload) = frames.next_of(PING).await.unwrap();
            assert_eq!(flags, 0);
            frames.send(PING, 1, 0, &payload).await;
        }
        frames.answer(id).await;
        while frames.next().await.is_some() {}
    });
    let mut peer = h2_peer(&origin.path());
    peer.options.h2_ping_interval = Some(Duration::from_millis(10));
    let proxy = Proxy::start(Forward { peer });
    let mut client = proxy.connect();
    client.send(GET);
    assert_eq!(client.read_response().status(), 200);
}
