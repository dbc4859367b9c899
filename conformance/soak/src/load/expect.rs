//! Uploads whose client waits for 100 (Continue) before it sends the body.

use std::time::{Duration, Instant};

use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use hyper::Method;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::answer::{head, origin, Expected};
use super::line::{whole, PATIENCE};
use super::Client;
use crate::ask::{receipt_of, Ask, Framing};
use crate::ledger::{Asked, End};
use crate::origin::HOST;
use crate::random::piece;

pub async fn run(mut client: Client) {
    while client.world.runs() {
        let ask = Ask {
            seed: client.random.next(),
            size: client.random.between(1..40_000),
            framing: Framing::Length,
        };
        client.asked += 1;
        let id = format!("expect-{}-{}", client.index, client.asked);
        let path = ask.path("main");
        let mut asked = client.asked(format!("PUT {path} {id}"), Instant::now());
        let address = client.world.proxy.files.addresses.clear;
        let end = match TcpStream::connect(address).await {
            Err(e) => End::NoConnection(whole(&e)),
            Ok(stream) => {
                let expected = Expected {
                    method: &Method::PUT,
                    id: &id,
                    ask,
                    cached: false,
                    floor: client.world.taken.floor(asked.from),
                };
                let all = upload(stream, &path, &expected, &mut asked);
                tokio::time::timeout(PATIENCE, all)
                    .await
                    .unwrap_or(Err(End::Late))
                    .unwrap_or_else(|end| end)
            }
        };
        client.judge(&asked, &end);
        client.rest(50..300).await;
    }
}

/// An answer as it is read: its status, its fields, and what follows.
type Read = (u16, HeaderMap, Vec<u8>);

async fn upload(
    mut stream: TcpStream,
    path: &str,
    expected: &Expected<'_>,
    asked: &mut Asked,
) -> Result<End, End> {
    let lost = |e: std::io::Error| End::Lost(whole(&e));
    let Expected { ask, id, .. } = expected;
    let text = format!(
        "PUT {path} HTTP/1.1\r\nHost: {HOST}\r\nX-Id: {id}\r\nContent-Length: {}\r\n\
         Expect: 100-continue\r\nConnection: close\r\n\r\n",
        ask.size
    );
    stream.write_all(text.as_bytes()).await.map_err(lost)?;
    let mut read = Vec::new();
    let mut answer = read_head(&mut stream, &mut read).await?;
    if answer.0 == 100 {
        tokio::time::sleep(Duration::from_millis(ask.seed % 20)).await;
        let body = piece(ask.seed, 0, ask.size as usize);
        stream.write_all(&body).await.map_err(lost)?;
        // Another try of the proxy may bring another one, which is no end (RFC 9110 section 15.2).
        while answer.0 == 100 {
            answer = read_head(&mut stream, &mut answer.2).await?;
        }
    }
    let (status, fields, mut body) = answer;
    asked.origin = origin(&fields);
    head(&fields, status, expected)?;
    let cut = |e: std::io::Error| End::Cut(whole(&e));
    stream.read_to_end(&mut body).await.map_err(cut)?;
    let right = receipt_of(ask.seed, ask.size);
    if body == right.as_bytes() {
        return Ok(End::Whole);
    }
    Ok(End::Wrong(format!(
        "{:?} in place of {right}",
        String::from_utf8_lossy(&body)
    )))
}

/// Reads on until there is a whole head. What has been read already is taken.
async fn read_head(stream: &mut TcpStream, read: &mut Vec<u8>) -> Result<Read, End> {
    loop {
        if let Some(end) = read.windows(4).position(|four| four == b"\r\n\r\n") {
            let rest = read.split_off(end + 4);
            let text = String::from_utf8_lossy(read).into_owned();
            return parse(&text)
                .map(|(status, fields)| (status, fields, rest))
                .ok_or(End::Wrong(text));
        }
        match stream.read_buf(read).await {
            Ok(0) => {
                return Err(End::Lost(format!(
                    "closed after {} bytes of a head",
                    read.len()
                )))
            }
            Ok(_) => {}
            Err(e) => return Err(End::Lost(whole(&e))),
        }
    }
}

fn parse(text: &str) -> Option<(u16, HeaderMap)> {
    let mut lines = text.split("\r\n");
    let status = lines
        .next()?
        .strip_prefix("HTTP/1.1 ")?
        .get(..3)?
        .parse()
        .ok()?;
    let mut fields = HeaderMap::new();
    for line in lines.filter(|line| !line.is_empty()) {
        let (name, value) = line.split_once(':')?;
        let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
        fields.append(name, HeaderValue::from_str(value.trim()).ok()?);
    }
    Some((status, fields))
}
