//! How tunnels end: in one direction after the other, or at once.

use super::common::*;
use pingora_core::upstreams::peer::HttpPeer;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::thread::JoinHandle;

const ASK: &str = "GET /chat HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
const SWITCH: &str =
    "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";

/// An origin of one connection.
fn origin<F>(script: F) -> (SocketAddr, JoinHandle<()>)
where
    F: FnOnce(TcpStream) + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let script = std::thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        script(stream);
    });
    (address, script)
}

fn read_head(stream: &mut TcpStream) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
}

/// A proxy to the origin, and a client that asks it for a tunnel.
fn tunnel(origin: SocketAddr, work_stealing: bool) -> (Proxy, TcpStream) {
    let mut setup = Setup {
        tcp: true,
        ..Setup::default()
    };
    setup.conf.work_stealing = work_stealing;
    let peer = HttpPeer::new(origin, false, String::new());
    let proxy = Proxy::start_with(setup, Forward { peer });
    let mut client = TcpStream::connect(proxy.tcp()).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client.write_all(ASK.as_bytes()).unwrap();
    read_head(&mut client);
    (proxy, client)
}

/// Closes with a reset.
fn reset(stream: TcpStream) {
    reset_on_close(&stream);
}

#[test]
fn what_the_client_sends_goes_through_when_the_origin_has_said_all() {
    for work_stealing in [false, true] {
        let (address, script) = origin(|mut stream| {
            read_head(&mut stream);
            stream.write_all(SWITCH.as_bytes()).unwrap();
            stream.write_all(b"all").unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
            let mut came = Vec::new();
            stream.read_to_end(&mut came).unwrap();
            assert_eq!(came.len(), 3_000_000);
        });
        let (_proxy, mut client) = tunnel(address, work_stealing);
        let mut came = Vec::new();
        // The end of one direction, though the other one goes on.
        client.read_to_end(&mut came).unwrap();
        assert_eq!(came, b"all");
        for _ in 0..3 {
            client.write_all(&vec![b'x'; 1_000_000]).unwrap();
        }
        drop(client);
        script.join().unwrap();
    }
}

#[test]
fn what_the_origin_sends_goes_through_when_the_client_has_said_all() {
    let (address, script) = origin(|mut stream| {
        read_head(&mut stream);
        stream.write_all(SWITCH.as_bytes()).unwrap();
        let mut came = Vec::new();
        stream.read_to_end(&mut came).unwrap();
        assert_eq!(came, b"all");
        stream.write_all(&vec![b'x'; 3_000_000]).unwrap();
    });
    let (_proxy, mut client) = tunnel(address, false);
    client.write_all(b"all").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let mut came = Vec::new();
    client.read_to_end(&mut came).unwrap();
    assert_eq!(came.len(), 3_000_000);
    script.join().unwrap();
}

#[test]
fn an_origin_that_closes_after_its_last_word_is_heard() {
    for _ in 0..20 {
        let (address, script) = origin(|mut stream| {
            read_head(&mut stream);
            stream.write_all(SWITCH.as_bytes()).unwrap();
            stream.read_exact(&mut [0; 4]).unwrap();
            stream.write_all(b"bye").unwrap();
        });
        let (_proxy, mut client) = tunnel(address, false);
        client.write_all(b"ping").unwrap();
        // Who answers a farewell may find nobody. What the origin had not read would make its end a reset.
        let mut bye = [0; 3];
        client.read_exact(&mut bye).unwrap();
        script.join().unwrap();
        client.write_all(b"bye").unwrap();
        let mut rest = Vec::new();
        assert_eq!(client.read_to_end(&mut rest).unwrap(), 0);
    }
}

#[test]
fn a_reset_is_told_to_the_other_side() {
    for work_stealing in [false, true] {
        // The origin's.
        let (address, script) = origin(|mut stream| {
            read_head(&mut stream);
            stream.write_all(SWITCH.as_bytes()).unwrap();
            stream.read_exact(&mut [0; 4]).unwrap();
            reset(stream);
        });
        let (_proxy, mut client) = tunnel(address, work_stealing);
        client.write_all(b"ping").unwrap();
        let end = client.read(&mut [0; 1]);
        assert_eq!(end.unwrap_err().kind(), ErrorKind::ConnectionReset);
        script.join().unwrap();

        // The client's.
        let (address, script) = origin(|mut stream| {
            read_head(&mut stream);
            stream.write_all(SWITCH.as_bytes()).unwrap();
            stream.read_exact(&mut [0; 4]).unwrap();
            let end = stream.read(&mut [0; 1]);
            assert_eq!(end.unwrap_err().kind(), ErrorKind::ConnectionReset);
        });
        let (_proxy, mut client) = tunnel(address, work_stealing);
        client.write_all(b"ping").unwrap();
        reset(client);
        script.join().unwrap();
    }
}
