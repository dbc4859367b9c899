//! What a client sends once a WebSocket is open, valid or not, byte by byte.

use super::PIECE_SIZE;

pub const CONTINUATION: u8 = 0;
pub const TEXT: u8 = 1;
pub const BINARY: u8 = 2;
pub const CLOSE: u8 = 8;
pub const PING: u8 = 9;
pub const PONG: u8 = 10;
pub const FIN: u8 = 0x80;

/// What is sent, in which pieces, and how an origin ends it.
pub struct Case {
    pub name: String,
    pub bytes: Vec<u8>,
    pub piece: usize,
    /// The code of the frame by which the origin closes.
    pub code: Code,
}

/// What a closing frame says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    Is(u16),
    /// None.
    Empty,
}

const NORMAL: Code = Code::Is(1000);
const PROTOCOL: Code = Code::Is(1002);
const UTF8: Code = Code::Is(1007);
const SIZE: Code = Code::Is(1009);

/// A frame as clients send it: masked.
pub fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
    let mut frame = head(first, 0x80, payload.len());
    frame.extend(MASK);
    frame.extend(payload.iter().zip(MASK.iter().cycle()).map(|(b, m)| b ^ m));
    frame
}

fn head(first: u8, masked: u8, length: usize) -> Vec<u8> {
    let mut head = vec![first];
    match length {
        0..126 => head.push(masked | length as u8),
        126..65_536 => {
            head.push(masked | 126);
            head.extend((length as u16).to_be_bytes());
        }
        _ => {
            head.push(masked | 127);
            head.extend((length as u64).to_be_bytes());
        }
    }
    head
}

fn close(code: u16, reason: &[u8]) -> Vec<u8> {
    frame(FIN | CLOSE, &[&code.to_be_bytes(), reason].concat())
}

fn letters(size: usize) -> Vec<u8> {
    (0..size).map(|i| b'a' + (i % 23) as u8).collect()
}

/// Bytes of every value, so that each has been seen to pass.
fn noise(size: usize) -> Vec<u8> {
    (0..size).map(|i| (i * 7 + i / 256) as u8).collect()
}

/// Messages that end well: each case is closed with 1000 by the client.
fn messages() -> Vec<(String, Vec<u8>, usize)> {
    let mut all = Vec::new();
    let mut add = |name: &str, bytes: Vec<u8>, piece: usize| {
        all.push((name.to_string(), bytes, piece));
    };
    for size in [0, 1, 125, 126, 127, 128, 65_535, 65_536, 1 << 20] {
        let text = frame(FIN | TEXT, &letters(size));
        let binary = frame(FIN | BINARY, &noise(size));
        add(&format!("text of {size}"), text, usize::MAX);
        add(&format!("binary of {size}"), binary, PIECE_SIZE);
    }
    add("byte by byte", frame(FIN | TEXT, &letters(300)), 1);
    let many: Vec<u8> = (0..200)
        .flat_map(|i| frame(FIN | TEXT, &letters(i)))
        .collect();
    add("200 messages at once", many, usize::MAX);
    let text = "Hellö-µ@ßöä-UTF-8! κόσμε \u{10ffff}".as_bytes();
    add("characters of all lengths", frame(FIN | TEXT, text), 1);
    let in_two = [frame(TEXT, &text[..5]), frame(FIN, &text[5..])].concat();
    add("a character in two fragments", in_two, usize::MAX);
    let fragments = |opcode: u8, between: &[u8]| {
        let mut bytes = frame(opcode, b"begin ");
        for part in [&b"middle "[..], b"", b"still "] {
            bytes.extend(between);
            bytes.extend(frame(CONTINUATION, part));
        }
        bytes.extend(between);
        bytes.extend(frame(FIN | CONTINUATION, b"end"));
        bytes
    };
    add("fragments of a text", fragments(TEXT, b""), usize::MAX);
    add("fragments, byte by byte", fragments(BINARY, b""), 1);
    let ping = frame(FIN | PING, b"between");
    add("pings between fragments", fragments(TEXT, &ping), 7);
    let mut large = frame(BINARY, &noise(1 << 18));
    for _ in 0..2 {
        large.extend(frame(CONTINUATION, &noise(1 << 18)));
    }
    large.extend(frame(FIN, &noise(1 << 18)));
    add("1 MiB in four fragments", large, PIECE_SIZE);
    add("an empty ping", frame(FIN | PING, b""), usize::MAX);
    add("the longest ping", frame(FIN | PING, &noise(125)), 1);
    let pings: Vec<u8> = (0..10).flat_map(|i| frame(FIN | PING, &[i])).collect();
    add("ten pings", pings, 3);
    let pong = frame(FIN | PONG, b"nobody asked");
    add("a pong that nobody asked for", pong, usize::MAX);
    add("nothing", Vec::new(), usize::MAX);
    all
}

/// What an origin has to close for.
fn violations() -> Vec<(String, Vec<u8>, Code)> {
    let mut all = Vec::new();
    let mut add = |name: &str, bytes: Vec<u8>, code: Code| {
        all.push((name.to_string(), bytes, code));
    };
    for bit in [0x40, 0x20, 0x10] {
        let set = frame(FIN | bit | TEXT, b"reserved");
        add(&format!("reserved bit {bit:#x}"), set, PROTOCOL);
        let set = frame(FIN | bit | PING, b"");
        add(&format!("reserved bit {bit:#x} of a ping"), set, PROTOCOL);
    }
    for opcode in [3, 7, 11, 15] {
        let unknown = frame(FIN | opcode, b"?");
        add(&format!("opcode {opcode}"), unknown, PROTOCOL);
    }
    let unexpected = frame(FIN | CONTINUATION, b"of nothing");
    add("a continuation of nothing", unexpected, PROTOCOL);
    let after = [frame(FIN | TEXT, b"whole"), frame(CONTINUATION, b"?")].concat();
    add("a continuation after a whole message", after, PROTOCOL);
    let twice = [frame(TEXT, b"one"), frame(FIN | TEXT, b"two")].concat();
    add("a message within another", twice, PROTOCOL);
    add("a fragment of a ping", frame(PING, b"part"), PROTOCOL);
    add("a fragment of a close", frame(CLOSE, b""), PROTOCOL);
    add("a ping of 126", frame(FIN | PING, &[1; 126]), PROTOCOL);
    add("a close of 126", close(1000, &[b'a'; 124]), PROTOCOL);
    let mut unmasked = head(FIN | TEXT, 0, 5);
    unmasked.extend(b"naked");
    add("an unmasked frame", unmasked, PROTOCOL);
    for (name, text) in [
        ("a lone continuation byte", &b"ab\x80cd"[..]),
        ("a surrogate", b"\xed\xa0\x80"),
        ("an overlong slash", b"\xc0\xaf"),
        ("beyond U+10FFFF", b"\xf4\x90\x80\x80"),
        ("half a character", b"\xce\xba\xe1\xbd"),
    ] {
        add(&format!("text with {name}"), frame(FIN | TEXT, text), UTF8);
        let parts = [frame(TEXT, b"good "), frame(FIN, text)].concat();
        add(&format!("fragments with {name}"), parts, UTF8);
    }
    let much = frame(FIN | BINARY, &noise(3 << 20));
    add("more than the origin takes", much, SIZE);
    all
}

/// Closing frames, which are answered in kind.
fn closes() -> Vec<(String, Vec<u8>, Code)> {
    let mut all = Vec::new();
    let mut add = |name: &str, bytes: Vec<u8>, code: Code| {
        all.push((name.to_string(), bytes, code));
    };
    for code in [
        1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999,
    ] {
        add(&format!("code {code}"), close(code, b""), Code::Is(code));
    }
    for code in [0, 999, 1004, 1005, 1006, 1016, 1100, 2000, 2999] {
        add(&format!("code {code}"), close(code, b"no"), PROTOCOL);
    }
    add(
        "a close without a code",
        frame(FIN | CLOSE, b""),
        Code::Empty,
    );
    add("half a code", frame(FIN | CLOSE, &[3]), PROTOCOL);
    let longest = close(1000, &letters(123));
    add("the longest reason", longest, NORMAL);
    add("a reason that is no text", close(1000, b"\xff\xfe"), UTF8);
    let after = [close(1000, b"bye"), frame(FIN | TEXT, b"too late")].concat();
    add("a message after the close", after, NORMAL);
    all
}

/// The table.
pub fn all() -> Vec<Case> {
    let good = messages().into_iter().map(|(name, mut bytes, piece)| {
        bytes.extend(close(1000, b"done"));
        Case {
            name,
            bytes,
            piece,
            code: NORMAL,
        }
    });
    let bad = violations().into_iter().chain(closes());
    let bad = bad.flat_map(|(name, bytes, code)| {
        let slow = (bytes.len() < 1000).then(|| Case {
            name: format!("{name}, byte by byte"),
            bytes: bytes.clone(),
            piece: 1,
            code,
        });
        let at_once = Case {
            name,
            bytes,
            piece: usize::MAX,
            code,
        };
        std::iter::once(at_once).chain(slow)
    });
    good.chain(bad).collect()
}
