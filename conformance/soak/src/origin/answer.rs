//! The answer to a request.

use std::convert::Infallible;
use std::sync::atomic::Ordering;
use std::sync::Arc;

use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::header::{HeaderValue, CONTENT_LENGTH, CONTENT_TYPE, TRAILER};
use hyper::{Method, Request, StatusCode, Version};

use super::body::{full, pieces, runs, Answer};
use super::{early, rpc, socket, Origin, HOST};
use crate::ask::{receipt, receipt_of, Ask, Early, Framing};
use crate::random::Sum;

pub async fn answer(origin: Arc<Origin>, request: Request<Incoming>) -> Result<Answer, Infallible> {
    let mut state = origin.state.subscribe();
    if request.uri().path() == "/healthz" {
        runs(&mut state).await;
        return Ok(Answer::new(full("well")));
    }
    let id = request.headers().get("x-id").cloned();
    examine(&origin, &request, id.as_ref());
    runs(&mut state).await;
    let mut answer = made(&origin, request).await;
    let headers = answer.headers_mut();
    headers.insert("x-origin", HeaderValue::from(origin.number));
    if let Some(id) = id {
        headers.insert("x-id", id);
    }
    Ok(answer)
}

/// Notes what must not come here, or not twice.
fn examine(origin: &Origin, request: &Request<Incoming>, id: Option<&HeaderValue>) {
    let (method, uri) = (request.method(), request.uri());
    let host = request.headers().get("host");
    let host = host
        .and_then(|host| host.to_str().ok())
        .or_else(|| uri.authority().map(|authority| authority.as_str()));
    origin.shared.asked.fetch_add(1, Ordering::Relaxed);
    let Some(id) = id.and_then(|id| id.to_str().ok()) else {
        let wrong = format!("an origin got {method} {uri}, which nobody may send");
        return origin.shared.wrong(wrong);
    };
    if host != Some(HOST) {
        let wrong = format!("an origin got {method} {uri} {id} for the host {host:?}");
        origin.shared.wrong(wrong);
    }
    if method == Method::POST {
        origin.shared.once(id, method.as_str());
    }
}

async fn made(origin: &Origin, request: Request<Incoming>) -> Answer {
    let path = request.uri().path();
    if path.starts_with("/soak.Echo/") {
        return rpc::answer(origin.state.subscribe(), request).await;
    }
    if path.starts_with("/ws/") {
        return socket::answer(origin.state.subscribe(), request);
    }
    if let (Some(ask), Some(early)) = (Ask::parse(path), Early::parse(path)) {
        return early::answer(origin, ask, early, request).await;
    }
    if matches!(*request.method(), Method::POST | Method::PUT) {
        return upload(origin, request).await;
    }
    match Ask::parse(path) {
        Some(ask) if path.starts_with("/cached/") => cached(origin, ask),
        Some(ask) => body(origin, ask, request.version()),
        None => status(StatusCode::NOT_FOUND),
    }
}

pub fn status(status: StatusCode) -> Answer {
    let mut answer = Answer::new(full(""));
    *answer.status_mut() = status;
    answer
}

pub fn body(origin: &Origin, ask: Ask, version: Version) -> Answer {
    let mut answer = Answer::new(pieces(ask, origin.state.subscribe()));
    match ask.framing {
        Framing::Length => {
            let len = HeaderValue::from(ask.size);
            answer.headers_mut().insert(CONTENT_LENGTH, len);
        }
        Framing::Chunked => {}
        Framing::Close if version == Version::HTTP_2 => {}
        // What a body of unknown length ends by in this version.
        Framing::Close => *answer.version_mut() = Version::HTTP_10,
        Framing::Trailers => {
            let name = HeaderValue::from_static("x-sum");
            answer.headers_mut().insert(TRAILER, name);
        }
    }
    answer
}

/// A body that may be stored. It differs with each epoch, which a field tells.
fn cached(origin: &Origin, ask: Ask) -> Answer {
    let epoch = origin.shared.epoch();
    let ask = Ask {
        seed: ask.seed ^ epoch << 32,
        ..ask
    };
    let mut answer = body(origin, ask, Version::HTTP_11);
    let headers = answer.headers_mut();
    headers.insert("cache-control", HeaderValue::from_static("max-age=60"));
    headers.insert("x-epoch", HeaderValue::from(epoch));
    answer
}

async fn upload(origin: &Origin, request: Request<Incoming>) -> Answer {
    let (mut len, mut sum) = (0, Sum::NONE);
    let right = Ask::parse(request.uri().path()).map(|ask| receipt_of(ask.seed, ask.size));
    let mut body = request.into_body();
    while let Some(frame) = body.frame().await {
        match frame.map(|frame| frame.into_data()) {
            Ok(Ok(data)) => {
                len += data.len() as u64;
                sum = sum.add(&data);
            }
            Ok(Err(_)) => {}
            Err(_) => return status(StatusCode::BAD_REQUEST),
        }
    }
    let receipt = receipt(len, sum);
    if right.as_ref().is_some_and(|right| *right != receipt) {
        let wrong = format!("an origin got {receipt} in place of {right:?} as a body");
        origin.shared.wrong(wrong);
    }
    let mut answer = Answer::new(full(receipt));
    let kind = HeaderValue::from_static("text/plain");
    answer.headers_mut().insert(CONTENT_TYPE, kind);
    answer
}
