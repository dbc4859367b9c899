//! The lines of the log about requests that failed: each says what happened, and says it once.

use std::time::Duration;

use super::common::*;
use pingora_core::upstreams::peer::{HttpPeer, Peer};

/// The line about a request that failed, with the peer's address left out.
#[track_caller]
fn line_of(app: Forward, path: &str, request: &str) -> String {
    logs::keep();
    let peer = app.peer.to_string();
    let address = app.peer.address().to_string();
    let proxy = Proxy::start(app);
    let mut client = proxy.connect();
    client.send(request);
    client.read_to_end();
    let line = logs::line_with(path);
    assert_eq!(logs::said_twice(&line), None, "{line}");
    line.replace(&peer, "PEER").replace(&address, "ADDRESS")
}

#[track_caller]
fn line_about(app: Forward, path: &str) -> String {
    let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    line_of(app, path, &request)
}

#[test]
fn a_refused_connection() {
    let peer = HttpPeer::new(free_address(), false, String::new());
    let line = line_about(Forward { peer }, "/line/refused");
    let expected = "ERROR fail to proxy: Upstream ConnectRefused context: peer: PEER \
         cause:  context: connecting to ADDRESS \
         cause: Connection refused (os error ";
    assert!(line.starts_with(expected), "{line}");
}

#[test]
fn an_origin_that_closes_before_its_head() {
    let origin = Origin::scripted(|mut wire, _| {
        wire.read_message();
    });
    let line = line_about(forward_to(origin.path()), "/line/closed");
    let expected = "ERROR fail to proxy: Upstream ConnectionClosed context: Peer: PEER \
         cause:  context: the origin closed after 0 bytes of a response head, status: 502, GET /line/closed";
    assert!(line.starts_with(expected), "{line}");
}

#[test]
fn an_origin_that_says_nothing() {
    let origin = Origin::scripted(|mut wire, _| {
        wire.read_message();
        wire.expect_end();
    });
    let mut app = forward_to(origin.path());
    app.peer.options.read_timeout = Some(Duration::from_millis(50));
    let line = line_about(app, "/line/silent");
    let expected = "ERROR fail to proxy: Upstream ReadTimedout context: Peer: PEER \
         cause:  context: nothing was received for 50ms, status: 504, GET /line/silent";
    assert!(line.starts_with(expected), "{line}");
}

#[test]
fn an_origin_that_answers_no_http() {
    let origin = Origin::scripted(|mut wire, _| {
        wire.read_message();
        wire.send("garbage\r\n\r\n");
        wire.expect_end();
    });
    let line = line_about(forward_to(origin.path()), "/line/garbage");
    let expected = "ERROR fail to proxy: Upstream InvalidHTTPHeader context: Peer: PEER \
         cause:  context: invalid message head \
         cause: unsupported HTTP version, status: 502, GET /line/garbage";
    assert!(line.starts_with(expected), "{line}");
}

#[test]
fn a_body_that_is_cut_short() {
    let origin = Origin::scripted(|mut wire, _| {
        wire.read_message();
        wire.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello");
    });
    let line = line_about(forward_to(origin.path()), "/line/cut");
    let expected = "ERROR fail to proxy: Upstream ConnectionClosed context: Peer: PEER \
         cause:  context: the connection closed in the middle of a body, status: 502, GET /line/cut";
    assert!(line.starts_with(expected), "{line}");
}

#[test]
fn a_body_that_is_malformed() {
    let origin = Origin::scripted(|mut wire, _| {
        wire.read_message();
        wire.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n");
        wire.expect_end();
    });
    let line = line_about(forward_to(origin.path()), "/line/chunk");
    let expected = "ERROR fail to proxy: Upstream H1Error context: Peer: PEER \
         cause:  context: invalid message body \
         cause: malformed chunk size, status: 502, GET /line/chunk";
    assert!(line.starts_with(expected), "{line}");
}

#[test]
fn a_request_that_is_malformed() {
    let origin = Origin::answering("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    let path = "/line/request";
    let request =
        format!("POST {path} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n");
    let line = line_of(forward_to(origin.path()), path, &request);
    let expected = "INFO fail to proxy: Downstream H1Error context: Peer: PEER \
         cause:  context: invalid message body \
         cause: malformed chunk size, status: 400, POST /line/request";
    assert!(line.starts_with(expected), "{line}");
}
