//! Uploads that are answered before they are whole.

use std::time::Instant;

use hyper::Method;

use super::answer::{check, origin, Expected};
use super::line::{Line, Way};
use super::upload::{body, KEPT};
use super::Client;
use crate::ask::{Ask, Early, Framing};

pub const WAYS: [(&str, Way); 2] = [
    ("early", Way::H1),
    (
        "early h2",
        Way {
            tls: true,
            h2: true,
            ..Way::H1
        },
    ),
];

/// An answer that ends with its connection would take the rest of the body with it.
const FRAMINGS: [Framing; 3] = [Framing::Length, Framing::Chunked, Framing::Trailers];
const ROUTES: [&str; 3] = ["main", "two", "three"];

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
    let random = &mut client.random;
    let ask = Ask {
        seed: random.next(),
        size: random.between(0..30_000),
        framing: FRAMINGS[random.index(FRAMINGS.len())],
    };
    let size = random.between(1..300_000);
    let early = Early {
        size,
        after: random.between(0..size),
    };
    let method = if random.chance(50) {
        Method::PUT
    } else {
        Method::POST
    };
    let path = early.path(ROUTES[random.index(ROUTES.len())], &ask);
    let body = body(client, Early::seed(&ask), size);
    let (builder, id) = client.head(&method, &path, way);
    let Ok(request) = builder.body(body) else {
        return false;
    };
    let what = format!("{method} {path} {id} by {}", way.protocol());
    let mut asked = client.asked(what, Instant::now());
    asked.safe = method == Method::PUT && size <= KEPT;
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
            check(answer, &expected, None).await
        }
        Err(end) => end,
    };
    line.used();
    client.judge(&asked, &end)
}
