//! Which connections are kept, on both sides.

use super::common::*;

const HELLO: &str = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";

#[test]
fn a_client_connection_is_kept_for_the_next_request() {
    let origin = Origin::answering(HELLO);
    let proxy = Proxy::to(&origin);
    let mut client = proxy.connect();
    for _ in 0..5 {
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        let response = client.read_response();
        assert_ne!(response.field("Connection"), Some("close"));
        assert_eq!(response.text(), "hello");
    }
}

#[test]
fn an_origin_connection_is_kept_for_other_clients() {
    let origin = Origin::answering(HELLO);
    let proxy = Proxy::to(&origin);
    for _ in 0..5 {
        let mut client = proxy.connect();
        client.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        assert_eq!(client.read_response().text(), "hello");
        client.expect_end();
    }
    assert_eq!(origin.accepted(), 1);
}

#[test]
fn a_client_that_asks_for_close_gets_it() {
    let origin = Origin::answering(HELLO);
    let proxy = Proxy::to(&origin);
    for request in [
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        "GET / HTTP/1.0\r\nHost: a\r\n\r\n",
    ] {
        let mut client = proxy.connect();
        client.send(request);
        let response = client.read_response();
        assert_eq!(response.field("Connection"), Some("close"), "{request}");
        client.expect_end();
    }
}

#[test]
fn a_client_of_1_0_keeps_its_connection_when_it_asks_to() {
    let origin = Origin::answering(HELLO);
    let proxy = Proxy::to(&origin);
    let mut client = proxy.connect();
    for _ in 0..2 {
        client.send("GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n");
        let response = client.read_response();
        assert_eq!(response.field("Connection"), Some("keep-alive"));
        assert_eq!(response.text(), "hello");
    }
}

#[test]
fn an_origin_that_says_close_is_not_asked_again() {
    let origin = Origin::scripted(|mut wire, number| {
        wire.read_message();
        wire.send(format!(
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nConnection: close\r\n\r\n{number}"
        ));
        wire.expect_end();
    });
    let proxy = Proxy::to(&origin);
    let mut client = proxy.connect();
    for number in ["0", "1", "2"] {
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        let response = client.read_response();
        assert_eq!(response.text(), number);
        // That was the origin's wish for its own connection.
        assert_ne!(response.field("Connection"), Some("close"));
    }
}

#[test]
fn a_kept_origin_connection_that_closed_is_replaced() {
    let origin = Origin::scripted(|mut wire, _| {
        wire.read_message();
        wire.send(HELLO);
    });
    let proxy = Proxy::to(&origin);
    let mut client = proxy.connect();
    for _ in 0..5 {
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(client.read_response().text(), "hello");
    }
    assert_eq!(origin.accepted(), 5);
}

#[test]
fn a_request_that_died_with_a_kept_connection_is_sent_again() {
    let origin = Origin::scripted(|mut wire, number| {
        wire.read_message();
        wire.send(HELLO);
        // The first connection takes a second request, and dies before it answers.
        if wire.has_more() {
            wire.read_message();
            assert_eq!(number, 0);
        }
    });
    let proxy = Proxy::to(&origin);
    let mut client = proxy.connect();
    for _ in 0..2 {
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(client.read_response().text(), "hello");
    }
    assert_eq!(origin.accepted(), 2);
}

#[test]
fn a_post_that_died_with_a_kept_connection_is_not_sent_twice() {
    let origin = Origin::scripted(|mut wire, number| {
        assert_eq!(number, 0, "the post must not come again");
        wire.read_message();
        wire.send(HELLO);
        assert_eq!(wire.read_message().text(), "once");
    });
    let proxy = Proxy::to(&origin);
    let mut client = proxy.connect();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.read_response().text(), "hello");
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nonce");
    assert_eq!(client.read_response().status(), 502);
    assert_eq!(origin.accepted(), 1);
}

#[test]
fn requests_sent_together_are_answered_in_turn() {
    let origin = Origin::scripted(|mut wire, _| {
        while wire.has_more() {
            let head = wire.read_message().head;
            let path = head.split(' ').nth(1).unwrap_or_default().to_string();
            wire.send(format!(
                "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{path}",
                path.len()
            ));
        }
    });
    let proxy = Proxy::start(PipelinedForward(forward_to(origin.path())));
    let mut client = proxy.connect();
    client.send(
        "GET /1 HTTP/1.1\r\nHost: a\r\n\r\n\
         POST /2 HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody\
         GET /3 HTTP/1.1\r\nHost: a\r\n\r\n",
    );
    for path in ["/1", "/2", "/3"] {
        assert_eq!(client.read_response().text(), path);
    }
}

/// Lets clients send the next request before they have the answer to the last one.
struct PipelinedForward(Forward);

#[async_trait::async_trait]
impl pingora_proxy::ProxyHttp for PipelinedForward {
    type CTX = ();

    fn new_ctx(&self) {}

    async fn early_request_filter(
        &self,
        session: &mut pingora_proxy::Session,
        _: &mut (),
    ) -> pingora_core::Result<()> {
        session.set_pipelining_enabled(true);
        Ok(())
    }

    async fn upstream_peer(
        &self,
        _: &mut pingora_proxy::Session,
        _: &mut (),
    ) -> pingora_core::Result<Box<pingora_core::upstreams::peer::HttpPeer>> {
        Ok(Box::new(self.0.peer.clone()))
    }
}

#[test]
fn a_connection_is_reused_as_often_as_it_is_allowed() {
    let origin = Origin::answering(HELLO);
    let mut setup = Setup::default();
    setup.options.keepalive_request_limit = Some(2);
    let proxy = Proxy::start_with(setup, forward_to(origin.path()));
    let mut client = proxy.connect();
    for reuse in 0..=2 {
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        let response = client.read_response();
        assert_eq!(response.field("Connection") == Some("close"), reuse == 2);
    }
    client.expect_end();
}

#[test]
fn a_client_over_tcp_is_served_alike() {
    let origin = Origin::answering(HELLO);
    let proxy = Proxy::start_with(
        Setup {
            tcp: true,
            ..Setup::default()
        },
        forward_to(origin.path()),
    );
    let mut client = proxy.connect_tcp();
    for _ in 0..2 {
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(client.read_response().text(), "hello");
    }
}

#[test]
fn with_work_stealing_connections_are_kept_too() {
    let origin = Origin::answering(HELLO);
    let mut setup = Setup::default();
    setup.conf.work_stealing = true;
    let proxy = Proxy::start_with(setup, forward_to(origin.path()));
    for _ in 0..3 {
        let mut client = proxy.connect();
        for _ in 0..3 {
            client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
            assert_eq!(client.read_response().text(), "hello");
        }
    }
    assert_eq!(origin.accepted(), 1);
}

#[test]
fn an_empty_line_after_a_body_does_not_end_the_connection() {
    let origin = Origin::answering(HELLO);
    let proxy = Proxy::to(&origin);
    let mut client = proxy.connect();
    for _ in 0..2 {
        client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi\r\n");
        assert_eq!(client.read_response().text(), "hello");
    }
}

#[test]
fn bare_line_feeds_pass_only_where_they_are_allowed() {
    for allowed in [false, true] {
        let origin = Origin::answering(HELLO);
        let mut setup = Setup::default();
        setup.options.lenient_line_ends = allowed;
        let proxy = Proxy::start_with(setup, forward_to(origin.path()));
        let mut client = proxy.connect();
        client.send("GET / HTTP/1.1\nHost: a\n\n");
        let head = client.read_head();
        let status = if allowed {
            "HTTP/1.1 200 "
        } else {
            "HTTP/1.1 400 "
        };
        assert!(head.starts_with(status), "{head}");
    }
}
