//! Request bodies that are read before an upstream is chosen.

use super::common::*;
use super::pairs::{any_client, pieces, streamed, AnyClient, AnyOrigin, VERSIONS};
use async_trait::async_trait;
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Frame, Incoming};
use hyper::header::HeaderMap;
use hyper::{Request, Response as HyperResponse};
use pingora_core::upstreams::peer::HttpPeer;
use pingora_core::Result;
use pingora_proxy::{ProxyHttp, Session};

/// Says which origin it is, and what it got: the length of the body, and a trailer.
fn says(
    name: &'static str,
) -> impl Fn(Request<Incoming>) -> futures::future::BoxFuture<'static, HyperResponse<Stub>>
       + Clone
       + Send
       + Sync
       + 'static {
    move |request| {
        Box::pin(async move {
            assert!(!request.headers().contains_key("expect"));
            let body = request.into_body().collect().await.unwrap();
            let trailer = body.trailers().map(|t| t["x-sum"].to_str().unwrap());
            let trailer = trailer.unwrap_or("none").to_string();
            let length = body.to_bytes().len();
            HyperResponse::new(whole(format!("{name} {length} {trailer}")))
        })
    }
}

/// A body that begins with `b` goes to the second peer. How it is read is said by the path.
struct ByBody(Vec<HttpPeer>);

const LIMIT: usize = 200 << 10;

#[async_trait]
impl ProxyHttp for ByBody {
    type CTX = ();

    fn new_ctx(&self) {}

    async fn request_filter(&self, session: &mut Session, _: &mut ()) -> Result<bool> {
        assert!(session.buffered_request_body().is_none());
        match session.req_header().uri.path() {
            "/early" => {
                session.buffer_request_body(LIMIT).await?;
            }
            // A part is read without being kept.
            "/part" => {
                session.read_request_body().await?;
            }
            "/kept" => {
                session.enable_retry_buffering();
                session.read_request_body().await?;
            }
            _ => {}
        }
        Ok(false)
    }

    async fn upstream_peer(&self, session: &mut Session, _: &mut ()) -> Result<Box<HttpPeer>> {
        if session.req_header().uri.path() == "/stream" {
            let e = session.buffer_request_body(LIMIT).await.unwrap_err();
            assert!(e.to_string().contains("longer"), "{e}");
            assert_eq!(session.buffered_request_body(), None);
            return Ok(Box::new(self.0[0].clone()));
        }
        let body = session.buffer_request_body(LIMIT).await?;
        assert_eq!(session.buffered_request_body(), Some(&body));
        let chosen = usize::from(body.starts_with(b"b"));
        Ok(Box::new(self.0[chosen].clone()))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_phase_can_choose_by_the_body() {
    let of = |byte: u8, length: usize| Bytes::from(vec![byte; length]);
    let (long, longer) = (150 << 10, 300 << 10);
    // The path, the body, and the answer.
    let table = [
        ("/", of(b'a', 0), "200 a 0"),
        ("/", of(b'a', 10), "200 a 10"),
        ("/", of(b'b', 10), "200 b 10"),
        ("/", of(b'b', long), "200 b 153600"),
        ("/early", of(b'b', long), "200 b 153600"),
        ("/kept", of(b'b', 100), "200 b 100"),
        ("/part", of(b'b', 100), "500"),
        ("/", of(b'b', longer), "413"),
        ("/early", of(b'b', longer), "413"),
        ("/stream", of(b'b', longer), "200 a 307200"),
    ];
    for downstream in VERSIONS {
        for upstream in VERSIONS {
            let origins = ["a", "b"].map(|name| AnyOrigin::start(upstream, says(name)));
            let app = ByBody(origins.iter().map(AnyOrigin::peer).collect());
            let proxy = Proxy::start_with(any_client(), app);
            for (path, content, expected) in &table {
                for has_length in [true, false] {
                    let case = format!(
                        "{path} {} {has_length}, {downstream:?} to {upstream:?}",
                        content.len()
                    );
                    let mut client = AnyClient::connect(downstream, &proxy).await;
                    let mut post = request("POST", path, content.clone());
                    if !has_length {
                        *post.body_mut() = pieces(content);
                    }
                    let Ok(response) = client.try_send(post).await else {
                        // A client that is still sending may not come to read the refusal.
                        assert_eq!(*expected, "413", "{case}");
                        continue;
                    };
                    let status = response.status();
                    let body = response.into_body().collect().await.unwrap().to_bytes();
                    let body = String::from_utf8(body.to_vec()).unwrap();
                    let got = match body.is_empty() {
                        true => status.as_str().to_string(),
                        false => format!("{} {}", status.as_str(), body.trim_end_matches(" none")),
                    };
                    assert_eq!(got, *expected, "{case}");
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn trailers_follow_the_body() {
    for downstream in VERSIONS {
        for upstream in VERSIONS {
            let origins = ["a", "b"].map(|name| AnyOrigin::start(upstream, says(name)));
            let app = ByBody(origins.iter().map(AnyOrigin::peer).collect());
            let proxy = Proxy::start_with(any_client(), app);
            let mut client = AnyClient::connect(downstream, &proxy).await;
            let mut trailers = HeaderMap::new();
            trailers.insert("x-sum", "7".parse().unwrap());
            let frames = [
                Ok(Frame::data(Bytes::from_static(b"bye"))),
                Ok(Frame::trailers(trailers)),
            ];
            let mut post = request("POST", "/", "");
            let trailer = "x-sum".parse().unwrap();
            post.headers_mut().insert("trailer", trailer);
            *post.body_mut() = streamed(futures::stream::iter(frames));
            let response = client.send(post).await;
            let body = response.into_body().collect().await.unwrap().to_bytes();
            assert_eq!(body, "b 3 7", "{downstream:?} to {upstream:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_waits_is_told_to_go_on() {
    for upstream in VERSIONS {
        let origins = ["a", "b"].map(|name| AnyOrigin::start(upstream, says(name)));
        let app = ByBody(origins.iter().map(AnyOrigin::peer).collect());
        let proxy = Proxy::start_with(any_client(), app);
        let mut client = proxy.connect();
        let head = "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: ";
        client.send(format!("{head}3\r\n\r\n"));
        assert_eq!(client.read_head(), "HTTP/1.1 100 Continue");
        client.send("bye");
        assert_eq!(client.read_response().text(), "b 3 none");
        // One that is refused need not send it.
        client.send(format!("{head}999999\r\n\r\n"));
        let refused = client.read_head();
        assert!(refused.starts_with("HTTP/1.1 413 "), "{refused}");
    }
}
