//! Clients that take a response late.

use super::common::h2_origin::{h2_peer, Frames, H2Origin};
use super::common::*;
use super::h2_proxy_of;
use super::raw::*;
use bytes::Bytes;
use futures::FutureExt;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_core::ErrorType::InternalError;
use pingora_core::{Error, Result};
use pingora_http::ResponseHeader;
use pingora_proxy::{ProxyHttp, Session};
use std::sync::mpsc;

const INITIAL_WINDOW_SIZE: u16 = 4;
const SIZE: usize = 10_000;

/// Tells of the end of each request, and breaks some off that are queued whole.
struct Breaking {
    forward: Forward,
    ended: mpsc::Sender<()>,
}

#[async_trait::async_trait]
impl ProxyHttp for Breaking {
    type CTX = ();

    fn new_ctx(&self) {}

    async fn request_filter(&self, session: &mut Session, _: &mut ()) -> Result<bool> {
        if session.req_header().headers.contains_key("broken-off") {
            let mut head = ResponseHeader::build(200, None)?;
            head.set_content_length(SIZE)?;
            session.write_response_header(Box::new(head), false).await?;
            let body = Some(Bytes::from(vec![b'x'; SIZE]));
            // It waits for the client, and is given up.
            let written = session.write_response_body(body, true).now_or_never();
            assert!(written.is_none());
            return Error::e_explain(InternalError, "given up");
        }
        Ok(false)
    }

    async fn upstream_peer(&self, session: &mut Session, ctx: &mut ()) -> Result<Box<HttpPeer>> {
        self.forward.upstream_peer(session, ctx).await
    }

    async fn logging(&self, _: &mut Session, _: Option<&Error>, _: &mut ()) {
        self.ended.send(()).unwrap();
    }
}

#[test]
fn a_whole_response_that_is_taken_late_is_not_reset_when_its_request_fails() {
    // All that its length promises, and then a failure.
    let origin = H2Origin::start(|stream, _| async move {
        let mut frames = Frames::begin(stream).await;
        while let Some((_, _, id, _)) = frames.next_of(HEADERS).await {
            let length = SIZE.to_string();
            let head = [&[0x88][..], &block(&[("content-length", &length)])].concat();
            frames.send(HEADERS, END_HEADERS, id, &head).await;
            frames.send(DATA, 0, id, &[b'x'; SIZE]).await;
            let reason = INTERNAL_ERROR.to_be_bytes();
            frames.send(RST_STREAM, 0, id, &reason).await;
        }
    });
    let (ended, ends) = mpsc::channel();
    let proxy = h2_proxy_of(Breaking {
        forward: Forward {
            peer: h2_peer(&origin.path()),
        },
        ended,
    });
    for fields in [&[][..], &[("broken-off", "1")]] {
        for (method, is_whole) in [("GET", true), ("POST", false)] {
            let mut raw = Raw::with_settings(&proxy, &[(INITIAL_WINDOW_SIZE, 10)]);
            raw.send(WINDOW_UPDATE, 0, 0, &(SIZE as u32).to_be_bytes());
            raw.request(1, method, fields, is_whole);
            raw.read_until(HEADERS, 1);
            ends.recv_timeout(PATIENCE).unwrap();
            raw.send(WINDOW_UPDATE, 0, 1, &(SIZE as u32).to_be_bytes());
            let mut got = 0;
            loop {
                let frame = raw.read();
                assert_ne!((frame.kind, frame.id), (RST_STREAM, 1), "{frame:?}");
                if (frame.kind, frame.id) == (DATA, 1) {
                    got += frame.payload.len();
                    if frame.ends_stream() {
                        break;
                    }
                }
            }
            assert_eq!(got, SIZE, "{method} {fields:?}");
            if !is_whole {
                assert_eq!(raw.read_reset(1), NO_ERROR);
            }
        }
    }
}
