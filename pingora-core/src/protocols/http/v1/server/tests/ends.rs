//! Clients that leave or err.

use super::*;

#[tokio::test(start_paused = true)]
async fn connections_that_end_early() {
    // Before a byte of a request, or with empty lines alone: nothing was asked.
    for bytes in ["", "\r\n", "\r\n\r"] {
        let (mut client, mut session) = connect(100);
        client.sends(bytes).await;
        drop(client);
        assert_eq!(session.read_request().await.unwrap(), None, "{bytes:?}");
    }
    // In a head.
    for bytes in ["G", "GET / HTTP/1.1\r\n", "GET / HTTP/1.1\r\nHost: h\r\n"] {
        let (mut client, mut session) = connect(100);
        client.sends(bytes).await;
        drop(client);
        let read = session.read_request().await;
        assert_eq!(etype(read), Some(ErrorType::ConnectionClosed), "{bytes:?}");
        assert!(!session.will_keepalive());
    }
    // In a body.
    for rest in [
        "Content-Length: 9\r\n\r\nhello",
        "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
    ] {
        let (client, mut session) = asked(format!("POST / HTTP/1.1\r\nHost: h\r\n{rest}")).await;
        drop(client);
        assert_eq!(session.read_body_bytes().await.unwrap().unwrap(), "hello");
        let read = session.read_body_bytes().await;
        assert_eq!(etype(read), Some(ErrorType::ConnectionClosed), "{rest}");
        assert!(
            session.read_body_bytes().await.is_err(),
            "and no end after that"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn errors_of_the_connection() {
    let reset = || std::io::Error::from(std::io::ErrorKind::ConnectionReset);
    // An idle connection that is reset has ended.
    let idle = tokio_test::io::Builder::new().read_error(reset()).build();
    let mut session = HttpSession::new(Box::new(idle));
    assert_eq!(session.read_request().await.unwrap(), None);

    let begun = tokio_test::io::Builder::new()
        .read(b"GET")
        .read_error(reset())
        .build();
    let mut session = HttpSession::new(Box::new(begun));
    assert_eq!(
        etype(session.read_request().await),
        Some(ErrorType::ReadError)
    );

    let deaf = tokio_test::io::Builder::new()
        .read(GET.as_bytes())
        .write_error(reset())
        .build();
    let mut session = HttpSession::new(Box::new(deaf));
    session.read_request().await.unwrap();
    let head = response(200, &[("Content-Length", "2")]);
    let written = session.write_response_header(head).await;
    assert_eq!(etype(written), Some(ErrorType::WriteError));
    assert_eq!(
        etype(session.write_body(b"hi").await),
        Some(ErrorType::WriteError)
    );
    assert_eq!(etype(session.reuse().await), Some(ErrorType::WriteError));
}

#[tokio::test(start_paused = true)]
async fn malformed_requests() {
    let rows = [
        ("GET / HTTP/1.1\nHost: h\r\n\r\n", Refusal::BareLineEnd),
        (
            "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            Refusal::LengthAndCoding,
        ),
    ];
    for (request, want) in rows {
        let (mut client, mut session) = connect(1000);
        client.sends(request).await;
        let e = session.read_request().await.unwrap_err();
        assert_eq!(e.etype, ErrorType::InvalidHTTPHeader);
        let cause = e.cause.as_ref().and_then(|c| c.downcast_ref::<Refusal>());
        assert_eq!(cause, Some(&want));
        assert!(!session.will_keepalive());
    }
    // Whether a Host has to be there is for who serves the request to say.
    let (_client, session) = asked("GET / HTTP/1.1\r\n\r\n").await;
    assert!(session.check_host().is_err() && session.validate_request().is_err());
    let (_client, session) = asked("GET / HTTP/1.0\r\n\r\n").await;
    assert!(session.check_host().is_ok() && session.validate_request().is_ok());
    let (_client, mut session) =
        asked("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhellox").await;
    assert_eq!(session.read_body_bytes().await.unwrap().unwrap(), "hello");
    assert_eq!(
        etype(session.read_body_bytes().await),
        Some(ErrorType::H1Error)
    );
    // The answer tells that the connection is of no use any more.
    assert!(!session.will_keepalive());
    session.set_server_keepalive(Some(60));
    assert!(!session.will_keepalive());
}

#[tokio::test(start_paused = true)]
async fn a_refused_request_after_another_one_closes() {
    let (mut client, mut session) = asked(GET).await;
    answer(&mut session, "x").await;
    client
        .must_get("HTTP/1.1 200 OK\r\nDate: now\r\nContent-Length: 1\r\n\r\nx")
        .await;
    let next = session.reuse().await.unwrap().unwrap();
    let mut session = next.into_inner().into_session();
    client.sends("GET / HTTP/1.1\nHost: h\r\n\r\n").await;
    assert!(session.read_request().await.is_err());
    session
        .write_response_header(response(400, &[("Content-Length", "0")]))
        .await
        .unwrap();
    client
        .must_get("HTTP/1.1 400 Bad Request\r\nDate: now\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        .await;
    assert!(session.reuse().await.unwrap().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_client_that_leaves() {
    let (client, mut session) = asked(GET).await;
    assert!(poll(std::pin::pin!(session.read_body_or_idle(true))).is_pending());
    assert!(!session.is_half_closed());
    drop(client);
    let gone = session.read_body_or_idle(true).await;
    assert_eq!(etype(gone), Some(ErrorType::ConnectionClosed));
    assert!(session.is_half_closed());

    // A client that closes one direction only, if that is allowed.
    let (mut client, mut session) = asked(GET).await;
    session.set_abort_on_close(false);
    client.0.shutdown().await.unwrap();
    assert!(poll(std::pin::pin!(session.read_body_or_idle(true))).is_pending());
    assert!(session.is_half_closed());
    answer(&mut session, "x").await;
    client
        .must_get("HTTP/1.1 200 OK\r\nDate: now\r\nContent-Length: 1\r\nConnection: close\r\n\r\nx")
        .await;
    assert!(session.reuse().await.unwrap().is_none());
}

fn gone(session: &mut HttpSession) -> bool {
    poll(std::pin::pin!(std::future::poll_fn(
        |cx| session.poll_abort(cx)
    )))
    .is_ready()
}

/// How long a client is waited for that has closed its direction, where nothing tells whether it is there.
#[tokio::test(start_paused = true)]
async fn a_client_that_has_said_all_is_given_time() {
    let chunked = || response(200, &[("Transfer-Encoding", "chunked")]);
    for (abort, before, after) in [
        (None, false, true),
        (Some(false), false, false),
        (Some(true), true, true),
    ] {
        let (mut client, mut session) = asked(GET).await;
        if let Some(abort) = abort {
            session.set_abort_on_close(abort);
        }
        client.0.shutdown().await.unwrap();
        assert_eq!(gone(&mut session), before, "{abort:?}");
        for _ in 0..3 {
            tokio::time::advance(LIMITS.client_half_closed / 2).await;
            if !before {
                assert!(!gone(&mut session), "{abort:?}");
            }
            // What is written gives it its time again.
            match session.response_written() {
                None => session.write_response_header(chunked()).await.unwrap(),
                Some(_) => drop(session.write_body(b"x").await.unwrap()),
            }
        }
        assert_eq!(gone(&mut session), before, "{abort:?}");
        tokio::time::advance(LIMITS.client_half_closed).await;
        assert_eq!(gone(&mut session), after, "{abort:?}");
    }
}

/// The other end of a socket tells more.
#[tokio::test]
async fn a_client_that_closed_its_socket_is_gone() {
    use tokio::io::AsyncWriteExt;
    let (mut client, accepted) = tokio::net::UnixStream::pair().unwrap();
    let stream = crate::protocols::l4::stream::Stream::from(accepted);
    let mut session = HttpSession::new(Box::new(stream));
    client.write_all(GET.as_bytes()).await.unwrap();
    session.read_request().await.unwrap();
    client.shutdown().await.unwrap();
    // The end has to be read first.
    std::future::poll_fn(|cx| {
        assert!(session.poll_abort(cx).is_pending());
        if session.is_half_closed() {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    })
    .await;
    drop(client);
    assert!(gone(&mut session));
}

/// A request that comes early is not a client that leaves, and is not lost.
#[tokio::test(start_paused = true)]
async fn the_next_request_is_kept_while_waiting_for_an_abort() {
    let (mut client, mut session) = asked(GET).await;
    session.set_pipelining_enabled(true);
    client.sends(GET).await;
    for _ in 0..3 {
        assert!(poll(std::pin::pin!(session.read_body_or_idle(true))).is_pending());
    }
    answer(&mut session, "x").await;
    let next = session.reuse().await.unwrap().unwrap();
    let mut session = next.into_inner().into_session();
    assert_eq!(session.read_request().await.unwrap(), Some(GET.len()));
}
