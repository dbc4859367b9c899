//! What reading and writing the heads of messages costs.

use std::hint::black_box;
use std::time::Duration;

use benches::{nanos_per_call, table};
use bytes::Bytes;
use clap::Parser;
use pingora_core::protocols::http::v1::proto::head::{
    parse_request, parse_response, Limits, Scanner,
};
use pingora_http::{RequestHeader, ResponseHeader};

#[derive(Parser)]
#[command(about = "Measures what reading and writing the heads of HTTP/1.1 messages costs.")]
struct Args {
    /// Rounds, of which the median is taken.
    #[arg(long, default_value_t = 15)]
    rounds: usize,
    /// Milliseconds of one round.
    #[arg(long, default_value_t = 100)]
    millis: u64,
}

const SMALL_REQUEST: &str = "GET / HTTP/1.1\r\nHost: x\r\nUser-Agent: bench\r\nAccept: */*\r\n\r\n";

/// What a browser sends.
const BROWSER_REQUEST: &str = "GET /articles/2026/11/a-title-of-some-length?ref=home HTTP/1.1\r\n\
    Host: www.example.com\r\nConnection: keep-alive\r\nCache-Control: max-age=0\r\n\
    sec-ch-ua: \"Chromium\";v=\"142\", \"Not_A Brand\";v=\"99\"\r\nsec-ch-ua-mobile: ?0\r\n\
    sec-ch-ua-platform: \"Linux\"\r\nUpgrade-Insecure-Requests: 1\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0\r\n\
    Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8\r\n\
    Sec-Fetch-Site: same-origin\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-User: ?1\r\nSec-Fetch-Dest: document\r\n\
    Accept-Encoding: gzip, deflate, br, zstd\r\nAccept-Language: en-GB,en;q=0.9\r\n\
    Cookie: session=0123456789abcdef0123456789abcdef; theme=dark\r\n\r\n";

const RESPONSE: &str = "HTTP/1.1 200 OK\r\nServer: nginx/1.22.1\r\nDate: Sun, 22 Nov 2026 10:00:00 GMT\r\n\
    Content-Type: text/html\r\nContent-Length: 615\r\nLast-Modified: Mon, 16 Nov 2026 09:00:00 GMT\r\n\
    Connection: keep-alive\r\nETag: \"6553d1a0-267\"\r\nAccept-Ranges: bytes\r\n\r\n";

fn scanned(head: &str, limits: &Limits) -> Result<Bytes, String> {
    let found = Scanner::default()
        .scan(head.as_bytes(), limits)
        .map_err(|e| e.to_string())?
        .ok_or("a head without an end")?;
    Ok(Bytes::copy_from_slice(
        &head.as_bytes()[found.start..found.end],
    ))
}

fn request(head: &str) -> Result<Box<RequestHeader>, String> {
    let limits = Limits::default();
    let read = parse_request(&scanned(head, &limits)?, &limits);
    Ok(read.map_err(|e| e.to_string())?.0)
}

fn response(head: &str) -> Result<Box<ResponseHeader>, String> {
    parse_response(&scanned(head, &Limits::response())?).map_err(|e| e.to_string())
}

fn main() -> Result<(), String> {
    let args = Args::parse();
    let measure = |f: &mut dyn FnMut()| {
        let nanos = nanos_per_call(args.rounds.max(1), Duration::from_millis(args.millis), f);
        format!("{nanos:.0}")
    };
    let mut rows = Vec::new();
    for (name, head) in [("small", SMALL_REQUEST), ("browser's", BROWSER_REQUEST)] {
        let parsed = request(head)?;
        let mut wire = Vec::with_capacity(4096);
        rows.push(vec![
            format!("{name} request"),
            head.len().to_string(),
            parsed.headers.len().to_string(),
            measure(&mut || drop(black_box(request(black_box(head))))),
            measure(&mut || drop(black_box(parsed.clone()))),
            measure(&mut || {
                wire.clear();
                parsed.header_to_h1_wire(black_box(&mut wire));
            }),
        ]);
    }
    let parsed = response(RESPONSE)?;
    let mut wire = Vec::with_capacity(4096);
    rows.push(vec![
        "response".into(),
        RESPONSE.len().to_string(),
        parsed.headers.len().to_string(),
        measure(&mut || drop(black_box(response(black_box(RESPONSE))))),
        measure(&mut || drop(black_box(parsed.clone()))),
        measure(&mut || {
            wire.clear();
            parsed.header_to_h1_wire(black_box(&mut wire));
        }),
    ]);
    let header = ["head", "bytes", "fields", "read ns", "copy ns", "write ns"];
    print!("{}", table(&header, &rows));
    Ok(())
}
