//! Streams of HTTP/2 with mutated fields, which become requests of HTTP/1.1 or none (RFC 9113).

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use crate::fuzz::Bench;
use crate::mutate::{mutate, Random};
use crate::origin::{told, Seen};
use crate::strict::Request;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const ACK: u8 = 1;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// A field line as a literal that no table holds (RFC 7541 section 6.2.2).
fn literal(block: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    block.push(0);
    for text in [name, value] {
        let mut length = text.len();
        if length < 127 {
            block.push(length as u8);
        } else {
            block.push(127);
            length -= 127;
            while length >= 128 {
                block.push((length % 128) as u8 | 128);
                length /= 128;
            }
            block.push(length as u8);
        }
        block.extend(text);
    }
}

type Fields = Vec<(Vec<u8>, Vec<u8>)>;

fn fields(path: &str) -> Fields {
    let field = |name: &str, value: &str| (name.into(), value.into());
    vec![
        field(":method", "GET"),
        field(":scheme", "http"),
        field(":authority", "x"),
        field(":path", path),
        field("accept", "*/*"),
        field("x-a", "b"),
        field("cookie", "a=b"),
    ]
}

/// Changes names, values, their number and their order.
fn mutate_fields(random: &mut Random, fields: &mut Fields) {
    for _ in 0..1 + random.below(3) {
        let at = random.below(fields.len());
        match random.below(6) {
            0 => mutate(random, &mut fields[at].0),
            1 | 2 => mutate(random, &mut fields[at].1),
            3 => fields.push(fields[at].clone()),
            4 if fields.len() > 1 => drop(fields.remove(at)),
            _ => {
                let name = random.of(&[
                    "content-length",
                    "transfer-encoding",
                    "connection",
                    "host",
                    "te",
                    ":path",
                    ":protocol",
                    "upgrade",
                    "x\r\nx",
                ]);
                let value = random.of(&[
                    "0",
                    "5",
                    "chunked",
                    "close",
                    "y",
                    "trailers",
                    "a\r\nb: c",
                    "",
                ]);
                let place = random.below(fields.len() + 1);
                fields.insert(place, (name.into(), value.into()));
            }
        }
    }
}

fn head(fields: &Fields, stream: u32, end: bool) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        literal(&mut block, name, value);
    }
    let flags = END_HEADERS | if end { END_STREAM } else { 0 };
    frame(HEADERS, flags, stream, &block)
}

/// The frames that came on a stream, put together.
#[derive(Default)]
struct Stream {
    data: Vec<u8>,
    ended: bool,
    reset: bool,
}

/// A mutated request on one stream, and one that is right on the next.
pub fn streams(bench: &Bench, random: &mut Random, number: usize) -> Result<(), String> {
    let mut first = fields(&format!("/r/{number}"));
    if !random.one_in(16) {
        mutate_fields(random, &mut first);
    }
    let body: Option<&[u8]> = match random.below(3) {
        0 => Some(b"hello"),
        1 => Some(b""),
        _ => None,
    };
    let next = format!("/n/{number}");
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    bytes.extend(frame(SETTINGS, 0, 0, b""));
    bytes.extend(head(&first, 1, body.is_none()));
    if let Some(body) = body {
        bytes.extend(frame(DATA, END_STREAM, 1, body));
    }
    bytes.extend(head(&fields(&next), 3, true));
    let shown = || {
        let each = first
            .iter()
            .map(|(name, value)| format!("{}: {}", name.escape_ascii(), value.escape_ascii()));
        format!("{:?} with {body:?}", each.collect::<Vec<_>>())
    };
    bench.origin.take();
    let got = exchange(bench, &bytes).map_err(|e| format!("{e}: {}", shown()))?;
    for seen in bench.origin.take() {
        let request = match seen {
            Seen::Request(request) => request,
            Seen::Malformed(why, bytes) => {
                let bytes = bytes.escape_ascii();
                return Err(format!("upstream was sent {bytes}: {why}: {}", shown()));
            }
        };
        // One that came late for a case before has neither path.
        let sent = body.unwrap_or(b"");
        if request.target.contains("smuggled") && !first.iter().any(|(_, v)| has(v, "smuggled")) {
            return Err(format!(
                "upstream was sent {:?}: {}",
                told(&request),
                shown()
            ));
        }
        if request.target == format!("/r/{number}") && request.body != sent {
            return Err(format!(
                "upstream was sent {:?}: {}",
                told(&request),
                shown()
            ));
        }
    }
    let wanted = told(&Request::get(&next));
    let [_, second] = got;
    if !second.reset && second.ended && second.data != wanted.as_bytes() {
        let data = second.data.escape_ascii();
        return Err(format!("the next stream got {data}: {}", shown()));
    }
    Ok(())
}

fn has(value: &[u8], text: &str) -> bool {
    value
        .windows(text.len())
        .any(|part| part == text.as_bytes())
}

/// Sends all, and reads until the second stream has ended, or the connection.
fn exchange(bench: &Bench, bytes: &[u8]) -> Result<[Stream; 2], String> {
    let mut stream = UnixStream::connect(&bench.proxy.socket).map_err(|e| e.to_string())?;
    let _ = stream.set_read_timeout(Some(Duration::from_secs(60)));
    let _ = stream.write_all(bytes);
    let mut streams = [Stream::default(), Stream::default()];
    loop {
        let mut head = [0; 9];
        match stream.read_exact(&mut head) {
            Ok(()) => {}
            Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => {
                return Err("nothing comes on the next stream".into());
            }
            Err(_) => return Ok(streams),
        }
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let (kind, flags) = (head[3], head[4]);
        let id = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        let mut payload = vec![0; length];
        if stream.read_exact(&mut payload).is_err() {
            return Ok(streams);
        }
        if kind == SETTINGS && flags & ACK == 0 {
            let _ = stream.write_all(&frame(SETTINGS, ACK, 0, b""));
        }
        let of = match id {
            1 => &mut streams[0],
            3 => &mut streams[1],
            _ if kind == GOAWAY => return Ok(streams),
            _ => continue,
        };
        match kind {
            DATA => of.data.extend(payload),
            RST_STREAM => of.reset = true,
            _ => {}
        }
        of.ended |= matches!(kind, DATA | HEADERS) && flags & END_STREAM != 0;
        if streams[1].ended || streams[1].reset {
            return Ok(streams);
        }
    }
}
