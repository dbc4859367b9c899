//! Frames of a client of HTTP/2, read by the `h2` crate alone and by a server with the guard before it. What the guard
//! lets through is what `h2` makes of the same bytes; what `h2` finds nothing wrong with is no error of compression to
//! the guard; and what HTTP allows arrives.
#![no_main]

use std::future::Future;
use std::pin::{pin, Pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;
use pingora_core::protocols::http::v2::server::{
    default_h2_options, handshake, H2Accept, HttpSession,
};
use pingora_core::protocols::{Digest, Stream};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

#[derive(Arbitrary, Debug)]
enum Op<'a> {
    /// A request's head or its trailers, in pieces of this size.
    Block {
        stream: u8,
        ended: bool,
        padding: Option<u8>,
        priority: bool,
        piece: u8,
        fields: Vec<Field<'a>>,
    },
    /// A whole request that nothing is wrong with, with this field besides.
    Good {
        name: u8,
        value: &'a [u8],
        enters: bool,
        huffman: bool,
    },
    Data {
        stream: u8,
        ended: bool,
        data: &'a [u8],
    },
    Frame {
        kind: u8,
        flags: u8,
        stream: u8,
        payload: &'a [u8],
    },
    Raw(&'a [u8]),
}

#[derive(Arbitrary, Debug)]
enum Field<'a> {
    Indexed(u8),
    TableSize(u8),
    Named {
        form: u8,
        name: u8,
        huffman: bool,
        value: &'a [u8],
    },
    Literal {
        form: u8,
        coded: (bool, bool),
        name: &'a [u8],
        value: &'a [u8],
    },
    /// What every request begins with.
    Pseudo,
    Raw(&'a [u8]),
}

#[derive(Arbitrary, Debug)]
struct Case<'a> {
    /// How many bytes come at a time; 0 for all at once.
    at_once: u8,
    ops: Vec<Op<'a>>,
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
/// `:method: GET`, `:scheme: http`, `:path: /`, and `:authority: a` that enters no table.
const PSEUDO: &[u8] = &[0x82, 0x86, 0x84, 0x01, 1, b'a'];

const HEADERS: u8 = 1;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const LAST_PING: &[u8] = &[0x5a; 8];
const COMPRESSION_ERROR: u32 = 9;

fn frame(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    out.extend_from_slice(&(payload.len() as u32).to_be_bytes()[1..]);
    out.extend_from_slice(&[kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(payload);
}

/// An integer behind the bits of `first`.
fn integer(out: &mut Vec<u8>, first: u8, bits: u32, mut n: usize) {
    let most = (1 << bits) - 1;
    if n < most {
        return out.push(first | n as u8);
    }
    out.push(first | most as u8);
    n -= most;
    while n >= 128 {
        out.push(n as u8 | 128);
        n >>= 7;
    }
    out.push(n as u8);
}

fn string(out: &mut Vec<u8>, huffman: bool, bytes: &[u8]) {
    integer(out, u8::from(huffman) << 7, 7, bytes.len());
    out.extend_from_slice(bytes);
}

/// The length of each byte's code in bits (RFC 7541 appendix B). Codes of one length follow each other.
#[rustfmt::skip]
const LENGTHS: [u8; 256] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28,
    28, 28, 28, 28, 28, 28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6,
    5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10, 13, 6, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7,
    7, 7, 7, 15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23,
    24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, 22, 21, 20, 22, 22, 23, 23, 21,
    23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24,
    21, 21, 26, 26, 28, 27, 27, 27, 20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23,
    26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
];

/// A string in Huffman code.
fn coded(text: &[u8]) -> Vec<u8> {
    let code = |byte: u8| {
        let length = LENGTHS[usize::from(byte)];
        let before = |other: u8| {
            let other_length = LENGTHS[usize::from(other)];
            (other_length, other) < (length, byte)
        };
        // Each shorter or earlier code takes its part of all codes of this length.
        let part = |other: u8| 1_u64 << (length - LENGTHS[usize::from(other)]);
        let code: u64 = (0..=u8::MAX).filter(|other| before(*other)).map(part).sum();
        (code, length)
    };
    let (mut out, mut bits, mut count) = (Vec::new(), 0_u64, 0);
    for byte in text {
        let (code, length) = code(*byte);
        (bits, count) = (bits << length | code, count + length);
        while count >= 8 {
            count -= 8;
            out.push((bits >> count) as u8);
        }
        bits &= (1 << count) - 1;
    }
    if count > 0 {
        out.push((bits << (8 - count)) as u8 | (0xff >> count));
    }
    out
}

fn literal(out: &mut Vec<u8>, form: u8, name: usize) {
    match form % 3 {
        0 => integer(out, 0x40, 6, name),
        1 => integer(out, 0x00, 4, name),
        _ => integer(out, 0x10, 4, name),
    }
}

fn block(fields: &[Field]) -> Vec<u8> {
    let mut block = Vec::new();
    for field in fields {
        match field {
            Field::Indexed(index) => integer(&mut block, 0x80, 7, usize::from(*index)),
            Field::TableSize(size) => integer(&mut block, 0x20, 5, usize::from(*size) << 4),
            Field::Named {
                form,
                name,
                huffman,
                value,
            } => {
                literal(&mut block, *form, usize::from(*name).max(1));
                string(&mut block, *huffman, value);
            }
            Field::Literal {
                form,
                coded,
                name,
                value,
            } => {
                literal(&mut block, *form, 0);
                string(&mut block, coded.0, name);
                string(&mut block, coded.1, value);
            }
            Field::Pseudo => block.extend_from_slice(PSEUDO),
            Field::Raw(bytes) => block.extend_from_slice(bytes),
        }
    }
    block
}

/// Whether a field value is one, and is not refused at the border for what it is of.
fn is_value(value: &[u8]) -> bool {
    let edge = |byte: Option<&u8>| !matches!(byte, Some(b' ' | b'\t'));
    value
        .iter()
        .all(|b| *b == b'\t' || (*b >= b' ' && *b != 0x7f))
        && edge(value.first())
        && edge(value.last())
}

/// The bytes of the case, and how many requests nothing is wrong with, if nothing is wrong with any.
fn bytes(ops: &[Op]) -> (Vec<u8>, Option<usize>) {
    let mut out = Vec::new();
    let mut next = 1;
    let mut good = Some(0);
    for op in ops {
        match op {
            Op::Good {
                name,
                value,
                enters,
                huffman,
            } => {
                let mut block = PSEUDO.to_vec();
                literal(&mut block, u8::from(!enters), 0);
                let name = format!("x-{name}");
                match huffman {
                    true => {
                        string(&mut block, true, &coded(name.as_bytes()));
                        string(&mut block, true, &coded(value));
                    }
                    false => {
                        string(&mut block, false, name.as_bytes());
                        string(&mut block, false, value);
                    }
                }
                frame(&mut out, HEADERS, 5, next, &block);
                next += 2;
                good = good.filter(|_| is_value(value)).map(|n| n + 1);
                continue;
            }
            Op::Block {
                stream,
                ended,
                padding,
                priority,
                piece,
                fields,
            } => {
                let id = match stream {
                    0 => {
                        next += 2;
                        next - 2
                    }
                    id => u32::from(*id),
                };
                let block = block(fields);
                let size = usize::from(*piece).max(1);
                let mut pieces = block.chunks(size).peekable();
                let mut payload = Vec::new();
                payload.extend(padding);
                if *priority {
                    payload.extend_from_slice(&[0, 0, 0, 0, 16]);
                }
                payload.extend_from_slice(pieces.next().unwrap_or_default());
                payload.resize(payload.len() + usize::from(padding.unwrap_or(0)), 0);
                let last = |more: bool| if more { 0 } else { 4 };
                let flags = u8::from(*ended)
                    | last(pieces.peek().is_some())
                    | if padding.is_some() { 8 } else { 0 }
                    | if *priority { 0x20 } else { 0 };
                frame(&mut out, HEADERS, flags, id, &payload);
                while let Some(piece) = pieces.next() {
                    frame(&mut out, 9, last(pieces.peek().is_some()), id, piece);
                }
            }
            Op::Data {
                stream,
                ended,
                data,
            } => frame(&mut out, 0, u8::from(*ended), u32::from(*stream), data),
            Op::Frame {
                kind,
                flags,
                stream,
                payload,
            } => frame(&mut out, *kind, *flags, u32::from(*stream), payload),
            Op::Raw(bytes) => out.extend_from_slice(bytes),
        }
        good = None;
    }
    (out, good)
}

fn now<F: Future>(future: F) -> Option<F::Output> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    }
}

/// A request, as it can be compared.
type Head = String;

fn head(method: &http::Method, uri: &http::Uri, fields: &http::HeaderMap) -> Head {
    format!("{method} {uri} {fields:?}")
}

/// Whether there is nothing in a request that the border looks at twice.
fn is_plain(request: &http::Request<h2::RecvStream>) -> bool {
    const LOOKED_AT: [&str; 9] = [
        "connection",
        "content-length",
        "host",
        "http2-settings",
        "keep-alive",
        "proxy-connection",
        "te",
        "transfer-encoding",
        "upgrade",
    ];
    let plain = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric());
    let authority = request.uri().authority();
    request.method() != http::Method::CONNECT
        && plain(request.method().as_str())
        && authority.is_some_and(|authority| plain(authority.as_str()))
        && request.uri().path().starts_with('/')
        && request.headers().iter().all(|(name, value)| {
            !LOOKED_AT.contains(&name.as_str())
                && !name.as_str().contains('&')
                && is_value(value.as_bytes())
        })
}

/// How the bytes were understood.
#[derive(Debug, Default)]
struct Understood {
    heads: Vec<Head>,
    /// Those of them in which the border finds nothing to refuse.
    plain: Vec<Head>,
    /// The last PING was answered: all frames were whole, and so were the field blocks.
    whole: bool,
    /// Malformed requests that the border refused.
    rejected: usize,
    /// The connection failed, or was ended with an error.
    failed: bool,
    /// The code of the last GOAWAY.
    goaway: Option<u32>,
}

/// One way to read them: the accepted streams are kept until the end.
trait Server {
    /// Whether there may be more to read at once.
    fn poll(&mut self, understood: &mut Understood) -> bool;
}

struct Bare {
    connection: h2::server::Connection<DuplexStream, bytes::Bytes>,
    kept: Vec<(
        http::Request<h2::RecvStream>,
        h2::server::SendResponse<bytes::Bytes>,
    )>,
}

impl Server for Bare {
    fn poll(&mut self, understood: &mut Understood) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        match self.connection.poll_accept(&mut cx) {
            Poll::Ready(Some(Ok((request, respond)))) => {
                if is_plain(&request) {
                    let head = head(request.method(), request.uri(), request.headers());
                    understood.plain.push(head);
                }
                understood
                    .heads
                    .push(head(request.method(), request.uri(), request.headers()));
                self.kept.push((request, respond));
                true
            }
            Poll::Ready(Some(Err(_))) => {
                understood.failed = true;
                false
            }
            Poll::Ready(None) | Poll::Pending => false,
        }
    }
}

struct Guarded {
    connection: h2::server::Connection<Stream, bytes::Bytes>,
    digest: Arc<Digest>,
    kept: Vec<HttpSession>,
}

impl Server for Guarded {
    fn poll(&mut self, understood: &mut Understood) -> bool {
        match now(HttpSession::from_h2_conn(
            &mut self.connection,
            self.digest.clone(),
        )) {
            Some(Ok(Some(H2Accept::Session(session)))) => {
                let request = session.req_header();
                understood
                    .heads
                    .push(head(&request.method, &request.uri, &request.headers));
                self.kept.push(session);
                true
            }
            Some(Ok(Some(H2Accept::Rejected))) => {
                understood.rejected += 1;
                true
            }
            Some(Err(_)) => {
                understood.failed = true;
                false
            }
            Some(Ok(None)) | None => false,
        }
    }
}

/// Reads what the server says, and notes the last GOAWAY.
fn listen(client: &mut DuplexStream, heard: &mut Vec<u8>) {
    while let Some(Ok(n)) = now(client.read_buf(heard)) {
        if n == 0 {
            break;
        }
    }
}

fn run(
    server: &mut dyn Server,
    client: &mut DuplexStream,
    bytes: &[u8],
    at_once: u8,
) -> Understood {
    let mut understood = Understood::default();
    let mut heard = Vec::new();
    let size = match at_once {
        0 => bytes.len().max(1),
        n => usize::from(n),
    };
    let mut turn = |understood: &mut Understood, client: &mut DuplexStream| {
        // What the server says may wait for room.
        for _ in 0..4 {
            while !understood.failed && server.poll(understood) {}
            listen(client, &mut heard);
        }
    };
    for piece in bytes.chunks(size) {
        if now(client.write_all(piece)).is_none_or(|sent| sent.is_err()) {
            break;
        }
        turn(&mut understood, client);
        if understood.failed {
            break;
        }
    }
    turn(&mut understood, client);
    let mut rest = &heard[..];
    while let [a, b, c, kind, _, _, _, _, _, behind @ ..] = rest {
        let length = u32::from_be_bytes([0, *a, *b, *c]) as usize;
        let Some((payload, next)) = behind.split_at_checked(length) else {
            break;
        };
        if let (GOAWAY, [_, _, _, _, code @ ..]) = (*kind, payload) {
            understood.goaway = code.first_chunk().map(|code| u32::from_be_bytes(*code));
        }
        understood.whole |= *kind == PING && payload == LAST_PING;
        rest = next;
    }
    understood.failed |= understood.goaway.is_some_and(|code| code != 0);
    understood
}

fn bare(bytes: &[u8], at_once: u8) -> Understood {
    let (mut client, server) = tokio::io::duplex(1 << 20);
    now(client.write_all(PREFACE));
    let handshake = default_h2_options().handshake(server);
    let connection = now(handshake).expect("a preface").expect("a preface");
    let mut bare = Bare {
        connection,
        kept: Vec::new(),
    };
    run(&mut bare, &mut client, bytes, at_once)
}

fn guarded(bytes: &[u8], at_once: u8) -> Understood {
    let (mut client, server) = tokio::io::duplex(1 << 20);
    now(client.write_all(PREFACE));
    let mut handshake: Pin<Box<dyn Future<Output = _>>> =
        Box::pin(handshake(Box::new(server), None));
    let connection = now(handshake.as_mut())
        .expect("a preface")
        .expect("a preface");
    let mut guarded = Guarded {
        connection,
        digest: Arc::default(),
        kept: Vec::new(),
    };
    run(&mut guarded, &mut client, bytes, at_once)
}

fuzz_target!(|case: Case| {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("a runtime");
    let _entered = runtime.enter();
    let (mut bytes, good) = bytes(&case.ops);
    frame(&mut bytes, PING, 0, 0, LAST_PING);
    if bytes.len() > 1 << 19 {
        return;
    }
    let bare = bare(&bytes, case.at_once);
    let guarded = guarded(&bytes, case.at_once);
    let mut expected = bare.heads.iter();
    for head in &guarded.heads {
        // What h2 ends the connection for, the guard may make an error of the stream; then there may be more.
        let known = expected.any(|other| other == head);
        assert!(known || bare.failed, "{head}\n{bare:?}\n{guarded:?}");
    }
    if !bare.failed && bare.whole {
        assert_ne!(
            guarded.goaway,
            Some(COMPRESSION_ERROR),
            "{bare:?}\n{guarded:?}"
        );
        let seen = guarded.heads.len() + guarded.rejected;
        let mut passed = guarded.heads.iter();
        let plain = |head| passed.any(|other| other == head);
        assert!(
            guarded.failed || (seen >= bare.heads.len() && bare.plain.iter().all(plain)),
            "{bare:?}\n{guarded:?}"
        );
    }
    if let Some(good) = good.filter(|good| *good <= 100) {
        assert_eq!(
            (guarded.heads.len(), guarded.failed),
            (good, false),
            "{guarded:?}"
        );
    }
});
