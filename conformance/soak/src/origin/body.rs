//! Bodies of answers, in pieces of many sizes, some of them late.

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;
use hyper::header::{HeaderMap, HeaderValue};
use hyper::Response;
use tokio::sync::watch;

use super::State;
use crate::ask::{Ask, Framing};
use crate::random::{piece, Random};

pub type Body = UnsyncBoxBody<Bytes, Infallible>;
pub type Answer = Response<Body>;

pub fn full(body: impl Into<Bytes>) -> Body {
    Full::new(body.into()).boxed_unsync()
}

/// The pieces of the body that is asked for. A hung origin sends none of them.
pub fn pieces(ask: Ask, state: watch::Receiver<State>) -> Body {
    let trailer = (ask.framing == Framing::Trailers).then(|| {
        let mut fields = HeaderMap::new();
        if let Ok(value) = HeaderValue::from_str(&ask.trailer()) {
            fields.insert("x-sum", value);
        }
        fields
    });
    let begin = (0, trailer, Random::new(ask.seed ^ 1), state);
    let next = move |(at, mut trailer, mut random, mut state): (
        u64,
        Option<HeaderMap>,
        Random,
        _,
    )| async move {
        runs(&mut state).await;
        let left = ask.size - at;
        if left == 0 {
            let fields = trailer.take()?;
            return Some((Ok(Frame::trailers(fields)), (at, None, random, state)));
        }
        if random.chance(3) {
            tokio::time::sleep(random.pause(1..20)).await;
        }
        let most = if random.chance(20) { 64 } else { 32 * 1024 };
        let len = random.between(1..most + 1).min(left);
        let frame = Frame::data(piece(ask.seed, at, len as usize));
        Some((Ok(frame), (at + len, trailer, random, state)))
    };
    StreamBody::new(stream::unfold(begin, next)).boxed_unsync()
}

/// Waits while the origin hangs.
pub async fn runs(state: &mut watch::Receiver<State>) {
    if state.wait_for(|state| *state != State::Hung).await.is_err() {
        tokio::time::sleep(Duration::MAX).await;
    }
}
