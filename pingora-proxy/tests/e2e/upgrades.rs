//! Protocols that take over the connection.

use super::common::*;

const ASK: &str = "GET /chat HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
const SWITCH: &str =
    "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";

#[test]
fn a_websocket_carries_bytes_both_ways_until_it_is_closed() {
    let origin = Origin::scripted(|mut wire, _| {
        let request = wire.read_message();
        assert_eq!(request.field("Upgrade"), Some("websocket"));
        let connection = request
            .field("Connection")
            .unwrap_or_default()
            .to_ascii_lowercase();
        assert!(connection.contains("upgrade"), "{}", request.head);
        wire.send(SWITCH);
        wire.send("the origin may speak first");
        for _ in 0..3 {
            let ping = wire.read_exact(4);
            wire.send(ping);
        }
        wire.expect_end();
    });
    let proxy = Proxy::to(&origin);
    let mut client = proxy.connect();
    client.send(ASK);
    let head = client.read_head();
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    client.read_until("the origin may speak first");
    for ping in [b"one.", b"\r\n\r\n", b"\0\xff\0\xff"] {
        client.send(ping);
        assert_eq!(client.read_exact(4), ping);
    }
    drop(client);
}

#[test]
fn an_origin_that_ends_a_websocket_ends_it_for_the_client() {
    let origin = Origin::scripted(|mut wire, _| {
        wire.read_message();
        wire.send(SWITCH);
        wire.send("bye");
    });
    let proxy = Proxy::to(&origin);
    let mut client = proxy.connect();
    client.send(ASK);
    client.read_head();
    assert_eq!(client.read_to_end(), b"bye");
}

#[test]
fn a_tunnel_that_nothing_passes_is_closed_where_that_has_a_limit() {
    let origin = Origin::scripted(|mut wire, _| {
        wire.read_message();
        // At once: else the tunnel may be idle for too long before the greeting.
        wire.send([SWITCH, "hello"].concat());
        wire.expect_end();
    });
    let mut setup = Setup::default();
    setup.options.tunnel_idle_timeout = Some(std::time::Duration::from_millis(100));
    let proxy = Proxy::start_with(setup, forward_to(origin.path()));
    let mut client = proxy.connect();
    client.send(ASK);
    client.read_head();
    assert_eq!(client.read_to_end(), b"hello");
}

#[test]
fn an_upgrade_that_is_refused_is_an_ordinary_answer() {
    let origin = Origin::answering("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nno");
    let proxy = Proxy::to(&origin);
    let mut client = proxy.connect();
    client.send(ASK);
    assert_eq!(client.read_response().text(), "no");
}

#[test]
fn other_protocols_are_not_asked_for() {
    let origin = Origin::scripted(|mut wire, _| {
        let request = wire.read_message();
        assert_eq!(request.field("Upgrade"), None, "{}", request.head);
        wire.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    });
    let proxy = Proxy::to(&origin);
    let mut client = proxy.connect();
    client.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n");
    assert_eq!(client.read_response().text(), "ok");
}

#[test]
fn a_tunnel_carries_bytes_both_ways_where_connect_is_allowed() {
    let origin = Origin::scripted(|mut wire, _| {
        let request = wire.read_message();
        assert!(
            request.head.starts_with("CONNECT b:443 "),
            "{}",
            request.head
        );
        wire.send("HTTP/1.1 200 OK\r\n\r\n");
        let ping = wire.read_exact(4);
        wire.send(ping);
        wire.expect_end();
    });
    let mut setup = Setup::default();
    setup.options.allow_connect_method_proxying = true;
    let proxy = Proxy::start_with(setup, forward_to(origin.path()));
    let mut client = proxy.connect();
    client.send("CONNECT b:443 HTTP/1.1\r\nHost: b:443\r\n\r\n");
    let head = client.read_head();
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    client.send("ping");
    assert_eq!(client.read_exact(4), b"ping");
    drop(client);
}

#[test]
fn an_origin_that_requires_an_upgrade_may_say_so() {
    let origin = Origin::answering(
        "HTTP/1.1 426 Upgrade Required\r\nConnection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 0\r\n\r\n",
    );
    let proxy = Proxy::to(&origin);
    let mut client = proxy.connect();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let response = client.read_response();
    assert_eq!(response.field("Upgrade"), Some("h2c"));
    assert_eq!(response.field("Connection"), Some("upgrade"));
}
