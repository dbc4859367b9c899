//! gRPC as it is on the wire: messages with a prefix of five bytes, and the status in trailers.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use futures_util::stream;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::header::{HeaderMap, HeaderValue, CONTENT_TYPE};
use hyper::{Request, StatusCode};
use tokio::sync::watch;

use super::answer::status;
use super::body::{runs, Answer};
use super::State;
use crate::random::piece;

/// A call: so many messages of this size are to come back, the first of this seed and each other of the next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call {
    pub seed: u64,
    pub size: u32,
    pub count: u32,
}

impl Call {
    pub fn message(&self) -> Bytes {
        let mut call = BytesMut::new();
        call.put_u64(self.seed);
        call.put_u32(self.size);
        call.put_u32(self.count);
        framed(&call)
    }

    fn parse(mut body: Bytes) -> Option<Self> {
        if body.len() != 5 + 16 {
            return None;
        }
        body.advance(5);
        Some(Self {
            seed: body.get_u64(),
            size: body.get_u32(),
            count: body.get_u32(),
        })
    }

    /// The message of this number that comes back.
    pub fn reply(&self, number: u32) -> Bytes {
        let seed = self.seed.wrapping_add(u64::from(number));
        framed(&piece(seed, 0, self.size as usize))
    }
}

fn framed(message: &[u8]) -> Bytes {
    let mut framed = BytesMut::new();
    framed.put_u8(0);
    framed.put_u32(message.len() as u32);
    framed.put_slice(message);
    framed.freeze()
}

pub async fn answer(state: watch::Receiver<State>, request: Request<Incoming>) -> Answer {
    let call = request.into_body().collect().await;
    let Some(call) = call.ok().and_then(|body| Call::parse(body.to_bytes())) else {
        return status(StatusCode::BAD_REQUEST);
    };
    let next = move |(number, mut state): (u32, watch::Receiver<State>)| async move {
        runs(&mut state).await;
        let frame = match number {
            _ if number < call.count => Frame::data(call.reply(number)),
            _ if number == call.count => {
                let mut fields = HeaderMap::new();
                fields.insert("grpc-status", HeaderValue::from_static("0"));
                Frame::trailers(fields)
            }
            _ => return None,
        };
        Some((Ok(frame), (number + 1, state)))
    };
    let body = StreamBody::new(stream::unfold((0, state), next)).boxed_unsync();
    let mut answer = Answer::new(body);
    let kind = HeaderValue::from_static("application/grpc");
    answer.headers_mut().insert(CONTENT_TYPE, kind);
    answer
}
