//! The response.

use tokio::time::Instant;

use super::*;

/// The messages of a response that the parent receives, and whether writing them failed.
async fn written(ask: &str, tasks: Vec<HttpTask>) -> (Vec<String>, Option<ErrorType>) {
    let (mut session, handle) = asked(ask).await;
    let mut failed = None;
    let write = async {
        for task in tasks {
            if let Err(e) = session.response_duplex_vec(vec![task]).await {
                failed = Some(e.etype.clone());
                break;
            }
        }
        session
    };
    let mut rx = handle.rx;
    let receive = async {
        let mut all = Vec::new();
        while let Some(task) = rx.recv().await {
            all.push(told(&task));
        }
        all
    };
    let write = async { drop(write.await) };
    let ((), all) = tokio::join!(write, receive);
    (all, failed)
}

fn heading(status: u16, fields: &[(&'static str, &'static str)], end: bool) -> HttpTask {
    HttpTask::Header(head(status, fields), end)
}

const LENGTH_3: [(&str, &str); 1] = [("content-length", "3")];
const HEAD: &str = "HEAD / HTTP/1.1\r\nHost: a\r\n\r\n";

#[tokio::test]
async fn how_responses_are_framed() {
    let trailers = || HttpTask::Trailer(Some(Box::default()));
    type Case = (
        &'static str,
        Vec<HttpTask>,
        &'static [&'static str],
        Option<ErrorType>,
    );
    #[rustfmt::skip]
    let cases: Vec<Case> = vec![
        (GET, vec![heading(200, &[], true)], &["200."], None),
        (GET, vec![heading(200, &[], false), piece("abc", true)], &["200", "body abc."], None),
        (GET, vec![heading(200, &[], false), piece("abc", false), HttpTask::Done],
            &["200", "body abc", "body -."], None),
        (GET, vec![heading(200, &[], false), piece("abc", false), trailers()],
            &["200", "body abc", "Trailer"], None),
        (GET, vec![heading(200, &LENGTH_3, false), piece("abc", true)], &["200", "body abc."], None),
        // What exceeds the length is no part of the body.
        (GET, vec![heading(200, &LENGTH_3, false), piece("abcd", true)], &["200", "body abc."], None),
        // One that is too short never looks whole.
        (GET, vec![heading(200, &LENGTH_3, false), piece("ab", true)], &["200"], Some(WriteError)),
        (GET, vec![heading(200, &LENGTH_3, false), piece("ab", false), HttpTask::Done],
            &["200", "body ab"], Some(WriteError)),
        (GET, vec![heading(200, &LENGTH_3, true)], &[], Some(WriteError)),
        (GET, vec![heading(200, &[("content-length", "0")], false), HttpTask::Done], &["200."], None),
        (GET, vec![heading(204, &LENGTH_3, false), piece("abc", true)], &["204."], None),
        (GET, vec![heading(304, &LENGTH_3, false), piece("abc", true)], &["304."], None),
        (HEAD, vec![heading(200, &LENGTH_3, true)], &["200."], None),
        (HEAD, vec![heading(200, &LENGTH_3, false), piece("abc", true)], &["200."], None),
        (GET, vec![heading(103, &[], false), heading(200, &[], true), heading(103, &[], false)],
            &["103", "200."], None),
        (GET, vec![heading(200, &[], false), heading(404, &[], false), HttpTask::Done],
            &["200", "body -."], None),
        (GET, vec![piece("abc", false)], &[], Some(InternalError)),
        (GET, vec![heading(200, &[], false), HttpTask::Failed(Error::new(ReadError))],
            &["200"], Some(ReadError)),
    ];
    for (i, (ask, tasks, wanted, failed)) in cases.into_iter().enumerate() {
        assert_eq!(
            written(ask, tasks).await,
            (wanted.iter().map(|s| s.to_string()).collect(), failed),
            "{i}"
        );
    }
}

#[tokio::test]
async fn each_way_to_write() {
    let (mut session, mut handle) = HttpSession::new_from_session(&parent(GET).await);
    session.write_continue_response().await.unwrap();
    session
        .write_response_header_ref(&head(200, &[]))
        .await
        .unwrap();
    assert_eq!(session.response_written().unwrap().status, StatusCode::OK);
    assert_eq!(
        session.write_body(Bytes::from_static(b"ab")).await.unwrap(),
        Some(2)
    );
    assert_eq!(session.body_bytes_sent(), 2);
    session.write_trailers(Some(Box::default())).await.unwrap();
    assert_eq!(session.finish().await.unwrap(), None);
    assert_eq!(
        session.write_body(Bytes::from_static(b"c")).await.unwrap(),
        None
    );
    for wanted in ["100", "200", "body ab", "Trailer"] {
        assert_eq!(told(&handle.rx.recv().await.unwrap()), wanted);
    }

    let (mut session, mut handle) = HttpSession::new_from_session(&parent(GET).await);
    assert!(!session.proxy_tasks_enabled());
    session.set_proxy_tasks_enabled(true);
    assert!(session.proxy_tasks_enabled());
    session.send_proxy_task(heading(200, &[], false));
    session.send_proxy_task(piece("ab", true));
    assert!(session.has_pending_proxy_tasks() && session.queued() > 2);
    assert!(session.has_whole_response());
    assert!(session.write_proxy_tasks().await.unwrap());
    assert!(!session.has_pending_proxy_tasks());
    assert_eq!(session.queued(), 0);
    session.send_proxy_task(HttpTask::Failed(Error::new(ReadError)));
    assert_eq!(etype(session.write_proxy_tasks().await), ReadError);
    for wanted in ["200", "body ab."] {
        assert_eq!(told(&handle.rx.recv().await.unwrap()), wanted);
    }
}

#[tokio::test]
async fn interim_answers_may_be_left_out() {
    let (mut session, handle) = asked(GET).await;
    session.set_ignore_info_resp(true);
    let tasks = vec![heading(103, &[], false), heading(200, &[], true)];
    session.response_duplex_vec(tasks).await.unwrap();
    assert_eq!(received(session, handle).await, ["200."]);
}

#[tokio::test(start_paused = true)]
async fn a_parent_that_takes_nothing_stops_it() {
    for timeout in [Some(SHORT), None] {
        let (mut session, mut handle) = asked(GET).await;
        session.set_write_timeout(timeout);
        assert_eq!(session.get_write_timeout(), timeout);
        session.write_response_header(head(200, &[])).await.unwrap();
        let mut sent = 1;
        let begun = Instant::now();
        let write = async {
            loop {
                let body = Bytes::from_static(b"x");
                if let Err(e) = session.write_response_body(body, false).await {
                    return e.etype.clone();
                }
                sent += 1;
            }
        };
        let failed = tokio::time::timeout(Duration::from_secs(3600), write).await;
        assert_eq!(sent, MESSAGES);
        match timeout {
            Some(_) => {
                assert_eq!(failed.unwrap(), WriteTimedout);
                assert_eq!(begun.elapsed(), SHORT);
            }
            None => {
                assert!(failed.is_err(), "there is no limit but what is set");
                // What was queued leaves when there is room for it, and nothing is lost.
                assert_eq!(told(&handle.rx.recv().await.unwrap()), "200");
                session
                    .finish_body()
                    .await
                    .unwrap_or_else(|e| panic!("{e}"));
                let rest = received(session, handle).await;
                assert_eq!(rest, ["body x", "body x", "body x", "body x."]);
            }
        }
    }
}

#[tokio::test]
async fn a_parent_that_has_left() {
    let (mut session, handle) = asked(GET).await;
    drop(handle);
    let write = session.write_response_header(head(200, &[])).await;
    assert_eq!(etype(write), WriteError);
    let more = session
        .write_response_body(Bytes::from_static(b"x"), true)
        .await;
    assert_eq!(etype(more), WriteError);
}

#[tokio::test]
async fn what_is_given_up_has_no_end() {
    let (mut session, handle) = asked(GET).await;
    session.write_response_header(head(200, &[])).await.unwrap();
    session.send_downstream_proxy_task(piece("abc", true));
    session.shutdown().await;
    assert_eq!(received(session, handle).await, ["200"]);
}
