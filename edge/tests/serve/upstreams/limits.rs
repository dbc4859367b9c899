//! Time limits, and what servers are shown.

use std::net::TcpListener;
use std::process::Command;
use std::sync::atomic::Ordering;

use super::origins::*;
use crate::tools::*;

#[test]
fn a_body_that_stops_is_cut_off_after_the_limit_of_reads() {
    let head = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nx";
    let origin = Script::start(move |_, _| Act::Echo(head.into()));
    let edge = Edge::start(&format!(
        "  - routes: {{proxy: {{to: '{}', timeouts: {{read: 100ms}}}}}}\n",
        origin.address
    ));
    assert!(edge.connect().try_ask("GET", "a", "/", "").is_none());
}

#[test]
fn a_connection_that_is_idle_for_too_long_is_closed() {
    let origin = Script::start(|_, _| Act::Answer(200, "x".into()));
    let edge = Edge::start(&format!(
        "  - routes: [{{path: /short, proxy: {{to: '{0}', timeouts: {{idle: 100ms}}}}}}, {{proxy: '{0}'}}]\n",
        origin.address
    ));
    let mut client = edge.connect();
    (0..3).for_each(|_| assert_eq!(client.ask("GET", "a", "/", "").status, 200));
    assert_eq!(origin.open.load(Ordering::SeqCst), 1);
    assert_eq!(client.ask("GET", "a", "/short", "").status, 200);
    eventually("it is closed", || origin.open.load(Ordering::SeqCst) == 0);
}

#[test]
fn a_server_that_does_not_read_is_a_504_after_the_limit_of_writes() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let edge = Edge::start(&format!(
        "  - routes: {{proxy: {{to: '{}', timeouts: {{write: 200ms}}}}}}\n",
        silent.local_addr().unwrap()
    ));
    let dir = tempfile::TempDir::new().unwrap();
    let body = dir.path().join("body");
    std::fs::write(&body, vec![b'x'; 64 << 20]).unwrap();
    let output = Command::new("curl")
        .args([
            "-s",
            "--noproxy",
            "*",
            "-o",
            "/dev/null",
            "-w",
            "%{http_code}",
            "-T",
        ])
        .arg(&body)
        .arg(format!("http://{}/", edge.address))
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "504");
}

#[test]
fn a_limit_is_off_where_that_is_said_and_one_for_the_whole_request_ends_it() {
    let origin = Script::start(|_, _| Act::Wait);
    let edge = Edge::start(&format!(
        "  - routes: {{proxy: {{to: '{}', timeouts: {{response: off, read: off, request: 100ms}}}}}}\n",
        origin.address
    ));
    assert_eq!(edge.get("a", "/").status, 504);
    // Not again; the time may have been over before it came there.
    assert!(origin.count() <= 1, "{}", origin.count());
}

/// It lasts longer than a request may.
#[test]
fn a_tunnel_is_no_request_that_takes_too_long() {
    let head =
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n";
    let origin = Script::start(move |_, _| Act::Echo(head.into()));
    let edge = Edge::start(&format!(
        "  - routes:
      - {{path: /tunnel, proxy: {{to: '{0}', timeouts: {{request: 100ms}}}}}}
      - {{path: /late, proxy: {{to: '{1}', timeouts: {{request: 200ms}}}}}}
",
        origin.address,
        Script::start(|_, _| Act::Wait).address
    ));
    let ask = "GET /tunnel HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
               Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    let mut tunnel = edge.connect();
    // Until it is one, it is a request that may take too long.
    eventually("the tunnel is there", || {
        tunnel = edge.connect();
        tunnel.send(ask);
        let line = tunnel.line();
        line.starts_with("HTTP/1.1 101 ") || {
            assert!(line.starts_with("HTTP/1.1 504 "), "{line}");
            false
        }
    });
    // Twice as long as the limit of the tunnel's request.
    assert_eq!(edge.get("a", "/late").status, 504);
    tunnel.send("hello\n");
    while tunnel.line() != "hello\n" {}
}

#[cfg(feature = "rustls")]
#[test]
fn the_handshake_has_a_limit_of_its_own_where_that_is_said() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut edge = Edge::start(&format!(
        "  - routes: {{proxy: {{to: '{}', tls: {{name: a.test}}, timeouts: {{connect: off, handshake: 100ms}}}}}}\n",
        silent.local_addr().unwrap()
    ));
    assert_eq!(edge.get("a", "/").status, 504);
    edge.wait_for_log("the TLS handshake took longer than 100ms");
}

#[cfg(feature = "rustls")]
#[test]
fn the_limit_of_connecting_holds_for_the_handshake_too() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let edge = Edge::start(&format!(
        "  - routes: {{proxy: {{to: '{}', tls: {{name: a.test}}, timeouts: {{connect: 100ms}}}}}}\n",
        silent.local_addr().unwrap()
    ));
    assert_eq!(edge.get("a", "/").status, 504);
}

#[cfg(feature = "rustls")]
#[test]
fn a_server_that_asks_for_a_certificate_is_shown_one() {
    use crate::certs::{Authority, Leaf};
    let authority = Authority::new();
    let issue = |name: &str| {
        let leaf = Leaf {
            names: &[name],
            ..Leaf::default()
        };
        authority.issue(name, &leaf)
    };
    let (own, client, address) = (issue("server.test"), issue("client.test"), free());
    let ca = authority.file();
    let _nginx = Nginx::start(
        address,
        &format!(
            "listen {address} ssl; ssl_certificate {}; ssl_certificate_key {};
             ssl_verify_client on; ssl_client_certificate {ca};",
            own.cert, own.key
        ),
    );
    let edge = Edge::start(&format!(
        "  - routes:
      - {{path: /shown, proxy: {{to: '{address}', tls: {{name: server.test, ca: '{ca}', client: {{cert: '{}', key: '{}'}}}}}}}}
      - {{path: /not, proxy: {{to: '{address}', tls: {{name: server.test, ca: '{ca}'}}}}}}
",
        client.cert, client.key
    ));
    assert_eq!(edge.get("a", "/shown").status, 200);
    assert_eq!(edge.get("a", "/not").status, 400);
}
