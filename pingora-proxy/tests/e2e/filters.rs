//! What filters change on the way.

use super::common::*;
use async_trait::async_trait;
use bytes::Bytes;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_core::{Error, ErrorType, Result};
use pingora_http::{RequestHeader, ResponseHeader};
use pingora_proxy::{ProxyHttp, Session};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;
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

/// An offer that the policy passes over says nothing of the body.
#[test]
fn the_body_of_a_request_that_offers_an_upgrade_keeps_a_length() {
    let origin = Origin::scripted(|mut wire, _| {
        let request = wire.read_message();
        assert_eq!(request.field("Upgrade"), None);
        assert_eq!(request.text(), "aabbcc");
        wire.send("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nxyz");
    });
    let proxy = Proxy::start(Doubling(forward_to(origin.path()).peer));
    let mut client = proxy.connect();
    client.send(
        "POST / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\
         HTTP2-Settings: AAMAAABkAAQAAP__\r\nContent-Length: 3\r\n\r\nabc",
    );
    assert_eq!(client.read_response().text(), "xxyyzz");
}

/// Decompresses what origins send, and notes how much they sent.
struct Decompressing(HttpPeer, Arc<AtomicUsize>);

#[async_trait]
impl ProxyHttp for Decompressing {
    type CTX = ();

    fn new_ctx(&self) {}

    async fn early_request_filter(&self, session: &mut Session, _: &mut ()) -> Result<()> {
        session.upstream_compression.adjust_decompression(true);
        Ok(())
    }

    async fn upstream_peer(&self, _: &mut Session, _: &mut ()) -> Result<Box<HttpPeer>> {
        Ok(Box::new(self.0.clone()))
    }

    async fn upstream_response_decision(
        &self,
        _: &mut Session,
        response: &ResponseHeader,
        _: &mut (),
    ) -> Option<Box<Error>> {
        let mut e = Error::new_up(ErrorType::HTTPStatus(502));
        e.set_retry(true);
        (response.status == 503).then_some(e)
    }

    async fn logging(&self, session: &mut Session, _: Option<&Error>, _: &mut ()) {
        let received = session.upstream_body_bytes_received();
        self.1.store(received, Ordering::SeqCst);
    }
}

#[test]
fn what_an_origin_sent_is_counted_as_it_was_sent() {
    // A thousand times the letter a.
    let compressed = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\x03KL\x1c\x05\xa3`\x14\x0cw\x00\x00\x03\xda8\x9a\xe8\x03\x00\x00";
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Encoding: gzip\r\nContent-Length: {}\r\n\r\n",
        compressed.len()
    );
    // The response to each try is one of its own.
    let origin = Origin::scripted(move |mut wire, number| {
        while wire.has_more() {
            wire.read_message();
            let head = match number {
                0 => head.replace("200 OK", "503 Busy"),
                _ => head.clone(),
            };
            wire.send_if_taken([head.as_bytes(), compressed].concat())
                .unwrap_or_default();
        }
    });
    let received = Arc::default();
    let proxy = Proxy::start(Decompressing(
        forward_to(origin.path()).peer,
        Arc::clone(&received),
    ));
    let mut client = proxy.connect();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let response = client.read_response();
    assert_eq!(response.body, [b'a'; 1000]);
    eventually("the request is over", || {
        received.load(Ordering::SeqCst) == compressed.len()
    });
}
