//! Calls of gRPC, of one message and of many.

use std::time::Instant;

use bytes::BytesMut;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, TE};
use hyper::{Method, Response};

use super::answer::{head, origin, Expected};
use super::line::{whole, Line, Way, PATIENCE};
use super::Client;
use crate::ask::{Ask, Framing};
use crate::ledger::End;
use crate::origin::Call;

pub async fn run(mut client: Client) {
    while client.world.runs() {
        let way = Way {
            tls: client.random.chance(50),
            h2: true,
            ..Way::H1
        };
        let Some(mut line) = client.open(way).await else {
            continue;
        };
        for _ in 0..client.random.between(5..60) {
            if !one(&mut client, way, &mut line).await || !client.world.runs() {
                break;
            }
            client.rest(0..60).await;
        }
    }
}

async fn one(client: &mut Client, way: Way, line: &mut Line) -> bool {
    let many = client.random.chance(30);
    let call = Call {
        seed: client.random.next(),
        size: client.random.between(0..10_000) as u32,
        count: if many {
            client.random.between(0..60) as u32
        } else {
            1
        },
    };
    let path = if many {
        "/soak.Echo/Many"
    } else {
        "/soak.Echo/One"
    };
    let method = Method::POST;
    let (builder, id) = client.head(&method, path, way);
    let builder = builder
        .header(CONTENT_TYPE, "application/grpc")
        .header(TE, "trailers");
    let body = Full::new(call.message()).map_err(|never| match never {});
    let Ok(request) = builder.body(body.boxed_unsync()) else {
        return false;
    };
    let what = format!("{path} {id} for {call:?} by {}", way.protocol());
    let mut asked = client.asked(what, Instant::now());
    asked.safe = false;
    asked.idle = line.idle();
    asked.connected = line.connected;
    let expected = Expected {
        method: &method,
        id: &id,
        // Only the head is compared by it.
        ask: Ask {
            seed: 0,
            size: 0,
            framing: Framing::Trailers,
        },
        cached: false,
        floor: client.world.taken.floor(line.connected),
    };
    let end = match line.send(request).await {
        Ok(answer) => {
            asked.origin = origin(answer.headers());
            match head(answer.headers(), answer.status().as_u16(), &expected) {
                Ok(()) => check(answer, call).await,
                Err(end) => end,
            }
        }
        Err(end) => end,
    };
    line.used();
    client.judge(&asked, &end)
}

/// Compares all messages, and the status in the trailers.
async fn check(answer: Response<Incoming>, call: Call) -> End {
    let mut expected = BytesMut::new();
    for number in 0..call.count {
        expected.extend_from_slice(&call.reply(number));
    }
    let mut body = answer.into_body();
    let (mut at, mut status) = (0, None);
    loop {
        let frame = match tokio::time::timeout(PATIENCE, body.frame()).await {
            Err(_) => return End::Late,
            Ok(None) => break,
            Ok(Some(Err(e))) => return End::Cut(format!("{} after {at} bytes", whole(&e))),
            Ok(Some(Ok(frame))) => frame,
        };
        if let Some(data) = frame.data_ref() {
            if expected.get(at..at + data.len()) != Some(data) {
                return End::Wrong(format!("the piece at {at} is not the one that was sent"));
            }
            at += data.len();
        } else if let Ok(fields) = frame.into_trailers() {
            status = fields.get("grpc-status").cloned();
        }
    }
    if at < expected.len() {
        return End::Short(at as u64);
    }
    match status {
        Some(status) if status == "0" => End::Whole,
        status => End::Wrong(format!("the status in the trailers is {status:?}")),
    }
}
