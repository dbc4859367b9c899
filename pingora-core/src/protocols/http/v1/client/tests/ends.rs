//! How exchanges and connections end.

use super::*;

#[tokio::test(start_paused = true)]
async fn connections_that_end_early() {
    // Before a byte: a reused connection may have died while it was idle, so that another may be tried.
    let (origin, mut session) = asking("GET").await;
    drop(origin);
    let mut e = session.read_response().await.unwrap_err();
    assert_eq!(e.etype, ErrorType::ConnectionClosed);
    e.retry.decide_reuse(true);
    assert!(e.retry());

    let (mut origin, mut session) = asking("GET").await;
    origin.answers("HTTP/1.1 200").await;
    drop(origin);
    let mut e = session.read_response().await.unwrap_err();
    assert_eq!(e.etype, ErrorType::ConnectionClosed);
    e.retry.decide_reuse(true);
    assert!(!e.retry(), "the origin has seen the request");

    for rest in [
        "Content-Length: 9\r\n\r\nhello",
        "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n",
        "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX: y\r\n",
    ] {
        let (origin, mut session) = answered(format!("HTTP/1.1 200 OK\r\n{rest}")).await;
        drop(origin);
        let read = body_of(&mut session).await;
        assert_eq!(etype(read), Some(ErrorType::ConnectionClosed), "{rest}");
        assert!(
            body_of(&mut session).await.is_err(),
            "and no end after that"
        );
        assert!(!session.is_reusable());
    }
    let (_origin, mut session) =
        answered("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx").await;
    assert_eq!(etype(body_of(&mut session).await), Some(ErrorType::H1Error));
}

#[tokio::test(start_paused = true)]
async fn errors_of_the_connection() {
    let reset = || std::io::Error::from(std::io::ErrorKind::ConnectionReset);
    let sent = b"GET /p?q HTTP/1.1\r\nHost: h\r\n\r\n";
    for (answer, retry) in [(&b""[..], true), (b"HTTP", false)] {
        let mut mock = tokio_test::io::Builder::new();
        mock.write(sent);
        if !answer.is_empty() {
            mock.read(answer);
        }
        let stream = mock.read_error(reset()).build();
        // It wants the error for itself.
        drop(mock);
        let mut session = HttpSession::new(Box::new(stream));
        session
            .write_request_header(request("GET", &[]))
            .await
            .unwrap();
        let mut e = session.read_response().await.unwrap_err();
        assert_eq!(e.etype, ErrorType::ReadError);
        e.retry.decide_reuse(true);
        assert_eq!(e.retry(), retry);
    }
    let mock = tokio_test::io::Builder::new().write_error(reset()).build();
    let mut session = HttpSession::new(Box::new(mock));
    let written = session.write_request_header(request("GET", &[])).await;
    assert_eq!(etype(written), Some(ErrorType::WriteError));
}

/// What an origin sends beyond its response would be taken for the answer to the next request.
#[tokio::test(start_paused = true)]
async fn more_than_the_response() {
    for (method, rest) in [
        ("GET", "Content-Length: 2\r\n\r\nhi!"),
        ("GET", "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\nx"),
        ("HEAD", "Content-Length: 2\r\n\r\nhi"),
        ("GET", "Content-Length: 0\r\n\r\nHTTP/1.1 200 OK\r\n\r\n"),
    ] {
        let (mut origin, mut session) = asking(method).await;
        origin.answers(format!("HTTP/1.1 200 OK\r\n{rest}")).await;
        session.read_response().await.unwrap();
        body_of(&mut session).await.unwrap();
        assert!(session.will_keepalive());
        assert!(!session.is_reusable(), "{method} {rest}");
        drop(origin);
        assert!(session.reuse().await.is_none());
    }
}

#[tokio::test(start_paused = true)]
async fn who_keeps_the_connection() {
    let rows = [
        ("1.1", "", "1.1", "", true),
        ("1.1", "", "1.1", "Connection: close\r\n", false),
        ("1.1", "", "1.0", "", false),
        ("1.1", "", "1.0", "Connection: keep-alive\r\n", true),
        ("1.1", "close", "1.1", "", false),
        ("1.0", "", "1.1", "", false),
        (
            "1.0",
            "keep-alive",
            "1.1",
            "Connection: keep-alive\r\n",
            true,
        ),
    ];
    for (ours, asks, theirs, says, kept) in rows {
        let (mut origin, mut session) = connect(1000);
        let mut head = request("GET", &[]);
        if ours == "1.0" {
            head.set_version(Version::HTTP_10);
        }
        if !asks.is_empty() {
            head.insert_header("Connection", asks).unwrap();
        }
        session.write_request_header(head).await.unwrap();
        origin
            .answers(format!(
                "HTTP/{theirs} 200 OK\r\n{says}Content-Length: 0\r\n\r\n"
            ))
            .await;
        session.read_response().await.unwrap();
        assert_eq!(
            session.will_keepalive(),
            kept,
            "{ours} {asks} {theirs} {says}"
        );
        assert_eq!(session.is_reusable(), kept);
    }
}

/// The answer came before the request was out: the origin would take the rest for another request, or wait.
#[tokio::test(start_paused = true)]
async fn an_early_answer_ends_the_connection() {
    let (mut origin, mut session) = connect(1000);
    let head = request("POST", &[("Content-Length", "5")]);
    session.write_request_header(head).await.unwrap();
    session.write_body(b"hel").await.unwrap();
    origin
        .answers("HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
        .await;
    session.read_response().await.unwrap();
    assert!(!session.is_reusable());
    session.write_body(b"lo").await.unwrap();
    session.finish_body().await.unwrap();
    assert!(session.is_reusable(), "unless the rest follows");
}

#[tokio::test(start_paused = true)]
async fn the_next_exchange_begins_anew() {
    let (mut origin, mut session) =
        answered("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX: y\r\n\r\nhi").await;
    body_of(&mut session).await.unwrap();
    session.next_exchange();
    assert_eq!(session.inner.conn.buf.capacity(), 0);
    assert!(session.resp_header().is_none() && session.get_headers_raw_bytes().is_empty());
    assert_eq!(session.body_bytes_received(), 0);
    assert!(!session.will_keepalive());
    session
        .write_request_header(request("GET", &[]))
        .await
        .unwrap();
    origin
        .must_get("GET /p?q HTTP/1.1\r\nHost: h\r\n\r\n")
        .await;
    origin.answers("HTTP/1.1 204 No Content\r\n\r\n").await;
    let task = session.read_response_task().await.unwrap();
    assert!(matches!(task, HttpTask::Header(_, true)), "{task:?}");
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_is_quiet() {
    let quiet =
        |session: &mut HttpSession| session.poll_idle(&mut Context::from_waker(Waker::noop()));
    let (mut origin, mut session) = connect(1000);
    assert!(quiet(&mut session).is_pending());
    assert_eq!(session.inner.conn.buf.capacity(), 0);
    origin.answers("x").await;
    assert!(matches!(quiet(&mut session), Poll::Ready(Ok(1))));
    drop(origin);
    assert!(matches!(quiet(&mut session), Poll::Ready(Ok(0))));
}

#[tokio::test(start_paused = true)]
async fn timeouts() {
    // Without one, an origin may take as long as it likes.
    let (_origin, mut session) = asking("GET").await;
    let wait = Duration::from_secs(100_000);
    assert!(tokio::time::timeout(wait, session.read_response())
        .await
        .is_err());

    session.read_timeout = Some(Duration::from_secs(10));
    let begun = Instant::now();
    assert_eq!(
        etype(session.read_response().await),
        Some(ErrorType::ReadTimedout)
    );
    assert!(
        begun.elapsed() >= Duration::from_secs(10) && begun.elapsed() < Duration::from_secs(11)
    );

    let (mut origin, mut session) = asking("GET").await;
    session.read_timeout = Some(Duration::from_secs(10));
    let begun = Instant::now();
    let (read, ()) = tokio::join!(
        async {
            session.read_response().await.unwrap();
            body_of(&mut session).await
        },
        async {
            for piece in [
                "HTTP/1.1 200 OK\r\n",
                "Content-Length: 9\r\n\r\n",
                "hi",
                "!",
            ] {
                tokio::time::sleep(Duration::from_secs(9)).await;
                origin.answers(piece).await;
            }
        }
    );
    assert_eq!(etype(read), Some(ErrorType::ReadTimedout));
    assert!(
        begun.elapsed() >= Duration::from_secs(46) && begun.elapsed() < Duration::from_secs(47)
    );

    let (_origin, mut session) = connect(64);
    session.write_timeout = Some(Duration::from_secs(10));
    let head = request("POST", &[("Content-Length", "1000")]);
    session.write_request_header(head).await.unwrap();
    let begun = Instant::now();
    let written = session.write_body(&[b'x'; 1000]).await;
    assert_eq!(etype(written), Some(ErrorType::WriteTimedout));
    assert!(
        begun.elapsed() >= Duration::from_secs(10) && begun.elapsed() < Duration::from_secs(11)
    );
    assert!(!session.is_reusable());
}

/// The wait for a 100 is over once the body is sent all the same: the head has its time after it.
#[tokio::test(start_paused = true)]
async fn the_time_of_a_head_begins_with_the_end_of_the_request() {
    let limit = Duration::from_secs(3);
    let (_origin, mut session) = connect(1000);
    session.response_header_timeout = Some(limit);
    let fields = [("Expect", "100-continue"), ("Content-Length", "2")];
    let head = request("POST", &fields);
    session.write_request_header(head).await.unwrap();
    for (time, piece) in [(2, "x"), (100, "y")] {
        let time = Duration::from_secs(time);
        let read = tokio::time::timeout(time, session.read_response()).await;
        assert!(read.is_err(), "{read:?}");
        session.write_body(piece.as_bytes()).await.unwrap();
    }
    session.finish_body().await.unwrap();
    let begun = Instant::now();
    let read = session.read_response().await;
    assert_eq!(etype(read), Some(ErrorType::ReadTimedout));
    assert!(begun.elapsed() >= limit && begun.elapsed() < 2 * limit);
}

/// A client whose request is answered must not wait for an origin that takes its time to close.
#[tokio::test(start_paused = true)]
async fn closing_waits_for_nobody() {
    let (_origin, mut session) =
        answered("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nhi").await;
    body_of(&mut session).await.unwrap();
    assert!(!session.is_reusable());
    let closing = std::pin::pin!(session.shutdown());
    assert!(poll(closing).is_ready());
}
