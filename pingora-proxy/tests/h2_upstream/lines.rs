//! Fields that are added to a request as the lines that are sent.

use super::common::*;
use super::pairs::*;
use async_trait::async_trait;
use http::HeaderName;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::{Request, Response};
use pingora_core::upstreams::peer::HttpPeer;
use pingora_core::Result;
use pingora_http::RequestHeader;
use pingora_proxy::{ProxyHttp, Session};

struct Adds(HttpPeer);

#[async_trait]
impl ProxyHttp for Adds {
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
        request.append_line(&HeaderName::from_static("x-added"), b"a, b")
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_kind_of_origin_gets_them() {
    let tell = |request: Request<Incoming>| async move {
        let added = request.headers().get("x-added");
        let added = added.map_or("nothing", |added| added.to_str().unwrap());
        Response::new(whole(added.to_owned()))
    };
    for downstream in CLIENTS {
        for upstream in ORIGINS {
            let origin = AnyOrigin::start(upstream, tell);
            let proxy = Proxy::start_with(for_client(downstream), Adds(origin.peer()));
            let mut client = AnyClient::connect(downstream, &proxy).await;
            let answer = client.send(request("GET", "/", "")).await.into_body();
            let body = answer.collect().await.unwrap().to_bytes();
            assert_eq!(body, "a, b", "{downstream:?} to {upstream:?}");
        }
    }
}
