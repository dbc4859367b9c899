//! The clients: each a loop of one kind of request, with random numbers of its own.

mod answer;
mod early;
mod expect;
mod garbage;
mod get;
mod line;
mod pipeline;
mod raw;
mod rpc;
mod socket;
pub mod tls;
mod upload;

use std::sync::Arc;
use std::time::Instant;

use hyper::header::HOST as HOST_FIELD;
use hyper::http::request::Builder;
use hyper::{Method, Request};
use tokio::task::JoinSet;

use crate::ledger::{Asked, End};
use crate::origin::HOST;
use crate::random::Random;
use crate::world::World;
use line::{Line, Way};

/// A client.
struct Client {
    world: Arc<World>,
    kind: &'static str,
    index: usize,
    random: Random,
    asked: u64,
    /// Requests in a row that were refused and may be sent again.
    refused: u32,
}

impl Client {
    fn new(world: &Arc<World>, kind: &'static str, index: usize) -> Self {
        Self {
            world: world.clone(),
            kind,
            index,
            random: Random::of(world.seed, kind, index),
            asked: 0,
            refused: 0,
        }
    }

    /// Makes the head of a request, with an id that no other one has.
    fn head(&mut self, method: &Method, path: &str, way: Way) -> (Builder, String) {
        self.asked += 1;
        let id = format!(
            "{}-{}-{}",
            self.kind.replace(' ', "-"),
            self.index,
            self.asked
        );
        let builder = Request::builder().method(method).header("x-id", &id);
        let builder = if way.h2 {
            let scheme = if way.tls { "https" } else { "http" };
            builder.uri(format!("{scheme}://{HOST}{path}"))
        } else {
            builder.uri(path).header(HOST_FIELD, HOST)
        };
        (builder, id)
    }

    fn asked(&self, what: String, from: Instant) -> Asked {
        Asked {
            kind: self.kind,
            what,
            from,
            safe: true,
            until_close: false,
            connected: from,
            idle: Default::default(),
            origin: None,
        }
    }

    /// Takes down how a request ended. Returns whether its connection may serve another one.
    fn judge(&mut self, asked: &Asked, end: &End) -> bool {
        if matches!(end, End::Announced) {
            self.refused += 1;
            if self.refused > 20 {
                let what = &asked.what;
                let kind = self.kind;
                let violation = format_args!("{kind}: {what}: refused {} times", self.refused);
                self.world.ledger.violation(violation);
            }
        } else {
            self.refused = 0;
        }
        self.world.ledger.judge(&self.world.faults, asked, end)
    }

    /// Opens a connection, or takes down that there is none.
    async fn open(&mut self, way: Way) -> Option<Line> {
        let from = Instant::now();
        match Line::open(&self.world, way).await {
            Ok(line) => Some(line),
            Err(end) => {
                let asked = self.asked(format!("a connection by {}", way.protocol()), from);
                self.judge(&asked, &end);
                self.rest(50..200).await;
                None
            }
        }
    }

    /// Waits a while.
    async fn rest(&mut self, milliseconds: std::ops::Range<u64>) {
        let pause = self.random.pause(milliseconds);
        self.world.pause(pause).await;
    }
}

/// Starts so many clients of each kind.
pub fn start(world: &Arc<World>, each: usize) -> JoinSet<()> {
    let mut clients = JoinSet::new();
    for index in 0..each {
        for (kind, style) in get::STYLES {
            clients.spawn(get::run(Client::new(world, kind, index), style));
        }
        for (kind, way) in upload::WAYS {
            clients.spawn(upload::run(Client::new(world, kind, index), way));
        }
        for (kind, way) in early::WAYS {
            clients.spawn(early::run(Client::new(world, kind, index), way));
        }
        clients.spawn(pipeline::run(Client::new(world, "pipelined", index)));
        clients.spawn(expect::run(Client::new(world, "expect", index)));
        clients.spawn(garbage::run(Client::new(world, "garbage", index)));
        clients.spawn(rpc::run(Client::new(world, "grpc", index)));
        clients.spawn(socket::run(Client::new(world, "websocket", index)));
    }
    clients
}
