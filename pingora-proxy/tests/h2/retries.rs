//! Requests that are sent again.

use super::common::*;
use super::h2_proxy_of;
use super::raw::*;
use async_trait::async_trait;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_core::{Error, Result};
use pingora_proxy::{ProxyHttp, Session};

/// Tries the second upstream after the first.
struct Twice([HttpPeer; 2]);

#[async_trait]
impl ProxyHttp for Twice {
    type CTX = usize;

    fn new_ctx(&self) -> usize {
        0
    }

    async fn upstream_peer(&self, _: &mut Session, tries: &mut usize) -> Result<Box<HttpPeer>> {
        *tries += 1;
        Ok(Box::new(self.0[*tries - 1].clone()))
    }

    fn error_while_proxy(
        &self,
        _: &HttpPeer,
        _: &mut Session,
        mut e: Box<Error>,
        tries: &mut usize,
        _: bool,
    ) -> Box<Error> {
        e.set_retry(*tries < 2);
        e
    }
}

#[test]
fn a_retry_has_the_trailers_of_the_request() {
    for body in ["hello", ""] {
        let dying = Origin::scripted(|mut wire, _| {
            assert_eq!(wire.read_message().trailers, "x-sum: 5\r\n");
        });
        let origin = Origin::scripted(move |mut wire, _| {
            let request = wire.read_message();
            assert_eq!(request.text(), body);
            assert_eq!(request.trailers, "x-sum: 5\r\n");
            wire.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
        });
        let peers = [&dying, &origin].map(|origin| forward_to(origin.path()).peer);
        let proxy = h2_proxy_of(Twice(peers));
        let mut raw = Raw::new(&proxy);
        raw.request(1, "PUT", &[("trailer", "x-sum")], false);
        if !body.is_empty() {
            raw.send(DATA, 0, 1, body.as_bytes());
        }
        let trailers = block(&[("x-sum", "5")]);
        raw.send(HEADERS, END_HEADERS | END_STREAM, 1, &trailers);
        assert_eq!(raw.read_until(HEADERS, 1).payload[0], 0x88, ":status 200");
        assert_eq!((dying.accepted(), origin.accepted()), (1, 1));
    }
}
