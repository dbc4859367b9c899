//! A subrequest whose response is that of its parent.

use super::*;
use bytes::Bytes;
use http::header::CONTENT_LENGTH;

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-From: origin\r\n\r\nhello";
const GET: &str = "GET /page HTTP/1.1\r\nHost: a.test\r\n\r\n";

#[test]
fn a_client_gets_the_response_of_the_subrequest() {
    let origin = Origin::scripted(|mut wire, _| {
        while wire.has_more() {
            let asked = wire.read_message();
            assert!(
                asked.head.starts_with("GET /inner HTTP/1.1"),
                "{}",
                asked.head
            );
            assert_eq!(asked.field("Host"), Some("a.test"));
            wire.send(OK);
        }
    });
    let (app, seen) = app(forward_to(origin.path()).peer, |session, _| {
        Box::pin(async {
            let state = pipe(session, "/inner", no_body()).await.unwrap();
            assert!(state.header_received && state.pipe_rx.is_none());
            assert!(state.saved_body.is_none());
            state.join_handle.unwrap().await.unwrap();
            Ok(true)
        })
    });
    let proxy = Proxy::start(app);
    let mut client = proxy.connect();
    for _ in 0..2 {
        client.send(GET);
        let response = client.read_response();
        assert_eq!((response.status(), response.text()), (200, "hello"));
        assert_eq!(response.field("X-From"), Some("origin"));
        assert_eq!(response.field("Connection"), None);
    }
    let request = ["new_ctx", "new_ctx", "sub /inner 200", "client /page 200"];
    let mut all: Vec<_> = request.map(String::from).into();
    all.extend(
        [
            "new_ctx",
            "reused",
            "new_ctx",
            "sub /inner 200",
            "client /page 200",
        ]
        .map(String::from),
    );
    eventually("all is logged", || seen.all().len() == all.len());
    assert_eq!(seen.all(), all);
    assert_eq!(origin.accepted(), 1, "the connection is used again");
}

/// Two subrequests become one page; the first is only looked at.
#[test]
fn messages_can_be_changed_and_left_out() {
    let origin = Origin::answering(OK);
    let (app, _) = app(forward_to(origin.path()).peer, |session, _| {
        Box::pin(async {
            let mut page = Vec::new();
            let (subrequest, handle) = prepare(session, "/first", BodyMode::NoBody);
            let collect = |task: HttpTask| {
                page.extend_from_slice(data(&task));
                Ok(None)
            };
            let done = pipe_subrequest(session, subrequest, handle, collect, no_body()).await;
            assert!(done.unwrap().header_received);
            assert!(session.response_written().is_none());
            let (subrequest, handle) = prepare(session, "/second", BodyMode::NoBody);
            let merge = |task| {
                Ok(Some(match task {
                    HttpTask::Header(mut header, end) => {
                        header.remove_header(&CONTENT_LENGTH);
                        HttpTask::Header(header, end)
                    }
                    HttpTask::Body(Some(data), end) => {
                        page.extend_from_slice(&data);
                        HttpTask::Body(Some(Bytes::from(std::mem::take(&mut page))), end)
                    }
                    other => other,
                }))
            };
            pipe_subrequest(session, subrequest, handle, merge, no_body())
                .await
                .unwrap();
            Ok(true)
        })
    });
    let proxy = Proxy::start(app);
    let mut client = proxy.connect();
    client.send(GET);
    assert_eq!(client.read_response().text(), "hellohello");
}

#[test]
fn a_filter_may_end_it() {
    let origin = Origin::answering(OK);
    let (app, seen) = app(forward_to(origin.path()).peer, |session, _| {
        Box::pin(async {
            let (subrequest, handle) = prepare(session, "/inner", BodyMode::NoBody);
            let refuse = |_| Error::e_explain(pingora_core::HTTPStatus(418), "not this one");
            let e = pipe_subrequest(session, subrequest, handle, refuse, no_body())
                .await
                .unwrap_err();
            assert!(!e.from_subreq && e.state.header_received);
            Err(e.error)
        })
    });
    let proxy = Proxy::start(app);
    let mut client = proxy.connect();
    client.send(GET);
    assert_eq!(client.read_response().status(), 418);
    seen.has("client /page 418 failed");
}

#[test]
fn interim_answers_come_first() {
    let origin = Origin::answering(format!(
        "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n{OK}"
    ));
    let (app, _) = app(forward_to(origin.path()).peer, |session, _| {
        Box::pin(async {
            pipe(session, "/", no_body())
                .await
                .map(|_| true)
                .map_err(|e| e.error)
        })
    });
    let proxy = Proxy::start(app);
    let mut client = proxy.connect();
    client.send(GET);
    assert_eq!(client.read_response_to_head().status(), 103);
    assert_eq!(client.read_response().text(), "hello");
}

#[test]
fn a_tunnel_goes_through() {
    let origin = Origin::scripted(|mut wire, _| {
        wire.read_head();
        wire.send(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\nhi",
        );
        assert_eq!(wire.read_exact(4), b"ping");
        wire.send("pong");
        wire.expect_end();
    });
    let (app, seen) = app(forward_to(origin.path()).peer, |session, _| {
        Box::pin(async {
            pipe(session, "/", no_body())
                .await
                .map(|_| true)
                .map_err(|e| e.error)
        })
    });
    let proxy = Proxy::start(app);
    let mut client = proxy.connect();
    client.send(
        "GET /t HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
    );
    assert!(client.read_head().starts_with("HTTP/1.1 101"));
    assert_eq!(client.read_exact(2), b"hi");
    client.send("ping");
    assert_eq!(client.read_exact(4), b"pong");
    drop(client);
    seen.has("client /t 101");
}
