//! Uploads: with their length and in chunks, of which the origin says what it got.

use std::io;
use std::time::Instant;

use futures_util::stream;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::{Method, Response};

use super::answer::{compare_receipt, head, origin, Expected};
use super::line::{whole, Body, Line, Way, PATIENCE};
use super::Client;
use crate::ask::{Ask, Framing};
use crate::ledger::End;
use crate::random::{piece, Random};

pub const WAYS: [(&str, Way); 2] = [
    ("upload", Way::H1),
    (
        "upload h2",
        Way {
            tls: true,
            h2: true,
            ..Way::H1
        },
    ),
];

/// Bytes that the proxy keeps of a body for another try, less what it may have read at once.
pub const KEPT: u64 = 48 * 1024;

pub async fn run(mut client: Client, way: Way) {
    while client.world.runs() {
        let Some(mut line) = client.open(way).await else {
            continue;
        };
        for _ in 0..client.random.between(1..30) {
            if !one(&mut client, way, &mut line).await || line.is_announced() {
                break;
            }
            client.rest(0..80).await;
            if !client.world.runs() {
                break;
            }
        }
    }
}

async fn one(client: &mut Client, way: Way, line: &mut Line) -> bool {
    let most = if client.random.chance(20) {
        1_000_000
    } else {
        30_000
    };
    let ask = Ask {
        seed: client.random.next(),
        size: client.random.between(0..most),
        framing: Framing::Length,
    };
    let method = if client.random.chance(50) {
        Method::PUT
    } else {
        Method::POST
    };
    let route = if client.random.chance(30) {
        "two"
    } else {
        "main"
    };
    let path = ask.path(route);
    let body = body(client, ask.seed, ask.size);
    let (builder, id) = client.head(&method, &path, way);
    let Ok(request) = builder.body(body) else {
        return false;
    };
    let what = format!("{method} {path} {id} by {}", way.protocol());
    let mut asked = client.asked(what, Instant::now());
    asked.safe = method == Method::PUT && ask.size <= KEPT;
    asked.idle = line.idle();
    asked.connected = line.connected;
    let expected = Expected {
        method: &method,
        id: &id,
        ask,
        cached: false,
        floor: client.world.taken.floor(line.connected),
    };
    let end = match line.send(request).await {
        Ok(answer) => {
            asked.origin = origin(answer.headers());
            check(answer, &expected).await
        }
        Err(end) => end,
    };
    line.used();
    client.judge(&asked, &end)
}

async fn check(answer: Response<Incoming>, expected: &Expected<'_>) -> End {
    if let Err(end) = head(answer.headers(), answer.status().as_u16(), expected) {
        return end;
    }
    let body = tokio::time::timeout(PATIENCE, answer.into_body().collect()).await;
    match body {
        Err(_) => End::Late,
        Ok(Err(e)) => End::Cut(whole(&e)),
        Ok(Ok(body)) => compare_receipt(&body.to_bytes(), expected.ask.seed, expected.ask.size),
    }
}

/// A body of this size, at once with its length or piece by piece without.
pub fn body(client: &mut Client, seed: u64, size: u64) -> Body {
    if client.random.chance(50) {
        let whole = Full::new(piece(seed, 0, size as usize));
        return whole.map_err(|never| match never {}).boxed_unsync();
    }
    let random = Random::new(client.random.next());
    let next = move |(at, mut random): (u64, Random)| async move {
        let left = size - at;
        if left == 0 {
            return None;
        }
        if random.chance(10) {
            tokio::time::sleep(random.pause(1..20)).await;
        }
        let len = random.between(1..32 * 1024).min(left);
        let frame = Frame::data(piece(seed, at, len as usize));
        Some((Ok::<_, io::Error>(frame), (at + len, random)))
    };
    StreamBody::new(stream::unfold((0, random), next)).boxed_unsync()
}
