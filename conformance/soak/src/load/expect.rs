//! Uploads whose client waits for 100 (Continue) before it sends the body.

use std::time::{Duration, Instant};

use hyper::Method;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::answer::{compare_receipt, head, origin, Expected};
use super::line::{whole, PATIENCE};
use super::raw::Reader;
use super::Client;
use crate::ask::{Ask, Framing};
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

async fn upload(
    stream: TcpStream,
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
    let (read, mut write) = tokio::io::split(stream);
    write.write_all(text.as_bytes()).await.map_err(lost)?;
    let mut reader = Reader::new(read);
    let mut answer = reader.head().await?;
    if answer.status == 100 {
        tokio::time::sleep(Duration::from_millis(ask.seed % 20)).await;
        let body = piece(ask.seed, 0, ask.size as usize);
        write.write_all(&body).await.map_err(lost)?;
        // Another try of the proxy may bring another one, which is no end (RFC 9110 section 15.2).
        while answer.status == 100 {
            answer = reader.head().await?;
        }
    }
    asked.origin = origin(&answer.fields);
    head(&answer.fields, answer.status, expected)?;
    let body = reader.body(&answer.fields).await?;
    Ok(compare_receipt(&body.bytes, ask.seed, ask.size))
}
