//! Responses that the application turns down by their heads.

use super::common::*;
use super::pairs::{for_client, pieces, AnyClient, AnyOrigin, CLIENTS, ORIGINS};
use async_trait::async_trait;
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::{Request, Response as HyperResponse};
use pingora_core::upstreams::peer::HttpPeer;
use pingora_core::{Error, ErrorType, Result};
use pingora_http::ResponseHeader;
use pingora_proxy::{ProxyHttp, Session};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;

/// Wants no 503, and refuses each 500.
struct Choosy {
    /// One for each try.
    peers: Vec<HttpPeer>,
    tries: Arc<AtomicUsize>,
}

#[async_trait]
impl ProxyHttp for Choosy {
    type CTX = usize;

    fn new_ctx(&self) -> usize {
        0
    }

    async fn request_filter(&self, session: &mut Session, _: &mut usize) -> Result<bool> {
        if session.get_header("x-buffer").is_some() {
            session.buffer_request_body(1 << 20).await?;
        }
        Ok(false)
    }

    async fn upstream_peer(&self, _: &mut Session, tries: &mut usize) -> Result<Box<HttpPeer>> {
        *tries += 1;
        self.tries.fetch_add(1, Ordering::SeqCst);
        Ok(Box::new(self.peers[*tries - 1].clone()))
    }

    async fn upstream_response_decision(
        &self,
        session: &mut Session,
        response: &ResponseHeader,
        _: &mut usize,
    ) -> Option<Box<Error>> {
        assert!(session.response_written().is_none());
        match response.status.as_u16() {
            503 => {
                let mut e = Error::new_up(ErrorType::HTTPStatus(599));
                e.set_retry(true);
                Some(e)
            }
            500 => Some(Error::new_up(ErrorType::HTTPStatus(418))),
            _ => None,
        }
    }
}

/// Reads a request and answers with this status, and with how long the body was.
fn says(
    status: u16,
) -> impl Fn(Request<Incoming>) -> futures::future::BoxFuture<'static, HyperResponse<Stub>>
       + Clone
       + Send
       + Sync
       + 'static {
    move |request| {
        Box::pin(async move {
            let body = request.into_body().collect().await.unwrap().to_bytes();
            let body = format!("{status}, {}", body.len());
            HyperResponse::builder()
                .status(status)
                .body(whole(body))
                .unwrap()
        })
    }
}

/// A method, the length of a body, whether that is buffered, what the origins answer, how many of them are asked, and
/// what the client gets.
type Row = (
    &'static str,
    usize,
    bool,
    &'static [u16],
    usize,
    &'static str,
);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_try_may_follow_a_response() {
    const LONG: usize = 100 << 10;
    let table: &[Row] = &[
        ("GET", 0, false, &[200, 200], 1, "200, 0"),
        ("GET", 0, false, &[404, 200], 1, "404, 0"),
        ("GET", 0, false, &[503, 200], 2, "200, 0"),
        ("GET", 0, false, &[503, 503, 200], 3, "200, 0"),
        // No try is left.
        ("GET", 0, false, &[503, 503, 503], 3, "503, 0"),
        ("PUT", 1000, false, &[503, 200], 2, "200, 1000"),
        // What was not kept cannot be sent again.
        ("PUT", LONG, false, &[503, 200], 1, "503, 102400"),
        ("PUT", LONG, true, &[503, 503, 200], 3, "200, 102400"),
        // It may have been processed.
        ("POST", 1000, false, &[503, 200], 1, "503, 1000"),
        ("POST", LONG, true, &[503, 200], 1, "503, 102400"),
        // Refused, and not in favour of another one.
        ("GET", 0, false, &[500, 200], 1, ""),
        ("GET", 0, false, &[503, 500], 2, ""),
    ];
    for downstream in CLIENTS {
        for upstream in ORIGINS {
            for (method, length, buffered, statuses, tried, expected) in table {
                let case =
                    format!("{method} {length} {statuses:?}, {downstream:?} to {upstream:?}");
                let start = |status: &u16| AnyOrigin::start(upstream, says(*status));
                let origins: Vec<AnyOrigin> = statuses.iter().map(start).collect();
                let tries = Arc::default();
                let mut setup = for_client(downstream);
                setup.conf.max_retries = 3;
                let app = Choosy {
                    peers: origins.iter().map(AnyOrigin::peer).collect(),
                    tries: Arc::clone(&tries),
                };
                let proxy = Proxy::start_with(setup, app);
                let mut client = AnyClient::connect(downstream, &proxy).await;
                let mut asks = request(method, "/", "");
                if *length > 0 {
                    *asks.body_mut() = pieces(&Bytes::from(vec![b'x'; *length]));
                }
                if *buffered {
                    asks.headers_mut().insert("x-buffer", "1".parse().unwrap());
                }
                let response = client.send(asks).await;
                let status = response.status().as_u16();
                let body = response.into_body().collect().await.unwrap().to_bytes();
                let body = String::from_utf8(body.to_vec()).unwrap();
                assert_eq!(body, *expected, "{case}");
                let expected = expected.split(',').next().unwrap().parse();
                assert_eq!(status, expected.unwrap_or(418), "{case}");
                assert_eq!(tries.load(Ordering::SeqCst), *tried, "{case}");
            }
        }
    }
}
