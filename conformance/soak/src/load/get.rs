//! Requests without bodies: on kept and on new connections, of both versions, by quick and by slow readers, and by those
//! that leave in the middle.

use std::ops::Range;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use hyper::body::Incoming;
use hyper::{Method, Request, Response};

use super::answer::{check, origin, some, Expected};
use super::line::{no_body, send, Body, Line, Way};
use super::Client;
use crate::ask::{Ask, Framing};
use crate::ledger::{Asked, End};
use crate::random::{mix, Random};
use crate::world::Floor;

/// The way in which clients of a kind ask.
#[derive(Clone)]
pub struct Style {
    way: Way,
    route: &'static str,
    /// Rounds on a connection; in each round so many requests at a time as the version takes.
    rounds: Range<u64>,
    sizes: Range<u64>,
    slow: bool,
    /// The share of requests that the client leaves, in percent.
    leaves: u64,
    pause: Range<u64>,
}

const KEPT: Style = Style {
    way: Way::H1,
    route: "main",
    rounds: 20..200,
    sizes: 0..40_000,
    slow: false,
    leaves: 0,
    pause: 0..40,
};
const TLS: Way = Way {
    tls: true,
    ..Way::H1
};
const H2C: Way = Way {
    h2: true,
    ..Way::H1
};
const H2: Way = Way { h2: true, ..TLS };
const PATH: Way = Way {
    unix: true,
    ..Way::H1
};
const PATH_H2C: Way = Way { h2: true, ..PATH };

pub const STYLES: [(&str, Style); 16] = [
    ("kept", KEPT),
    (
        "new",
        Style {
            rounds: 1..2,
            ..KEPT
        },
    ),
    ("h2c", Style { way: H2C, ..KEPT }),
    (
        "h2c to h2c",
        Style {
            way: H2C,
            route: "two",
            ..KEPT
        },
    ),
    (
        "to h2c",
        Style {
            route: "two",
            ..KEPT
        },
    ),
    (
        "to tls",
        Style {
            route: "three",
            ..KEPT
        },
    ),
    (
        "h2 to tls",
        Style {
            way: H2,
            route: "three",
            rounds: 5..60,
            ..KEPT
        },
    ),
    ("path", Style { way: PATH, ..KEPT }),
    (
        "path h2c",
        Style {
            way: PATH_H2C,
            ..KEPT
        },
    ),
    ("https kept", Style { way: TLS, ..KEPT }),
    (
        "https new",
        Style {
            way: TLS,
            rounds: 1..2,
            pause: 20..200,
            ..KEPT
        },
    ),
    (
        "h2",
        Style {
            way: H2,
            rounds: 5..60,
            ..KEPT
        },
    ),
    (
        "cached",
        Style {
            route: "cached",
            rounds: 5..60,
            ..KEPT
        },
    ),
    (
        "cached h2",
        Style {
            way: H2,
            route: "cached",
            ..KEPT
        },
    ),
    ("slow", SLOW),
    (
        "leaving",
        Style {
            leaves: 70,
            sizes: 0..2_000_000,
            pause: 0..100,
            ..KEPT
        },
    ),
];

const SLOW: Style = Style {
    way: Way {
        window: 32_768,
        ..Way::H1
    },
    rounds: 1..4,
    sizes: 100_000..1_500_000,
    slow: true,
    ..KEPT
};

/// Things that are asked for again and again.
const KEYS: u64 = 60;

pub async fn run(mut client: Client, style: Style) {
    while client.world.runs() {
        let mut way = style.way;
        if style.slow || style.leaves > 0 {
            way.h2 = client.random.chance(50);
            way.tls = client.random.chance(30);
        }
        let Some(mut line) = client.open(way).await else {
            continue;
        };
        for _ in 0..client.random.between(style.rounds.clone()) {
            if !round(&mut client, &style, way, &mut line).await || line.is_announced() {
                break;
            }
            client.rest(style.pause.clone()).await;
            if !client.world.runs() {
                break;
            }
        }
        drop(line);
        client.rest(style.pause.clone()).await;
    }
}

/// Asks once, or on several streams at a time. Returns whether the connection may be used again.
async fn round(client: &mut Client, style: &Style, way: Way, line: &mut Line) -> bool {
    if client.random.chance(style.leaves) {
        leave(client, style, way, line).await;
        return false;
    }
    let count = match way.h2 {
        // What they read at a time takes longer than anybody waits.
        true if style.slow => client.random.between(1..3),
        true => client.random.between(1..7),
        false => 1,
    };
    let gets: Vec<_> = (0..count)
        .map(|_| Get::new(client, style, way, line))
        .collect();
    let mut ends = Vec::new();
    if way.h2 {
        let streams = gets
            .into_iter()
            .filter_map(|get| Some((get, line.split()?)));
        let asked = streams.map(|((get, request), sender)| async {
            let answer = send(sender, request).await;
            get.finish(answer).await
        });
        ends = join_all(asked).await;
    } else {
        for (get, request) in gets {
            let answer = line.send(request).await;
            ends.push(get.finish(answer).await);
        }
    }
    // While a slow client still reads, the rest may lie with its own system: to the proxy the connection is idle.
    if way.h2 || !style.slow {
        line.used();
    }
    let mut all = true;
    for (asked, end) in ends {
        all &= client.judge(&asked, &end);
    }
    all
}

/// A request that is under way.
struct Get {
    method: Method,
    id: String,
    ask: Ask,
    cached: bool,
    floor: Floor,
    asked: Asked,
    slow: Option<Random>,
}

impl Get {
    fn new(client: &mut Client, style: &Style, way: Way, line: &Line) -> (Self, Request<Body>) {
        let cached = style.route == "cached";
        let random = &mut client.random;
        let framing = Framing::ALL[random.index(Framing::ALL.len())];
        let ask = if cached {
            let key = mix(random.between(0..KEYS));
            Ask {
                seed: key,
                size: key % style.sizes.end,
                framing: Framing::ALL[key as usize % 2],
            }
        } else {
            Ask {
                seed: random.next(),
                size: random.between(style.sizes.clone()),
                framing,
            }
        };
        let method = if random.chance(5) {
            Method::HEAD
        } else {
            Method::GET
        };
        let slow = style.slow.then(|| Random::new(random.next()));
        let path = ask.path(style.route);
        let (builder, id) = client.head(&method, &path, way);
        // A head that cannot be made would be an error of this program, and is one of the answer then.
        let request = builder
            .body(no_body())
            .unwrap_or_else(|_| Request::new(no_body()));
        let mut asked = client.asked(
            format!("{method} {path} {id} by {}", way.protocol()),
            Instant::now(),
        );
        asked.until_close = ask.framing == Framing::Close;
        asked.idle = line.idle();
        asked.connected = line.connected;
        let floor = client.world.taken.floor(line.connected);
        (
            Self {
                method,
                id,
                ask,
                cached,
                floor,
                asked,
                slow,
            },
            request,
        )
    }

    /// Reads the answer and compares it.
    async fn finish(mut self, answer: Result<Response<Incoming>, End>) -> (Asked, End) {
        let answer = match answer {
            Ok(answer) => answer,
            Err(end) => return (self.asked, end),
        };
        self.asked.origin = origin(answer.headers());
        let expected = Expected {
            method: &self.method,
            id: &self.id,
            ask: self.ask,
            cached: self.cached,
            floor: self.floor,
        };
        let end = check(answer, &expected, self.slow.as_mut()).await;
        (self.asked, end)
    }
}

/// Asks, and leaves before the whole answer is there.
async fn leave(client: &mut Client, style: &Style, way: Way, line: &mut Line) {
    let (get, request) = Get::new(client, style, way, line);
    let wait = client.random.pause(0..60);
    let pieces = client.random.between(0..30);
    if let Ok(Ok(answer)) = tokio::time::timeout(wait, line.send(request)).await {
        some(answer, pieces, Duration::from_millis(300)).await;
    }
    client.judge(&get.asked, &End::Left);
}
