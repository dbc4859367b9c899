//! Requests that are written before those in front of them are answered. The answers come in their order. One that says
//! `Connection: close`, as they do when the binary is exchanged, is the last; what stands behind it has reached no origin,
//! and is asked again.

use std::collections::VecDeque;
use std::time::Instant;

use hyper::header::CONNECTION;
use hyper::Method;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

use super::answer::{compare, compare_receipt, head, origin, Expected};
use super::line::{whole, PATIENCE};
use super::raw::Reader;
use super::Client;
use crate::ask::{Ask, Framing};
use crate::ledger::{Asked, End};
use crate::origin::HOST;
use crate::random::piece;
use crate::world::Floor;

const ROUTES: [&str; 3] = ["main", "two", "three"];

/// A request that is to be written, or was, and has no answer yet.
struct Piped {
    method: Method,
    id: String,
    ask: Ask,
    bytes: Vec<u8>,
    asked: Asked,
}

pub async fn run(mut client: Client) {
    let mut queue = VecDeque::new();
    while client.world.runs() {
        let count = client.random.between(2..9) as usize;
        while queue.len() < count {
            queue.push_back(Piped::new(&mut client));
        }
        let tls = client.random.chance(30);
        let connected = Instant::now();
        let stream = match connect(&client, tls).await {
            Ok(stream) => stream,
            Err(end) => {
                let asked = client.asked("a connection".to_owned(), connected);
                client.judge(&asked, &end);
                client.rest(50..200).await;
                continue;
            }
        };
        ask(&mut client, stream, connected, &mut queue).await;
        client.rest(0..150).await;
    }
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

async fn connect(client: &Client, tls: bool) -> Result<Box<dyn Stream>, End> {
    let addresses = client.world.proxy.files.addresses;
    let address = if tls { addresses.tls } else { addresses.clear };
    let failed = |e| End::NoConnection(whole(&e));
    let connecting = async {
        let stream = TcpStream::connect(address).await.map_err(failed)?;
        if !tls {
            return Ok(Box::new(stream) as Box<dyn Stream>);
        }
        let stream = client.world.tls.connect(stream, false).await;
        Ok(Box::new(stream.map_err(failed)?) as Box<dyn Stream>)
    };
    let late = |_| End::NoConnection(format!("not made in {PATIENCE:?}"));
    tokio::time::timeout(PATIENCE, connecting)
        .await
        .map_err(late)?
}

/// Writes all requests at once, and reads their answers. What stands behind the last answer stays in the queue.
async fn ask(
    client: &mut Client,
    stream: Box<dyn Stream>,
    connected: Instant,
    queue: &mut VecDeque<Piped>,
) {
    let floor = client.world.taken.floor(connected);
    let mut bytes = Vec::new();
    for piped in queue.iter_mut() {
        piped.asked.from = Instant::now();
        piped.asked.connected = connected;
        bytes.extend_from_slice(&piped.bytes);
    }
    let (read, mut write) = tokio::io::split(stream);
    // Beside the reads: nobody takes answers from a client that only writes. It stays open until the answers are there.
    let writing = tokio::spawn(async move {
        let _ = write.write_all(&bytes).await;
        let _ = write.flush().await;
        std::future::pending::<()>().await;
    });
    let mut reader = Reader::new(read);
    while let Some(mut piped) = queue.pop_front() {
        let answer = tokio::time::timeout(PATIENCE, piped.answer(&mut reader, floor)).await;
        let (end, is_last) = match answer {
            Ok(Ok(answer)) => answer,
            Ok(Err(end)) => (end, false),
            Err(_) => (End::Late, false),
        };
        if !client.judge(&piped.asked, &end) {
            // An origin may have got the others already.
            for behind in queue.drain(..) {
                client.judge(&behind.asked, &End::Left);
            }
        } else if is_last {
            ended(client, &mut reader, &piped).await;
            for _ in queue.iter() {
                client
                    .world
                    .ledger
                    .count(client.kind, "announced, asked again");
            }
            break;
        }
    }
    writing.abort();
}

/// Nothing may follow the last answer.
async fn ended(client: &Client, reader: &mut Reader<impl AsyncRead + Unpin>, last: &Piped) {
    let what = match tokio::time::timeout(PATIENCE, reader.end()).await {
        Ok(Ok(())) => return,
        Ok(Err(what)) => what,
        Err(_) => format!("nothing for {PATIENCE:?}"),
    };
    let request = &last.asked.what;
    let violation = format_args!("pipelined: {request}: not the end follows, but {what}");
    client.world.ledger.violation(violation);
}

impl Piped {
    fn new(client: &mut Client) -> Self {
        client.asked += 1;
        let id = format!("pipelined-{}-{}", client.index, client.asked);
        let random = &mut client.random;
        let method = match random.index(20) {
            0 => Method::HEAD,
            1..=5 => Method::POST,
            _ => Method::GET,
        };
        let mut ask = Ask {
            seed: random.next(),
            size: random.between(0..30_000),
            framing: Framing::ALL[random.index(Framing::ALL.len())],
        };
        if method == Method::POST {
            ask.framing = Framing::Length;
        }
        let path = ask.path(ROUTES[random.index(ROUTES.len())]);
        let mut bytes = format!("{method} {path} HTTP/1.1\r\nHost: {HOST}\r\nX-Id: {id}\r\n");
        let body = match method {
            Method::POST => {
                bytes += &format!("Content-Length: {}\r\n", ask.size);
                piece(ask.seed, 0, ask.size as usize)
            }
            _ => Default::default(),
        };
        bytes += "\r\n";
        let mut asked = client.asked(format!("{method} {path} {id}"), Instant::now());
        asked.safe = method != Method::POST;
        asked.until_close = ask.framing == Framing::Close;
        Self {
            method,
            id,
            ask,
            bytes: [bytes.as_bytes(), &body].concat(),
            asked,
        }
    }

    /// Reads the answer. Returns whether it says that it is the last one.
    async fn answer(
        &mut self,
        reader: &mut Reader<impl AsyncRead + Unpin>,
        floor: Floor,
    ) -> Result<(End, bool), End> {
        let answer = reader.head().await?;
        self.asked.origin = origin(&answer.fields);
        let expected = Expected {
            method: &self.method,
            id: &self.id,
            ask: self.ask,
            cached: false,
            floor,
        };
        head(&answer.fields, answer.status, &expected)?;
        let body = match self.method {
            Method::HEAD => None,
            _ => Some(reader.body(&answer.fields).await?),
        };
        let end = match &body {
            Some(body) if self.method == Method::POST => {
                compare_receipt(&body.bytes, self.ask.seed, self.ask.size)
            }
            body => match compare(&answer.fields, body.as_ref(), &self.ask) {
                Ok(()) => End::Whole,
                Err(end) => end,
            },
        };
        let last = answer.fields.get(CONNECTION);
        Ok((end, last.is_some_and(|value| value == "close")))
    }
}
