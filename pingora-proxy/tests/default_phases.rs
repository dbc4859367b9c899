//! What the phases of [`ProxyHttp`] do that an application leaves alone.

#![allow(clippy::unwrap_used, missing_docs)]

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::{BoxFuture, FutureExt};
use http::HeaderMap;
use pingora_cache::storage::PurgeAction;
use pingora_cache::{NoCacheReason, RespCacheable};
use pingora_core::protocols::l4::stream::Stream;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_error::{Error, ErrorSource, ErrorType, Result, RetryType};
use pingora_http::{RequestHeader, ResponseHeader};
use pingora_proxy::{ProxyHttp, Session};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

struct Required;

#[async_trait]
impl ProxyHttp for Required {
    type CTX = ();

    fn new_ctx(&self) -> Self::CTX {}

    async fn upstream_peer(
        &self,
        _session: &mut Session,
        _ctx: &mut Self::CTX,
    ) -> Result<Box<HttpPeer>> {
        Ok(Box::new(HttpPeer::new("127.0.0.1:1", false, String::new())))
    }
}

/// A session that has read `request`, and the client's end of its connection.
async fn session(request: &str) -> (Session, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut client = TcpStream::connect(listener.local_addr().unwrap())
        .await
        .unwrap();
    client.write_all(request.as_bytes()).await.unwrap();
    let (accepted, _) = listener.accept().await.unwrap();
    let mut session = Session::new_h1(Box::new(Stream::from(accepted)));
    assert!(session.read_request().await.unwrap());
    (session, client)
}

/// All that the client receives once the session is gone.
async fn received(session: Session, mut client: TcpStream) -> String {
    drop(session);
    let mut bytes = Vec::new();
    client.read_to_end(&mut bytes).await.unwrap();
    String::from_utf8(bytes).unwrap()
}

const GET: &str = "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n";

/// What `future` is ready with; a box of a type without size was no allocation.
fn answer<T>(future: BoxFuture<'_, T>) -> T {
    assert_eq!(size_of_val(&*future), 0);
    future.now_or_never().unwrap()
}

#[tokio::test]
async fn defaults_are_ready_and_without_size() {
    let proxy = Required;
    let (mut session, _client) = session(GET).await;
    let peer = HttpPeer::new("127.0.0.1:1", false, String::new());
    let mut resp = ResponseHeader::build(200, None).unwrap();
    let mut req = RequestHeader::build("GET", b"/", None).unwrap();
    let mut body = Some(Bytes::from_static(b"body"));
    let mut trailers = HeaderMap::new();

    answer(proxy.early_request_filter(&mut session, &mut ())).unwrap();
    assert!(!answer(proxy.request_filter(&mut session, &mut ())).unwrap());
    assert!(answer(proxy.proxy_upstream_filter(&mut session, &mut ())).unwrap());
    answer(proxy.connected_to_upstream(&mut session, true, &peer, 0, None, &mut ())).unwrap();
    answer(proxy.upstream_request_filter(&mut session, &mut req, &mut ())).unwrap();
    answer(proxy.request_body_filter(&mut session, &mut body, true, &mut ())).unwrap();
    #[cfg(feature = "upstream_modules")]
    answer(proxy.adjust_upstream_modules(&mut session, &resp, false, &mut ())).unwrap();
    answer(proxy.upstream_response_filter(&mut session, &mut resp, &mut ())).unwrap();
    assert!(answer(proxy.upstream_response_decision(&mut session, &resp, &mut ())).is_none());
    answer(proxy.response_filter(&mut session, &mut resp, &mut ())).unwrap();
    assert_eq!(
        answer(proxy.response_trailer_filter(&mut session, &mut trailers, &mut ())).unwrap(),
        None
    );
    let (sender, _messages) = tokio::sync::mpsc::channel(1);
    answer(proxy.custom_forwarding(&mut session, &mut (), None, sender)).unwrap();
    answer(proxy.logging(&mut session, None, &mut ()));
    assert_eq!(body.as_deref(), Some(&b"body"[..]));
}

#[tokio::test]
async fn defaults_of_the_other_phases() {
    let proxy = Required;
    let (mut session, _client) = session(GET).await;
    let resp = ResponseHeader::build(200, None).unwrap();
    let message = Bytes::from_static(b"message");

    let passed = proxy
        .downstream_custom_message_proxy_filter(&mut session, message.clone(), &mut (), false)
        .await;
    assert_eq!(passed.unwrap(), Some(message.clone()));
    let passed = proxy
        .upstream_custom_message_proxy_filter(&mut session, message.clone(), &mut (), true)
        .await;
    assert_eq!(passed.unwrap(), Some(message));

    let no_key = proxy.cache_key_callback(&session, &mut ()).unwrap_err();
    assert_eq!(*no_key.etype(), ErrorType::InternalError);
    assert_eq!(proxy.purge_action(&session, &()), PurgeAction::Delete);
    assert!(!proxy.is_purge(&session, &()));
    assert!(!proxy.allow_spawning_subrequest(&session, &()));
    assert!(proxy.persist_connection_context(&session, &()).is_none());
    assert!(!proxy
        .cache_not_modified_filter(&session, &resp, &mut ())
        .unwrap());
    let cacheable = proxy
        .response_cache_filter(&session, &resp, &mut ())
        .unwrap();
    assert!(matches!(
        cacheable,
        RespCacheable::Uncacheable(NoCacheReason::Custom("default"))
    ));

    let up = Error::new_up(ErrorType::ReadError);
    let down = Error::new_down(ErrorType::ReadError);
    assert!(proxy.should_serve_stale(&mut session, &mut (), Some(&up)));
    assert!(!proxy.should_serve_stale(&mut session, &mut (), Some(&down)));
    assert!(!proxy.should_serve_stale(&mut session, &mut (), None));
}

#[tokio::test]
async fn only_what_can_be_repeated_is_retried() {
    let proxy = Required;
    let peer = HttpPeer::new("127.0.0.1:1", false, String::new());
    for (method, marked, reused, retry) in [
        ("GET", RetryType::ReusedOnly, true, true),
        ("GET", RetryType::ReusedOnly, false, false),
        ("GET", RetryType::Decided(true), false, true),
        ("GET", RetryType::Decided(false), true, false),
        ("POST", RetryType::ReusedOnly, true, false),
        ("POST", RetryType::Decided(true), true, false),
    ] {
        let request = format!("{method} / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 0\r\n\r\n");
        let (mut session, _client) = session(&request).await;
        let mut e = Error::new_up(ErrorType::ConnectionClosed);
        e.retry = marked;
        let e = proxy.error_while_proxy(&peer, &mut session, e, &mut (), reused);
        assert_eq!(e.retry(), retry, "{method} {marked:?} reused: {reused}");
        assert!(e.to_string().contains("Peer: "), "{e}");
        assert_eq!(*e.esource(), ErrorSource::Upstream);
    }
}

#[tokio::test]
async fn a_failure_is_answered_by_whose_fault_it_is() {
    let proxy = Required;
    for (e, status) in [
        (Error::new_up(ErrorType::ReadTimedout), 504),
        (Error::new_up(ErrorType::ConnectRefused), 502),
        (Error::new_down(ErrorType::ReadTimedout), 408),
        (Error::new(ErrorType::HTTPStatus(429)), 429),
        (Error::new_in(ErrorType::InternalError), 500),
        (Error::new_down(ErrorType::ConnectionClosed), 0),
    ] {
        let (mut session, client) = session(GET).await;
        let answer = proxy.fail_to_proxy(&mut session, &e, &mut ()).await;
        assert_eq!(answer.error_code, status);
        assert!(!answer.can_reuse_downstream);
        let response = received(session, client).await;
        if status == 0 {
            assert_eq!(response, "");
        } else {
            assert!(
                response.starts_with(&format!("HTTP/1.1 {status} ")),
                "{response}"
            );
            assert!(response
                .to_ascii_lowercase()
                .contains("\r\nconnection: close\r\n"));
        }
    }
}

#[tokio::test]
async fn a_failure_after_the_header_writes_no_second_one() {
    let proxy = Required;
    let (mut session, client) = session(GET).await;
    let mut resp = ResponseHeader::build(200, None).unwrap();
    resp.insert_header("Content-Length", "3").unwrap();
    session
        .write_response_header(Box::new(resp), false)
        .await
        .unwrap();
    let e = Error::new_up(ErrorType::ReadError);
    assert_eq!(
        proxy
            .fail_to_proxy(&mut session, &e, &mut ())
            .await
            .error_code,
        502
    );
    let response = received(session, client).await;
    assert_eq!(response.matches("HTTP/1.1 ").count(), 1, "{response}");
}
