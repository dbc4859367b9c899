//! Conversations with an origin, over streams in memory and with a clock that jumps.

use std::future::Future;
use std::task::{Context, Poll, Waker};

use http::{HeaderName, HeaderValue};
use pingora_error::{ErrorType, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::time::Instant;

use super::*;
use crate::protocols::http::v1::proto::Refusal;
use crate::protocols::http::HttpTask;

mod ends;

/// The other end: a script of what the origin must get and answers.
struct Origin(DuplexStream);

/// How long an origin waits for bytes that it must get.
const PATIENCE: Duration = Duration::from_secs(3600);

impl Origin {
    async fn answers(&mut self, bytes: impl AsRef<[u8]>) {
        self.0.write_all(bytes.as_ref()).await.unwrap();
    }

    async fn must_get(&mut self, want: &str) {
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

    fn must_get_nothing(&mut self) {
        let mut byte = [0];
        assert!(poll(pin!(self.0.read(&mut byte))).is_pending());
    }

    async fn must_see_the_end(&mut self) {
        let mut byte = [0];
        let read = tokio::time::timeout(PATIENCE, self.0.read(&mut byte)).await;
        assert_eq!(read.expect("an end").unwrap(), 0);
    }
}

fn poll<F: Future>(future: std::pin::Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

fn connect(buffer: usize) -> (Origin, HttpSession) {
    let (origin, client) = tokio::io::duplex(buffer);
    (Origin(origin), HttpSession::new(Box::new(client)))
}

fn request(method: &str, fields: &[(&'static str, &str)]) -> Box<RequestHeader> {
    let mut header = RequestHeader::build(method, b"/p?q", None).unwrap();
    header.insert_header("Host", "h").unwrap();
    for (name, value) in fields {
        header.append_header(*name, *value).unwrap();
    }
    Box::new(header)
}

/// A session that has sent a request without a body.
async fn asking(method: &str) -> (Origin, HttpSession) {
    let (mut origin, mut session) = connect(1 << 20);
    let head = request(method, &[]);
    session.write_request_header(head).await.unwrap();
    let want = format!("{method} /p?q HTTP/1.1\r\nHost: h\r\n\r\n");
    origin.must_get(&want).await;
    (origin, session)
}

/// A session that has read the head of an answer to a GET.
async fn answered(response: impl AsRef<[u8]>) -> (Origin, HttpSession) {
    let (mut origin, mut session) = asking("GET").await;
    origin.answers(response).await;
    session.read_response().await.unwrap();
    (origin, session)
}

async fn body_of(session: &mut HttpSession) -> Result<Vec<u8>> {
    let mut body = Vec::new();
    while let Some(piece) = session.read_body_bytes().await? {
        body.extend_from_slice(&piece);
    }
    Ok(body)
}

fn etype<T>(result: Result<T>) -> Option<ErrorType> {
    result.err().map(|e| e.etype)
}

fn refusal<T>(result: Result<T>) -> Option<Refusal> {
    let e = result.err()?;
    assert_eq!(e.etype, ErrorType::InvalidHTTPHeader);
    e.cause?.downcast_ref::<Refusal>().copied()
}

#[tokio::test(start_paused = true)]
async fn get() {
    let head = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX: y\r\n\r\n";
    let (mut origin, mut session) = asking("GET").await;
    assert!(session.resp_header().is_none());
    origin.answers(format!("{head}hello")).await;
    assert_eq!(session.read_response().await.unwrap(), head.len());
    assert_eq!(session.get_headers_raw_bytes(), head);
    assert_eq!(session.get_status(), Some(StatusCode::OK));
    assert_eq!(session.get_header_bytes("x"), b"y");
    assert!(!session.is_body_done());
    assert_eq!(session.read_body_ref().await.unwrap(), Some(&b"hello"[..]));
    assert!(session.is_body_done());
    assert_eq!(session.read_body_ref().await.unwrap(), None);
    assert_eq!(session.body_bytes_received(), 5);
    assert!(session.is_reusable());
    let stream = session
        .reuse()
        .await
        .expect("a connection for the next request");
    let mut session = HttpSession::new(stream);
    session
        .write_request_header(request("GET", &[]))
        .await
        .unwrap();
    origin
        .must_get("GET /p?q HTTP/1.1\r\nHost: h\r\n\r\n")
        .await;
}

#[tokio::test(start_paused = true)]
async fn bodies_of_requests() {
    // (fields, sent after the head)
    let trailers = HeaderMap::from_iter([(
        HeaderName::from_static("x-sum"),
        HeaderValue::from_static("1"),
    )]);
    let (mut origin, mut session) = connect(1000);
    let head = request("POST", &[("Content-Length", "5")]);
    let length = session.write_request_header(head).await.unwrap();
    let head = "POST /p?q HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\n";
    assert_eq!(length, head.len());
    assert_eq!(session.write_body(b"hel").await.unwrap(), Some(3));
    assert_eq!(session.write_body(b"lo, you").await.unwrap(), Some(2));
    assert_eq!(session.finish_body().await.unwrap(), Some(5));
    assert_eq!(session.finish_body().await.unwrap(), None);
    assert_eq!(session.write_body(b"more").await.unwrap(), None);
    assert_eq!(session.body_bytes_sent(), 5);
    origin.must_get(&format!("{head}hello")).await;
    origin.must_get_nothing();

    let (mut origin, mut session) = connect(1000);
    let head = request("POST", &[("Transfer-Encoding", "chunked")]);
    session.write_request_header(head).await.unwrap();
    session.write_body(b"hello").await.unwrap();
    session.write_body(b"").await.unwrap();
    session.queue_request_end(Some(&trailers)).unwrap();
    assert!(!session.is_flushed());
    session.finish_body().await.unwrap();
    assert!(session.is_flushed());
    let head = "POST /p?q HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n";
    let body = "5\r\nhello\r\n0\r\nx-sum: 1\r\n\r\n";
    origin.must_get(&format!("{head}{body}")).await;
    origin.must_get_nothing();
}

#[tokio::test(start_paused = true)]
async fn a_short_request_body_is_an_error() {
    let (mut origin, mut session) = connect(1000);
    let head = request("POST", &[("Content-Length", "9")]);
    session.write_request_header(head).await.unwrap();
    session.write_body(b"hello").await.unwrap();
    assert_eq!(
        etype(session.finish_body().await),
        Some(ErrorType::WriteError)
    );
    assert_eq!(
        etype(session.write_body(b"x").await),
        Some(ErrorType::WriteError)
    );
    origin
        .answers("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        .await;
    session.read_response().await.unwrap();
    assert!(!session.is_reusable());
}

/// An application that changes the copy of a request must not make one that two parties read differently.
#[tokio::test(start_paused = true)]
async fn framing_of_a_request_is_one() {
    let (mut origin, mut session) = connect(1000);
    let both = [("Content-Length", "5"), ("Transfer-Encoding", "chunked")];
    session
        .write_request_header(request("POST", &both))
        .await
        .unwrap();
    origin
        .must_get("POST /p?q HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n")
        .await;
    origin.must_get_nothing();

    let rows: [&[(&'static str, &str)]; 6] = [
        &[("Transfer-Encoding", "gzip")],
        &[("Transfer-Encoding", "chunked, gzip")],
        &[("Transfer-Encoding", "foo"), ("Content-Length", "5")],
        &[("Content-Length", "5"), ("Content-Length", "6")],
        &[("Content-Length", "five")],
        &[("Content-Length", "")],
    ];
    for fields in rows {
        let (mut origin, mut session) = connect(1000);
        let written = session.write_request_header(request("POST", fields)).await;
        assert_eq!(etype(written), Some(ErrorType::InternalError), "{fields:?}");
        origin.must_get_nothing();
    }
    let (_origin, mut session) = connect(1000);
    let mut old = request("POST", &[("Transfer-Encoding", "chunked")]);
    old.set_version(Version::HTTP_10);
    let written = session.write_request_header(old).await;
    assert_eq!(etype(written), Some(ErrorType::InternalError));
}

#[tokio::test(start_paused = true)]
async fn a_second_head_is_an_error() {
    let (mut origin, mut session) = asking("GET").await;
    let written = session.write_request_header(request("GET", &[])).await;
    assert_eq!(etype(written), Some(ErrorType::InternalError));
    origin.must_get_nothing();
    let (_origin, mut session) = connect(1000);
    assert_eq!(
        etype(session.write_body(b"x").await),
        Some(ErrorType::InternalError)
    );
}

#[tokio::test(start_paused = true)]
async fn responses_without_a_body() {
    for (method, status, fields) in [
        ("HEAD", "200 OK", "Content-Length: 5\r\n"),
        ("HEAD", "200 OK", "Transfer-Encoding: chunked\r\n"),
        ("HEAD", "200 OK", ""),
        ("GET", "304 Not Modified", "Content-Length: 5\r\n"),
        ("GET", "204 No Content", ""),
        ("GET", "204 No Content", "Transfer-Encoding: chunked\r\n"),
        ("GET", "200 OK", "Content-Length: 0\r\n"),
    ] {
        let (mut origin, mut session) = asking(method).await;
        origin
            .answers(format!("HTTP/1.1 {status}\r\n{fields}\r\n"))
            .await;
        let task = session.read_response_task().await.unwrap();
        assert!(
            matches!(&task, HttpTask::Header(_, true)),
            "{method} {status} {task:?}"
        );
        assert!(session.is_body_done());
        assert_eq!(session.read_body_bytes().await.unwrap(), None);
        let task = session.read_response_task().await.unwrap();
        assert!(matches!(task, HttpTask::Done));
        assert!(session.is_reusable(), "{method} {status} {fields}");
    }
}

/// The length is of no use for the framing, but a cache or a client of HTTP/2 takes it for that of the content.
#[tokio::test(start_paused = true)]
async fn the_length_of_a_response_without_a_body_is_one() {
    for (fields, length) in [
        ("Content-Length: 5\r\n", Some("5")),
        ("Content-Length: 5\r\nContent-Length: 5\r\n", Some("5")),
        ("Content-Length: 5, 5\r\n", Some("5")),
        ("Content-Length: 5\r\nContent-Length: 7\r\n", None),
        ("Content-Length: 5\r\nContent-Length: abc\r\n", None),
        ("Content-Length: abc\r\n", None),
        ("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", None),
    ] {
        for (method, status) in [("HEAD", "200 OK"), ("GET", "304 Not Modified")] {
            let (mut origin, mut session) = asking(method).await;
            let head = format!("HTTP/1.1 {status}\r\n{fields}\r\n");
            origin.answers(head).await;
            session.read_response().await.unwrap();
            let response = session.resp_header().unwrap();
            let lengths = response.headers.get_all("content-length").iter();
            let lengths: Vec<_> = lengths.map(|value| value.to_str().unwrap()).collect();
            assert_eq!(lengths, Vec::from_iter(length), "{method} {fields}");
            assert!(session.is_reusable(), "{method} {fields}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn bodies_of_responses() {
    let rows = [
        ("Content-Length: 5\r\n\r\nhello", true),
        ("Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello", true),
        ("Content-Length: 5, 5\r\n\r\nhello", true),
        (
            "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
            true,
        ),
        (
            "Transfer-Encoding: chunked\r\n\r\n5 \r\nhello\r\n0\r\n\r\n",
            true,
        ),
        (
            "Transfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
            true,
        ),
        (
            "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n",
            true,
        ),
        ("Connection: close\r\nContent-Length: 5\r\n\r\nhello", false),
        ("\r\nhello", false),
    ];
    for (rest, reusable) in rows {
        let (origin, mut session) = answered(format!("HTTP/1.1 200 OK\r\n{rest}")).await;
        let lengths = session
            .resp_header()
            .unwrap()
            .headers
            .get_all("content-length");
        let lengths: Vec<_> = lengths.iter().collect();
        let want: &[&str] = if rest.contains("Length: 5") {
            &["5"]
        } else {
            // A coding takes its place.
            &[]
        };
        assert_eq!(lengths, want, "{rest}");
        if !reusable {
            drop(origin);
        }
        assert_eq!(body_of(&mut session).await.unwrap(), b"hello", "{rest}");
        assert_eq!(session.is_reusable(), reusable, "{rest}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_final_head_is_read_once() {
    let (_origin, mut session) =
        answered("HTTP/1.1 200 OK\r\nContent-Length: 22\r\n\r\nHTTP/1.1 200 Again\r\n\r\n").await;
    let read = session.read_response().await;
    assert_eq!(etype(read), Some(ErrorType::InternalError));
    assert_eq!(body_of(&mut session).await.unwrap().len(), 22);
}

#[tokio::test(start_paused = true)]
async fn tasks_of_a_response() {
    let (mut origin, mut session) = asking("GET").await;
    origin
        .answers("HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n")
        .await;
    origin
        .answers("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
        .await;
    for status in [103, 100, 200] {
        let task = session.read_response_task().await.unwrap();
        let HttpTask::Header(header, false) = task else {
            panic!("no head: {task:?}");
        };
        assert_eq!(header.status, status);
    }
    let task = session.read_response_task().await.unwrap();
    assert!(matches!(task, HttpTask::Body(Some(data), false) if data == "hello"));
    assert!(poll(pin!(session.read_response_task())).is_pending());
    origin.answers("0\r\nX-Sum: 1\r\n\r\n").await;
    let task = session.read_response_task().await.unwrap();
    let HttpTask::Trailer(Some(trailers)) = task else {
        panic!("no trailers: {task:?}");
    };
    assert_eq!(trailers["x-sum"], "1");
    for _ in 0..2 {
        let task = session.read_response_task().await.unwrap();
        assert!(matches!(task, HttpTask::Done), "{task:?}");
    }
    assert!(session.is_reusable());

    // The last piece of a counted body is known to be the last.
    let (mut origin, mut session) = asking("GET").await;
    origin
        .answers("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")
        .await;
    session.read_response_task().await.unwrap();
    let task = session.read_response_task().await.unwrap();
    assert!(matches!(task, HttpTask::Body(Some(_), true)), "{task:?}");
    let task = session.read_response_task().await.unwrap();
    assert!(matches!(task, HttpTask::Done), "{task:?}");

    // Of one that ends with the connection it is not.
    let (mut origin, mut session) = asking("GET").await;
    origin.answers("HTTP/1.1 200 OK\r\n\r\nhi").await;
    session.read_response_task().await.unwrap();
    let task = session.read_response_task().await.unwrap();
    assert!(matches!(task, HttpTask::Body(Some(_), false)), "{task:?}");
    drop(origin);
    let task = session.read_response_task().await.unwrap();
    assert!(matches!(task, HttpTask::Body(None, true)), "{task:?}");
    assert!(!session.is_reusable());
}

#[tokio::test(start_paused = true)]
async fn heads_that_are_refused() {
    use Refusal::*;
    let rows = [
        ("HTTP/1.1 200 OK\nX: y\r\n\r\n", BareLineEnd),
        ("HTTP/2.0 200 OK\r\n\r\n", Version),
        ("HTTP/1.1 xxx\r\n\r\n", StatusLine),
        ("HTTP/1.1 200 OK\r\nX: \0\r\n\r\n", FieldValue),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
            ContentLengthDiffers,
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
            ContentLength,
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: foo, chunked\r\n\r\n",
            UnknownCoding,
        ),
        (
            "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            CodingInHttp10,
        ),
        (
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n",
            UnaskedUpgrade,
        ),
    ];
    for (head, want) in rows {
        let (mut origin, mut session) = asking("GET").await;
        origin.answers(head).await;
        assert_eq!(refusal(session.read_response().await), Some(want), "{head}");
        assert!(!session.is_reusable());
    }
}

#[tokio::test(start_paused = true)]
async fn a_length_that_cannot_be_understood_may_be_forgiven() {
    for length in ["x", "5, 6", "-5"] {
        let (mut origin, mut session) = asking("GET").await;
        session.set_allow_h1_response_invalid_content_length(true);
        origin
            .answers(format!(
                "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\nhello"
            ))
            .await;
        drop(origin);
        session.read_response().await.unwrap();
        // Nobody behind is to try to understand it.
        assert_eq!(session.get_header("content-length"), None);
        assert_eq!(body_of(&mut session).await.unwrap(), b"hello");
        assert!(!session.is_reusable());
    }
}

#[tokio::test(start_paused = true)]
async fn an_upgrade() {
    let wish = [("Connection", "Upgrade"), ("Upgrade", "websocket")];
    let (mut origin, mut session) = connect(1000);
    session
        .write_request_header(request("GET", &wish))
        .await
        .unwrap();
    assert!(session.is_upgrade_req() && !session.was_upgraded());
    let head = "GET /p?q HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    origin.must_get(head).await;
    origin
        .answers("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n0\r\n\r\n")
        .await;
    let task = session.read_response_task().await.unwrap();
    assert!(matches!(task, HttpTask::Header(_, false)), "{task:?}");
    assert!(session.was_upgraded());
    let task = session.read_response_task().await.unwrap();
    assert!(matches!(task, HttpTask::UpgradedBody(Some(data), false) if data == "0\r\n\r\n"));
    assert_eq!(session.write_body(b"raw").await.unwrap(), Some(3));
    origin.must_get("raw").await;
    // The client ends its direction; the origin sees that, and still answers.
    session.finish_body().await.unwrap();
    origin.must_see_the_end().await;
    origin.answers("last").await;
    let task = session.read_response_task().await.unwrap();
    assert!(matches!(task, HttpTask::UpgradedBody(Some(data), false) if data == "last"));
    drop(origin);
    let task = session.read_response_task().await.unwrap();
    assert!(
        matches!(task, HttpTask::UpgradedBody(None, true)),
        "{task:?}"
    );
    assert!(!session.is_reusable());
}

#[tokio::test(start_paused = true)]
async fn an_upgrade_before_the_end_of_the_request_is_refused() {
    let wish = [
        ("Connection", "Upgrade"),
        ("Upgrade", "x"),
        ("Content-Length", "5"),
    ];
    let (mut origin, mut session) = connect(1000);
    session
        .write_request_header(request("POST", &wish))
        .await
        .unwrap();
    origin
        .answers("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n")
        .await;
    let read = session.read_response().await;
    assert_eq!(refusal(read), Some(Refusal::UnaskedUpgrade));
}

#[tokio::test(start_paused = true)]
async fn connect_makes_a_tunnel() {
    let (mut origin, mut session) = connect(1000);
    let mut head = RequestHeader::build("CONNECT", b"h:443", None).unwrap();
    head.insert_header("Host", "h:443").unwrap();
    session
        .write_request_header(Box::new(head.clone()))
        .await
        .unwrap();
    origin
        .must_get("CONNECT h:443 HTTP/1.1\r\nHost: h:443\r\n\r\n")
        .await;
    origin
        .answers("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nraw bytes")
        .await;
    session.read_response().await.unwrap();
    assert!(session.was_upgraded());
    assert_eq!(
        session.read_body_bytes().await.unwrap().unwrap(),
        "raw bytes"
    );
    session.write_body(b"raw").await.unwrap();
    origin.must_get("raw").await;
    assert!(!session.is_reusable());

    let (mut origin, mut session) = connect(1000);
    session.write_request_header(Box::new(head)).await.unwrap();
    origin
        .answers("HTTP/1.1 407 Authenticate\r\nContent-Length: 3\r\n\r\nwho")
        .await;
    session.read_response().await.unwrap();
    assert_eq!(body_of(&mut session).await.unwrap(), b"who");
    assert!(session.is_reusable());
}

#[tokio::test(start_paused = true)]
async fn reads_survive_being_dropped() {
    let (mut origin, mut session) = asking("GET").await;
    for byte in b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n" {
        let mut head = pin!(session.read_response_task());
        let polled = poll(head.as_mut());
        assert!(matches!(
            polled,
            Poll::Pending | Poll::Ready(Ok(HttpTask::Header(_, false)))
        ));
        origin.answers([*byte]).await;
    }
    session.read_response_task().await.unwrap();
    assert_eq!(session.exchange().response.as_ref().map(|r| r.status), None);
    for byte in b"hi" {
        assert!(poll(pin!(session.read_body_bytes())).is_pending());
        origin.answers([*byte]).await;
        assert_eq!(
            session.read_body_bytes().await.unwrap().unwrap(),
            [*byte][..]
        );
    }
    assert!(session.is_reusable());
}

#[test]
fn heads_on_the_wire() {
    let wire = |method: &str, target: &[u8], version| {
        let mut head = RequestHeader::build(method, target, None).unwrap();
        head.set_version(version);
        head.insert_header("x-Y", "z").unwrap();
        http_req_header_to_wire(&head).map(|w| String::from_utf8_lossy(&w).into_owned())
    };
    let rows = [
        (
            "GET",
            &b"/a?b"[..],
            Version::HTTP_11,
            Some("GET /a?b HTTP/1.1\r\nx-Y: z\r\n\r\n"),
        ),
        (
            "GET",
            b"/",
            Version::HTTP_10,
            Some("GET / HTTP/1.0\r\nx-Y: z\r\n\r\n"),
        ),
        (
            "OPTIONS",
            b"*",
            Version::HTTP_11,
            Some("OPTIONS * HTTP/1.1\r\nx-Y: z\r\n\r\n"),
        ),
        (
            "CONNECT",
            b"h:1",
            Version::HTTP_11,
            Some("CONNECT h:1 HTTP/1.1\r\nx-Y: z\r\n\r\n"),
        ),
        (
            "GET",
            b"http://h/",
            Version::HTTP_11,
            Some("GET http://h/ HTTP/1.1\r\nx-Y: z\r\n\r\n"),
        ),
        ("GET", b"/", Version::HTTP_2, None),
    ];
    for (method, target, version, want) in rows {
        let got = wire(method, target, version);
        assert_eq!(got.as_deref(), want);
    }
}
