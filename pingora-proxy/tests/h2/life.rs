//! How connections end.

use super::common::*;
use super::raw::*;
use super::{h2_proxy, h2_proxy_of, setup};
use pingora_core::upstreams::peer::HttpPeer;
use pingora_core::Result;
use pingora_http::ResponseHeader;
use pingora_proxy::{ProxyHttp, Session};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::Arc;
use std::time::Duration;

#[test]
fn goodbye_in_two_steps_and_streams_finish() {
    let (go, held) = std::sync::mpsc::channel::<()>();
    let held = std::sync::Mutex::new(held);
    let asked = Arc::new(AtomicUsize::new(0));
    let origin = Origin::scripted({
        let asked = asked.clone();
        move |mut wire, _| {
            while wire.has_more() {
                wire.read_message();
                if asked.fetch_add(1, Ordering::SeqCst) == 0 {
                    held.lock().unwrap().recv().unwrap();
                }
                wire.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
            }
        }
    });
    let proxy = h2_proxy(&origin);
    let mut raw = Raw::new(&proxy);
    raw.request(1, "GET", &[], true);
    eventually("the request reaches the origin", || {
        asked.load(Ordering::SeqCst) == 1
    });
    proxy.begin_shutdown();

    let first = raw.read_until_goaway();
    assert_eq!((first.code(), last_stream(&first)), (NO_ERROR, 0x7fff_ffff));
    let ping = raw.read_until(PING, 0);
    // A request that was under way when the first goodbye came is served.
    raw.request(3, "GET", &[], true);
    raw.read_until(DATA, 3);
    raw.send(PING, ACK, 0, &ping.payload);
    let second = raw.read_until_goaway();
    assert_eq!((second.code(), last_stream(&second)), (NO_ERROR, 3));
    go.send(()).unwrap();
    raw.read_until(HEADERS, 1);
    assert_eq!(raw.read_until(DATA, 1).payload, b"ok");
    proxy.wait();
}

/// Notes what a stream is told of a shutdown, when its request and when its answer comes.
struct Asking {
    forward: Forward,
    told: std::sync::mpsc::Sender<(&'static str, bool)>,
}

#[async_trait::async_trait]
impl ProxyHttp for Asking {
    type CTX = ();

    fn new_ctx(&self) {}

    async fn request_filter(&self, session: &mut Session, _: &mut ()) -> Result<bool> {
        let told = session.is_process_shutting_down();
        self.told.send(("request", told)).unwrap();
        Ok(false)
    }

    async fn upstream_peer(&self, session: &mut Session, ctx: &mut ()) -> Result<Box<HttpPeer>> {
        self.forward.upstream_peer(session, ctx).await
    }

    async fn response_filter(
        &self,
        session: &mut Session,
        _: &mut ResponseHeader,
        _: &mut (),
    ) -> Result<()> {
        let told = session.is_process_shutting_down();
        self.told.send(("response", told)).unwrap();
        Ok(())
    }
}

#[test]
fn streams_know_of_a_shutdown() {
    let (go, held) = std::sync::mpsc::channel::<()>();
    let held = std::sync::Mutex::new(held);
    let origin = Origin::scripted(move |mut wire, n| {
        wire.read_message();
        if n == 0 {
            held.lock().unwrap().recv().unwrap();
        }
        wire.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok");
    });
    let (told, tells) = std::sync::mpsc::channel();
    let forward = forward_to(origin.path());
    let proxy = h2_proxy_of(Asking { forward, told });
    let mut raw = Raw::new(&proxy);
    raw.request(1, "GET", &[], true);
    assert_eq!(tells.recv_timeout(PATIENCE), Ok(("request", false)));
    eventually("the request reaches the origin", || origin.accepted() == 1);
    proxy.begin_shutdown();
    raw.read_until_goaway();
    raw.request(3, "GET", &[], true);
    raw.read_until(DATA, 3);
    assert_eq!(tells.recv_timeout(PATIENCE), Ok(("request", true)));
    assert_eq!(tells.recv_timeout(PATIENCE), Ok(("response", true)));
    go.send(()).unwrap();
    raw.read_until(DATA, 1);
    assert_eq!(tells.recv_timeout(PATIENCE), Ok(("response", true)));
}

fn last_stream(goaway: &Frame) -> u32 {
    u32::from_be_bytes(goaway.payload[..4].try_into().unwrap())
}

impl Raw {
    #[track_caller]
    fn read_until_goaway(&mut self) -> Frame {
        loop {
            let frame = self.read();
            if frame.kind == GOAWAY {
                return frame;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shutdown_under_load_loses_no_stream() {
    let origin = Origin::answering("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    let proxy = h2_proxy(&origin);
    let done = Arc::new(AtomicUsize::new(0));
    let told = Arc::new(AtomicBool::new(false));
    let mut clients = Vec::new();
    for _ in 0..4 {
        let stream = tokio::net::UnixStream::connect(proxy.path()).await.unwrap();
        let (client, connection) = h2::client::handshake(stream).await.unwrap();
        tokio::spawn(async { drop(connection.await) });
        let (done, told) = (done.clone(), told.clone());
        clients.push(tokio::spawn(async move {
            let mut client = client;
            loop {
                // Once the goodbye has come, h2 itself opens no further stream.
                client = match client.ready().await {
                    Ok(client) => client,
                    Err(_) => return,
                };
                let request = http::Request::get("http://origin.test/").body(()).unwrap();
                let response = match client.send_request(request, true) {
                    Ok((response, _)) => response,
                    Err(_) => return,
                };
                match response.await {
                    Ok(response) => {
                        assert_eq!(response.status(), 200);
                        done.fetch_add(1, Ordering::SeqCst);
                    }
                    // Not processed: above the last stream of the second goodbye, and the client knows.
                    Err(e) if e.is_go_away() => {
                        assert!(told.load(Ordering::SeqCst), "{e}");
                        return;
                    }
                    Err(e) => panic!("a stream was lost: {e}"),
                }
            }
        }));
    }
    let end = std::time::Instant::now() + PATIENCE;
    while done.load(Ordering::SeqCst) < 200 {
        assert!(std::time::Instant::now() < end, "no load");
        tokio::task::yield_now().await;
    }
    told.store(true, Ordering::SeqCst);
    proxy.begin_shutdown();
    for client in clients {
        client.await.unwrap();
    }
    tokio::task::spawn_blocking(move || proxy.wait())
        .await
        .unwrap();
}

#[test]
fn an_idle_connection_closes() {
    let origin = Origin::answering("HTTP/1.1 204 No Content\r\n\r\n");
    let mut setup = setup();
    setup.options.h2_idle_timeout = Some(Duration::from_millis(50));
    let proxy = Proxy::start_with(setup, forward_to(origin.path()));
    // All at once: a connection whose first request takes too long is idle, too.
    let mut raw = Raw::over(proxy.connect());
    let first = [
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
        frame(SETTINGS, 0, 0, &[]),
        frame(HEADERS, END_HEADERS | END_STREAM, 1, &head("GET", &[])),
    ];
    raw.wire.send(first.concat());
    raw.read_until(HEADERS, 1);
    assert_eq!(raw.read_goaway(), NO_ERROR);
    let ping = raw.read_until(PING, 0);
    raw.send(PING, ACK, 0, &ping.payload);
    raw.wire.read_to_end();
}

#[test]
fn a_client_that_answers_no_ping_is_closed() {
    let origin = Origin::scripted(|mut wire, _| {
        wire.read_to_end();
    });
    let mut setup = setup();
    setup.options.h2_ping_interval = Some(Duration::from_millis(50));
    let proxy = Proxy::start_with(setup, forward_to(origin.path()));
    let mut raw = Raw::new(&proxy);
    // A request that nobody answers keeps the connection busy.
    raw.request(1, "GET", &[], true);
    for _ in 0..3 {
        let ping = raw.read_until(PING, 0);
        raw.send(PING, ACK, 0, &ping.payload);
    }
    raw.read_until(PING, 0);
    raw.wire.read_to_end();
}

/// `:status: 204` as HPACK has it (RFC 7541 appendix A).
const STATUS_204: u8 = 0x80 | 9;

/// A proxy whose connections serve so many requests after the first, before an origin that answers whole requests.
fn serving(reuses: u32) -> (Origin, Proxy) {
    let origin = Origin::scripted(|mut wire, _| {
        while wire.has_more() {
            wire.read_message();
            wire.send("HTTP/1.1 204 No Content\r\n\r\n");
        }
    });
    before(origin, reuses)
}

/// The same before any origin.
fn before(origin: Origin, reuses: u32) -> (Origin, Proxy) {
    let mut setup = setup();
    setup.options.keepalive_request_limit = Some(reuses);
    let proxy = Proxy::start_with(setup, forward_to(origin.path()));
    (origin, proxy)
}

/// Reads the first goodbye and the answer on `id`, whichever is first, and the PING that asks whether the goodbye came.
fn read_first_goodbye(raw: &mut Raw, id: u32) -> Vec<u8> {
    let (mut told, mut ping, mut answered) = (false, None, false);
    while !told || ping.is_none() || !answered {
        let frame = raw.read();
        match frame.kind {
            GOAWAY => {
                assert_eq!(frame.code(), NO_ERROR);
                assert_eq!(frame.payload[..4], [0x7f, 0xff, 0xff, 0xff]);
                told = true;
            }
            PING => ping = Some(frame.payload),
            HEADERS => {
                assert_eq!(frame.id, id);
                assert_eq!(frame.payload[0], STATUS_204, "{frame:?}");
                answered = true;
            }
            _ => {}
        }
    }
    ping.unwrap()
}

/// The last stream that the second goodbye names.
fn read_last_goodbye(raw: &mut Raw) -> u32 {
    let goodbye = raw.read_goodbye();
    assert_eq!(goodbye.code(), NO_ERROR);
    u32::from_be_bytes(goodbye.payload[..4].try_into().unwrap())
}

#[test]
fn a_connection_serves_as_many_requests_as_it_may() {
    for reuses in [0, 1, 3] {
        let (_origin, proxy) = serving(reuses);
        let mut raw = Raw::new(&proxy);
        let last = 1 + 2 * reuses;
        for id in (1..last).step_by(2) {
            raw.assert_alive(id);
        }
        raw.request(last, "GET", &[], true);
        let ping = read_first_goodbye(&mut raw, last);
        // Sent before the client could know.
        raw.assert_alive(last + 2);
        raw.send(PING, ACK, 0, &ping);
        assert_eq!(read_last_goodbye(&mut raw), last + 2);
        raw.wire.read_to_end();
    }
}

#[test]
fn a_stream_outlasts_the_last_request() {
    let (_origin, proxy) = serving(1);
    let mut raw = Raw::new(&proxy);
    raw.request(1, "POST", &[], false);
    raw.request(3, "GET", &[], true);
    let ping = read_first_goodbye(&mut raw, 3);
    raw.send(PING, ACK, 0, &ping);
    assert_eq!(read_last_goodbye(&mut raw), 3);
    // Above the last stream: neither served nor an error.
    raw.request(5, "GET", &[], true);
    raw.send(DATA, END_STREAM, 1, b"done");
    assert_eq!(raw.read_until(HEADERS, 1).payload[0], STATUS_204);
    raw.wire.read_to_end();
}

/// A client that does not say that it was told to go is not served for good.
#[test]
fn a_goodbye_that_is_not_heard_is_said_louder() {
    let origin = Origin::scripted(|mut wire, _| {
        while wire.has_more() && wire.read_head().starts_with("GET ") {
            wire.send("HTTP/1.1 204 No Content\r\n\r\n");
        }
        wire.read_to_end();
    });
    let (_origin, proxy) = before(origin, 0);
    let mut raw = Raw::new(&proxy);
    raw.request(1, "GET", &[], true);
    read_first_goodbye(&mut raw, 1);
    // As long as there is a stream, no time counts.
    raw.request(3, "POST", &[], false);
    let mut served = 0;
    let code = 'served: loop {
        raw.request(5 + 2 * served, "GET", &[], true);
        loop {
            let frame = raw.read();
            match frame.kind {
                GOAWAY => break 'served frame.code(),
                HEADERS => break,
                _ => {}
            }
        }
        served += 1;
        assert!(served < 5000, "and so on for ever");
    };
    assert_eq!(code, ENHANCE_YOUR_CALM);
    assert!(served >= 999, "{served}");
    raw.wire.read_to_end();
}

/// Whether a client is there is asked after its last request as well.
#[test]
fn a_client_that_vanishes_behind_its_last_request_is_closed() {
    let origin = Origin::scripted(|mut wire, _| {
        wire.read_to_end();
    });
    let mut setup = setup();
    setup.options.keepalive_request_limit = Some(0);
    setup.options.h2_ping_interval = Some(Duration::from_millis(50));
    let proxy = Proxy::start_with(setup, forward_to(origin.path()));
    let mut raw = Raw::new(&proxy);
    raw.request(1, "GET", &[], true);
    let mut pings = Vec::new();
    while pings.len() < 4 {
        let frame = raw.read();
        if frame.kind == PING {
            raw.send(PING, ACK, 0, &frame.payload);
            pings.push(frame.payload);
        }
    }
    assert!(
        pings.windows(2).any(|two| two[0] != two[1]),
        "the one of the goodbye is another"
    );
    raw.wire.read_to_end();
}
