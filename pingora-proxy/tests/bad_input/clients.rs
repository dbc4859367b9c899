//! Clients that trickle, stall, do not read, or leave.

use super::common::*;
use async_trait::async_trait;
use pingora_core::apps::HttpServerApp;
use pingora_core::protocols::http::ServerSession;
use pingora_core::protocols::l4::stream::Stream;
use pingora_core::server::configuration::ServerConf;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_core::Result;
use pingora_proxy::{http_proxy, ProxyHttp, Session};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{sleep, Instant};

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const FINE: &str = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 4\r\n\r\nfine";

/// Gives a client little time in either direction.
struct Impatient {
    forward: Forward,
    read: Option<Duration>,
    write: Option<Duration>,
}

#[async_trait]
impl ProxyHttp for Impatient {
    type CTX = ();

    fn new_ctx(&self) {}

    async fn upstream_peer(&self, session: &mut Session, ctx: &mut ()) -> Result<Box<HttpPeer>> {
        self.forward.upstream_peer(session, ctx).await
    }

    async fn request_filter(&self, session: &mut Session, _: &mut ()) -> Result<bool> {
        session.set_read_timeout(self.read);
        session.set_write_timeout(self.write);
        Ok(false)
    }
}

/// On virtual time, since nothing sets the time for a head before there is one.
#[tokio::test(start_paused = true)]
async fn a_head_that_trickles_in_ends_with_a_408() {
    for (first, trickle) in [("G", "E"), ("GET / HTTP/1.1\r\nHost: a\r\nX: ", "a")] {
        let (mut client, server) = tokio::net::UnixStream::pair().unwrap();
        let proxy = Arc::new(http_proxy(
            &Arc::new(ServerConf::default()),
            forward_to("/nobody".into()),
        ));
        let (_stop, shutdown) = tokio::sync::watch::channel(false);
        let session = ServerSession::new_http1(Box::new(Stream::from(server)));
        let served = tokio::spawn(async move {
            let kept = proxy.process_new_http(session, &shutdown).await;
            assert!(kept.is_none());
        });
        // The first byte counts, not the connection.
        sleep(Duration::from_secs(50)).await;
        let begun = Instant::now();
        client.write_all(first.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        loop {
            tokio::select! {
                read = client.read_buf(&mut answer) => if read.unwrap() == 0 {
                    break;
                },
                // More often than any timeout between two pieces.
                () = sleep(Duration::from_secs(1)) => {
                    client.write_all(trickle.as_bytes()).await.unwrap();
                }
            }
        }
        let answer = String::from_utf8(answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 408 "), "{answer:?}");
        let took = begun.elapsed().as_secs();
        assert!((60..62).contains(&took), "after {took} s");
        drop(client);
        served.await.unwrap();
    }
}

#[test]
fn a_body_that_does_not_come_is_a_408() {
    let (seen, was_seen) = channel();
    let seen = Mutex::new(seen);
    let origin = Origin::scripted(move |mut wire, _| {
        if wire.has_more() {
            let head = wire.read_head();
            if head.starts_with("GET") {
                wire.send(FINE);
            } else {
                let body = String::from_utf8(wire.read_to_end()).unwrap();
                seen.lock().unwrap().send(body).unwrap();
            }
        }
    });
    let proxy = Proxy::start(Impatient {
        forward: forward_to(origin.path()),
        read: Some(Duration::from_millis(300)),
        write: None,
    });
    for (framing, body) in [
        ("Content-Length: 8", ""),
        ("Content-Length: 8", "half"),
        ("Transfer-Encoding: chunked", ""),
        ("Transfer-Encoding: chunked", "8\r\nhalf"),
        ("Transfer-Encoding: chunked", "4\r\nhalf\r\n"),
        ("Transfer-Encoding: chunked", "4\r\nhalf\r\n0\r\n"),
    ] {
        let mut client = proxy.connect();
        client.send(format!(
            "POST / HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n{body}"
        ));
        assert_eq!(client.read_response().status(), 408, "{framing}, {body:?}");
        client.expect_end();
        let upstream = was_seen.recv_timeout(PATIENCE).unwrap();
        assert!(!upstream.ends_with("0\r\n\r\n"), "{upstream:?}");
        assert_eq!(upstream.contains("half"), body.contains("half"), "{body:?}");
        let mut client = proxy.connect();
        client.send(GET);
        assert_eq!(client.read_response().text(), "fine");
    }
}

/// An origin whose first response is longer than all sockets on its way hold; tells when the
/// proxy takes no more of it.
fn endless_origin() -> (Origin, std::sync::mpsc::Receiver<()>) {
    let (cut, was_cut) = channel();
    let cut = Mutex::new(cut);
    let origin = Origin::scripted(move |mut wire, number| {
        wire.read_head();
        if number > 0 {
            wire.send(FINE);
            return;
        }
        wire.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        let piece = [b"10000\r\n".as_slice(), &[b'a'; 0x10000], b"\r\n"].concat();
        while wire.send_if_taken(&piece).is_ok() {}
        cut.lock().unwrap().send(()).unwrap();
    });
    (origin, was_cut)
}

#[test]
fn a_client_that_does_not_read_is_cut_off() {
    let (origin, was_cut) = endless_origin();
    let proxy = Proxy::start(Impatient {
        forward: forward_to(origin.path()),
        read: None,
        write: Some(Duration::from_millis(100)),
    });
    let mut client = proxy.connect();
    client.send(GET);
    was_cut.recv_timeout(PATIENCE).unwrap();
    let seen = client.read_to_end();
    assert!(seen.starts_with(b"HTTP/1.1 200 "));
    assert!(!seen.ends_with(b"0\r\n\r\n"));
    let mut client = proxy.connect();
    client.send(GET);
    assert_eq!(client.read_response().text(), "fine");
}

#[test]
fn a_client_that_leaves_ends_the_response() {
    let (origin, was_cut) = endless_origin();
    let proxy = Proxy::to(&origin);
    let mut client = proxy.connect();
    client.send(GET);
    client.read_head();
    drop(client);
    was_cut.recv_timeout(PATIENCE).unwrap();
    let mut client = proxy.connect();
    client.send(GET);
    assert_eq!(client.read_response().text(), "fine");
}

#[test]
fn a_request_that_breaks_off_is_never_a_whole_one() {
    static BEGUN: AtomicUsize = AtomicUsize::new(0);
    let origin = Origin::scripted(|mut wire, _| {
        if !wire.has_more() {
            return;
        }
        let head = wire.read_head();
        if head.starts_with("GET") {
            wire.send(FINE);
            return;
        }
        BEGUN.fetch_add(1, Ordering::SeqCst);
        let body = wire.read_to_end();
        assert!(!body.ends_with(b"0\r\n\r\n") && body.len() < 12, "{body:?}");
    });
    let proxy = Proxy::to(&origin);
    let requests = [
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 12\r\n\r\na long body.",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\nX: a\r\n\r\n",
    ];
    for request in requests {
        let begun = BEGUN.load(Ordering::SeqCst);
        for end in 1..request.len() {
            // Closing both directions, and one only.
            for leave in [true, false] {
                let mut client = proxy.connect();
                client.send_split(&request.as_bytes()[..end], &[]);
                if !leave {
                    client.finish_sending();
                    let answer = client.read_to_end();
                    assert!(!answer.starts_with(b"HTTP/1.1 2"), "{end} of {request:?}");
                }
            }
        }
        eventually("it begins upstream", || {
            BEGUN.load(Ordering::SeqCst) > begun
        });
        let mut client = proxy.connect();
        client.send(GET);
        assert_eq!(client.read_response().text(), "fine");
    }
}
