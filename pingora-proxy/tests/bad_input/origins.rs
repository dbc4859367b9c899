//! Origins that answer what they should not, too little, too much, or nothing.

use super::common::*;
use super::requests::cuts;
use std::sync::mpsc::{channel, Sender};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const BAD: &str = "GET /bad HTTP/1.1\r\nHost: a\r\n\r\n";
const GOOD: &str = "GET /good HTTP/1.1\r\nHost: a\r\n\r\n";
const FINE: &str = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 4\r\n\r\nfine";

/// What an origin does once it has said its piece.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Then {
    Close,
    /// Waits for the proxy to close, before which it may send nothing more.
    Wait,
}

#[derive(Clone, Debug)]
struct Said {
    bytes: Vec<u8>,
    cut: Option<usize>,
    then: Then,
}

/// An origin that answers `/bad` as it is told, and anything else well on a connection of its own.
struct Bad {
    origin: Origin,
    say: Arc<Mutex<Option<Said>>>,
    ended: std::sync::mpsc::Receiver<()>,
}

impl Bad {
    fn new() -> Self {
        let say = Arc::new(Mutex::new(None));
        let (tell, ended) = channel();
        let tell = Mutex::new(tell);
        let origin = Origin::scripted({
            let say = say.clone();
            move |wire, _| answer(wire, &say, &tell)
        });
        Bad { origin, say, ended }
    }

    fn say(&self, bytes: &[u8], cut: Option<usize>, then: Then) {
        let bytes = bytes.to_vec();
        *self.say.lock().unwrap() = Some(Said { bytes, cut, then });
    }

    /// Waits until the proxy has closed the connection of the bad answer, and sees that another
    /// request is served over a new one.
    #[track_caller]
    fn expect_recovery(&self, proxy: &Proxy, what: &str) {
        self.ended.recv_timeout(PATIENCE).expect(what);
        let before = self.origin.accepted();
        let mut client = proxy.connect();
        client.send(GOOD);
        assert_eq!(client.read_response().text(), "fine", "after {what}");
        assert_eq!(self.origin.accepted(), before + 1, "after {what}");
    }
}

fn answer(mut wire: Wire, say: &Mutex<Option<Said>>, ended: &Mutex<Sender<()>>) {
    if !wire.has_more() {
        return;
    }
    let request = wire.read_message();
    if !request.head.contains(" /bad ") {
        wire.send(FINE);
        return;
    }
    let said = say.lock().unwrap().take().expect("one request for each");
    let cut = said.cut.unwrap_or(0);
    wire.send_split(&said.bytes[..cut], &[]);
    // The proxy may have seen enough.
    let _ = wire.send_if_taken(&said.bytes[cut..]);
    if said.then == Then::Wait {
        wire.expect_end();
    }
    drop(wire);
    ended.lock().unwrap().send(()).unwrap();
}

/// Whole, and cut in two at every byte.
fn ways(bytes: &[u8]) -> impl Iterator<Item = Option<usize>> {
    std::iter::once(None).chain(cuts(bytes.len()).map(Some))
}

/// A status line, and these lines.
fn with(lines: impl AsRef<[u8]>) -> Vec<u8> {
    [
        b"HTTP/1.1 200 OK\r\n".as_slice(),
        lines.as_ref(),
        b"\r\n\r\n",
    ]
    .concat()
}

/// A status line, no body.
fn line(line: impl AsRef<[u8]>) -> Vec<u8> {
    [line.as_ref(), b"\r\nContent-Length: 0\r\n\r\n"].concat()
}

fn broken_heads() -> Vec<(&'static str, Vec<u8>)> {
    let length = |value: &str| with(format!("Content-Length: {value}"));
    let coding = |value: &str| with(format!("Transfer-Encoding: {value}"));
    let fields: Vec<String> = (0..257).map(|n| format!("X{n}: a")).collect();
    let large = "a".repeat(1 << 20);
    vec![
        ("garbage", b"garbage\r\n\r\n".to_vec()),
        (
            "a TLS alert",
            b"\x15\x03\x01\0\x02\x02\x46\r\n\r\n".to_vec(),
        ),
        ("a request", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec()),
        ("no code", line("HTTP/1.1")),
        ("a code of letters", line("HTTP/1.1 abc OK")),
        ("a code of two digits", line("HTTP/1.1 20 OK")),
        ("a code of four digits", line("HTTP/1.1 2000 OK")),
        ("a code below 100", line("HTTP/1.1 099 OK")),
        ("two SP before the code", line("HTTP/1.1  200 OK")),
        ("SP before the version", line(" HTTP/1.1 200 OK")),
        ("lower-case version", line("http/1.1 200 OK")),
        ("another protocol", line("ICY 200 OK")),
        ("another major version", line("HTTP/2.0 200 OK")),
        ("NUL in the reason", line("HTTP/1.1 200 O\0K")),
        ("CR in the reason", line("HTTP/1.1 200 O\rK")),
        ("NUL in a value", with("X: a\0b\r\nContent-Length: 0")),
        ("CTL in a value", with("X: a\x01b\r\nContent-Length: 0")),
        ("CR in a value", with("X: a\rb\r\nContent-Length: 0")),
        (
            "NUL in a folded value",
            with("X: a\r\n \0b\r\nContent-Length: 0"),
        ),
        ("NUL in a name", with("X\0Y: a\r\nContent-Length: 0")),
        ("CR in a name", with("X\rY: a\r\nContent-Length: 0")),
        ("SP in a name", with("X Y: a\r\nContent-Length: 0")),
        ("an empty name", with(": a\r\nContent-Length: 0")),
        ("no colon", with("X\r\nContent-Length: 0")),
        ("too many fields", with(fields.join("\r\n"))),
        ("a head too large", with(format!("X: {large}"))),
        ("empty length", length("")),
        ("length with a plus", length("+5")),
        ("length with a minus", length("-5")),
        ("length with a letter", length("5a")),
        ("hexadecimal length", length("0x5")),
        ("length of 2^64", length("18446744073709551616")),
        ("differing lengths in one line", length("5, 6")),
        (
            "differing lengths in two lines",
            with("Content-Length: 5\r\nContent-Length: 6"),
        ),
        ("unknown coding", coding("x")),
        ("unknown coding before chunked", coding("x, chunked")),
        // Its name would be lost on the way, and the client would take the coded bytes for the content.
        ("gzip as the only coding", coding("gzip")),
        ("gzip before chunked", coding("gzip, chunked")),
        (
            "gzip and chunked in two lines",
            with("Transfer-Encoding: GZip\r\nTransfer-Encoding: chunked"),
        ),
        ("gzip after chunked", coding("chunked, gzip")),
        (
            "gzip and a length",
            with("Transfer-Encoding: gzip\r\nContent-Length: 0"),
        ),
        ("deflate", coding("deflate")),
        ("no coding in the old way", coding("identity")),
        ("chunked twice", coding("chunked, chunked")),
        (
            "coding in HTTP/1.0",
            b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".to_vec(),
        ),
        (
            "101 that nobody asked for",
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n"
                .to_vec(),
        ),
    ]
}

#[test]
fn a_broken_head_is_a_502() {
    let bad = Bad::new();
    let proxy = Proxy::to(&bad.origin);
    for (name, bytes) in broken_heads() {
        for cut in ways(&bytes) {
            bad.say(&bytes, cut, Then::Wait);
            let what = format!("{name}, cut at {cut:?}");
            let mut client = proxy.connect();
            client.send(BAD);
            assert_eq!(client.read_response().status(), 502, "{what}");
            client.expect_end();
            bad.expect_recovery(&proxy, &what);
        }
    }
}

#[test]
fn an_end_within_the_head_is_a_502() {
    let whole = with("Content-Length: 0");
    let bad = Bad::new();
    let proxy = Proxy::to(&bad.origin);
    for end in 0..whole.len() {
        bad.say(&whole[..end], None, Then::Close);
        let mut client = proxy.connect();
        client.send(BAD);
        assert_eq!(client.read_response().status(), 502, "after {end} bytes");
        client.expect_end();
        bad.expect_recovery(&proxy, &format!("{end} bytes"));
    }
}

/// A name, the fields that the origin sends, and those that the client must get, sorted.
type Mended = (&'static str, &'static str, &'static [&'static str]);

const MENDED: [Mended; 6] = [
    (
        "white space before a colon",
        "Content-Length \t: 2\r\nX : a",
        &["Content-Length: 2", "X: a"],
    ),
    (
        "a folded field",
        "Content-Length: 2\r\nX: a\r\n b\r\n\t c",
        &["Content-Length: 2", "X: a b c"],
    ),
    (
        "a folded length",
        "Content-Length:\r\n 2",
        &["Content-Length: 2"],
    ),
    (
        "the same length in two lines",
        "Content-Length: 2\r\nContent-Length: 2",
        &["Content-Length: 2"],
    ),
    (
        "the same length twice in one line",
        "Content-Length: 2, 2",
        &["Content-Length: 2"],
    ),
    (
        "what Connection names",
        "Connection: x-a\r\nX-A: a\r\nKeep-Alive: 5\r\nContent-Length: 2",
        &["Content-Length: 2"],
    ),
];

#[test]
fn what_can_be_mended_is_mended() {
    let bad = Bad::new();
    let proxy = Proxy::to(&bad.origin);
    for (name, fields, expected) in MENDED {
        let mut said = with(format!("Connection: close\r\n{fields}"));
        said.extend(b"ok");
        for cut in ways(&said) {
            bad.say(&said, cut, Then::Wait);
            let what = format!("{name}, cut at {cut:?}");
            let mut client = proxy.connect();
            client.send(BAD);
            let response = client.read_response();
            assert_eq!(response.text(), "ok", "{what}");
            let lines = response.head.split("\r\n").skip(1);
            let mut lines: Vec<&str> = lines.filter(|l| !l.starts_with("Date: ")).collect();
            lines.sort_unstable();
            assert_eq!(lines, expected, "{what}");
            bad.expect_recovery(&proxy, &what);
        }
    }
}

#[test]
fn a_length_beside_a_coding_is_dropped() {
    let bad = Bad::new();
    let proxy = Proxy::to(&bad.origin);
    let mut said = with("Content-Length: 9\r\nTransfer-Encoding: chunked\r\nConnection: close");
    said.extend(b"2\r\nok\r\n0\r\n\r\n");
    for cut in ways(&said) {
        bad.say(&said, cut, Then::Wait);
        let mut client = proxy.connect();
        client.send(BAD);
        let response = client.read_response();
        assert_eq!(response.text(), "ok", "cut at {cut:?}");
        assert_eq!(response.field("Content-Length"), None, "cut at {cut:?}");
        bad.expect_recovery(&proxy, &format!("a cut at {cut:?}"));
    }
}

#[test]
fn a_body_without_another_end_ends_with_the_connection() {
    let bad = Bad::new();
    let proxy = Proxy::to(&bad.origin);
    let said = [&with("X: a"), b"some bytes".as_slice()].concat();
    for cut in ways(&said) {
        bad.say(&said, cut, Then::Close);
        let mut client = proxy.connect();
        client.send(BAD);
        let response = client.read_response();
        assert_eq!(response.status(), 200, "cut at {cut:?}");
        assert_eq!(response.text(), "some bytes", "cut at {cut:?}");
        assert_eq!(response.field("Content-Length"), None);
        bad.expect_recovery(&proxy, &format!("a cut at {cut:?}"));
    }
}

#[test]
fn a_malformed_length_counts_as_none_where_that_is_allowed() {
    let bad = Bad::new();
    let mut app = forward_to(bad.origin.path());
    app.peer.options.allow_h1_response_invalid_content_length = true;
    let proxy = Proxy::start(app);
    for length in ["", "+5", "5a", "5, 6", "18446744073709551616"] {
        let said = [
            &with(format!("Content-Length: {length}")),
            b"some bytes".as_slice(),
        ]
        .concat();
        bad.say(&said, None, Then::Close);
        let mut client = proxy.connect();
        client.send(BAD);
        let response = client.read_response();
        assert_eq!(response.text(), "some bytes", "{length:?}");
        assert_eq!(response.field("Content-Length"), None, "{length:?}");
        bad.expect_recovery(&proxy, length);
    }
}

#[test]
fn a_broken_head_after_an_interim_one_is_no_response() {
    let bad = Bad::new();
    let proxy = Proxy::to(&bad.origin);
    let said = b"HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\nHTTP/1.1 200 OK\r\nX: a\0\r\n\r\n";
    for cut in ways(said) {
        bad.say(said, cut, Then::Wait);
        let mut client = proxy.connect();
        client.send(BAD);
        let seen = String::from_utf8(client.read_to_end()).unwrap();
        let last = seen.rsplit("HTTP/1.1 ").next().unwrap();
        assert!(last.starts_with("502 "), "cut at {cut:?}: {seen:?}");
        bad.expect_recovery(&proxy, "an interim head");
    }
}

#[test]
fn a_broken_body_is_not_passed_on_as_whole() {
    let rows = [
        ("Content-Length: 9", "half", Then::Close),
        ("Transfer-Encoding: chunked", "", Then::Close),
        ("Transfer-Encoding: chunked", "9\r\nhalf", Then::Close),
        ("Transfer-Encoding: chunked", "4\r\nhalf", Then::Close),
        ("Transfer-Encoding: chunked", "4\r\nhalf\r\n", Then::Close),
        ("Transfer-Encoding: chunked", "4\r\nhalf\r\n0", Then::Close),
        (
            "Transfer-Encoding: chunked",
            "4\r\nhalf\r\n0\r\n",
            Then::Close,
        ),
        (
            "Transfer-Encoding: chunked",
            "4\r\nhalf\r\n0\r\nX: a\r\n",
            Then::Close,
        ),
        ("Transfer-Encoding: chunked", "x\r\n", Then::Wait),
        (
            "Transfer-Encoding: chunked",
            "4\r\nhalf\r\n-1\r\n",
            Then::Wait,
        ),
        (
            "Transfer-Encoding: chunked",
            "4\r\nhalfmore\r\n0\r\n\r\n",
            Then::Wait,
        ),
        (
            "Transfer-Encoding: chunked",
            "4\r\nhalf\r\n11111111111111111\r\n",
            Then::Wait,
        ),
        (
            "Transfer-Encoding: chunked",
            "4\r\nhalf\r\n0\r\nX\r\n\r\n",
            Then::Wait,
        ),
        (
            "Transfer-Encoding: chunked",
            "4\r\nhalf\r\n0\r\nX: a\0\r\n\r\n",
            Then::Wait,
        ),
    ];
    let bad = Bad::new();
    let proxy = Proxy::to(&bad.origin);
    for (framing, body, then) in rows {
        let head = with(framing);
        let said = [&head, body.as_bytes()].concat();
        let cuts = cuts(body.len()).map(|cut| Some(head.len() + cut));
        for cut in [None, Some(head.len())].into_iter().chain(cuts) {
            bad.say(&said, cut, then);
            let what = format!("{body:?}, cut at {cut:?}");
            let mut client = proxy.connect();
            client.send(BAD);
            let seen = client.read_to_end();
            let seen = String::from_utf8(seen).unwrap();
            let (head, body) = seen.split_once("\r\n\r\n").expect(&what);
            if head.starts_with("HTTP/1.1 200 ") {
                assert!(head.contains(framing), "{what}: {head}");
                assert!(
                    !format!("\r\n{body}").contains("\r\n0\r\n"),
                    "{what}: {body:?}"
                );
                assert!(
                    body.len() < 9 || framing.ends_with("chunked"),
                    "{what}: {body:?}"
                );
            } else {
                assert!(head.starts_with("HTTP/1.1 502 "), "{what}: {head}");
            }
            bad.expect_recovery(&proxy, &what);
        }
    }
}

const POISON: &str = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison";

#[test]
fn what_follows_a_response_is_nobodys_response() {
    let rows = [
        (BAD, with("Content-Length: 2"), "ok"),
        (
            BAD,
            with("Transfer-Encoding: chunked"),
            "2\r\nok\r\n0\r\n\r\n",
        ),
        (BAD, with("Content-Length: 0"), ""),
        (BAD, b"HTTP/1.1 204 No Content\r\n\r\n".to_vec(), ""),
        (
            BAD,
            b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n".to_vec(),
            "",
        ),
        (
            "HEAD /bad HTTP/1.1\r\nHost: a\r\n\r\n",
            with("Content-Length: 5"),
            "",
        ),
    ];
    let bad = Bad::new();
    let proxy = Proxy::to(&bad.origin);
    for (request, head, body) in rows {
        let said = [&head, body.as_bytes(), POISON.as_bytes()].concat();
        bad.say(&said, None, Then::Wait);
        let mut client = proxy.connect();
        client.send(request);
        let response = match request == BAD {
            true => client.read_response(),
            false => client.read_response_to_head(),
        };
        assert!(response.status() < 400, "{response:?}");
        // The same client first, then others.
        client.send(GOOD);
        let next = client.read_response();
        assert_eq!(next.text(), "fine", "{response:?}, then {next:?}");
        bad.expect_recovery(&proxy, &response.head);
    }
}

#[test]
fn what_comes_on_an_idle_connection_is_nobodys_response() {
    let (read, was_read) = channel();
    let (sent, was_sent) = channel();
    let (was_read, sent) = (Mutex::new(was_read), Mutex::new(sent));
    let origin = Origin::scripted(move |mut wire, number| {
        wire.read_message();
        wire.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfine");
        if number == 0 {
            was_read.lock().unwrap().recv_timeout(PATIENCE).unwrap();
            wire.send(POISON);
            sent.lock().unwrap().send(()).unwrap();
            wire.expect_end();
        }
    });
    let proxy = Proxy::to(&origin);
    let mut client = proxy.connect();
    client.send(GOOD);
    assert_eq!(client.read_response().text(), "fine");
    read.send(()).unwrap();
    was_sent.recv_timeout(PATIENCE).unwrap();
    client.send(GOOD);
    assert_eq!(client.read_response().text(), "fine");
    assert_eq!(origin.accepted(), 2);
}

#[test]
fn an_answer_before_the_whole_request_leaves_no_connection_behind() {
    let (answered, was_answered) = channel();
    let answered = Mutex::new(answered);
    let origin = Origin::scripted(move |mut wire, number| {
        if number == 0 {
            wire.read_head();
            wire.send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nearly");
            let rest = wire.read_to_end();
            assert!(rest.len() < 9, "{rest:?}");
            answered.lock().unwrap().send(()).unwrap();
        } else {
            wire.read_message();
            wire.send(FINE);
        }
    });
    let proxy = Proxy::to(&origin);
    let mut client = proxy.connect();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nhalf");
    assert_eq!(client.read_response().text(), "early");
    was_answered.recv_timeout(PATIENCE).unwrap();
    let mut client = proxy.connect();
    client.send(GOOD);
    assert_eq!(client.read_response().text(), "fine");
    assert_eq!(origin.accepted(), 2);
}

#[test]
fn an_answer_before_any_request_is_used_once_at_most() {
    let origin = Origin::scripted(|mut wire, number| {
        if number == 0 {
            let _ = wire.send_if_taken([POISON, POISON].concat());
            wire.read_head();
            wire.expect_end();
        } else {
            wire.read_message();
            wire.send(FINE);
        }
    });
    let proxy = Proxy::to(&origin);
    let mut client = proxy.connect();
    client.send(GOOD);
    // To the proxy this is a fast origin, or a broken one.
    let first = client.read_response().status();
    assert!(matches!(first, 200 | 502), "{first}");
    let mut client = proxy.connect();
    client.send(GOOD);
    assert_eq!(client.read_response().text(), "fine");
    assert_eq!(origin.accepted(), 2);
}

#[test]
fn silence_ends_with_the_read_timeout() {
    let rows = [
        ("", 504),
        ("HTTP/1.1 200", 504),
        ("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n", 504),
        ("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf", 200),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
            200,
        ),
    ];
    let bad = Bad::new();
    let mut app = forward_to(bad.origin.path());
    app.peer.options.read_timeout = Some(Duration::from_secs(1));
    let proxy = Proxy::start(app);
    for (said, status) in rows {
        bad.say(said.as_bytes(), None, Then::Wait);
        let mut client = proxy.connect();
        client.send(BAD);
        let seen = String::from_utf8(client.read_to_end()).unwrap();
        assert!(
            seen.starts_with(&format!("HTTP/1.1 {status} ")),
            "{said:?}: {seen:?}"
        );
        assert!(
            status == 504 || !seen.ends_with("\r\n0\r\n\r\n"),
            "{seen:?}"
        );
        bad.expect_recovery(&proxy, said);
    }
}

#[test]
fn an_origin_that_is_not_there_is_a_502() {
    let bad = Bad::new();
    let proxy = Proxy::start(forward_to(bad.origin.path().with_file_name("nobody")));
    for _ in 0..2 {
        let mut client = proxy.connect();
        client.send(GOOD);
        assert_eq!(client.read_response().status(), 502);
        client.expect_end();
    }
    // There, but only for as long as it takes to hang up.
    let origin = Origin::scripted(|wire, _| drop(wire));
    let proxy = Proxy::to(&origin);
    let mut client = proxy.connect();
    client.send(GOOD);
    assert_eq!(client.read_response().status(), 502);
    client.expect_end();
}
