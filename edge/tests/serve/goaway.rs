//! The end of connections of HTTP/2, frame by frame.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use super::lifecycle::{upgrade, Other};
use super::tools::*;

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const ACK: u8 = 1;
pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;
/// The last stream of the first GOAWAY (RFC 9113 section 6.8).
const ANY: u32 = 0x7fff_ffff;

/// A client of which the test says every frame.
pub struct Frames<S>(S);

pub struct Frame {
    kind: u8,
    flags: u8,
    id: u32,
    payload: Vec<u8>,
}

impl Frame {
    /// The last stream and the reason of a GOAWAY.
    fn goodbye(&self) -> (u32, u32) {
        let number = |at: usize| u32::from_be_bytes(self.payload[at..at + 4].try_into().unwrap());
        (number(0), number(4))
    }
}

impl Frames<TcpStream> {
    pub fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self::begin(stream)
    }
}

impl<S: Read + Write> Frames<S> {
    fn begin(mut stream: S) -> Self {
        stream
            .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
            .unwrap();
        let mut frames = Frames(stream);
        frames.send(SETTINGS, 0, 0, &[]);
        frames
    }

    pub fn send(&mut self, kind: u8, flags: u8, id: u32, payload: &[u8]) {
        let mut frame = (payload.len() as u32).to_be_bytes()[1..].to_vec();
        frame.extend([kind, flags]);
        frame.extend(id.to_be_bytes());
        frame.extend(payload);
        self.0.write_all(&frame).unwrap();
        self.0.flush().unwrap();
    }

    /// Sends a GET for a path of the host `a`.
    fn request(&mut self, id: u32, path: &str) {
        self.begin_request(id, path, "", END_STREAM);
    }

    /// Sends the head of a GET, with a value of Cache-Control if there is one.
    pub fn begin_request(&mut self, id: u32, path: &str, control: &str, flags: u8) {
        // GET and http of the static table, then :path and :authority as literals (RFC 7541 appendix A).
        let mut block = vec![0x82, 0x86, 0x04, path.len() as u8];
        block.extend(path.as_bytes());
        block.extend([0x01, 1, b'a']);
        if !control.is_empty() {
            // Index 24, in two bytes.
            block.extend([0x0f, 9, control.len() as u8]);
            block.extend(control.as_bytes());
        }
        self.send(HEADERS, END_HEADERS | flags, id, &block);
    }

    /// Returns the next frame; none at the end of the connection.
    fn next(&mut self) -> Option<Frame> {
        let mut head = [0; 9];
        self.0.read_exact(&mut head).ok()?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; length as usize];
        self.0.read_exact(&mut payload).ok()?;
        Some(Frame {
            kind: head[3],
            flags: head[4],
            id: u32::from_be_bytes(head[5..].try_into().unwrap()),
            payload,
        })
    }

    /// Reads up to a frame of this kind for this stream.
    #[track_caller]
    pub fn until(&mut self, kind: u8, id: u32) -> Frame {
        loop {
            let frame = self.next().expect("a frame");
            if (frame.kind, frame.id) == (kind, id) {
                return frame;
            }
            assert_ne!(frame.kind, RST_STREAM, "stream {} is reset", frame.id);
            assert_ne!(frame.kind, GOAWAY, "{:?}", frame.goodbye());
        }
    }

    /// Reads up to the end of a stream.
    #[track_caller]
    pub fn whole(&mut self, id: u32) {
        loop {
            let frame = self.next().expect("a frame");
            assert_ne!(frame.kind, RST_STREAM, "stream {} is reset", frame.id);
            let part = [HEADERS, DATA].contains(&frame.kind) && frame.id == id;
            if part && frame.flags & END_STREAM != 0 {
                return;
            }
        }
    }

    /// Sees the server say goodbye in two steps while `held` keeps stream 1 open and `last` is sent in between, and both
    /// answered.
    #[track_caller]
    fn see_goodbye<T>(&mut self, last: u32, held: T) {
        assert_eq!(self.until(GOAWAY, 0).goodbye(), (ANY, 0));
        let ping = self.until(PING, 0);
        self.request(last, "/");
        self.whole(last);
        self.send(PING, ACK, 0, &ping.payload);
        assert_eq!(self.until(GOAWAY, 0).goodbye(), (last, 0));
        drop(held);
        self.whole(1);
        assert!(self.next().is_none());
    }
}

fn text(listen: &str, origin: &Held, more: &str) -> String {
    let routes = format!(
        "[{{path: /held, proxy: '{}'}}, {{respond: 200}}]",
        origin.address
    );
    format!("listen: {{{listen}}}\nsites:\n  - routes: {routes}\n{more}")
}

#[test]
fn a_stop_loses_no_stream() {
    let (origin, address) = (Held::start(), free());
    let listen = format!("address: '{address}', h2c: true");
    let mut edge = Edge::start_whole(address, &text(&listen, &origin, ""));
    let mut frames = Frames::connect(address);
    frames.request(1, "/held");
    let held = origin.wait();
    edge.terminate();
    frames.see_goodbye(3, held);
    edge.wait_for_end();
}

#[cfg(feature = "rustls")]
#[test]
fn a_stop_loses_no_stream_over_tls() {
    use crate::certs::{Authority, Leaf};

    let (origin, address) = (Held::start(), free());
    let authority = Authority::new();
    let names = &["a"];
    let pair = authority.issue(
        "a",
        &Leaf {
            names,
            ..Leaf::default()
        },
    );
    let listen = format!("address: '{address}', tls: true");
    let tls = format!(
        "  - tls: {{cert: '{}', key: '{}'}}\n    routes",
        pair.cert, pair.key
    );
    let text = text(&listen, &origin, "").replace("  - routes", &tls);
    let mut edge = Edge::start_whole(address, &text);
    let mut frames = Frames::begin(crate::tls::secure(address, &authority, "a", b"h2"));
    frames.request(1, "/held");
    let held = origin.wait();
    edge.terminate();
    frames.see_goodbye(3, held);
    edge.wait_for_end();
}

/// An hour before the idle connections of the old process would be closed.
#[test]
fn an_upgrade_loses_no_stream_and_the_old_process_ends_with_its_last_connection() {
    let dir = tempfile::TempDir::new().unwrap();
    let (origin, address) = (Held::start(), free());
    let listen = format!("address: '{address}', h2c: true");
    let socket = dir.path().join("fds");
    let more = format!(
        "server: {{upgrade_sock: '{}', shutdown_drain_seconds: 3600, grace_period_seconds: 3600}}\n",
        socket.display()
    );
    let mut edge = Edge::start_whole(address, &text(&listen, &origin, &more));
    let mut frames = Frames::connect(address);
    frames.request(1, "/held");
    let held = origin.wait();
    let mut kept = edge.connect();
    assert_eq!(kept.ask("GET", "a", "/", "").status, 200);
    let output = upgrade(&edge, &[]);
    assert!(output.status.success(), "{output:?}");
    let _new = Other::of(&output);
    frames.see_goodbye(3, held);
    // Its idle connection is served once more.
    let answer = kept.ask("GET", "a", "/", "");
    assert_eq!(answer.field("connection"), Some("close"), "{answer:?}");
    drop(kept);
    edge.wait_for_end();
}

#[test]
fn a_drain_has_clients_of_http_2_come_anew() {
    let (origin, [address, admin]) = (Held::start(), [free(), free()]);
    let listen = format!("address: '{address}', h2c: true");
    let text = text(&listen, &origin, &format!("admin: {admin}\n"));
    let edge = Edge::start_whole(address, &text);
    let mut asking = edge.connect_to(admin);
    let mut ask = |path: &str| {
        let json = "Content-Type: application/json\r\nContent-Length: 0\r\n";
        assert_eq!(asking.ask("POST", "localhost", path, json).status, 200);
    };
    let mut frames = Frames::connect(address);
    frames.request(1, "/held");
    let held = origin.wait();
    ask("/api/drain");
    // They are told with their next request.
    frames.request(3, "/");
    frames.see_goodbye(5, held);
    ask("/api/undrain");
    let mut frames = Frames::connect(address);
    for id in [1, 3] {
        frames.request(id, "/");
        frames.whole(id);
    }
    frames.send(PING, 0, 0, &[0; 8]);
    assert_eq!(frames.until(PING, 0).flags, ACK);
}
