//! Whether a connection goes on after an exchange, and what goes with it.

use super::*;
use crate::apps::{HttpPersistentSettings, ReusedHttpStream};
use crate::protocols::http::server::Session;
use crate::protocols::l4::stream::Stream as TcpLike;
use tokio::net::{TcpListener, TcpStream};

const ANSWER: &str = "HTTP/1.1 200 OK\r\nDate: now\r\nContent-Length: 1\r\n\r\nx";
const CLOSING: &str =
    "HTTP/1.1 200 OK\r\nDate: now\r\nContent-Length: 1\r\nConnection: close\r\n\r\nx";

/// Answers, and gives the session for the next request.
async fn next(mut session: HttpSession) -> Option<HttpSession> {
    answer(&mut session, "x").await;
    let reusable = session.reuse().await.unwrap()?;
    Some(reusable.into_inner().into_session())
}

#[tokio::test(start_paused = true)]
async fn requests_one_after_another() {
    let (mut client, mut session) = asked(GET).await;
    assert!(!session.is_reused());
    for _ in 0..3 {
        session = next(session).await.unwrap();
        assert!(session.is_reused());
        assert!(session.response_written().is_none());
        assert_eq!(session.body_bytes_sent(), 0);
        assert_eq!(session.req_header().raw_path(), b"/");
        client.must_get(ANSWER).await;
        client.sends(GET).await;
        session.read_request().await.unwrap().unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn who_says_close() {
    // The client.
    let (mut client, session) =
        asked("GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").await;
    let (kept, ()) = tokio::join!(next(session), client.must_get_all(CLOSING));
    assert!(kept.is_none());
    // The application, which cannot overrule the client.
    let (mut client, mut session) = asked(GET).await;
    session.set_server_keepalive(None);
    let (kept, ()) = tokio::join!(next(session), client.must_get_all(CLOSING));
    assert!(kept.is_none());
    let (_client, mut session) = asked("GET / HTTP/1.0\r\n\r\n").await;
    session.set_server_keepalive(Some(60));
    assert_eq!(session.get_keepalive_timeout(), None);
    // A connection that has served as many as it may.
    let (mut client, mut session) = asked(GET).await;
    session.set_keepalive_reuses_remaining(Some(1));
    let mut session = next(session).await.unwrap();
    assert_eq!(session.get_keepalive_reuses_remaining(), Some(0));
    client.must_get(ANSWER).await;
    client.sends(GET).await;
    session.read_request().await.unwrap().unwrap();
    assert!(!session.will_keepalive());
    let (kept, ()) = tokio::join!(next(session), client.must_get_all(CLOSING));
    assert!(kept.is_none());
}

#[tokio::test(start_paused = true)]
async fn no_answer_no_next_request() {
    let (_client, session) = asked(GET).await;
    assert!(session.reuse().await.unwrap().is_none());
    // A chunked body that nobody ended is ended; the application said that it is done.
    let (_client, mut session) = asked(GET).await;
    session
        .write_response_header(response(200, &[("Transfer-Encoding", "chunked")]))
        .await
        .unwrap();
    assert!(session.reuse().await.unwrap().is_some());
}

#[tokio::test(start_paused = true)]
async fn the_rest_of_the_body_is_drained() {
    for (rest, end) in [
        ("Content-Length: 5\r\n\r\nhe", "llo"),
        ("Content-Length: 5\r\n\r\nhello", ""),
        (
            "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
            "",
        ),
        (
            "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n\r\n",
            "",
        ),
    ] {
        let (mut client, session) = asked(format!("POST / HTTP/1.1\r\nHost: h\r\n{rest}")).await;
        let (session, ()) = tokio::join!(next(session), client.sends(end));
        let mut session = session.expect("the connection goes on");
        client.must_get(ANSWER).await;
        client.sends(GET).await;
        assert_eq!(
            session.read_request().await.unwrap(),
            Some(GET.len()),
            "{rest}"
        );
    }
}

/// A connection that closes after the answer for what the client sends has an answer that says so.
#[tokio::test(start_paused = true)]
async fn the_answer_says_close_for_what_the_client_sends() {
    let long = format!(
        "Content-Length: {}\r\n\r\nhe",
        LIMITS.client_drain_bytes + 3
    );
    for rest in [
        // Nobody knows how much follows.
        "Transfer-Encoding: chunked\r\n\r\n5\r\nhe",
        "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n",
        // It is malformed.
        "Transfer-Encoding: chunked\r\n\r\n5\r\nhellox",
        // It is too long.
        &long,
        // Another request follows.
        "Content-Length: 5\r\n\r\nhelloG",
        "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n\r\nG",
        "Content-Length: 0\r\n\r\nG",
    ] {
        let (mut client, mut session) =
            asked(format!("POST / HTTP/1.1\r\nHost: h\r\n{rest}")).await;
        answer(&mut session, "x").await;
        client.must_get(CLOSING).await;
        drop(client);
        assert!(session.reuse().await.unwrap().is_none(), "{rest}");
    }
}

/// What comes when the head has left was not known then, and the head has said that the connection goes on.
#[tokio::test(start_paused = true)]
async fn what_comes_after_the_head_is_served() {
    for (post, comes) in [
        ("", GET.to_string()),
        ("Content-Length: 5\r\n\r\nhel", format!("lo{GET}")),
    ] {
        let request = match post {
            "" => GET.to_string(),
            post => format!("POST / HTTP/1.1\r\nHost: h\r\n{post}"),
        };
        let (mut client, mut session) = asked(request).await;
        let head = response(200, &[("Content-Length", "1")]);
        session.write_response_header(head).await.unwrap();
        client.sends(&comes).await;
        if post.is_empty() {
            // Someone looks whether the client leaves.
            assert!(poll(std::pin::pin!(session.read_body_or_idle(true))).is_pending());
            assert!(!session.inner.conn.buf.is_empty());
        }
        session.write_body(b"x").await.unwrap();
        let reusable = session.reuse().await.unwrap().expect("it goes on");
        client.must_get(ANSWER).await;
        let mut session = reusable.into_inner().into_session();
        assert_eq!(session.read_request().await.unwrap(), Some(GET.len()));
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_that_is_not_drained() {
    let post = |n: usize| format!("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: {n}\r\n\r\n");
    // It does not come.
    let (_client, session) = asked(post(5)).await;
    let begun = tokio::time::Instant::now();
    let (kept, ()) = tokio::join!(next(session), async {});
    assert!(kept.is_none());
    assert!(begun.elapsed() >= LIMITS.client_drain);
    let (_client, mut session) = asked(post(5)).await;
    session.set_total_drain_timeout(Some(Duration::from_secs(60)));
    let drained = session.drain_request_body().await;
    assert_eq!(etype(drained), Some(ErrorType::ReadTimedout));
    assert!(begun.elapsed() >= Duration::from_secs(60));
    // It is long.
    let (mut client, session) = asked(post(LIMITS.client_drain_bytes + 100_000)).await;
    let body = vec![b'x'; LIMITS.client_drain_bytes + 100_000];
    let (kept, _) = tokio::join!(next(session), client.0.write_all(&body));
    assert!(kept.is_none());
    // It is malformed.
    let chunked = "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhellox";
    let (_client, session) = asked(chunked).await;
    assert!(next(session).await.is_none());
    // The application does not want to.
    let (_client, mut session) = asked(format!("{}hello", post(5))).await;
    session.set_close_on_response_before_downstream_finish(true);
    assert!(next(session).await.is_none());
}

#[tokio::test(start_paused = true)]
async fn pipelining() {
    // Not unless the application wants it.
    let (mut client, session) = asked(format!("{GET}{GET}")).await;
    let (kept, ()) = tokio::join!(next(session), client.must_get_all(CLOSING));
    assert!(kept.is_none());

    let (mut client, mut session) = asked(format!("{GET}{GET}{GET}")).await;
    for _ in 0..2 {
        session.set_pipelining_enabled(true);
        session = next(session).await.unwrap();
        client.must_get(ANSWER).await;
        assert_eq!(session.read_request().await.unwrap(), Some(GET.len()));
    }
    // The client has said all: the last request is answered too.
    client.0.shutdown().await.unwrap();
    session.set_pipelining_enabled(true);
    answer(&mut session, "x").await;
    client.must_get(ANSWER).await;
}

/// Old clients send an empty line after a body (RFC 9112 section 2.2): it is no request.
#[tokio::test(start_paused = true)]
async fn an_empty_line_after_a_body_is_not_a_request() {
    let post = "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nhi\r\n";
    let (mut client, session) = asked(post).await;
    let mut session = next(session).await.expect("the connection goes on");
    client.sends(GET).await;
    assert_eq!(session.read_request().await.unwrap(), Some(GET.len()));
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_holds_no_buffer() {
    let body = "x".repeat(50_000);
    let post = format!("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 50000\r\n\r\n{body}");
    let (mut client, session) = asked(post).await;
    let capacity = |session: &HttpSession| session.inner.conn.buf.capacity();
    let mut session = next(session).await.unwrap();
    assert_eq!(capacity(&session), 0);
    assert!(poll(std::pin::pin!(session.read_request())).is_pending());
    assert_eq!(capacity(&session), 0);
    assert!(session.inner.exchange.is_none());
    client.sends("G").await;
    assert!(poll(std::pin::pin!(session.read_request())).is_pending());
    assert!(capacity(&session) > 0);

    let (_client, mut new) = connect(100);
    assert!(poll(std::pin::pin!(new.read_request())).is_pending());
    assert_eq!(capacity(&new), 0);
}

/// What belongs to the connection goes through the public way of one request to the next, in one box.
#[tokio::test(start_paused = true)]
async fn the_box_travels_with_the_stream() {
    let registry = Registry::new(1);
    let (mut client, mut session) = asked(format!("{GET}{GET}")).await;
    session.wait_in(&registry, Duration::from_secs(5));
    session.set_pipelining_enabled(true);
    session.set_keepalive_reuses_remaining(Some(7));
    session.set_server_keepalive(Some(33));
    session.set_read_timeout(Some(Duration::from_secs(9)));
    let at = std::ptr::from_ref(&*session.inner);
    answer(&mut session, "x").await;
    let session = Session::H1(session);
    let mut settings = HttpPersistentSettings::for_session(&session);
    settings.set_user_context(Box::new(17u8));
    let reusable = session.finish().await.unwrap().unwrap();
    let reused = ReusedHttpStream::from_reusable_stream(reusable, settings);
    let (stream, settings) = reused.consume();
    client.must_get(ANSWER).await;

    let mut session = Session::new_http1(stream);
    settings.unwrap().apply_to_session(&mut session);
    assert_eq!(session.get_keepalive(), Some(33));
    assert_eq!(session.get_keepalive_reuses_remaining(), Some(6));
    let context = session.take_connection_user_context().unwrap();
    assert_eq!(context.downcast_ref::<u8>(), Some(&17));
    let Session::H1(mut session) = session else {
        panic!("another kind of session");
    };
    assert!(std::ptr::eq(at, &*session.inner), "another box");
    assert!(session.is_reused());
    assert!(session.inner.place.as_ref().unwrap().is_in(&registry));
    assert_eq!(session.get_read_timeout(), Some(Duration::from_secs(9)));
    // The request that was received with the first one.
    assert_eq!(session.read_request().await.unwrap(), Some(GET.len()));
    answer(&mut session, "x").await;
    client.must_get(ANSWER).await;
}

#[tokio::test(start_paused = true)]
async fn a_prefix_comes_before_what_was_received() {
    let (mut client, mut session) = connect(1000);
    client.sends("\r\n").await;
    assert!(poll(std::pin::pin!(session.read_request())).is_pending());
    // The search for the end has to begin anew.
    session.set_pipelined_prefix(BytesMut::from(&b"GET / HTTP/1.0\r\n"[..]));
    let read = session.read_request().await;
    assert_eq!(read.unwrap(), Some("GET / HTTP/1.0\r\n\r\n".len()));
}

#[tokio::test(start_paused = true)]
async fn idling() {
    let (mut client, mut session) = asked(GET).await;
    assert!(poll(std::pin::pin!(session.idle())).is_pending());
    client.sends("abc").await;
    assert_eq!(session.idle().await.unwrap(), 3);
    drop(client);
    assert_eq!(session.idle().await.unwrap(), 0);
    assert_eq!(session.idle().await.unwrap(), 0);
}

async fn tcp() -> (TcpStream, HttpSession) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (client, accepted) = tokio::join!(
        TcpStream::connect(listener.local_addr().unwrap()),
        listener.accept()
    );
    let stream = TcpLike::from(accepted.unwrap().0);
    (client.unwrap(), HttpSession::new(Box::new(stream)))
}

/// The client must not take half a body for all of it when only the end of the connection tells its end.
#[tokio::test]
async fn a_body_cut_short_is_reset() {
    for shut in [true, false] {
        let (mut client, mut session) = tcp().await;
        client.write_all(b"GET / HTTP/1.0\r\n\r\n").await.unwrap();
        session.read_request().await.unwrap();
        session
            .write_response_header(response(200, &[]))
            .await
            .unwrap();
        session.write_body(b"half").await.unwrap();
        let mut got = [0; 64];
        let mut n = 0;
        while !got[..n].ends_with(b"half") {
            n += client.read(&mut got[n..]).await.unwrap();
        }
        if shut {
            session.shutdown().await;
        }
        // A callback that panics drops the session where it is.
        drop(session);
        let end = client.read(&mut got).await;
        assert_eq!(
            end.unwrap_err().kind(),
            std::io::ErrorKind::ConnectionReset,
            "{shut}"
        );
    }
}

/// A close with unread bytes would make the kernel send a reset, and the client lose its answer.
#[tokio::test]
async fn a_close_lingers() {
    let (mut client, mut session) = tcp().await;
    client.write_all(GET.as_bytes()).await.unwrap();
    session.read_request().await.unwrap();
    client.write_all(GET.as_bytes()).await.unwrap();
    session.set_server_keepalive(None);
    answer(&mut session, "x").await;
    let (kept, got) = tokio::join!(session.reuse(), async {
        let mut got = Vec::new();
        client.read_to_end(&mut got).await.unwrap();
        // The other direction is still read.
        client.write_all(&[b'x'; 1000]).await.unwrap();
        client.shutdown().await.unwrap();
        got
    });
    assert!(kept.unwrap().is_none());
    assert!(got.ends_with(b"\r\n\r\nx"));
}

/// Its time is not up by then, and does not pass.
#[tokio::test(start_paused = true)]
async fn a_close_does_not_read_for_nothing_what_never_ends() {
    let (mut client, stream) = tokio::io::duplex(64 * 1024);
    let mut session = HttpSession::new(Box::new(stream));
    client.write_all(GET.as_bytes()).await.unwrap();
    session.read_request().await.unwrap();
    session.set_server_keepalive(None);
    answer(&mut session, "x").await;
    let sent = async {
        let mut sent = 0;
        while client.write_all(&[b'x'; 1024]).await.is_ok() {
            sent += 1024;
        }
        sent
    };
    let begun = tokio::time::Instant::now();
    let (sent, kept) = tokio::join!(sent, session.reuse());
    assert!(kept.unwrap().is_none());
    assert!((1 << 20..2 << 20).contains(&sent), "{sent}");
    assert_eq!(begun.elapsed().as_secs(), 0);
}
