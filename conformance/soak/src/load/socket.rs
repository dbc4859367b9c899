//! WebSockets: messages that must come back as they are.

use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt};
use hyper::header::HeaderValue;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{self, Bytes, Message};
use tokio_tungstenite::{client_async, WebSocketStream};

use super::answer::origin;
use super::line::{whole, PATIENCE};
use super::Client;
use crate::ledger::{Asked, End};
use crate::origin::HOST;
use crate::random::{piece, Random};

pub async fn run(mut client: Client) {
    while client.world.runs() {
        let tls = client.random.chance(40);
        client.asked += 1;
        let id = format!("socket-{}-{}", client.index, client.asked);
        let by = if tls { "wss" } else { "ws" };
        let mut asked = client.asked(format!("{by} {id}"), Instant::now());
        asked.safe = true;
        let end = session(&mut client, &mut asked, &id, tls).await;
        client.judge(&asked, &end);
        client.rest(50..300).await;
    }
}

async fn session(client: &mut Client, asked: &mut Asked, id: &str, tls: bool) -> End {
    let addresses = client.world.proxy.files.addresses;
    let address = if tls { addresses.tls } else { addresses.clear };
    let stream = match TcpStream::connect(address).await {
        Ok(stream) => stream,
        Err(e) => return End::NoConnection(whole(&e)),
    };
    let mut random = Random::new(client.random.next());
    if !tls {
        return talk(stream, &mut random, asked, id).await;
    }
    match client.world.tls.connect(stream, false).await {
        Ok(stream) => talk(stream, &mut random, asked, id).await,
        Err(e) => End::NoConnection(whole(&e)),
    }
}

async fn talk<S>(stream: S, random: &mut Random, asked: &mut Asked, id: &str) -> End
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let request = format!("ws://{HOST}/ws/echo").into_client_request();
    let (Ok(mut request), Ok(value)) = (request, HeaderValue::from_str(id)) else {
        return End::Wrong("no request could be made".to_owned());
    };
    request.headers_mut().insert("x-id", value);
    let opened = tokio::time::timeout(PATIENCE, client_async(request, stream)).await;
    let mut socket = match opened {
        Err(_) => return End::Late,
        Ok(Ok((socket, answer))) => {
            asked.origin = origin(answer.headers());
            if answer.headers().get("x-id").map(HeaderValue::as_bytes) != Some(id.as_bytes()) {
                return End::Wrong("the answer is for another one".to_owned());
            }
            socket
        }
        Ok(Err(tungstenite::Error::Http(answer))) => return End::Status(answer.status().as_u16()),
        Ok(Err(e)) => return End::Lost(whole(&e)),
    };
    for number in 0..random.between(1..40) {
        if let Err(end) = echo(&mut socket, random, number).await {
            return end;
        }
        tokio::time::sleep(random.pause(0..100)).await;
    }
    close(&mut socket).await
}

/// Sends a message and has it come back.
async fn echo<S>(
    socket: &mut WebSocketStream<S>,
    random: &mut Random,
    number: u64,
) -> Result<(), End>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let most = if random.chance(10) { 300_000 } else { 2_000 };
    let len = random.between(0..most) as usize;
    let message = if random.chance(30) {
        Message::text(format!("{number} {}", "é".repeat(len / 2)))
    } else {
        Message::binary(piece(random.next(), 0, len))
    };
    let cut = |e: tungstenite::Error| End::Cut(format!("{} in message {number}", whole(&e)));
    let back = async {
        socket.send(message.clone()).await.map_err(cut)?;
        loop {
            match socket.next().await {
                Some(Ok(back)) if back == message => return Ok(()),
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                Some(Ok(other)) => {
                    return Err(End::Wrong(format!("{} bytes came back", other.len())))
                }
                Some(Err(e)) => return Err(cut(e)),
                None => return Err(End::Cut(format!("closed in message {number}"))),
            }
        }
    };
    tokio::time::timeout(PATIENCE, back)
        .await
        .unwrap_or(Err(End::Late))
}

/// Closes it in order: the other end has to say so too.
async fn close<S>(socket: &mut WebSocketStream<S>) -> End
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let closed = async {
        let _ = socket.send(Message::Ping(Bytes::from_static(b"end"))).await;
        socket.close(None).await.map_err(|e| End::Cut(whole(&e)))?;
        loop {
            match socket.next().await {
                Some(Ok(Message::Close(_))) | None => return Ok(()),
                Some(Ok(_)) => {}
                Some(Err(e)) => return Err(End::Cut(format!("{} at the end", whole(&e)))),
            }
        }
    };
    match tokio::time::timeout(Duration::from_secs(30), closed).await {
        Ok(Ok(())) => End::Whole,
        Ok(Err(end)) => end,
        Err(_) => End::Late,
    }
}
