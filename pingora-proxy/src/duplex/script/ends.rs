//! The client and the origin.

use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, Version};
use pingora_core::exchange::{Downstream, Upstream};
use pingora_core::protocols::http::HttpTask;
use pingora_core::protocols::{Digest, UniqueIDType};
use pingora_error::ErrorType::{ConnectionClosed, ReadError, WriteError};
use pingora_error::{BError, Error, Result};
use pingora_http::{RequestHeader, ResponseHeader};

use super::{Shared, Step};

/// Takes as much as it is told to.
pub(super) struct Client(pub(super) Shared);

impl Downstream for Client {
    fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>>> {
        let mut world = self.0.get();
        assert!(!world.request_read, "a read after the end of the request");
        assert!(!world.setup.answers, "nobody asked");
        if world.left {
            return Poll::Ready(Error::e_explain(ReadError, "left"));
        }
        if let Some(piece) = world.request.pop_front() {
            return Poll::Ready(Ok(Some(piece)));
        }
        if world.request_over {
            world.request_read = true;
            return Poll::Ready(Ok(None));
        }
        world.wait(cx)
    }

    fn has_buffered_body(&self) -> bool {
        !self.0.get().request.is_empty()
    }

    fn is_body_done(&mut self) -> bool {
        self.0.get().request_read
    }

    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<BError> {
        let mut world = self.0.get();
        if world.left {
            return Poll::Ready(Error::explain(ConnectionClosed, "left"));
        }
        world.wait(cx)
    }

    fn tells_leave(&self) -> bool {
        self.0.get().setup.tells
    }

    fn queue(&mut self, task: HttpTask) -> Result<bool> {
        let mut world = self.0.get();
        let end = task.is_end();
        match task {
            HttpTask::Header(..) => {
                assert!(!world.response_flow.ended, "a head after the end");
                world.heads += 1;
            }
            HttpTask::Body(body, _) | HttpTask::UpgradedBody(body, _) => {
                let body = body.unwrap_or_default();
                world.queued += body.len();
                world.response_flow.check(&body);
            }
            HttpTask::Trailer(_) | HttpTask::Done => {}
            HttpTask::Failed(e) => return Err(e),
        }
        if end {
            world.response_flow.end();
        }
        Ok(end)
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        let mut world = self.0.get();
        if world.queued == 0 {
            return Poll::Ready(Ok(()));
        }
        if world.left {
            return Poll::Ready(Error::e_explain(WriteError, "left"));
        }
        let taken = world.queued.min(world.client_takes);
        world.queued -= taken;
        world.client_takes -= taken;
        match world.queued {
            0 => Poll::Ready(Ok(())),
            _ => world.wait(cx),
        }
    }

    fn queued(&self) -> usize {
        self.0.get().queued
    }

    fn is_flushed(&self) -> bool {
        self.0.get().queued == 0
    }

    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        let mut world = self.0.get();
        if world.no_room {
            return world.wait(cx);
        }
        Poll::Ready(Ok(()))
    }

    fn has_whole_response(&self) -> bool {
        let world = self.0.get();
        let length = world.setup.enough.or(world.setup.length);
        world.response_flow.ended || length.is_some_and(|n| world.response_flow.arrived >= n)
    }
}

/// Takes as much as it is told to, and sends what it is told to.
pub(super) struct Origin(pub(super) Shared);

impl Upstream for Origin {
    fn version(&self) -> Version {
        Version::HTTP_11
    }

    fn id(&self) -> UniqueIDType {
        UniqueIDType::default()
    }

    fn digest(&self) -> Option<&Digest> {
        None
    }

    fn queue_head(&mut self, _request: Box<RequestHeader>) -> Result<()> {
        assert_eq!(self.0.get().asked, 0, "a second head");
        Ok(())
    }

    fn queue_body(&mut self, data: Bytes) -> Result<()> {
        let mut world = self.0.get();
        world.request_flow.check(&data);
        world.asked += data.len();
        Ok(())
    }

    fn queue_end(&mut self, _trailers: Option<&HeaderMap>) -> Result<()> {
        self.0.get().request_flow.end();
        Ok(())
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        let mut world = self.0.get();
        if world.asked == world.taken_by_origin {
            return Poll::Ready(Ok(()));
        }
        if world.deaf {
            world.asked = world.taken_by_origin;
            return Poll::Ready(Error::e_explain(WriteError, "takes no more"));
        }
        let taken = (world.asked - world.taken_by_origin).min(world.origin_takes);
        world.taken_by_origin += taken;
        world.origin_takes -= taken;
        match world.asked - world.taken_by_origin {
            0 => Poll::Ready(Ok(())),
            _ => world.wait(cx),
        }
    }

    fn queued(&self) -> usize {
        let world = self.0.get();
        world.asked - world.taken_by_origin
    }

    fn is_flushed(&self) -> bool {
        self.queued() == 0
    }

    fn poll_task(&mut self, cx: &mut Context<'_>) -> Poll<Result<HttpTask>> {
        let mut world = self.0.get();
        assert!(!world.response_read, "a read after the end of the response");
        let Some(step) = world.response.pop_front() else {
            return world.wait(cx);
        };
        Poll::Ready(match step {
            Step::Interim => head(103, false),
            Step::Head(end) => {
                world.response_read = end;
                world.tunnel = world.setup.switches;
                if world.tunnel {
                    // The end of the request was that before the tunnel.
                    world.request_flow.ended = false;
                }
                head(if world.tunnel { 101 } else { 200 }, end)
            }
            Step::Body(piece, end) => {
                world.response_read = end;
                let piece = Some(piece).filter(|piece| !piece.is_empty());
                Ok(if world.tunnel {
                    HttpTask::UpgradedBody(piece, end)
                } else {
                    HttpTask::Body(piece, end)
                })
            }
            Step::Fail => {
                world.response_read = true;
                Error::e_explain(ReadError, "fails")
            }
        })
    }

    fn is_content_complete(&self) -> bool {
        let world = self.0.get();
        let length = world.setup.length;
        length.is_some_and(|n| world.headed && world.response_flow.arrived >= n)
    }

    fn has_buffered(&self) -> bool {
        !self.0.get().response.is_empty()
    }

    fn body_bytes_sent(&self) -> usize {
        self.0.get().taken_by_origin
    }
}

fn head(status: u16, end: bool) -> Result<HttpTask> {
    let head = ResponseHeader::build(status, None)?;
    Ok(HttpTask::Header(Box::new(head), end))
}
