//! What the setters of a session do to a request of HTTP/2, and that they reach one of HTTP/1.x, with which most of
//! them are tested; on a clock that jumps.

use std::future::{poll_fn, Future};
use std::sync::Arc;
use std::time::Duration;

use h2::client::ResponseFuture;
use h2::SendStream;
use http::{Request, StatusCode};
use pingora_error::ErrorType::{self, ReadTimedout, WriteTimedout};
use tokio::io::{duplex, AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::time::Instant;

use super::super::v2::server::{handshake, H2Accept};
use super::*;
use crate::exchange::Downstream;
use crate::protocols::Digest;

const SHORT: Duration = Duration::from_secs(3);

/// The client's end of a request of HTTP/2 whose body is open, and the session that serves it.
async fn h2_asked() -> (ResponseFuture, SendStream<Bytes>, Session) {
    h2_asked_for(Request::post("http://a.test/").body(()).unwrap()).await
}

async fn h2_asked_for(request: Request<()>) -> (ResponseFuture, SendStream<Bytes>, Session) {
    let (near, far) = duplex(1 << 20);
    let serve = async {
        let mut conn = handshake(Box::new(far), None).await.unwrap();
        let digest = Arc::new(Digest::default());
        let accepted = SessionV2::from_h2_conn(&mut conn, digest.clone()).await;
        let Ok(Some(H2Accept::Session(session))) = accepted else {
            panic!("no request");
        };
        tokio::spawn(async move {
            while let Ok(Some(_)) = SessionV2::from_h2_conn(&mut conn, digest.clone()).await {}
        });
        Session::new_http2(session)
    };
    let ask = async {
        let (client, connection) = h2::client::handshake(near).await.unwrap();
        tokio::spawn(async { drop(connection.await) });
        let mut client = client.ready().await.unwrap();
        client.send_request(request, false).unwrap()
    };
    let (session, (response, body)) = tokio::join!(serve, ask);
    (response, body, session)
}

/// The same of HTTP/1.1.
async fn h1_asked(head: &str) -> (DuplexStream, Session) {
    let (mut near, far) = duplex(256);
    near.write_all(head.as_bytes()).await.unwrap();
    let mut session = Session::new_http1(Box::new(far));
    assert!(session.read_request().await.unwrap());
    (near, session)
}

const POST: &str = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n";

/// The error, and about how many seconds it took.
async fn failed<T>(future: impl Future<Output = Result<T>>) -> (ErrorType, u64) {
    let begun = Instant::now();
    let error = future.await.map(|_| ()).expect_err("it waits in vain");
    (error.etype.clone(), begun.elapsed().as_secs())
}

#[tokio::test(start_paused = true)]
async fn a_body_that_does_not_come() {
    for (timeout, seconds) in [(Some(SHORT), 3), (None, 60)] {
        let (_response, _body, mut session) = h2_asked().await;
        session.set_read_timeout(timeout);
        assert_eq!(session.get_read_timeout(), timeout);
        let read = failed(session.read_request_body()).await;
        assert_eq!(read, (ReadTimedout, seconds));

        let (_client, mut session) = h1_asked(POST).await;
        session.set_read_timeout(timeout);
        assert_eq!(session.get_read_timeout(), timeout);
        let read = failed(session.read_request_body()).await;
        assert_eq!(read, (ReadTimedout, seconds));
    }
}

/// RFC 9110 section 10.1.1: the client waits for its 100 as long as the origin takes to send it, whatever comes before. An
/// application that reads the body itself, and sends none, is not kept for ever.
#[tokio::test(start_paused = true)]
async fn a_body_that_waits_for_a_100() {
    for h2 in [false, true] {
        for for_upstream in [false, true] {
            let expect = POST.replace("\r\n\r\n", "\r\nExpect: 100-continue\r\n\r\n");
            let (_h1, _h2, mut session);
            if h2 {
                let request = Request::post("http://a.test/").header("Expect", "100-continue");
                let (response, body, asked) = h2_asked_for(request.body(()).unwrap()).await;
                (_h2, session) = ((response, body), asked);
            } else {
                (_h1, session) = h1_asked(&expect).await;
            }
            if for_upstream {
                let hints = ResponseHeader::build(103, None).unwrap();
                session
                    .write_response_header(Box::new(hints))
                    .await
                    .unwrap();
                let body = poll_fn(|cx| session.poll_body(cx));
                let waited = tokio::time::timeout(Duration::from_secs(1000), body).await;
                assert!(waited.is_err(), "{waited:?}");
                // What it waits for comes, though others are not to.
                session.set_ignore_info_resp(true);
                let go_on = ResponseHeader::build(100, None).unwrap();
                session
                    .write_response_header(Box::new(go_on))
                    .await
                    .unwrap();
                let read = failed(poll_fn(|cx| session.poll_body(cx))).await;
                assert_eq!(read, (ReadTimedout, 60));
            } else {
                let read = failed(session.read_request_body()).await;
                assert_eq!(read, (ReadTimedout, 60));
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_rest_of_a_body_that_does_not_come() {
    for (timeout, seconds) in [(Some(SHORT), 3), (None, 5)] {
        let (_response, mut body, mut session) = h2_asked().await;
        body.send_data(Bytes::from_static(b"part"), false).unwrap();
        session.set_total_drain_timeout(timeout);
        assert_eq!(session.get_total_drain_timeout(), timeout);
        let drained = failed(session.drain_request_body()).await;
        assert_eq!(drained, (ReadTimedout, seconds));

        let (_client, mut session) = h1_asked(POST).await;
        session.set_total_drain_timeout(timeout);
        assert_eq!(session.get_total_drain_timeout(), timeout);
        let (etype, took) = failed(session.drain_request_body()).await;
        assert_eq!(
            (etype, timeout.is_none() || took == 3),
            (ReadTimedout, true)
        );
    }
}

/// More than any window or buffer takes.
async fn answer(session: &mut Session) -> Result<()> {
    let head = ResponseHeader::build(200, None)?;
    session.write_response_header(Box::new(head)).await?;
    let body = Bytes::from(vec![0; 1 << 21]);
    session.write_response_body(body, true).await
}

#[tokio::test(start_paused = true)]
async fn a_client_that_takes_nothing() {
    for (timeout, seconds) in [(Some(SHORT), 3), (None, 60)] {
        let (_response, _body, mut session) = h2_asked().await;
        session.set_write_timeout(timeout);
        assert_eq!(session.get_write_timeout(), timeout);
        let written = failed(answer(&mut session)).await;
        assert_eq!(written, (WriteTimedout, seconds));

        let (_client, mut session) = h1_asked(POST).await;
        session.set_write_timeout(timeout);
        assert_eq!(session.get_write_timeout(), timeout);
        let written = failed(answer(&mut session)).await;
        assert_eq!(written, (WriteTimedout, seconds));
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_takes_little() {
    let (mut client, mut session) = h1_asked(POST).await;
    session.set_min_send_rate(Some(1 << 20));
    let slow = async {
        let mut piece = [0; 100];
        loop {
            tokio::time::sleep(Duration::from_secs(1)).await;
            let _ = client.read(&mut piece).await;
        }
    };
    let written = tokio::select! {
        written = failed(answer(&mut session)) => written,
        () = slow => unreachable!("it reads for ever"),
    };
    assert_eq!((&written.0, written.1 < 60), (&WriteTimedout, true));
}

#[tokio::test(start_paused = true)]
async fn informational_responses() {
    for ignored in [false, true] {
        let (mut response, _body, mut session) = h2_asked().await;
        session.set_ignore_info_resp(ignored);
        for status in [103, 200] {
            let head = ResponseHeader::build(status, None).unwrap();
            let written = session.write_response_header(Box::new(head)).await;
            written.unwrap();
        }
        let first = poll_fn(|cx| response.poll_informational(cx));
        let first = tokio::time::timeout(SHORT, first).await.ok().flatten();
        let status = first.map(|head| head.unwrap().status());
        let expected = (!ignored).then_some(StatusCode::EARLY_HINTS);
        assert_eq!(status, expected);

        let (mut client, mut session) = h1_asked(POST).await;
        session.set_ignore_info_resp(ignored);
        let head = ResponseHeader::build(103, None).unwrap();
        session.write_response_header(Box::new(head)).await.unwrap();
        let came = tokio::time::timeout(SHORT, client.read_u8()).await.is_ok();
        assert_eq!(came, !ignored);
    }
}

/// HTTP/2 has no such things; a connection has.
#[tokio::test(start_paused = true)]
async fn what_http1_alone_has() {
    let (mut client, mut h1) = h1_asked(POST).await;
    let (_response, _body, mut h2) = h2_asked().await;
    for (session, is_h1) in [(&mut h1, true), (&mut h2, false)] {
        session.set_keepalive(Some(7));
        assert_eq!(session.get_keepalive(), is_h1.then_some(7));
        session.set_keepalive_reuses_remaining(Some(8));
        let remaining = session.get_keepalive_reuses_remaining();
        assert_eq!(remaining, is_h1.then_some(8));
        session.set_pipelining_enabled(true);
        assert_eq!(session.pipelining_enabled(), is_h1);
        session.set_connection_user_context(Some(Box::new(9)));
        let context = session.take_connection_user_context();
        assert_eq!(context.is_some(), is_h1);
    }
    // Asked to close, it says so.
    h1.set_keepalive(None);
    let head = ResponseHeader::build(204, None).unwrap();
    h1.write_response_header(Box::new(head)).await.unwrap();
    let mut said = [0; 200];
    let n = client.read(&mut said).await.unwrap();
    let said = String::from_utf8_lossy(&said[..n]).to_lowercase();
    assert!(said.contains("connection: close"), "{said}");
}

#[tokio::test(start_paused = true)]
async fn how_http1_ends() {
    // A client that closes one direction only, where that is allowed.
    for abort in [true, false] {
        let (mut client, mut session) = h1_asked("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        session.set_abort_on_close(abort);
        client.shutdown().await.unwrap();
        let left = session.read_body_or_idle(true);
        let left = tokio::time::timeout(SHORT, left).await.is_ok();
        assert_eq!(left, abort);
    }
    // An answer before the request has ended.
    for close in [true, false] {
        let (mut client, mut session) = h1_asked(POST).await;
        session.set_close_on_response_before_downstream_finish(close);
        session.respond_with_nothing().await;
        client.write_all(b"123456789").await.unwrap();
        assert_eq!(session.finish().await.unwrap().is_none(), close);
    }
    // Bytes that were read before the session was made.
    let (_client, far) = duplex(256);
    let mut session = Session::new_http1(Box::new(far));
    session.set_pipelined_prefix(BytesMut::from(POST));
    assert!(session.read_request().await.unwrap());
    // Line ends of LF alone.
    for lenient in [false, true] {
        let (mut near, far) = duplex(256);
        near.write_all(b"GET / HTTP/1.1\nHost: a\n\n")
            .await
            .unwrap();
        let mut session = Session::new_http1(Box::new(far));
        session.set_lenient_line_ends(lenient);
        assert_eq!(session.read_request().await.is_ok(), lenient);
    }
}

impl Session {
    async fn respond_with_nothing(&mut self) {
        let head = ResponseHeader::build(204, None).unwrap();
        self.write_response_header(Box::new(head)).await.unwrap();
    }
}
