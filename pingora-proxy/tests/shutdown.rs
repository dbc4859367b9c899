//! What becomes of each connection when the proxy shuts down: nothing that reached it is lost, and
//! nothing is waited for.
//!
//! A server sets the flag after its listeners have closed, at a moment that no client sees. Tests of one
//! certain order therefore serve connections by hand, and others wait for the end of an idle connection,
//! the *canary*, which cannot come before the flag.

#![allow(clippy::unwrap_used)]

#[path = "common/mod.rs"]
mod common;
#[allow(dead_code)] // Of all that a client can say, little is said here.
#[path = "h2/raw.rs"]
mod raw;

#[path = "shutdown/by_hand.rs"]
mod by_hand;
#[path = "shutdown/in_a_server.rs"]
mod in_a_server;

use common::{eventually, Wire, PATIENCE};
use std::io::{ErrorKind, Read};
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const HELLO: &str = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";

/// A client that looks at the socket itself too: a [`Wire`] takes a reset for an end.
struct Client {
    wire: Wire,
    socket: UnixStream,
}

impl Client {
    fn over(socket: UnixStream) -> Self {
        let wire = Wire::new(socket.try_clone().unwrap());
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Client { wire, socket }
    }

    fn over_tcp(socket: TcpStream) -> Self {
        Client::over(OwnedFd::from(socket).into())
    }

    /// Has a request answered, and the connection kept.
    #[track_caller]
    fn get(&mut self) {
        self.wire.send(GET);
        let response = self.wire.read_response();
        assert_eq!(response.text(), "hello");
        assert_ne!(response.field("Connection"), Some("close"));
    }

    /// Reads the last response of the connection, and its end.
    #[track_caller]
    fn expect_last(&mut self) {
        let response = self.wire.read_response();
        assert_eq!(response.text(), "hello");
        assert_eq!(response.field("Connection"), Some("close"));
        self.expect_fin();
    }

    /// Waits for the end of the stream: neither a byte nor a reset.
    #[track_caller]
    fn expect_fin(&mut self) {
        match self.socket.read(&mut [0; 1]) {
            Ok(0) => {}
            Ok(_) => panic!("a byte came instead of the end"),
            Err(e) => panic!("no orderly end: {e}"),
        }
    }

    /// Asserts that the connection is open, and silent.
    #[track_caller]
    fn expect_open(&mut self) {
        self.socket.set_nonblocking(true).unwrap();
        let read = self.socket.read(&mut [0; 1]);
        self.socket.set_nonblocking(false).unwrap();
        match read {
            Err(e) if e.kind() == ErrorKind::WouldBlock => {}
            other => panic!("not open and silent: {other:?}"),
        }
    }
}
