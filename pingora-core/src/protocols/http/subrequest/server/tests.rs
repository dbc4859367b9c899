//! Subrequests without sockets, on a clock that jumps.

use std::sync::Arc;

use http::{Request, StatusCode, Version};
use pingora_error::ErrorType::{self, *};
use tokio::io::{duplex, AsyncWriteExt};

use super::*;
use crate::protocols::http::v2::server::{handshake, H2Accept, HttpSession as SessionV2};

mod reads;
mod writes;

const SHORT: Duration = Duration::from_secs(3);
const GET: &str = "GET /a HTTP/1.1\r\nHost: a.test\r\nX-Case: 1\r\n\r\n";

/// A request of HTTP/1.1.
async fn parent(head: &str) -> Session {
    let (mut near, far) = duplex(4096);
    near.write_all(head.as_bytes()).await.unwrap();
    let mut session = Session::new_http1(Box::new(far));
    assert!(session.read_request().await.unwrap());
    session
}

/// A subrequest of it whose head is settled.
async fn asked(head: &str) -> (Session, SubrequestHandle) {
    let (session, handle) = HttpSession::new_from_session(&parent(head).await);
    let mut session = Session::new_subrequest(session);
    assert!(session.read_request().await.unwrap());
    (session, handle)
}

/// A subrequest of a request of HTTP/2.
async fn asked_by_h2(request: Request<()>, bodiless: bool) -> HttpSession {
    let (near, far) = duplex(1 << 16);
    let serve = async {
        let mut conn = handshake(Box::new(far), None).await.unwrap();
        let accepted = SessionV2::from_h2_conn(&mut conn, Arc::new(Digest::default())).await;
        let Ok(Some(H2Accept::Session(session))) = accepted else {
            panic!("no request");
        };
        HttpSession::new_from_session(&Session::new_http2(session)).0
    };
    let ask = async {
        let (mut client, connection) = h2::client::handshake(near).await.unwrap();
        let sent = client.send_request(request, bodiless).unwrap();
        tokio::spawn(async { drop(connection.await) });
        (client, sent)
    };
    tokio::join!(serve, ask).0
}

fn head(status: u16, fields: &[(&'static str, &'static str)]) -> Box<ResponseHeader> {
    let mut header = ResponseHeader::build(status, None).unwrap();
    for (name, value) in fields {
        header.append_header(*name, *value).unwrap();
    }
    Box::new(header)
}

fn piece(data: &'static str, end: bool) -> HttpTask {
    HttpTask::Body(Some(Bytes::from_static(data.as_bytes())), end)
}

/// What a message says, in a word.
fn told(task: &HttpTask) -> String {
    let body = |name: &str, data: &Option<Bytes>, end: &bool| {
        let data = data.as_deref().map_or("-".into(), String::from_utf8_lossy);
        format!("{name} {data}{}", if *end { "." } else { "" })
    };
    match task {
        HttpTask::Header(header, end) => {
            format!("{}{}", header.status.as_u16(), if *end { "." } else { "" })
        }
        HttpTask::Body(data, end) => body("body", data, end),
        HttpTask::UpgradedBody(data, end) => body("raw", data, end),
        other => other.type_str().to_string(),
    }
}

/// All that is received until the session ends.
async fn received(session: Session, mut handle: SubrequestHandle) -> Vec<String> {
    drop(session);
    let mut all = Vec::new();
    while let Some(task) = handle.rx.recv().await {
        all.push(told(&task));
    }
    all
}

fn etype<T>(result: Result<T>) -> ErrorType {
    result.map(|_| ()).expect_err("it succeeds").etype.clone()
}

#[tokio::test]
async fn the_head_is_a_copy() {
    let mut parent = parent(GET).await;
    let digest = parent.digest_mut().unwrap();
    digest.timing_digest.push(None);
    let layers = digest.timing_digest.len();
    let (mut session, _handle) = HttpSession::new_from_session(&parent);
    session.req_header_mut().set_raw_path(b"/b").unwrap();
    let digest = session.digest_mut().unwrap();
    assert_eq!(digest.timing_digest.len(), layers);
    digest.timing_digest.push(None);
    assert_eq!(parent.digest().unwrap().timing_digest.len(), layers);
    assert_eq!(parent.req_header().raw_path(), b"/a");
    assert_eq!(session.get_header_bytes("x-case"), b"1");
    assert_eq!(session.get_header("no"), None);
    let raw = "GET /b HTTP/1.1\r\nHost: a.test\r\nX-Case: 1\r\n\r\n";
    assert_eq!(session.get_headers_raw_bytes(), raw);
    assert_eq!(
        session.request_summary(),
        "GET /b, Host: a.test (subrequest)"
    );
    assert!(session.validate_request().is_ok());
    assert_eq!(session.client_addr(), None);
    assert_eq!(session.server_addr(), None);
    assert_eq!(session.read_request().await.unwrap(), Some(0));

    let mut session = Session::new_subrequest(session);
    assert!(session.is_subrequest() && !session.is_http2() && !session.is_custom());
    assert_eq!(session.session_type(), "subrequest");
    assert!(session.as_subrequest().is_some() && session.as_subrequest_mut().is_some());
    assert!(parent.as_subrequest().is_none() && !parent.is_subrequest());
    session.set_keepalive(Some(60));
    assert_eq!(session.get_keepalive(), None);
    // One of its own has the same head.
    let (nested, _) = HttpSession::new_from_session(&session);
    assert_eq!(nested.req_header().raw_path(), b"/b");
}

#[tokio::test]
async fn a_head_of_http2_takes_the_form_of_http1() {
    let request = || Request::post("http://a.test/p?q").header("cookie", "a=1");
    let two = request().header("cookie", "b=2").body(()).unwrap();
    let mut session = asked_by_h2(two, false).await;
    assert_eq!(session.req_header().version, Version::HTTP_11);
    let raw = session.get_headers_raw_bytes();
    let raw = std::str::from_utf8(&raw).unwrap().to_lowercase();
    assert!(raw.starts_with("post /p?q http/1.1\r\n"), "{raw}");
    for line in [
        "host: a.test",
        "cookie: a=1; b=2",
        "transfer-encoding: chunked",
    ] {
        assert!(raw.contains(&format!("{line}\r\n")), "{raw}");
    }
    assert!(session.validate_request().is_ok());
    assert!(!session.is_body_empty());

    let mut none = asked_by_h2(request().body(()).unwrap(), true).await;
    assert!(none.is_body_empty() && none.is_body_done());
    let counted = request().header("content-length", "3").body(()).unwrap();
    let counted = asked_by_h2(counted, false).await;
    assert_eq!(counted.get_header("transfer-encoding"), None);
    assert_eq!(counted.get_header_bytes("content-length"), b"3");
}

#[tokio::test(start_paused = true)]
async fn whoever_drains_lets_it_end() {
    let (mut session, handle) = asked(GET).await;
    let drained = handle.drain_tasks();
    session.write_response_header(head(200, &[])).await.unwrap();
    for _ in 0..100 {
        let written = session.write_response_body(Bytes::from_static(b"x"), false);
        written.await.unwrap();
    }
    session.finish().await.unwrap();
    drained.await.unwrap();
}

#[tokio::test]
async fn a_failure_is_told_after_the_last_message() {
    let (mut session, mut handle) = asked(GET).await;
    session.write_response_header(head(200, &[])).await.unwrap();
    session.on_proxy_failure(Error::new(ConnectRefused));
    session.on_proxy_failure(Error::new(InternalError));
    drop(session);
    assert_eq!(told(&handle.rx.recv().await.unwrap()), "200");
    assert!(handle.rx.recv().await.is_none());
    let e = handle.subreq_proxy_error.await.unwrap();
    assert_eq!(e.etype, ConnectRefused);

    let (session, handle) = asked(GET).await;
    drop(session);
    assert!(handle.subreq_proxy_error.await.is_err());
}

#[tokio::test]
async fn an_upgrade() {
    let ask = "GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n";
    let (mut session, handle) = asked(ask).await;
    assert!(session.is_upgrade_req() && !session.was_upgraded());
    assert_eq!(session.is_upgrade(&head(200, &[])), Some(false));
    assert_eq!(session.is_upgrade(&head(101, &[])), Some(true));
    assert!(session.is_body_empty() && session.is_body_done());
    let switching = HttpTask::Header(head(101, &[("content-length", "3")]), false);
    session.response_duplex_vec(vec![switching]).await.unwrap();
    assert!(session.was_upgraded() && !session.is_body_done());
    // The end of the body before it.
    handle.tx.send(HttpTask::Body(None, true)).await.unwrap();
    handle.tx.send(piece("in", false)).await.unwrap();
    handle
        .tx
        .send(HttpTask::UpgradedBody(None, true))
        .await
        .unwrap();
    assert_eq!(session.read_request_body().await.unwrap().unwrap(), "in");
    assert_eq!(session.read_request_body().await.unwrap(), None);
    assert!(session.is_body_done());
    let out = vec![HttpTask::UpgradedBody(Some(Bytes::from("out")), false)];
    session.response_duplex_vec(out).await.unwrap();
    session.finish_body().await.unwrap();
    assert_eq!(
        received(session, handle).await,
        ["101", "raw out", "raw -."]
    );

    let (mut session, _handle) = asked(GET).await;
    assert_eq!(session.is_upgrade(&head(101, &[])), None);
    let unasked = session.write_response_header(head(101, &[])).await;
    assert_eq!(etype(unasked), InternalError);
}

#[test]
fn sessions_stay_small_and_go_anywhere() {
    fn goes_anywhere<T: Send + Sync + Unpin>() {}
    goes_anywhere::<HttpSession>();
    goes_anywhere::<SubrequestHandle>();
    assert_eq!(size_of::<HttpSession>(), size_of::<usize>());
}
