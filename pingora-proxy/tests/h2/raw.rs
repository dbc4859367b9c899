//! A client that says any frame, and knows as much of HPACK as it needs for that.

use super::common::*;

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const PRIORITY: u8 = 2;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;

pub(crate) const END_STREAM: u8 = 1;
pub(crate) const ACK: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;

pub(crate) const NO_ERROR: u32 = 0;
pub(crate) const PROTOCOL_ERROR: u32 = 1;
pub(crate) const INTERNAL_ERROR: u32 = 2;
pub(crate) const CANCEL: u32 = 8;
pub(crate) const ENHANCE_YOUR_CALM: u32 = 11;

/// A connection of HTTP/2 of which the test says every byte.
pub(crate) struct Raw {
    pub(crate) wire: Wire,
    /// The window of each stream to the server, as its SETTINGS say.
    pub(crate) stream_window: u32,
}

/// A frame that came.
#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) id: u32,
    pub(crate) payload: Vec<u8>,
}

impl Frame {
    /// The error code of a RST_STREAM or a GOAWAY.
    pub(crate) fn code(&self) -> u32 {
        let at = if self.kind == GOAWAY { 4 } else { 0 };
        u32::from_be_bytes(self.payload[at..at + 4].try_into().unwrap())
    }

    pub(crate) fn ends_stream(&self) -> bool {
        self.flags & END_STREAM != 0
    }
}

/// The bytes of a frame.
pub(crate) fn frame(kind: u8, flags: u8, id: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(id.to_be_bytes());
    frame.extend(payload);
    frame
}

/// Fields as literals that enter no table.
pub(crate) fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        string(&mut block, name.as_bytes());
        string(&mut block, value.as_bytes());
    }
    block
}

fn string(block: &mut Vec<u8>, bytes: &[u8]) {
    integer(block, bytes.len());
    block.extend(bytes);
}

/// An integer with a prefix of seven bits.
fn integer(block: &mut Vec<u8>, mut n: usize) {
    if n < 127 {
        return block.push(n as u8);
    }
    block.push(127);
    n -= 127;
    while n >= 128 {
        block.push((n % 128) as u8 | 128);
        n /= 128;
    }
    block.push(n as u8);
}

/// The pseudo fields of a request, and more fields.
pub(crate) fn head(method: &str, fields: &[(&str, &str)]) -> Vec<u8> {
    let pseudo = [
        (":method", method),
        (":scheme", "http"),
        (":path", "/"),
        (":authority", "origin.test"),
    ];
    block(&[&pseudo[..], fields].concat())
}

impl Raw {
    /// Before the preface.
    pub(crate) fn over(wire: Wire) -> Self {
        Raw {
            wire,
            stream_window: 65_535,
        }
    }

    /// Begins HTTP/2 with these settings, and takes the server's.
    pub(crate) fn with_settings(proxy: &Proxy, settings: &[(u16, u32)]) -> Self {
        let mut raw = Raw::over(proxy.connect());
        raw.wire.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
        let mut payload = Vec::new();
        for (id, value) in settings {
            payload.extend(id.to_be_bytes());
            payload.extend(value.to_be_bytes());
        }
        raw.send(SETTINGS, 0, 0, &payload);
        let first = raw.read();
        assert_eq!((first.kind, first.flags & ACK), (SETTINGS, 0), "{first:?}");
        for setting in first.payload.chunks(6) {
            if setting[..2] == [0, 4] {
                raw.stream_window = u32::from_be_bytes(setting[2..].try_into().unwrap());
            }
        }
        raw.send(SETTINGS, ACK, 0, &[]);
        raw
    }

    pub(crate) fn new(proxy: &Proxy) -> Self {
        Raw::with_settings(proxy, &[])
    }

    #[track_caller]
    pub(crate) fn send(&mut self, kind: u8, flags: u8, id: u32, payload: &[u8]) {
        self.wire.send(frame(kind, flags, id, payload));
    }

    /// Sends, unless the server has closed by now.
    pub(crate) fn try_send(&mut self, kind: u8, flags: u8, id: u32, payload: &[u8]) -> bool {
        self.wire
            .send_if_taken(frame(kind, flags, id, payload))
            .is_ok()
    }

    /// Sends the head of a request; `ended`: and nothing else.
    #[track_caller]
    pub(crate) fn request(&mut self, id: u32, method: &str, fields: &[(&str, &str)], ended: bool) {
        let flags = END_HEADERS | if ended { END_STREAM } else { 0 };
        self.send(HEADERS, flags, id, &head(method, fields));
    }

    #[track_caller]
    pub(crate) fn read(&mut self) -> Frame {
        let head = self.wire.read_exact(9);
        let size = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        Frame {
            kind: head[3],
            flags: head[4],
            id: u32::from_be_bytes(head[5..9].try_into().unwrap()),
            payload: self.wire.read_exact(size as usize),
        }
    }

    /// Reads on until a frame of this kind comes for this stream.
    #[track_caller]
    pub(crate) fn read_until(&mut self, kind: u8, id: u32) -> Frame {
        loop {
            let frame = self.read();
            if (frame.kind, frame.id) == (kind, id) {
                return frame;
            }
            assert!(
                frame.kind != GOAWAY,
                "goodbye with {} before {kind} on {id}",
                frame.code()
            );
        }
    }

    /// The code with which a stream is reset.
    #[track_caller]
    pub(crate) fn read_reset(&mut self, id: u32) -> u32 {
        self.read_until(RST_STREAM, id).code()
    }

    /// Reads on until the server says goodbye.
    #[track_caller]
    pub(crate) fn read_goodbye(&mut self) -> Frame {
        loop {
            let frame = self.read();
            if frame.kind == GOAWAY {
                return frame;
            }
        }
    }

    /// Reads on until the server says goodbye, and gives its reason.
    #[track_caller]
    pub(crate) fn read_goaway(&mut self) -> u32 {
        self.read_goodbye().code()
    }

    /// Whether the connection still serves a request.
    #[track_caller]
    pub(crate) fn assert_alive(&mut self, id: u32) {
        self.request(id, "GET", &[], true);
        self.read_until(HEADERS, id);
    }
}
