//! WebSockets over HTTP/2 (RFC 8441), and CONNECT.

use super::common::*;
use super::raw::*;
use super::{h2_proxy, h2_proxy_of, setup};
use pingora_core::upstreams::peer::HttpPeer;
use pingora_core::{Error, Result};
use pingora_proxy::{ProxyHttp, Session};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

const CONNECT_WEBSOCKET: [(&str, &str); 7] = [
    (":method", "CONNECT"),
    (":protocol", "websocket"),
    (":scheme", "http"),
    (":path", "/chat"),
    (":authority", "origin.test"),
    ("sec-websocket-version", "13"),
    ("sec-websocket-protocol", "talk"),
];

#[test]
fn a_websocket() {
    let origin = Origin::scripted(|mut wire, _| {
        let head = wire.read_head();
        assert!(head.starts_with("GET /chat HTTP/1.1\r\n"), "{head}");
        for line in [
            "Upgrade: websocket",
            "Connection: Upgrade",
            "Host: origin.test",
            "sec-websocket-version: 13",
            "sec-websocket-protocol: talk",
        ] {
            let found = head.split("\r\n").any(|l| l.eq_ignore_ascii_case(line));
            assert!(found, "no {line} in {head}");
        }
        let key = head
            .split("\r\n")
            .find_map(|l| l.strip_prefix("Sec-WebSocket-Key: "));
        let key = key.unwrap();
        assert_eq!(key.len(), 24, "{head}");
        let accept = derive_accept_key(key.as_bytes());
        wire.send(format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: {accept}\r\nSec-WebSocket-Protocol: talk\r\n\r\nhello",
        ));
        assert_eq!(wire.read_exact(4), b"ping");
        wire.send("pong");
        assert_eq!(wire.read_to_end(), b"bye");
        wire.send("farewell");
    });
    let proxy = h2_proxy(&origin);
    let mut raw = Raw::new(&proxy);
    raw.send(HEADERS, END_HEADERS, 1, &block(&CONNECT_WEBSOCKET));
    // Sent ahead of the answer.
    raw.send(DATA, 0, 1, b"ping");
    let head = raw.read_until(HEADERS, 1);
    assert!(!head.ends_stream());
    assert_eq!(head.payload[0], 0x88, ":status 200");
    let mut came: Vec<u8> = Vec::new();
    while came.len() < 9 {
        came.extend(raw.read_until(DATA, 1).payload);
    }
    assert_eq!(came, b"hellopong");
    raw.send(DATA, END_STREAM, 1, b"bye");
    let mut came: Vec<u8> = Vec::new();
    loop {
        let data = raw.read_until(DATA, 1);
        came.extend(&data.payload);
        if data.ends_stream() {
            break;
        }
    }
    assert_eq!(came, b"farewell");
}

#[test]
fn an_origin_that_wants_no_websocket() {
    let origin = Origin::scripted(|mut wire, n| {
        wire.read_head();
        let status = ["403 Forbidden", "200 OK"][n];
        wire.send(format!(
            "HTTP/1.1 {status}\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno"
        ));
    });
    let proxy = h2_proxy(&origin);
    let mut raw = Raw::new(&proxy);
    raw.send(HEADERS, END_HEADERS, 1, &block(&CONNECT_WEBSOCKET));
    let head = raw.read_until(HEADERS, 1);
    assert!(head.payload.windows(3).any(|w| w == b"403") || head.payload[0] != 0x88);
    assert_eq!(raw.read_until(DATA, 1).payload, b"no");
    // A success that is none must not look like one.
    let mut raw = Raw::new(&proxy);
    raw.send(HEADERS, END_HEADERS, 1, &block(&CONNECT_WEBSOCKET));
    let head = raw.read_until(HEADERS, 1);
    assert_ne!(head.payload[0], 0x88, ":status 200");
}

#[test]
fn protocols_that_no_origin_could_be_told_of() {
    let origin = Origin::answering("");
    let proxy = h2_proxy(&origin);
    let mut raw = Raw::new(&proxy);
    let mut other = CONNECT_WEBSOCKET;
    other[1].1 = "connect-udp";
    raw.send(HEADERS, END_HEADERS, 1, &block(&other));
    let head = raw.read_until(HEADERS, 1);
    assert_ne!(head.payload[0], 0x88, ":status 200");
    assert_eq!(origin.accepted(), 0);
}

#[test]
fn connect_is_refused_unless_allowed() {
    let connect = [(":method", "CONNECT"), (":authority", "origin.test:443")];
    let origin = Origin::scripted(|mut wire, _| {
        let head = wire.read_head();
        assert!(
            head.starts_with("CONNECT origin.test:443 HTTP/1.1\r\n"),
            "{head}"
        );
        wire.send("HTTP/1.1 200 OK\r\n\r\nhello");
        assert_eq!(wire.read_to_end(), b"bye");
    });
    let proxy = h2_proxy(&origin);
    let mut raw = Raw::new(&proxy);
    raw.send(HEADERS, END_HEADERS, 1, &block(&connect));
    assert_ne!(raw.read_until(HEADERS, 1).payload[0], 0x88);
    assert_eq!(origin.accepted(), 0);

    let mut setup = setup();
    setup.options.allow_connect_method_proxying = true;
    let proxy = Proxy::start_with(setup, forward_to(origin.path()));
    let mut raw = Raw::new(&proxy);
    raw.send(HEADERS, END_HEADERS, 1, &block(&connect));
    let head = raw.read_until(HEADERS, 1);
    assert_eq!((head.payload[0], head.ends_stream()), (0x88, false));
    assert_eq!(raw.read_until(DATA, 1).payload, b"hello");
    raw.send(DATA, END_STREAM, 1, b"bye");
    raw.read_until(DATA, 1);
}

/// Says when an exchange is over, and whether it failed.
struct Telling {
    forward: Forward,
    over: std::sync::mpsc::Sender<bool>,
}

#[async_trait::async_trait]
impl ProxyHttp for Telling {
    type CTX = ();

    fn new_ctx(&self) {}

    async fn upstream_peer(&self, session: &mut Session, ctx: &mut ()) -> Result<Box<HttpPeer>> {
        self.forward.upstream_peer(session, ctx).await
    }

    async fn logging(&self, _: &mut Session, e: Option<&Error>, _: &mut ()) {
        self.over.send(e.is_some()).unwrap();
    }
}

/// Answers the handshake of a WebSocket.
fn switch(wire: &mut Wire) {
    let head = wire.read_head();
    let key = head
        .split("\r\n")
        .find_map(|l| l.strip_prefix("Sec-WebSocket-Key: "));
    let accept = derive_accept_key(key.unwrap().as_bytes());
    wire.send(format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\n\r\n",
    ));
}

#[test]
fn a_client_that_ends_its_side_and_then_resets_ends_the_tunnel() {
    for ends in [false, true] {
        let (gone, told) = std::sync::mpsc::channel::<()>();
        let told = std::sync::Mutex::new(told);
        let origin = Origin::scripted(move |mut wire, _| {
            switch(&mut wire);
            assert_eq!(wire.read_exact(3), b"bye");
            wire.send("seen");
            // It neither writes nor closes until the proxy has noticed.
            told.lock().unwrap().recv().unwrap();
        });
        let (over, overs) = std::sync::mpsc::channel();
        let forward = forward_to(origin.path());
        let proxy = h2_proxy_of(Telling { forward, over });
        let mut raw = Raw::new(&proxy);
        raw.send(HEADERS, END_HEADERS, 1, &block(&CONNECT_WEBSOCKET));
        raw.read_until(HEADERS, 1);
        raw.send(DATA, u8::from(ends) * END_STREAM, 1, b"bye");
        assert_eq!(raw.read_until(DATA, 1).payload, b"seen");
        raw.send(RST_STREAM, 0, 1, &CANCEL.to_be_bytes());
        assert_eq!(overs.recv_timeout(PATIENCE), Ok(true), "{ends}");
        gone.send(()).unwrap();
    }
}

#[test]
fn a_reset_of_one_side_is_told_to_the_other() {
    use std::io::{ErrorKind, Read};
    for by_origin in [true, false] {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let peer = HttpPeer::new(listener.local_addr().unwrap(), false, String::new());
        let origin = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut wire = Wire::over_tcp(stream.try_clone().unwrap());
            switch(&mut wire);
            assert_eq!(wire.read_exact(4), b"ping");
            drop(wire);
            if by_origin {
                reset_on_close(&stream);
                return;
            }
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            let end = stream.read(&mut [0; 1]);
            assert_eq!(end.unwrap_err().kind(), ErrorKind::ConnectionReset);
        });
        let proxy = h2_proxy_of(Forward { peer });
        let mut raw = Raw::new(&proxy);
        raw.send(HEADERS, END_HEADERS, 1, &block(&CONNECT_WEBSOCKET));
        raw.read_until(HEADERS, 1);
        raw.send(DATA, 0, 1, b"ping");
        if by_origin {
            assert_eq!(raw.read_reset(1), CANCEL);
        } else {
            raw.send(RST_STREAM, 0, 1, &CANCEL.to_be_bytes());
        }
        origin.join().unwrap();
    }
}

#[test]
fn what_the_client_sends_goes_through_when_the_origin_has_said_all() {
    let (tell, told) = std::sync::mpsc::channel();
    let origin = Origin::scripted(move |mut wire, _| {
        switch(&mut wire);
        wire.send("all");
        wire.finish_sending();
        tell.send(wire.read_to_end()).unwrap();
    });
    let proxy = h2_proxy(&origin);
    let mut raw = Raw::new(&proxy);
    raw.send(HEADERS, END_HEADERS, 1, &block(&CONNECT_WEBSOCKET));
    raw.read_until(HEADERS, 1);
    let mut came: Vec<u8> = Vec::new();
    loop {
        let data = raw.read_until(DATA, 1);
        came.extend(&data.payload);
        if data.ends_stream() {
            break;
        }
    }
    assert_eq!(came, b"all");
    raw.send(DATA, END_STREAM, 1, b"more");
    // The proxy must not be gone before it has passed that on.
    assert_eq!(told.recv().unwrap(), b"more");
}
