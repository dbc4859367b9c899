//! White space around values, as a configuration or an origin may have it: HTTP/2 has no place for it.

use super::common::h2_origin::*;
use super::common::*;
use async_trait::async_trait;
use http::{HeaderMap, HeaderValue, Request};
use pingora_core::apps::HttpServerOptions;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_core::Result;
use pingora_http::{RequestHeader, ResponseHeader};
use pingora_proxy::{ProxyHttp, Session};
use tokio::net::UnixStream;

/// Adds a padded field to either head.
struct Padding(HttpPeer);

#[async_trait]
impl ProxyHttp for Padding {
    type CTX = ();

    fn new_ctx(&self) {}

    async fn upstream_peer(&self, _: &mut Session, _: &mut ()) -> Result<Box<HttpPeer>> {
        Ok(Box::new(self.0.clone()))
    }

    async fn upstream_request_filter(
        &self,
        _: &mut Session,
        request: &mut RequestHeader,
        _: &mut (),
    ) -> Result<()> {
        request.insert_header("x-set", "\t a b ")
    }

    async fn response_filter(
        &self,
        _: &mut Session,
        response: &mut ResponseHeader,
        _: &mut (),
    ) -> Result<()> {
        response.insert_header("x-set", " c\td \t")
    }
}

fn padded() -> HeaderMap {
    HeaderMap::from_iter([("x-sent", " e ")].map(|(name, value)| {
        let name = http::HeaderName::from_static(name);
        (name, HeaderValue::from_static(value))
    }))
}

#[tokio::test]
async fn values_are_trimmed_on_both_sides() {
    let origin = H2Origin::streams(|request, mut respond, _| async move {
        assert_eq!(request.headers()["x-set"], "a b");
        let mut body = request.into_body();
        assert!(body.data().await.is_none());
        let trailers = body.trailers().await.unwrap().unwrap();
        assert_eq!(trailers["x-filtered"], "f");
        let mut early = status(103);
        *early.headers_mut() = padded();
        respond.send_informational(early).unwrap();
        let mut head = status(200);
        *head.headers_mut() = padded();
        let mut stream = respond.send_response(head, false).unwrap();
        stream.send_trailers(padded()).unwrap();
    });
    let mut options = HttpServerOptions::default();
    options.h2c = true;
    let setup = Setup {
        options,
        ..Setup::default()
    };
    let proxy = Proxy::start_with(setup, Padding(h2_peer(&origin.path())));
    let stream = UnixStream::connect(proxy.path()).await.unwrap();
    let (client, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(async { drop(connection.await) });
    let mut client = client.ready().await.unwrap();
    let request = Request::post("http://origin.test/").body(()).unwrap();
    let (mut response, mut body) = client.send_request(request, false).unwrap();
    let mut trailers = HeaderMap::new();
    trailers.insert("x-filtered", HeaderValue::from_static("f"));
    body.send_trailers(trailers).unwrap();
    let early = std::future::poll_fn(|cx| response.poll_informational(cx)).await;
    let early = early.unwrap().unwrap();
    assert_eq!(
        (early.status().as_u16(), &early.headers()["x-sent"]),
        (103, &"e".parse().unwrap())
    );
    assert_eq!(early.headers()["x-set"], "c\td");
    let response = response.await.unwrap();
    assert_eq!(response.headers()["x-sent"], "e");
    assert_eq!(response.headers()["x-set"], "c\td");
    let mut body = response.into_body();
    assert!(body.data().await.is_none());
    assert_eq!(body.trailers().await.unwrap().unwrap()["x-sent"], "e");
}
