//! Conversations with a client, over streams in memory and with a clock that jumps.

use std::future::Future;
use std::task::{Context, Poll, Waker};

use super::*;
use pingora_error::{Error, ErrorType};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use super::super::proto::Refusal;
use crate::protocols::http::HttpTask;

mod ends;
mod reuse;
mod time;

/// How long a client waits for bytes that it must get.
const PATIENCE: Duration = Duration::from_secs(3600);

/// The other end: a script of what the client sends and must get.
pub(super) struct Client(pub(super) DuplexStream);

impl Client {
    pub(super) async fn sends(&mut self, bytes: impl AsRef<[u8]>) {
        self.0.write_all(bytes.as_ref()).await.unwrap();
    }

    /// Reads exactly what is expected.
    pub(super) async fn must_get(&mut self, want: &str) {
        let mut got = vec![0; want.len()];
        let mut n = 0;
        while n < want.len() {
            // The clock jumps when nothing else happens.
            let read = tokio::time::timeout(PATIENCE, self.0.read(&mut got[n..]));
            match read.await {
                Ok(Ok(more)) if more > 0 => n += more,
                _ => break,
            }
        }
        assert_eq!(String::from_utf8_lossy(&got[..n]), want);
    }

    /// Reads to the end.
    pub(super) async fn must_get_all(&mut self, want: &str) {
        let mut got = Vec::new();
        let read = tokio::time::timeout(PATIENCE, self.0.read_to_end(&mut got));
        read.await.expect("the connection ends").unwrap();
        assert_eq!(String::from_utf8_lossy(&got), want);
    }

    /// Nothing is there to be read.
    pub(super) fn must_get_nothing(&mut self) {
        let mut byte = [0];
        let read = std::pin::pin!(self.0.read(&mut byte));
        assert!(poll(read).is_pending());
    }
}

pub(super) fn poll<F: Future>(future: std::pin::Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

pub(super) fn connect(buffer: usize) -> (Client, HttpSession) {
    let (client, server) = tokio::io::duplex(buffer);
    (Client(client), HttpSession::new(Box::new(server)))
}

/// A session that has read a request.
pub(super) async fn asked(request: impl AsRef<[u8]>) -> (Client, HttpSession) {
    let (mut client, mut session) = connect(1 << 20);
    client.sends(request).await;
    session.read_request().await.unwrap().unwrap();
    (client, session)
}

/// A head whose Date is known.
pub(super) fn response(status: u16, fields: &[(&'static str, &str)]) -> Box<ResponseHeader> {
    let mut header = ResponseHeader::build(status, None).unwrap();
    header.insert_header("Date", "now").unwrap();
    for (name, value) in fields {
        header.append_header(*name, *value).unwrap();
    }
    Box::new(header)
}

pub(super) async fn answer(session: &mut HttpSession, body: &'static str) {
    let length = body.len().to_string();
    let head = response(200, &[("Content-Length", &length)]);
    session.write_response_header(head).await.unwrap();
    session.write_body(body.as_bytes()).await.unwrap();
}

async fn body_of(session: &mut HttpSession) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(piece) = session.read_body_bytes().await.unwrap() {
        body.extend_from_slice(&piece);
    }
    body
}

pub(super) fn etype<T>(result: Result<T>) -> Option<ErrorType> {
    result.err().map(|e| e.etype)
}

const GET: &str = "GET /p?q HTTP/1.1\r\nHost: h\r\nX: y\r\n\r\n";

#[tokio::test(start_paused = true)]
async fn get() {
    let (mut client, mut session) = asked(GET).await;
    assert_eq!(session.request_summary(), "GET /p?q, Host: h");
    assert_eq!(session.get_header_bytes("x"), b"y");
    assert_eq!(session.get_headers_raw_bytes(), GET);
    assert!(session.is_body_empty() && session.is_body_done());
    assert_eq!(session.read_body_bytes().await.unwrap(), None);
    assert!(session.response_written().is_none());
    assert!(session.will_keepalive());

    let head = response(200, &[("Content-Length", "5")]);
    session.write_response_header(head).await.unwrap();
    client
        .must_get("HTTP/1.1 200 OK\r\nDate: now\r\nContent-Length: 5\r\n\r\n")
        .await;
    assert_eq!(session.write_body(b"he").await.unwrap(), Some(2));
    client.must_get("he").await;
    // What goes beyond the length would be the next response.
    assert_eq!(session.write_body(b"llo, you").await.unwrap(), Some(3));
    assert_eq!(session.write_body(b"!").await.unwrap(), Some(0));
    assert_eq!(session.finish_body().await.unwrap(), Some(5));
    assert_eq!(session.finish_body().await.unwrap(), None);
    assert_eq!(session.body_bytes_sent(), 5);
    assert_eq!(session.response_written().unwrap().status, 200);
    client.must_get("llo").await;
    client.must_get_nothing();
    assert!(session.reuse().await.unwrap().is_some());
}

#[tokio::test(start_paused = true)]
async fn bodies_of_requests() {
    let rows = [
        ("Content-Length: 5\r\n\r\nhello", true),
        (
            "Transfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n",
            true,
        ),
        (
            "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n",
            true,
        ),
    ];
    for (rest, _) in rows {
        let (_client, mut session) = asked(format!("POST / HTTP/1.1\r\nHost: h\r\n{rest}")).await;
        assert!(
            !session.is_body_empty() && !session.is_body_done(),
            "{rest}"
        );
        assert_eq!(body_of(&mut session).await, b"hello", "{rest}");
        assert!(!session.is_body_empty() && session.is_body_done(), "{rest}");
        assert_eq!(session.body_bytes_read(), 5);
        let trailers = session.request_trailers();
        let sum = trailers.and_then(|t| t.get("x-sum").cloned());
        assert_eq!(sum.is_some(), rest.contains("X-Sum"), "{rest}");
        // After the end, it says so again.
        assert_eq!(session.read_body_bytes().await.unwrap(), None);
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_arrives_in_pieces() {
    let (mut client, mut session) =
        asked("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 100000\r\n\r\n").await;
    let sent = vec![b'x'; 100_000];
    let (got, ()) = tokio::join!(body_of(&mut session), async {
        for piece in sent.chunks(7001) {
            client.sends(piece).await;
            tokio::task::yield_now().await;
        }
    });
    assert_eq!(got, sent);
}

#[tokio::test(start_paused = true)]
async fn chunked_response_with_trailers() {
    let (mut client, mut session) = asked(GET).await;
    let head = response(
        200,
        &[("Transfer-Encoding", "chunked"), ("Content-Length", "9")],
    );
    let trailers = HeaderMap::from_iter([(
        http::HeaderName::from_static("x-sum"),
        http::HeaderValue::from_static("1"),
    )]);
    let tasks = vec![
        HttpTask::Header(head, false),
        HttpTask::Body(Some("he".into()), false),
        HttpTask::Body(Some(Bytes::new()), false),
        HttpTask::Body(None, false),
        HttpTask::Body(Some("llo".into()), false),
        HttpTask::Trailer(Some(Box::new(trailers))),
    ];
    assert!(session.response_duplex_vec(tasks).await.unwrap());
    let head = "HTTP/1.1 200 OK\r\nDate: now\r\nTransfer-Encoding: chunked\r\n\r\n";
    let body = "2\r\nhe\r\n3\r\nllo\r\n0\r\nx-sum: 1\r\n\r\n";
    client.must_get(&format!("{head}{body}")).await;
    client.must_get_nothing();
    assert!(session.reuse().await.unwrap().is_some());
}

/// Neither HEAD nor 204 nor 304 has a body, whatever the fields say and the application writes.
#[tokio::test(start_paused = true)]
async fn responses_without_a_body() {
    let rows = [
        (
            "HEAD",
            200,
            "Content-Length: 5\r\n",
            "Content-Length: 5\r\n",
        ),
        (
            "HEAD",
            200,
            "Transfer-Encoding: chunked\r\n",
            "Transfer-Encoding: chunked\r\n",
        ),
        ("HEAD", 200, "Transfer-Encoding: gzip, chunked\r\n", ""),
        ("GET", 304, "Transfer-Encoding: gzip\r\n", ""),
        ("HEAD", 200, "", ""),
        ("GET", 304, "Content-Length: 5\r\n", "Content-Length: 5\r\n"),
        ("GET", 204, "Content-Length: 5\r\n", ""),
        ("GET", 204, "Transfer-Encoding: chunked\r\n", ""),
    ];
    for (method, status, fields, sent) in rows {
        let (mut client, mut session) =
            asked(format!("{method} / HTTP/1.1\r\nHost: h\r\n\r\n")).await;
        let mut head = response(status, &[]);
        if let Some((name, value)) = fields.trim_end().split_once(": ") {
            head.insert_header(name.to_owned(), value).unwrap();
        }
        let line = format!(
            "HTTP/1.1 {status} {}\r\n",
            head.get_reason_phrase().unwrap()
        );
        session.write_response_header(head).await.unwrap();
        assert_eq!(session.write_body(b"hello").await.unwrap(), None);
        session.finish_body().await.unwrap();
        client
            .must_get(&format!("{line}Date: now\r\n{sent}\r\n"))
            .await;
        client.must_get_nothing();
        assert!(
            session.reuse().await.unwrap().is_some(),
            "{method} {status}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn informational_responses() {
    let (mut client, mut session) = asked(GET).await;
    let hints = response(103, &[("Link", "x")]);
    session.write_response_header(hints).await.unwrap();
    client
        .must_get("HTTP/1.1 103 Early Hints\r\nDate: now\r\nLink: x\r\n\r\n")
        .await;
    assert!(session.response_written().is_none());
    // It has no body that could have a length.
    for framed in [("Content-Length", "0"), ("Transfer-Encoding", "chunked")] {
        let hints = response(103, &[framed, ("Link", "x")]);
        session.write_response_header(hints).await.unwrap();
        client
            .must_get("HTTP/1.1 103 Early Hints\r\nDate: now\r\nLink: x\r\n\r\n")
            .await;
    }
    answer(&mut session, "x").await;
    client
        .must_get("HTTP/1.1 200 OK\r\nDate: now\r\nContent-Length: 1\r\n\r\nx")
        .await;
    // None comes after the final one.
    session
        .write_response_header(response(103, &[]))
        .await
        .unwrap();
    client.must_get_nothing();

    let (mut client, mut session) = asked(GET).await;
    session.set_ignore_info_resp(true);
    session
        .write_response_header(response(103, &[]))
        .await
        .unwrap();
    client.must_get_nothing();

    let (mut client, mut session) = asked("GET / HTTP/1.0\r\n\r\n").await;
    session
        .write_response_header(response(103, &[]))
        .await
        .unwrap();
    client.must_get_nothing();
}

#[tokio::test(start_paused = true)]
async fn a_100_that_is_awaited_is_not_dropped() {
    let request = "POST / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n";
    let (mut client, mut session) = asked(request).await;
    session.set_ignore_info_resp(true);
    session.write_continue_response().await.unwrap();
    client.must_get("HTTP/1.1 100 Continue\r\n\r\n").await;
    client.sends("hi").await;
    assert_eq!(body_of(&mut session).await, b"hi");
}

/// Without a 100 nobody can tell whether a body or a request comes next.
#[tokio::test(start_paused = true)]
async fn a_final_answer_in_place_of_a_100_closes() {
    let request = "POST / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n";
    let (mut client, mut session) = asked(request).await;
    answer(&mut session, "no").await;
    let reuse = session.reuse();
    let (reusable, ()) = tokio::join!(
        reuse,
        client.must_get_all(
            "HTTP/1.1 200 OK\r\nDate: now\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno"
        )
    );
    assert!(reusable.unwrap().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_head_is_written_once() {
    let (mut client, mut session) = asked(GET).await;
    assert_eq!(
        etype(session.write_body(b"x").await),
        Some(ErrorType::InternalError)
    );
    session
        .write_response_header(response(404, &[("Content-Length", "0")]))
        .await
        .unwrap();
    session
        .write_response_header(response(200, &[("Content-Length", "1")]))
        .await
        .unwrap();
    client
        .must_get("HTTP/1.1 404 Not Found\r\nDate: now\r\nContent-Length: 0\r\n\r\n")
        .await;
    client.must_get_nothing();
    assert_eq!(session.response_written().unwrap().status, 404);
}

#[tokio::test(start_paused = true)]
async fn a_response_without_a_length() {
    // Chunks are the only statement of the framing then.
    for fields in [&[][..], &[("Content-Length", "x")]] {
        let (mut client, mut session) = asked(GET).await;
        let head = response(200, fields);
        session.write_response_header(head).await.unwrap();
        session.write_body(b"hello").await.unwrap();
        session.finish_body().await.unwrap();
        let head = "HTTP/1.1 200 OK\r\nDate: now\r\nTransfer-Encoding: chunked\r\n\r\n";
        client
            .must_get(&format!("{head}5\r\nhello\r\n0\r\n\r\n"))
            .await;
        assert!(session.reuse().await.unwrap().is_some());
    }
    // Where there are none, the end of the connection tells.
    let old = "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n";
    let rows = [
        (GET, &[("Transfer-Encoding", "gzip")][..]),
        (old, &[]),
        (old, &[("Transfer-Encoding", "chunked")]),
        (old, &[("Content-Length", "x")]),
    ];
    for (request, fields) in rows {
        let (mut client, mut session) = asked(request).await;
        let head = response(200, fields);
        session.write_response_header(head).await.unwrap();
        session.write_body(b"hello").await.unwrap();
        assert!(!session.will_keepalive());
        let want = "HTTP/1.1 200 OK\r\nDate: now\r\nConnection: close\r\n\r\nhello";
        let (reusable, ()) = tokio::join!(session.reuse(), client.must_get_all(want));
        assert!(reusable.unwrap().is_none());
    }
}

#[tokio::test(start_paused = true)]
async fn a_short_body_is_never_whole() {
    let (mut client, mut session) = asked(GET).await;
    session
        .write_response_header(response(200, &[("Content-Length", "9")]))
        .await
        .unwrap();
    session.write_body(b"hello").await.unwrap();
    assert_eq!(
        etype(session.finish_body().await),
        Some(ErrorType::WriteError)
    );
    assert_eq!(
        etype(session.write_body(b"more").await),
        Some(ErrorType::WriteError)
    );
    let (reused, ()) = tokio::join!(
        session.reuse(),
        client.must_get_all("HTTP/1.1 200 OK\r\nDate: now\r\nContent-Length: 9\r\n\r\nhello")
    );
    assert_eq!(etype(reused), Some(ErrorType::WriteError));
}

#[tokio::test(start_paused = true)]
async fn an_upgrade() {
    let request =
        "GET /ws HTTP/1.1\r\nHost: h\r\nConnection: x, Upgrade\r\nUpgrade: websocket\r\n\r\n";
    // The client does not wait for the answer.
    let (mut client, mut session) = asked(format!("{request}early")).await;
    assert!(session.is_upgrade_req());
    let switch = response(101, &[("Upgrade", "websocket"), ("Connection", "upgrade")]);
    assert_eq!(session.is_upgrade(&switch), Some(true));
    assert!(session.is_body_done());
    session.write_response_header(switch).await.unwrap();
    assert!(session.was_upgraded());
    assert!(!session.is_body_done());
    let head = "HTTP/1.1 101 Switching Protocols\r\nDate: now\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n";
    client.must_get(head).await;
    assert_eq!(session.read_body_bytes().await.unwrap().unwrap(), "early");
    client.sends("GET / HTTP/1.1\r\n\r\n").await;
    let raw = session.read_body_or_idle(false).await.unwrap().unwrap();
    assert_eq!(raw, "GET / HTTP/1.1\r\n\r\n");
    assert_eq!(session.write_body(b"0\r\n\r\n").await.unwrap(), Some(5));
    client.must_get("0\r\n\r\n").await;
    client.0.shutdown().await.unwrap();
    assert_eq!(session.read_body_bytes().await.unwrap(), None);
    let (reused, ()) = tokio::join!(session.reuse(), client.must_get_all(""));
    assert!(reused.unwrap().is_none());
}

#[tokio::test(start_paused = true)]
async fn an_upgrade_with_a_body() {
    let request = "POST / HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: x\r\nContent-Length: 4\r\n\r\n";
    let (_client, mut session) = asked(format!("{request}bodyraw")).await;
    session
        .write_response_header(response(101, &[]))
        .await
        .unwrap();
    assert_eq!(session.read_body_bytes().await.unwrap().unwrap(), "body");
    assert!(!session.is_body_done());
    assert_eq!(session.read_body_bytes().await.unwrap().unwrap(), "raw");
}

#[tokio::test(start_paused = true)]
async fn no_upgrade_without_a_wish_for_it() {
    let (_client, mut session) = asked(GET).await;
    assert_eq!(session.is_upgrade(&response(101, &[])), None);
    let written = session.write_response_header(response(101, &[])).await;
    assert_eq!(etype(written), Some(ErrorType::InternalError));

    // A wish that is not granted leaves the connection in HTTP.
    let request = "GET / HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n";
    let (_client, mut session) = asked(request).await;
    answer(&mut session, "x").await;
    assert!(!session.was_upgraded() && session.is_body_done());
    assert!(session.reuse().await.unwrap().is_some());
}

/// A 2xx to CONNECT begins a tunnel (RFC 9110 section 9.3.6): what follows is no request.
#[tokio::test(start_paused = true)]
async fn connect_makes_a_tunnel() {
    let request = "CONNECT h:443 HTTP/1.1\r\nHost: h:443\r\n\r\n";
    let tls = "GET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n";
    let (mut client, mut session) = asked(format!("{request}{tls}")).await;
    session.set_pipelining_enabled(true);
    session
        .write_response_header(response(200, &[("Transfer-Encoding", "chunked")]))
        .await
        .unwrap();
    client
        .must_get("HTTP/1.1 200 OK\r\nDate: now\r\n\r\n")
        .await;
    assert!(session.was_upgraded());
    assert_eq!(session.read_body_bytes().await.unwrap().unwrap(), tls);
    session.write_body(b"raw").await.unwrap();
    client.must_get("raw").await;
    assert!(session.reuse().await.unwrap().is_none());

    let (mut client, mut session) = asked(request).await;
    session
        .write_response_header(response(403, &[("Content-Length", "0")]))
        .await
        .unwrap();
    client
        .must_get("HTTP/1.1 403 Forbidden\r\nDate: now\r\nContent-Length: 0\r\n\r\n")
        .await;
    assert!(!session.was_upgraded());
    assert!(session.reuse().await.unwrap().is_some());
}

#[tokio::test(start_paused = true)]
async fn http_1_0() {
    // (request fields, response fields, fields sent, body sent, kept)
    let keep = "Connection: keep-alive\r\n";
    let rows: [(&str, &str, &str, bool); 5] = [
        ("", "Content-Length", "Connection: close\r\n", false),
        (keep, "Content-Length", "Connection: keep-alive\r\n", true),
        (keep, "Transfer-Encoding", "Connection: close\r\n", false),
        (keep, "", "Connection: close\r\n", false),
        (
            "Connection: keep-alive, close\r\n",
            "Content-Length",
            "Connection: close\r\n",
            false,
        ),
    ];
    for (asks, framing, says, kept) in rows {
        let (mut client, mut session) = asked(format!("GET / HTTP/1.0\r\n{asks}\r\n")).await;
        let (head, length) = match framing {
            "Content-Length" => (
                response(200, &[("Content-Length", "5")]),
                "Content-Length: 5\r\n",
            ),
            "Transfer-Encoding" => (response(200, &[("Transfer-Encoding", "chunked")]), ""),
            _ => (response(200, &[]), ""),
        };
        session.write_response_header(head).await.unwrap();
        session.write_body(b"hello").await.unwrap();
        let want = format!("HTTP/1.1 200 OK\r\nDate: now\r\n{length}{says}\r\nhello");
        client.must_get(&want).await;
        assert_eq!(
            session.reuse().await.unwrap().is_some(),
            kept,
            "{asks} {framing}"
        );
    }
    // HTTP/1.0 knows no transfer coding, not even where there is no body.
    let (mut client, mut session) = asked("HEAD / HTTP/1.0\r\n\r\n").await;
    let head = response(200, &[("Transfer-Encoding", "chunked")]);
    session.write_response_header(head).await.unwrap();
    client
        .must_get("HTTP/1.1 200 OK\r\nDate: now\r\nConnection: close\r\n\r\n")
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_copy_of_the_body_for_a_retry() {
    let post = |n: usize| {
        format!(
            "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: {n}\r\n\r\n{}",
            "x".repeat(n)
        )
    };
    let (_client, mut session) = asked(post(LIMITS.retry_buffer_bytes)).await;
    assert_eq!(session.get_retry_buffer(), None);
    session.enable_retry_buffering();
    body_of(&mut session).await;
    assert_eq!(
        session.get_retry_buffer().unwrap().len(),
        LIMITS.retry_buffer_bytes
    );
    assert!(!session.retry_buffer_truncated());
    // Asking again must not forget what is kept.
    session.enable_retry_buffering();
    assert_eq!(
        session.get_retry_buffer().unwrap().len(),
        LIMITS.retry_buffer_bytes
    );

    let (_client, mut session) = asked(post(LIMITS.retry_buffer_bytes + 1)).await;
    session.enable_retry_buffering();
    body_of(&mut session).await;
    assert!(session.retry_buffer_truncated());
    assert_eq!(session.get_retry_buffer(), None);
}

/// Whatever is dropped in the middle, what was queued leaves once and in order.
#[tokio::test(start_paused = true)]
async fn queued_messages_survive_a_dropped_write() {
    let (mut client, mut session) = connect(64);
    let (_, read) = tokio::join!(client.sends(GET), session.read_request());
    read.unwrap();
    let body = vec![b'x'; 3000];
    session.send_proxy_task(HttpTask::Header(
        response(200, &[("Transfer-Encoding", "chunked")]),
        false,
    ));
    session.send_proxy_task(HttpTask::Body(Some(body.clone().into()), false));
    session.send_proxy_task(HttpTask::Body(None, true));
    assert!(session.has_pending_proxy_tasks());
    let mut got = Vec::new();
    let ended = loop {
        let polled = poll(std::pin::pin!(session.write_proxy_tasks()));
        let mut piece = [0; 50];
        if let Poll::Ready(Ok(n)) = poll(std::pin::pin!(client.0.read(&mut piece))) {
            got.extend_from_slice(&piece[..n]);
        }
        if let Poll::Ready(ended) = polled {
            break ended.unwrap();
        }
    };
    assert!(ended && !session.has_pending_proxy_tasks());
    let (reused, ()) = tokio::join!(session.reuse(), async {
        let mut piece = [0; 50];
        while let Poll::Ready(Ok(n)) = poll(std::pin::pin!(client.0.read(&mut piece))) {
            got.extend_from_slice(&piece[..n]);
        }
    });
    assert!(reused.unwrap().is_some());
    let head = "HTTP/1.1 200 OK\r\nDate: now\r\nTransfer-Encoding: chunked\r\n\r\nbb8\r\n";
    assert_eq!(got, [head.as_bytes(), &body, b"\r\n0\r\n\r\n"].concat());
}

#[tokio::test(start_paused = true)]
async fn an_error_of_a_queued_message_is_told_once() {
    let (_client, mut session) = asked(GET).await;
    session.send_proxy_task(HttpTask::Body(Some("no head".into()), false));
    assert!(session.has_pending_proxy_tasks());
    let written = session.write_proxy_tasks().await;
    assert_eq!(etype(written), Some(ErrorType::InternalError));
    assert!(!session.has_pending_proxy_tasks());
    assert!(!session.write_proxy_tasks().await.unwrap());
    let failed = HttpTask::Failed(Error::new(ErrorType::H2Error));
    let written = session.response_duplex_vec(vec![failed]).await;
    assert_eq!(etype(written), Some(ErrorType::H2Error));
}

/// What follows a head is not looked through for another one.
#[tokio::test(start_paused = true)]
async fn a_head_is_read_once() {
    let (_client, mut session) =
        asked("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\nbody").await;
    for _ in 0..2 {
        let read = session.read_request().await;
        assert_eq!(etype(read), Some(ErrorType::InternalError));
    }
    assert_eq!(body_of(&mut session).await, b"body");
    let read = session.read_request().await;
    assert_eq!(etype(read), Some(ErrorType::InternalError));
}

/// An answer that does not wait for its request is the last on the connection: it would be framed for another.
#[tokio::test(start_paused = true)]
async fn an_answer_before_the_request() {
    let (mut client, mut session) = connect(1000);
    client.sends("HEAD / HTTP/1.1\r\nHost: h\r\n\r\n").await;
    answer(&mut session, "x").await;
    let read = session.read_request().await;
    assert_eq!(etype(read), Some(ErrorType::InternalError));
    let want = "HTTP/1.1 200 OK\r\nDate: now\r\nContent-Length: 1\r\nConnection: close\r\n\r\nx";
    let (kept, ()) = tokio::join!(session.reuse(), client.must_get_all(want));
    assert!(kept.unwrap().is_none());
}

#[tokio::test(start_paused = true)]
async fn reading_a_head_survives_a_dropped_read() {
    let (mut client, mut session) = connect(1000);
    for byte in GET.as_bytes() {
        assert!(poll(std::pin::pin!(session.read_request())).is_pending());
        client.sends([*byte]).await;
    }
    assert_eq!(session.read_request().await.unwrap(), Some(GET.len()));
}
