//! Bytes that no client may send. They get a refusal or the end of the connection, and nothing of them comes to an origin:
//! one that gets a request without an id says so.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::line::whole;
use super::Client;
use crate::ledger::End;
use crate::random::piece;

/// Heads that are refused, as `docs/parsing.md` has it. `HOST` stands for the field of the host, `NEXT` for what follows.
const HEADS: [&str; 24] = [
    "GET /main/1/9/length HTTP/1.1\r\n\r\n",
    "GET /main/1/9/length HTTP/1.1\r\nHOST\r\nHOST\r\n\r\n",
    "GET  /main/1/9/length HTTP/1.1\r\nHOST\r\n\r\n",
    "GET /main/1/9/length HTTP/2.0\r\nHOST\r\n\r\n",
    "GET /main/1/9/length HTTP/01.1\r\nHOST\r\n\r\n",
    "GET main/1/9/length HTTP/1.1\r\nHOST\r\n\r\n",
    "GET /main/1/9 /length HTTP/1.1\r\nHOST\r\n\r\n",
    "G/T /main/1/9/length HTTP/1.1\r\nHOST\r\n\r\n",
    "GET /main/%zz/9/length HTTP/1.1\r\nHOST\r\n\r\n",
    "GET /main/1/9/length#a HTTP/1.1\r\nHOST\r\n\r\n",
    "GET /main/1/9/length HTTP/1.1\nHOST\n\n",
    "GET /main/1/9/length HTTP/1.1\r\nHOST\r\nA: b\rc\r\n\r\n",
    "GET /main/1/9/length HTTP/1.1\r\nHOST\r\nA: b\0c\r\n\r\n",
    "GET /main/1/9/length HTTP/1.1\r\nHOST\r\nA : b\r\n\r\n",
    "GET /main/1/9/length HTTP/1.1\r\nHOST\r\nA: b\r\n c\r\n\r\n",
    "GET /main/1/9/length HTTP/1.1\r\nHOST\r\nno colon\r\n\r\n",
    "GET /main/1/9/length HTTP/1.1\r\nHOST\r\n: no name\r\n\r\n",
    "POST /main/1/9/length HTTP/1.1\r\nHOST\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nNEXT",
    "POST /main/1/9/length HTTP/1.1\r\nHOST\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcNEXT",
    "POST /main/1/9/length HTTP/1.1\r\nHOST\r\nContent-Length: +3\r\n\r\nabcNEXT",
    "POST /main/1/9/length HTTP/1.1\r\nHOST\r\nContent-Length: 99999999999999999999\r\n\r\nNEXT",
    "POST /main/1/9/length HTTP/1.1\r\nHOST\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\nNEXT",
    "POST /main/1/9/length HTTP/1.1\r\nHOST\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\nNEXT",
    "CONNECT soak.example:80 HTTP/1.1\r\nHOST\r\n\r\nNEXT",
];

/// A request that is hidden behind another one, without an id.
const NEXT: &str = "GET /main/2/9/length HTTP/1.1\r\nHost: soak.example\r\n\r\n";

/// The beginning of a connection of HTTP/2.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub async fn run(mut client: Client) {
    while client.world.runs() {
        let (bytes, what) = bytes(&mut client);
        let from = Instant::now();
        let addresses = client.world.proxy.files.addresses;
        let to_tls = client.random.chance(20);
        let address = if to_tls {
            addresses.tls
        } else {
            addresses.clear
        };
        let is_head = what.is_some() && !to_tls;
        let end = match TcpStream::connect(address).await {
            Ok(stream) => answer(stream, &bytes, is_head).await,
            Err(e) => End::NoConnection(whole(&e)),
        };
        let what = what.map_or_else(
            || format!("{} bytes", bytes.len()),
            |head| format!("{head:?}"),
        );
        let asked = client.asked(what, from);
        client.judge(&asked, &end);
        client.rest(20..200).await;
    }
}

/// The bytes that are sent, and the head that it is if it is one.
fn bytes(client: &mut Client) -> (Vec<u8>, Option<&'static str>) {
    let random = &mut client.random;
    let noise = piece(random.next(), 0, random.between(1..3000) as usize);
    match random.index(10) {
        0 => (noise.to_vec(), None),
        1 => ([PREFACE, &noise].concat(), None),
        // The begin of a handshake.
        2 => (
            [b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", &noise[..]].concat(),
            None,
        ),
        _ => {
            let head = HEADS[random.index(HEADS.len())];
            let host = format!("Host: {}", crate::origin::HOST);
            let text = head.replace("HOST", &host).replace("NEXT", NEXT);
            (text.into_bytes(), Some(head))
        }
    }
}

/// Sends it and reads all that comes. What it may be is known of a head alone.
async fn answer(mut stream: TcpStream, bytes: &[u8], is_head: bool) -> End {
    let mut answer = Vec::new();
    let read = async {
        // The proxy may have closed the connection already.
        let _ = stream.write_all(bytes).await;
        if !is_head {
            let _ = stream.shutdown().await;
        }
        // A reset ends it as well.
        let _ = stream.read_to_end(&mut answer).await;
    };
    if tokio::time::timeout(Duration::from_secs(40), read)
        .await
        .is_err()
    {
        return End::Late;
    }
    let said = String::from_utf8_lossy(&answer);
    if said.to_ascii_lowercase().contains("x-origin") {
        return End::Wrong(format!("an origin has answered: {said:?}"));
    }
    let status = said
        .strip_prefix("HTTP/1.1 ")
        .and_then(|rest| rest.get(..3));
    match status {
        _ if !is_head => End::Refused,
        None if answer.is_empty() => End::Refused,
        Some("501" | "505") => End::Refused,
        Some(status) if status.starts_with('4') && said.matches("HTTP/1.1 ").count() == 1 => {
            End::Refused
        }
        _ => End::Wrong(format!("the answer is {said:?}")),
    }
}
