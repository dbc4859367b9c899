//! The origin, as the proxy connects to it.

use std::fmt;

use async_trait::async_trait;
use pingora_core::connectors::L4Connect;
use pingora_core::protocols::l4::socket::SocketAddr;
use pingora_core::protocols::l4::stream::Stream;
use pingora_core::ErrorType::ConnectError;
use pingora_core::{Error, Result};

use crate::pipe::Pipe;
use crate::rules::Fill;
use crate::world::World;

/// A connection to the origin, and what comes of its one request.
pub struct Answer {
    /// Whoever has asked, by its number.
    pub asker: usize,
    pub fill: Fill,
    /// It was purged while it was stored.
    pub purged: bool,
    pipe: Pipe,
    stage: Stage,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Asked,
    /// Half of the body is sent.
    Begun,
    Sent,
    GivenUp,
}

const NOT_MODIFIED: &str = "HTTP/1.1 304 Not Modified\r\nETag: \"1\"\r\n\
    Cache-Control: max-age=60\r\nConnection: close\r\n\r\n";
const BUSY: &str = "HTTP/1.1 503 Busy\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

impl Answer {
    /// The length of each body.
    pub const LENGTH: usize = Answer::STALE.len();
    /// The body that was stored before.
    pub const STALE: &str = "stored before it";
    /// The field with the number of a response.
    pub const NUMBER: &str = "number";

    fn body(number: usize) -> String {
        format!("response {number:03} end")
    }

    /// The number of the response with this body; none for the one that was stored before.
    pub fn number(body: &str) -> Option<usize> {
        body.get(9..12)?.parse().ok()
    }

    fn head(number: usize, cache_control: &str) -> String {
        format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\
             Cache-Control: {cache_control}\r\n{}: {number}\r\n\r\n",
            Answer::LENGTH,
            Answer::NUMBER
        )
    }

    pub fn is_sent(&self) -> bool {
        self.stage == Stage::Sent
    }

    /// Returns whether the origin has something to do.
    pub fn is_due(&self) -> bool {
        let asked = self.pipe.received().ends_with("\r\n\r\n");
        let is_open = !self.pipe.is_closed() && !self.pipe.has_ended();
        is_open && asked && matches!(self.stage, Stage::Asked | Stage::Begun)
    }
}

impl World {
    /// Does what is next for the origin on a connection.
    pub fn answer(&self, number: usize) {
        let (stage, pipe) = {
            let state = self.state();
            let answer = &state.answers[number];
            (answer.stage, answer.pipe.clone())
        };
        let next = match stage {
            Stage::Asked => self.begin_answer(number, &pipe),
            _ => self.end_answer(number, &pipe),
        };
        if next != Stage::Begun {
            pipe.end();
        }
        self.state().answers[number].stage = next;
    }

    fn begin_answer(&self, number: usize, pipe: &Pipe) -> Stage {
        let revalidates = pipe.received().contains("If-None-Match");
        let body = Answer::body(number);
        self.note(format!("response {number}"));
        match self.fault("the origin", 4) {
            0 if revalidates => {
                pipe.send(NOT_MODIFIED);
                Stage::Sent
            }
            // In answer to a revalidation it is a new one.
            0 | 1 => {
                pipe.send(&Answer::head(number, "max-age=60"));
                pipe.send(&body[..8]);
                Stage::Begun
            }
            2 => {
                pipe.send(&(Answer::head(number, "no-store") + &body));
                Stage::Sent
            }
            3 => {
                pipe.send(BUSY);
                Stage::GivenUp
            }
            _ => Stage::GivenUp,
        }
    }

    fn end_answer(&self, number: usize, pipe: &Pipe) -> Stage {
        self.note(format!("the rest of response {number}"));
        if self.fault("a response", 1) > 0 {
            return Stage::GivenUp;
        }
        pipe.send(&Answer::body(number)[8..]);
        Stage::Sent
    }
}

/// Connects to the origin.
pub struct ToOrigin(pub &'static World);

impl fmt::Debug for ToOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ToOrigin")
    }
}

#[async_trait]
impl L4Connect for ToOrigin {
    async fn connect(&self, _: &SocketAddr) -> Result<Stream> {
        self.0.pause().await;
        if self.0.fault("a connection", 1) > 0 {
            return Error::e_explain(ConnectError, "as chosen");
        }
        let pipe = Pipe::default();
        let stream = pipe.stream();
        let mut state = self.0.state();
        state.note("asks the origin");
        let asker = state.running;
        state.answers.push(Answer {
            asker,
            fill: Fill::None,
            purged: false,
            pipe,
            stage: Stage::Asked,
        });
        Ok(stream)
    }
}
