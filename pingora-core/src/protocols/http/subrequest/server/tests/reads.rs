//! The request.

use tokio::time::Instant;

use super::*;
use crate::exchange::ServerHooks;

const COUNTED: &str = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\n";
const CHUNKED: &str = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";

/// All of the body, or the error.
async fn read(session: &mut Session) -> Result<String> {
    let mut all = String::new();
    while let Some(data) = session.read_request_body().await? {
        all.push_str(std::str::from_utf8(&data).unwrap());
    }
    Ok(all)
}

#[tokio::test]
async fn a_body_comes_when_it_is_asked_for() {
    for ask in [COUNTED, CHUNKED] {
        let (mut session, mut handle) = asked(ask).await;
        assert!(!session.is_body_empty() && !session.is_body_done());
        session.enable_retry_buffering();
        assert!(handle.subreq_wants_body.try_recv().is_err());
        let send = async {
            handle.subreq_wants_body.await.unwrap();
            for task in [
                piece("abc", false),
                HttpTask::Body(None, false),
                piece("def", true),
            ] {
                handle.tx.send(task).await.unwrap();
            }
        };
        let (body, ()) = tokio::join!(read(&mut session), send);
        assert_eq!(body.unwrap(), "abcdef");
        assert!(session.is_body_done() && !session.is_body_empty());
        assert_eq!(session.body_bytes_read(), 6);
        assert_eq!(session.get_retry_buffer().unwrap(), "abcdef");
        assert!(!session.retry_buffer_truncated());
    }
}

#[tokio::test]
async fn how_a_body_ends() {
    let trailers = || HttpTask::Trailer(Some(Box::default()));
    let failed = || HttpTask::Failed(Error::new(H2Error));
    let answer = || HttpTask::Header(head(200, &[]), false);
    type Case = (
        &'static str,
        Vec<HttpTask>,
        std::result::Result<&'static str, ErrorType>,
    );
    let cases: [Case; 11] = [
        (COUNTED, vec![piece("abcdef", false)], Ok("abcdef")),
        (
            COUNTED,
            vec![piece("abc", false), piece("def", true)],
            Ok("abcdef"),
        ),
        (COUNTED, vec![piece("abc", true)], Err(ConnectionClosed)),
        (COUNTED, vec![HttpTask::Done], Err(ConnectionClosed)),
        (COUNTED, vec![piece("abc", false)], Err(ConnectionClosed)),
        (COUNTED, vec![piece("abcdefg", true)], Err(ReadError)),
        (
            CHUNKED,
            vec![piece("abc", false), HttpTask::Done],
            Ok("abc"),
        ),
        (CHUNKED, vec![piece("abc", false), trailers()], Ok("abc")),
        (CHUNKED, vec![piece("abc", false)], Err(ConnectionClosed)),
        (CHUNKED, vec![failed()], Err(H2Error)),
        (CHUNKED, vec![answer()], Err(InternalError)),
    ];
    for (i, (ask, tasks, wanted)) in cases.into_iter().enumerate() {
        let (mut session, handle) = asked(ask).await;
        for task in tasks {
            handle.tx.send(task).await.unwrap();
        }
        drop(handle.tx);
        let got = read(&mut session).await.map_err(|e| e.etype.clone());
        assert_eq!(got, wanted.map(String::from), "{i}");
        assert!(session.is_body_done());
        // A failure stays one.
        assert_eq!(read(&mut session).await.is_err(), got.is_err(), "{i}");
    }
}

#[tokio::test]
async fn trailers_are_kept() {
    let (mut session, handle) = asked(CHUNKED).await;
    let mut trailers = HeaderMap::new();
    trailers.insert("x-sum", "1".parse().unwrap());
    handle
        .tx
        .send(HttpTask::Trailer(Some(Box::new(trailers))))
        .await
        .unwrap();
    assert_eq!(read(&mut session).await.unwrap(), "");
    assert_eq!(session.request_trailers().unwrap()["x-sum"], "1");
}

#[tokio::test]
async fn without_its_fields_there_is_no_body() {
    for ask in [COUNTED, CHUNKED] {
        let (mut session, mut handle) = HttpSession::new_from_session(&parent(ask).await);
        session.clear_request_body_headers();
        session.read_request().await.unwrap();
        assert!(session.is_body_empty() && session.is_body_done());
        assert_eq!(session.read_body_bytes().await.unwrap(), None);
        assert!(handle.subreq_wants_body.try_recv().is_err());
        assert_eq!(session.get_header("content-length"), None);
        assert_eq!(session.get_header("transfer-encoding"), None);
    }
    // Also when the question was answered already.
    let (mut session, _handle) = HttpSession::new_from_session(&parent(COUNTED).await);
    assert!(!session.is_body_done());
    session.clear_request_body_headers();
    assert!(session.is_body_done());
}

#[tokio::test]
async fn fields_that_contradict_each_other() {
    let (mut session, _handle) = HttpSession::new_from_session(&parent(COUNTED).await);
    let request = session.req_header_mut();
    request
        .insert_header("transfer-encoding", "chunked")
        .unwrap();
    assert_eq!(etype(session.validate_request()), InvalidHTTPHeader);
    assert_eq!(etype(session.read_request().await), InvalidHTTPHeader);
    assert_eq!(etype(session.read_body_bytes().await), ReadError);
}

#[tokio::test]
async fn a_long_body_is_not_kept() {
    let (mut session, handle) = asked(CHUNKED).await;
    session.enable_retry_buffering();
    let long = Bytes::from(vec![0; LIMITS.retry_buffer_bytes + 1]);
    handle
        .tx
        .send(HttpTask::Body(Some(long), true))
        .await
        .unwrap();
    while session.read_request_body().await.unwrap().is_some() {}
    assert!(session.retry_buffer_truncated());
    assert_eq!(session.get_retry_buffer(), None);
}

#[tokio::test(start_paused = true)]
async fn a_parent_that_sends_nothing() {
    let (mut session, _handle) = asked(COUNTED).await;
    session.set_read_timeout(Some(SHORT));
    assert_eq!(session.get_read_timeout(), Some(SHORT));
    let begun = Instant::now();
    assert_eq!(etype(read(&mut session).await), ReadTimedout);
    assert_eq!(begun.elapsed().as_secs(), 3);

    // A piece gives it the whole time again.
    let (mut session, handle) = asked(COUNTED).await;
    session.set_read_timeout(Some(SHORT));
    let send = async {
        tokio::time::sleep(SHORT - Duration::from_secs(1)).await;
        handle.tx.send(piece("abc", false)).await.unwrap();
    };
    let begun = Instant::now();
    let (body, ()) = tokio::join!(read(&mut session), send);
    assert_eq!(etype(body), ReadTimedout);
    assert_eq!(begun.elapsed().as_secs(), 5);

    let (mut session, _handle) = asked(COUNTED).await;
    let hour = tokio::time::timeout(Duration::from_secs(3600), read(&mut session));
    assert!(hour.await.is_err(), "there is no limit but what is set");
}

#[tokio::test(start_paused = true)]
async fn the_rest_of_a_body() {
    for (timeout, seconds) in [(Some(SHORT), 3), (None, 5)] {
        let (mut session, handle) = asked(COUNTED).await;
        session.set_total_drain_timeout(timeout);
        assert_eq!(session.get_total_drain_timeout(), timeout);
        handle.tx.send(piece("abc", false)).await.unwrap();
        session.read_request_body().await.unwrap();
        let begun = Instant::now();
        assert_eq!(etype(session.drain_request_body().await), ReadTimedout);
        assert_eq!(begun.elapsed().as_secs(), seconds);
    }
    // One that nobody asked for need not come.
    let (mut session, mut handle) = asked(COUNTED).await;
    session.drain_request_body().await.unwrap();
    assert!(handle.subreq_wants_body.try_recv().is_err());
    // One that comes is read, up to a limit.
    let (mut session, handle) = asked(CHUNKED).await;
    let send = async {
        for _ in 0..3 {
            let data = Bytes::from(vec![0; LIMITS.client_drain_bytes / 2 + 1]);
            let _ = handle.tx.send(HttpTask::Body(Some(data), false)).await;
        }
    };
    let drain = async {
        session.read_request_body().await.unwrap();
        session.drain_request_body().await
    };
    assert_eq!(etype(tokio::join!(drain, send).0), ReadError);
}

#[tokio::test(start_paused = true)]
async fn a_parent_that_leaves() {
    let (mut session, handle) = asked(GET).await;
    let wait = tokio::time::timeout(SHORT, session.read_body_or_idle(true));
    assert!(wait.await.is_err());
    let leave = async {
        tokio::time::sleep(SHORT).await;
        drop(handle);
    };
    let (gone, ()) = tokio::join!(session.read_body_or_idle(false), leave);
    assert_eq!(etype(gone), ConnectionClosed);

    let (mut session, handle) = asked(COUNTED).await;
    handle.tx.send(piece("abcdef", true)).await.unwrap();
    let read = session.read_body_or_idle(false).await.unwrap();
    assert_eq!(read.unwrap(), "abcdef");
}

#[tokio::test]
async fn idle_tells_what_comes_unasked() {
    let (mut session, handle) = HttpSession::new_from_session(&parent(GET).await);
    handle.tx.send(piece("x", true)).await.unwrap();
    assert_eq!(told(&session.idle().await.unwrap()), "body x.");
    drop(handle);
    assert_eq!(etype(session.idle().await), ConnectionClosed);
}
