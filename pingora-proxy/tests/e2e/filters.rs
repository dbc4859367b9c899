//! What filters change on the way.

use super::common::*;
use async_trait::async_trait;
use bytes::Bytes;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_core::Result;
use pingora_http::{RequestHeader, ResponseHeader};
use pingora_proxy::{ProxyHttp, Session};
use std::time::Duration;

/// Doubles every letter of both bodies, and says so in both heads.
struct Doubling(HttpPeer);

fn doubled(body: &Bytes) -> Bytes {
    body.iter().flat_map(|byte| [*byte; 2]).collect()
}

#[async_trait]
impl ProxyHttp for Doubling {
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
        request.remove_header("Content-Length");
        request.insert_header("Transfer-Encoding", "chunked")?;
        request.insert_header("X-Request", "doubled")
    }

    async fn request_body_filter(
        &self,
        _: &mut Session,
        body: &mut Option<Bytes>,
        _: bool,
        _: &mut (),
    ) -> Result<()> {
        *body = body.as_ref().map(doubled);
        Ok(())
    }

    async fn response_filter(
        &self,
        _: &mut Session,
        response: &mut ResponseHeader,
        _: &mut (),
    ) -> Result<()> {
        response.remove_header("Content-Length");
        response.insert_header("Transfer-Encoding", "chunked")?;
        response.insert_header("X-Response", "doubled")
    }

    fn response_body_filter(
        &self,
        _: &mut Session,
        body: &mut Option<Bytes>,
        _: bool,
        _: &mut (),
    ) -> Result<Option<Duration>> {
        *body = body.as_ref().map(doubled);
        // The next piece may come a moment later: bytes are delayed by it, never lost.
        Ok(Some(Duration::from_millis(1)))
    }
}

#[test]
fn heads_and_bodies_reach_the_other_side_as_the_filters_left_them() {
    let origin = Origin::scripted(|mut wire, _| {
        let request = wire.read_message();
        assert_eq!(request.field("X-Request"), Some("doubled"));
        assert_eq!(request.field("Content-Length"), None);
        assert_eq!(request.text(), "aabbcc");
        wire.send("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nxyz");
    });
    let proxy = Proxy::start(Doubling(forward_to(origin.path()).peer));
    let mut client = proxy.connect();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc");
    let response = client.read_response();
    assert_eq!(response.field("X-Response"), Some("doubled"));
    assert_eq!(response.field("Content-Length"), None);
    assert_eq!(response.text(), "xxyyzz");
}
