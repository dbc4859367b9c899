//! Requests that are refused.
//!
//! Each row is sent whole, and then cut in two at every byte: where the network cuts must not matter.

use super::common::*;

/// A name, what the client sends, and the status of the answer.
type Row = (&'static str, Vec<u8>, u16);

/// A request line and a Host, and these lines.
fn with(lines: impl AsRef<[u8]>) -> Vec<u8> {
    [
        b"POST / HTTP/1.1\r\nHost: a\r\n".as_slice(),
        lines.as_ref(),
        b"\r\n\r\n",
    ]
    .concat()
}

/// This request line, and a Host.
fn line(line: impl AsRef<[u8]>) -> Vec<u8> {
    [line.as_ref(), b"\r\nHost: a\r\n\r\n"].concat()
}

fn request_lines() -> Vec<Row> {
    vec![
        ("no request line", b"garbage\r\n\r\n".to_vec(), 400),
        (
            "a TLS hello",
            b"\x16\x03\x01\x02\0\x01\0\r\n\r\n".to_vec(),
            400,
        ),
        ("no version", line("GET /"), 400),
        ("no target", line("GET HTTP/1.1"), 400),
        ("empty target", line("GET  HTTP/1.1"), 400),
        ("SP before the method", line(" GET / HTTP/1.1"), 400),
        ("two SP before the target", line("GET  / HTTP/1.1"), 400),
        ("two SP before the version", line("GET /  HTTP/1.1"), 400),
        ("SP after the version", line("GET / HTTP/1.1 "), 400),
        ("HTAB for SP", line("GET\t/ HTTP/1.1"), 400),
        ("SP in the target", line("GET /a b HTTP/1.1"), 400),
        ("HTAB in the target", line("GET /a\tb HTTP/1.1"), 400),
        ("NUL in the target", line("GET /a\0b HTTP/1.1"), 400),
        ("CTL in the target", line("GET /a\x01b HTTP/1.1"), 400),
        ("DEL in the target", line("GET /a\x7fb HTTP/1.1"), 400),
        ("CR in the target", line("GET /a\rb HTTP/1.1"), 400),
        (
            "CTL after a byte >= 0x80",
            line(b"GET /\xff\x01 HTTP/1.1"),
            400,
        ),
        (
            "DEL after a byte >= 0x80",
            line(b"GET /\xff\x7f HTTP/1.1"),
            400,
        ),
        (
            "SP after a byte >= 0x80",
            line(b"GET /\xff a HTTP/1.1"),
            400,
        ),
        ("a separator in the method", line("G(T / HTTP/1.1"), 400),
        ("CTL in the method", line("G\x01T / HTTP/1.1"), 400),
        (
            "a byte >= 0x80 in the method",
            line(b"G\x80T / HTTP/1.1"),
            400,
        ),
        ("target in no form", line("GET a HTTP/1.1"), 400),
        ("asterisk with a tail", line("OPTIONS *a HTTP/1.1"), 400),
        ("asterisk for GET", line("GET * HTTP/1.1"), 400),
        ("asterisk for POST", line("POST * HTTP/1.1"), 400),
        ("asterisk in HTTP/1.0", line("GET * HTTP/1.0"), 400),
        ("a fragment", line("GET /a#frag HTTP/1.1"), 400),
        ("an empty fragment", line("GET /a# HTTP/1.1"), 400),
        ("a fragment after a query", line("GET /a?b#c HTTP/1.1"), 400),
        ("a fragment alone", line("GET #a HTTP/1.1"), 400),
        (
            "a fragment in absolute-form",
            line("GET http://a/b#c HTTP/1.1"),
            400,
        ),
        ("foreign scheme", line("GET ftp://a/ HTTP/1.1"), 400),
        ("no authority", line("GET http:///a HTTP/1.1"), 400),
        ("user information", line("GET http://u:p@a/ HTTP/1.1"), 400),
        ("malformed authority", line("GET http://a:b/ HTTP/1.1"), 400),
        ("lower-case version", line("GET / http/1.1"), 400),
        ("a version of three numbers", line("GET / HTTP/1.1.1"), 400),
        ("a version without a point", line("GET / HTTP/11"), 400),
        ("HTTP/0.9", line("GET / HTTP/0.9"), 505),
        ("HTTP/2.0", line("GET / HTTP/2.0"), 505),
        ("HTTP/3.0", line("GET / HTTP/3.0"), 505),
        (
            "HTTP/2.0 and a byte >= 0x80",
            line(b"GET /\xff HTTP/2.0"),
            505,
        ),
        ("CONNECT", line("CONNECT a:443 HTTP/1.1"), 405),
    ]
}

fn lines_and_fields() -> Vec<Row> {
    vec![
        (
            "LF for all line ends",
            b"GET / HTTP/1.1\nHost: a\n\n".to_vec(),
            400,
        ),
        (
            "LF after the request line",
            b"GET / HTTP/1.1\nHost: a\r\n\r\n".to_vec(),
            400,
        ),
        (
            "LF after a field",
            b"GET / HTTP/1.1\r\nHost: a\n\r\n".to_vec(),
            400,
        ),
        (
            "LF for the empty line",
            b"GET / HTTP/1.1\r\nHost: a\r\n\n".to_vec(),
            400,
        ),
        (
            "LF before the request line",
            b"\nGET / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(),
            400,
        ),
        (
            "CR after the request line",
            b"GET / HTTP/1.1\rHost: a\r\n\r\n".to_vec(),
            400,
        ),
        (
            "CR before the request line",
            b"\rGET / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(),
            400,
        ),
        ("CR in a value", with("X: a\rb"), 400),
        ("CR in a name", with("X\rY: a"), 400),
        ("CR before a field", with("\rX: a"), 400),
        ("CR CR LF", with("X: a\r"), 400),
        ("a line with CR alone", with("X: a\rContent-Length: 5"), 400),
        ("a folded field", with("X: a\r\n b"), 400),
        ("a field folded with HTAB", with("X: a\r\n\tb"), 400),
        ("a folded empty field", with("X:\r\n a"), 400),
        (
            "a fold after the request line",
            line("GET / HTTP/1.1\r\n X: a"),
            400,
        ),
        ("a folded length", with("Content-Length:\r\n 0"), 400),
        ("SP before a colon", with("X : a"), 400),
        ("HTAB before a colon", with("X\t: a"), 400),
        (
            "SP before the colon of a coding",
            with("Transfer-Encoding : chunked"),
            400,
        ),
        ("SP in a name", with("X Y: a"), 400),
        ("an empty name", with(": a"), 400),
        ("no colon", with("X"), 400),
        ("a pseudo-header", with(":authority: b"), 400),
        ("a separator in a name", with("X(Y: a"), 400),
        ("NUL in a name", with("X\0: a"), 400),
        ("CTL in a name", with("X\x01: a"), 400),
        ("DEL in a name", with("X\x7f: a"), 400),
        ("a byte >= 0x80 in a name", with(b"X\x80: a"), 400),
        ("NUL in a value", with("X: a\0b"), 400),
        ("CTL in a value", with("X: a\x01b"), 400),
        ("ESC in a value", with("X: \x1b[0m"), 400),
        ("DEL in a value", with("X: a\x7fb"), 400),
        ("no Host", b"GET / HTTP/1.1\r\n\r\n".to_vec(), 400),
        (
            "no Host, but in the target",
            b"GET http://a/ HTTP/1.1\r\n\r\n".to_vec(),
            400,
        ),
        ("two Hosts", with("Host: b"), 400),
        ("two Hosts that agree", with("Host: a"), 400),
        (
            "Host with SP",
            b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n".to_vec(),
            400,
        ),
        (
            "Host with a path",
            b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n".to_vec(),
            400,
        ),
        (
            "Host with a user",
            b"GET / HTTP/1.1\r\nHost: u@a\r\n\r\n".to_vec(),
            400,
        ),
        (
            "Host with half a bracket",
            b"GET / HTTP/1.1\r\nHost: [::1\r\n\r\n".to_vec(),
            400,
        ),
        (
            "Host with a bad port",
            b"GET / HTTP/1.1\r\nHost: a:b\r\n\r\n".to_vec(),
            400,
        ),
        (
            "two Hosts in HTTP/1.0",
            b"GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n".to_vec(),
            400,
        ),
        (
            "a protected field named by Connection",
            with("Connection: Content-Length"),
            400,
        ),
        (
            "a forwarded address named by Connection",
            with("Connection: X-Forwarded-For"),
            400,
        ),
        (
            "more options than anyone needs",
            with("Connection: a,b,c,d,e,f,g,h,i,j,k"),
            400,
        ),
    ]
}

fn framings() -> Vec<Row> {
    let length = |value: &str| with(format!("Content-Length: {value}"));
    let coding = |value: &str| with(format!("Transfer-Encoding: {value}"));
    let old = "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    vec![
        (
            "length and coding",
            with("Content-Length: 5\r\nTransfer-Encoding: chunked"),
            400,
        ),
        (
            "coding and length",
            with("Transfer-Encoding: chunked\r\nContent-Length: 5"),
            400,
        ),
        (
            "length 0 and coding",
            with("Content-Length: 0\r\nTransfer-Encoding: chunked"),
            400,
        ),
        (
            "length and unknown coding",
            with("Content-Length: 5\r\nTransfer-Encoding: x"),
            400,
        ),
        ("empty length", length(""), 400),
        ("length with a plus", length("+5"), 400),
        ("length with a minus", length("-5"), 400),
        ("hexadecimal length", length("0x5"), 400),
        ("length with a letter", length("5a"), 400),
        ("length with a point", length("5.0"), 400),
        ("two numbers as a length", length("5 5"), 400),
        ("length with a parameter", length("5;a"), 400),
        ("length with an empty element", length("5,"), 400),
        ("length of 2^64", length("18446744073709551616"), 400),
        (
            "length of 30 digits",
            length("100000000000000000000000000000"),
            400,
        ),
        ("differing lengths in one line", length("5, 6"), 400),
        (
            "differing lengths in two lines",
            with("Content-Length: 5\r\nContent-Length: 6"),
            400,
        ),
        (
            "a number and none",
            with("Content-Length: 5\r\nContent-Length: a"),
            400,
        ),
        (
            "none and a number",
            with("Content-Length: \r\nContent-Length: 5"),
            400,
        ),
        ("unknown coding", coding("x"), 501),
        ("unknown coding before chunked", coding("x, chunked"), 501),
        ("no coding in the old way", coding("identity"), 501),
        ("coding that we do not decode", coding("gzip, chunked"), 501),
        ("chunked with a parameter", coding("chunked;a=b"), 501),
        ("chunked in quotes", coding("\"chunked\""), 501),
        ("nearly chunked", coding("xchunked"), 501),
        ("chunked with CTL", coding("\x0bchunked"), 400),
        ("empty coding", coding(""), 400),
        ("final coding is not chunked", coding("gzip"), 400),
        ("chunked is not final", coding("chunked, gzip"), 400),
        ("chunked twice", coding("chunked, chunked"), 400),
        (
            "chunked in two lines",
            with("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked"),
            400,
        ),
        ("an empty coding after chunked", coding("chunked,"), 400),
        ("coding in HTTP/1.0", old.into(), 400),
    ]
}

fn sizes() -> Vec<Row> {
    let field = |size: usize| format!("X: {}", "a".repeat(size));
    let fields: Vec<String> = (0..256).map(|n| format!("X{n}: a")).collect();
    let long = (1 << 16) + 100;
    vec![
        (
            "target too long",
            line(format!("GET /{} HTTP/1.1", "a".repeat(long))),
            414,
        ),
        (
            "a target without an end",
            format!("GET /{}", "a".repeat(long)).into(),
            414,
        ),
        (
            "a byte >= 0x80 in a target too long",
            [b"GET /\xff".as_slice(), &vec![b'a'; long]].concat(),
            414,
        ),
        ("head too large", with(field(1 << 20)), 431),
        (
            "a head without an end",
            format!("GET / HTTP/1.1\r\n{}", field(1 << 20)).into(),
            431,
        ),
        ("too many fields", with(fields.join("\r\n")), 431),
    ]
}

/// Where to cut: at every byte, or at a few places of what is long.
pub(crate) fn cuts(length: usize) -> impl Iterator<Item = usize> {
    let step = if length > 4096 { length / 5 } else { 1 };
    (step..length).step_by(step)
}

/// Sends each row whole, in two pieces, and with a request behind it that is in order. Expects the
/// row's status, the end of the connection, and no connection to the origin.
fn refuse(rows: &[Row]) {
    let origin = Origin::answering("HTTP/1.1 204 No Content\r\n\r\n");
    let proxy = Proxy::to(&origin);
    for (name, request, status) in rows {
        let followed = [request.as_slice(), b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"].concat();
        let sent = [(request, None), (&followed, None)]
            .into_iter()
            .chain(cuts(request.len()).map(|cut| (request, Some(cut))));
        for (request, cut) in sent {
            let mut client = proxy.connect();
            client.send_split(request, cut.as_slice());
            let answered = client.read_response().status();
            assert_eq!(answered, *status, "{name}, cut at {cut:?}");
            client.expect_end();
        }
    }
    // Connections are accepted in their order, so this one comes behind those that should not be there.
    let mut client = proxy.connect();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.read_response().status(), 204);
    assert_eq!(origin.accepted(), 1, "a refused request had a connection");
}

#[test]
fn malformed_request_lines_are_refused() {
    refuse(&request_lines());
}

#[test]
fn malformed_lines_and_fields_are_refused() {
    refuse(&lines_and_fields());
}

#[test]
fn unclear_framings_are_refused() {
    refuse(&framings());
}

#[test]
fn what_is_too_large_is_refused() {
    refuse(&sizes());
}

/// The origin sees the head of such a request at most, and never an end of its body.
#[test]
fn malformed_chunks_are_refused() {
    let long_extension = format!("1;{}\r\na\r\n0\r\n\r\n", "a".repeat(20_000));
    let long_trailer = format!("0\r\nX: {}\r\n\r\n", "a".repeat(70_000));
    let bodies = [
        "x\r\n\r\n",
        "\r\n0\r\n\r\n",
        ";a\r\n0\r\n\r\n",
        "-1\r\n\r\n",
        "+1\r\na\r\n0\r\n\r\n",
        "0x1\r\na\r\n0\r\n\r\n",
        "1 \r\na\r\n0\r\n\r\n",
        "1\t\r\na\r\n0\r\n\r\n",
        "1 1;a\r\na\r\n0\r\n\r\n",
        "1 ;a\na\r\n0\r\n\r\n",
        " 1\r\na\r\n0\r\n\r\n",
        "1\na\r\n0\r\n\r\n",
        "1\ra\r\n0\r\n\r\n",
        "1\r\na\n0\r\n\r\n",
        "1\r\na\r0\r\n\r\n",
        "1\r\nab\r\n0\r\n\r\n",
        "2\r\na\r\n0\r\n\r\n",
        "1\r\na0\r\n\r\n",
        "fffffffffffffffff\r\na",
        "00000000000000001\r\na\r\n0\r\n\r\n",
        "1;a\nb\r\na\r\n0\r\n\r\n",
        "1;a\rb\r\na\r\n0\r\n\r\n",
        "1;a\0b\r\na\r\n0\r\n\r\n",
        "0\n\r\n",
        "0\r\n\n",
        "0\r\n\r\r\n\r\n",
        "0\r\nX\r\n\r\n",
        "0\r\nX : a\r\n\r\n",
        "0\r\nX: a\n\r\n",
        "0\r\nX: a\rb\r\n\r\n",
        "0\r\nX: a\r\n b\r\n\r\n",
        "0\r\nX: a\0b\r\n\r\n",
        "0\r\n: a\r\n\r\n",
        &long_extension,
        &long_trailer,
    ];
    let origin = Origin::scripted(|mut wire, _| {
        let seen = wire.read_to_end();
        let text = String::from_utf8_lossy(&seen);
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or_default();
        assert!(
            !format!("\r\n{body}").contains("\r\n0\r\n"),
            "{head:?} {body:?}"
        );
    });
    let proxy = Proxy::to(&origin);
    for body in bodies {
        let head = with("Transfer-Encoding: chunked");
        let request = [&head, body.as_bytes()].concat();
        let at = cuts(body.len()).map(|cut| Some(head.len() + cut));
        for cut in [None, Some(head.len())].into_iter().chain(at) {
            let mut client = proxy.connect();
            client.send_split(&request, cut.as_slice());
            let status = client.read_response().status();
            assert_eq!(status, 400, "{body:?}, cut at {cut:?}");
            client.expect_end();
        }
    }
}
