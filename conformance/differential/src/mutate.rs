//! Requests and answers that are right, and mutations of them. All follow from a seed.

/// A stream of numbers (xorshift64*).
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    }

    /// Below `end`, which is not 0.
    pub fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    pub fn of<'a, T: ?Sized>(&mut self, all: &[&'a T]) -> &'a T {
        all[self.below(all.len())]
    }

    pub fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }
}

/// Whether a mutation is of a head whose lines matter most, or of frames.
const PIECES: &[&[u8]] = &[
    b"\r",
    b"\n",
    b"\r\n",
    b"\r\n\r\n",
    b" ",
    b"\t",
    b"\0",
    b"\x0b",
    b"\x7f",
    b"\x80",
    b":",
    b";",
    b",",
    b"#",
    b"@",
    b"0",
    b"00",
    b"+",
    b"-",
    b"0x",
    b"f",
    b"chunked",
    b"identity",
    b"Transfer-Encoding: chunked\r\n",
    b"Transfer-Encoding:\x0bchunked\r\n",
    b"Transfer-Encoding : chunked\r\n",
    b"Content-Length: 0\r\n",
    b"Content-Length: 5\r\n",
    b"Content-Length: 90\r\n",
    b"Host: y\r\n",
    b"Connection: close\r\n",
    b"Connection: Content-Length, Host\r\n",
    b"Upgrade: websocket\r\nConnection: upgrade\r\n",
    b"Expect: 100-continue\r\n",
    b" HTTP/1.1",
    b" HTTP/1.0",
    b"HTTP/1.1 200 OK\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\n",
    b"0\r\n\r\n",
    b"5\r\nhello\r\n",
    b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /smuggled HTTP/1.1\r\nX: ",
];

/// Changes a few places of `bytes`.
pub fn mutate(random: &mut Random, bytes: &mut Vec<u8>) {
    for _ in 0..1 + random.below(3) {
        let at = random.below(bytes.len() + 1);
        match random.below(8) {
            0 if at < bytes.len() => bytes[at] = random.below(256) as u8,
            1 if at < bytes.len() => bytes[at] ^= 0x20,
            2 => {
                let end = (at + 1 + random.below(4)).min(bytes.len());
                bytes.drain(at.min(end)..end);
            }
            3 => {
                let line = line_at(bytes, at).to_vec();
                let to = line_start(bytes, random.below(bytes.len() + 1));
                insert(bytes, to, &line);
            }
            4 => {
                let start = line_start(bytes, at);
                let length = line_at(bytes, at).len();
                bytes.drain(start..start + length);
            }
            5 => {
                let to = line_start(bytes, at);
                insert(bytes, to, random.of(PIECES));
            }
            6 if random.one_in(4) => bytes.truncate(at),
            _ => insert(bytes, at, random.of(PIECES)),
        }
    }
}

fn insert(bytes: &mut Vec<u8>, at: usize, piece: &[u8]) {
    bytes.splice(at..at, piece.iter().copied());
}

fn line_start(bytes: &[u8], at: usize) -> usize {
    bytes[..at]
        .iter()
        .rposition(|b| *b == b'\n')
        .map_or(0, |lf| lf + 1)
}

/// The line around a place, its end included.
fn line_at(bytes: &[u8], at: usize) -> &[u8] {
    let start = line_start(bytes, at);
    let end = bytes[start..].iter().position(|b| *b == b'\n');
    &bytes[start..end.map_or(bytes.len(), |lf| start + lf + 1)]
}

const FIELDS: &[&str] = &[
    "User-Agent: fuzz\r\n",
    "Accept: */*\r\n",
    "Cookie: a=b; c=d\r\n",
    "X-A: b\r\n",
    "X-A:\tb \r\n",
    "Connection: keep-alive\r\n",
    "TE: trailers\r\n",
    "Range: bytes=0-1\r\n",
];

/// A request that is right, whose target tells it from others.
pub fn request(random: &mut Random, number: usize) -> Vec<u8> {
    let target = match random.below(4) {
        0 => format!("http://x/r/{number}"),
        _ => format!("/r/{number}"),
    };
    let old = random.one_in(8);
    let version = if old { "HTTP/1.0" } else { "HTTP/1.1" };
    let mut lines = vec!["Host: x\r\n".to_owned()];
    for _ in 0..random.below(4) {
        lines.push(random.of(FIELDS).to_owned());
    }
    let (method, field, body) = match random.below(4) {
        0 | 1 => (random.of(&["GET", "DELETE"]), String::new(), Vec::new()),
        2 => {
            let body = content(random);
            ("POST", format!("Content-Length: {}\r\n", body.len()), body)
        }
        _ if old => ("GET", String::new(), Vec::new()),
        _ => (
            "PUT",
            "Transfer-Encoding: chunked\r\n".into(),
            chunked(random),
        ),
    };
    let at = random.below(lines.len() + 1);
    lines.insert(at, field);
    let head = format!("{method} {target} {version}\r\n{}\r\n", lines.concat());
    [head.as_bytes(), &body].concat()
}

fn content(random: &mut Random) -> Vec<u8> {
    let inner = b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n";
    match random.below(3) {
        0 => inner.to_vec(),
        _ => inner[..random.below(12)].to_vec(),
    }
}

fn chunked(random: &mut Random) -> Vec<u8> {
    let mut body = Vec::new();
    for _ in 0..random.below(3) {
        let chunk = content(random);
        if chunk.is_empty() {
            continue;
        }
        let extension = random.of(&["", "", ";a=b", " ; a", ";a=\"b\""]);
        body.extend(format!("{:x}{extension}\r\n", chunk.len()).bytes());
        body.extend(chunk);
        body.extend(b"\r\n");
    }
    body.extend(random.of::<[u8]>(&[b"0\r\n\r\n", b"0\r\n\r\n", b"0\r\nX-T: u\r\n\r\n"]));
    body
}

/// An answer that is right.
pub fn answer(random: &mut Random) -> Vec<u8> {
    let status = random.of(&[
        "200 OK",
        "404 Not Found",
        "204 No Content",
        "304 Not Modified",
        "200",
    ]);
    let interim = match random.below(5) {
        0 => "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n",
        _ => "",
    };
    let bodiless = status.starts_with("204") || status.starts_with("304");
    let (field, body) = match random.below(3) {
        _ if bodiless => (String::new(), Vec::new()),
        0 => ("Transfer-Encoding: chunked\r\n".into(), chunked(random)),
        _ => {
            let body = content(random);
            (format!("Content-Length: {}\r\n", body.len()), body)
        }
    };
    let head = format!("{interim}HTTP/1.1 {status}\r\nServer: fuzz\r\n{field}X-A: b\r\n\r\n");
    [head.as_bytes(), &body].concat()
}
