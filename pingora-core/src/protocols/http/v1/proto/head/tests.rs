use super::framing::{Answered, Framing};
use super::*;
use http::header::{HeaderName, TRANSFER_ENCODING};

type Request = (Box<RequestHeader>, Framing);

/// Scans and reads a request that is here whole.
fn read(bytes: &[u8], limits: &Limits) -> Result<Request, Refusal> {
    let found = Scanner::default()
        .scan(bytes, limits)?
        .expect("a whole head");
    parse_request(
        &Bytes::copy_from_slice(&bytes[found.start..found.end]),
        limits,
    )
}

fn request_of(bytes: impl AsRef<[u8]>) -> Result<Request, Refusal> {
    read(bytes.as_ref(), &Limits::default())
}

fn response_of(bytes: impl AsRef<[u8]>) -> Result<Box<ResponseHeader>, Refusal> {
    let bytes = bytes.as_ref();
    let found = Scanner::default()
        .scan(bytes, &Limits::response())?
        .expect("a whole head");
    parse_response(&Bytes::copy_from_slice(&bytes[found.start..found.end]))
}

/// A request with these field lines beside its Host.
fn with_fields(lines: impl AsRef<[u8]>) -> Result<Request, Refusal> {
    request_of([b"GET / HTTP/1.1\r\nHost: h\r\n", lines.as_ref(), b"\r\n"].concat())
}

fn response_with(lines: impl AsRef<[u8]>) -> Result<Box<ResponseHeader>, Refusal> {
    response_of([b"HTTP/1.1 200 OK\r\n", lines.as_ref(), b"\r\n"].concat())
}

fn error<T>(result: Result<T, Refusal>) -> Option<Refusal> {
    result.err()
}

#[test]
fn a_request_is_read() {
    let (request, framing) = request_of(
        "POST /a?b=c HTTP/1.1\r\nhost: h:80\r\nX-Two:  1 \r\nContent-Length: 3\r\nx-two:\t2\t\r\nEmpty:\r\n\r\n",
    )
    .unwrap();
    assert_eq!(request.method, Method::POST);
    assert_eq!(request.raw_path(), b"/a?b=c");
    assert_eq!(request.uri.query(), Some("b=c"));
    assert_eq!(request.version, Version::HTTP_11);
    assert_eq!(framing, Framing::Length(3));
    let two: Vec<_> = request.headers.get_all("x-two").iter().collect();
    assert_eq!(two, ["1", "2"]);
    assert_eq!(request.headers["empty"], "");
    let mut wire = Vec::new();
    request.header_to_h1_wire(&mut wire);
    let wire = String::from_utf8(wire).unwrap();
    assert!(
        wire.contains("host: h:80\r\n") && wire.contains("X-Two: 1\r\nx-two: 2\r\n"),
        "{wire}"
    );
}

#[test]
fn request_lines() {
    use Refusal::*;
    let rows: &[(&[u8], Option<Refusal>)] = &[
        (b"GET / HTTP/1.1", None),
        (b"!#$%&'*+-.^_`|~09azAZ / HTTP/1.1", None),
        (b"OPTIONS * HTTP/1.1", None),
        (b"CONNECT h:443 HTTP/1.1", None),
        (b"GET http://h/p HTTP/1.1", None),
        (b"GET * HTTP/1.1", Some(RequestLine)),
        (b"POST * HTTP/1.0", Some(RequestLine)),
        (b"options * HTTP/1.1", Some(RequestLine)),
        (b"GET /a#b HTTP/1.1", Some(RequestLine)),
        (b"GET /# HTTP/1.1", Some(RequestLine)),
        (b"GET # HTTP/1.1", Some(RequestLine)),
        (b"GET http://h/p#b HTTP/1.1", Some(RequestLine)),
        (b"CONNECT h:443#b HTTP/1.1", Some(RequestLine)),
        (b"OPTIONS *# HTTP/1.1", Some(RequestLine)),
        (b"GET ?a HTTP/1.1", None),
        (b"get / HTTP/1.1", None),
        (b"GET / HTTP/2.0", Some(Version)),
        (b"GET / HTTP/0.9", Some(Version)),
        (b"GET / HTTP/1.2", None),
        (b"GET / HTTP/1.9", None),
        (b"GET / HTTP/1.:", Some(RequestLine)),
        (b"GET / HTTP/1./", Some(RequestLine)),
        (b"GET / HTTP/1.2 ", Some(RequestLine)),
        (b"GET / HTTP/1.22", Some(RequestLine)),
        (b"GET /\xff HTTP/3.0", Some(Version)),
        (b"GET / a HTTP/2.0", Some(RequestLine)),
        (b"GET /  HTTP/2.0", Some(RequestLine)),
        (b"GET /\xff HTTP/1.1 ", Some(RequestLine)),
        (b"GET /\xff  HTTP/1.1", Some(RequestLine)),
        (b"GET /\xff", Some(RequestLine)),
        (b"GET \xff / HTTP/1.1", Some(RequestLine)),
        (b"G\xffT / HTTP/1.1", Some(RequestLine)),
        (b"GET / HTTP/1", Some(RequestLine)),
        (b"GET / HTTP/11.1", Some(RequestLine)),
        (b"GET / HTTP/1.10", Some(RequestLine)),
        (b"GET / http/1.1", Some(RequestLine)),
        (b"GET / HTTQ/1.1", Some(RequestLine)),
        (b"GET / HTTP/1.1 ", Some(RequestLine)),
        (b"GET / HTTP/1.1\r", Some(BareLineEnd)),
        (b"GET /\r HTTP/1.1", Some(RequestLine)),
        (b"GET\r / HTTP/1.1", Some(RequestLine)),
        (b"GET /", Some(RequestLine)),
        (b"GET  / HTTP/1.1", Some(RequestLine)),
        (b"GET /  HTTP/1.1", Some(RequestLine)),
        (b"GET  HTTP/1.1", Some(RequestLine)),
        (b"GET HTTP/1.1", Some(RequestLine)),
        (b"GET\t/ HTTP/1.1", Some(RequestLine)),
        (b"GET /\tHTTP/1.1", Some(RequestLine)),
        (b" GET / HTTP/1.1", Some(RequestLine)),
        (b"/ HTTP/1.1", Some(RequestLine)),
        (b"GET / a HTTP/1.1", Some(RequestLine)),
        (b"GE(T / HTTP/1.1", Some(RequestLine)),
        (b"GET: / HTTP/1.1", Some(RequestLine)),
    ];
    for (line, want) in rows {
        let head = [line, &b"\r\nHost: h\r\n\r\n"[..]].concat();
        let got = error(request_of(head));
        assert_eq!(got, *want, "{}", line.escape_ascii());
    }
}

#[test]
fn every_byte_in_method_and_target() {
    for b in 0..=u8::MAX {
        let token = b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
        let method = [b"A", &[b][..], b"B / HTTP/1.1\r\nHost: h\r\n\r\n"].concat();
        assert_eq!(request_of(&method).is_ok(), token, "method {b:#x}");

        let target = [b"GET /a", &[b][..], b"b HTTP/1.1\r\nHost: h\r\n\r\n"].concat();
        let read = request_of(&target);
        // A fragment has no place there. What `http::Uri` does not take in a path cannot be asked for either.
        let allowed = b > b' ' && b != 0x7f && !b"#<>`".contains(&b);
        assert_eq!(read.is_ok(), allowed, "target {b:#x}");
        match read {
            Ok((request, _)) => assert_eq!(request.raw_path(), [b'/', b'a', b, b'b']),
            Err(refusal) => assert_eq!(refusal.status(), 400, "target {b:#x}"),
        }
    }
}

#[test]
fn every_byte_in_names_and_values() {
    for b in 0..=u8::MAX {
        let token = b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
        let name = [b"a", &[b][..], b"b: v\r\n"].concat();
        // A colon or a line end makes another field of it.
        let name_ok = token || b == b':';
        assert_eq!(with_fields(&name).is_ok(), name_ok, "name {b:#x}");
        assert_eq!(response_with(&name).is_ok(), name_ok, "name {b:#x}");

        let value = [b"n: a", &[b][..], b"b\r\n"].concat();
        let value_ok = b == b'\t' || (b >= b' ' && b != 0x7f);
        assert_eq!(with_fields(&value).is_ok(), value_ok, "value {b:#x}");
        assert_eq!(response_with(&value).is_ok(), value_ok, "value {b:#x}");
        if value_ok {
            assert_eq!(
                with_fields(&value).unwrap().0.headers["n"],
                [b'a', b, b'b'][..]
            );
        }
    }
}

#[test]
fn request_fields() {
    use Refusal::*;
    let rows: &[(&[u8], Refusal)] = &[
        (b"X : 1\r\n", FieldName),
        (b"X\t: 1\r\n", FieldName),
        (b" X: 1\r\n", FieldName),
        (b"\tX: 1\r\n", FieldName),
        (b"X: 1\r\n folded\r\n", FieldName),
        (b"X: 1\r\n\tfolded\r\n", FieldName),
        (b": 1\r\n", FieldName),
        (b"X\r\n", FieldName),
        (b"X 1\r\n", FieldName),
        (b"X: \0\r\n", FieldValue),
        (b"X: 1\r2\r\n", FieldValue),
        (b"X: 1\r\r\n", FieldValue),
        (b"\rX: 1\r\n", BareLineEnd),
        (b"X: 1\n", BareLineEnd),
        (b"X: 1\nY: 2\r\n", BareLineEnd),
        (b"X: \n", BareLineEnd),
    ];
    for (lines, want) in rows {
        let got = with_fields(lines);
        assert_eq!(error(got), Some(*want), "{}", lines.escape_ascii());
    }
}

/// The framing rules have a table of their own; here is that a request goes through them, and its status.
#[test]
fn framing_of_a_request_is_checked() {
    use Refusal::*;
    let rows: &[(&str, Refusal, u16)] = &[
        (
            "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
            LengthAndCoding,
            400,
        ),
        (
            "Content-Length: 5\r\nContent-Length: 6\r\n",
            ContentLengthDiffers,
            400,
        ),
        ("Content-Length: 5, 6\r\n", ContentLengthDiffers, 400),
        ("Content-Length: +5\r\n", ContentLength, 400),
        ("Content-Length:\r\n", ContentLength, 400),
        (
            "Content-Length: 99999999999999999999\r\n",
            ContentLength,
            400,
        ),
        (
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
            CodingOrder,
            400,
        ),
        ("Transfer-Encoding: chunked, gzip\r\n", CodingOrder, 400),
        ("Transfer-Encoding: gzip\r\n", CodingOrder, 400),
        ("Transfer-Encoding: foo, chunked\r\n", UnknownCoding, 501),
        ("Transfer-Encoding: \x0bchunked\r\n", FieldValue, 400),
        ("Transfer-Encoding : chunked\r\n", FieldName, 400),
    ];
    for (lines, want, status) in rows {
        assert_eq!(error(with_fields(lines)), Some(*want), "{lines:?}");
        assert_eq!(want.status(), *status, "{lines:?}");
    }
    let old = "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert_eq!(error(request_of(old)), Some(CodingInHttp10));
    assert_eq!(
        with_fields("Transfer-Encoding: chunked\r\n").unwrap().1,
        Framing::Chunked
    );
    assert_eq!(with_fields("").unwrap().1, Framing::Length(0));
}

#[test]
fn repeated_lengths_become_one() {
    for lines in [
        "Content-Length: 5\r\nX: y\r\ncontent-length: 5\r\n",
        "Content-Length: 5, 5\r\n",
        "Content-Length: 5,05\r\nContent-Length: 005\r\n",
    ] {
        let (request, framing) = with_fields(lines).unwrap();
        assert_eq!(framing, Framing::Length(5));
        let kept: Vec<_> = request.headers.get_all(CONTENT_LENGTH).iter().collect();
        assert_eq!(kept, ["5"], "{lines:?}");
    }
}

#[test]
fn hosts() {
    let read = |version: &str, lines: &str| {
        let head = format!("GET / HTTP/{version}\r\n{lines}\r\n");
        let (request, _) = request_of(head).unwrap();
        check_host(&request).err().map(Refusal::status)
    };
    let ok = [
        "h",
        "h:80",
        "h:",
        "127.0.0.1:8080",
        "[::1]",
        "[::1]:443",
        "a%41.b",
        "_x.y",
    ];
    for host in ok {
        assert_eq!(read("1.1", &format!("Host: {host}\r\n")), None, "{host}");
        assert_eq!(read("1.0", &format!("Host: {host}\r\n")), None, "{host}");
    }
    let bad = [
        "", "a b", "a,b", "a/b", "u@h", "h:x", "h:99999", "[::1", "::1", "h:80:80", "a%4", "h?",
        "\u{e9}", "h\\", "[v]", ":80",
    ];
    for host in bad.into_iter().filter(|host| *host != "a,b") {
        assert_eq!(
            read("1.1", &format!("Host: {host}\r\n")),
            Some(400),
            "{host}"
        );
        assert_eq!(
            read("1.0", &format!("Host: {host}\r\n")),
            Some(400),
            "{host}"
        );
    }
    assert_eq!(read("1.1", ""), Some(400));
    assert_eq!(read("1.0", ""), None);
    assert_eq!(read("1.1", "Host: h\r\nHost: h\r\n"), Some(400));
    assert_eq!(read("1.0", "Host: h\r\nhost: g\r\n"), Some(400));
    let (request, _) = request_of("GET http://h/ HTTP/1.1\r\n\r\n").unwrap();
    assert_eq!(check_host(&request), Err(Refusal::Host));
}

/// RFC 9112 section 3.2.2: what the target names is what Host says to all who look at the request.
#[test]
fn an_authority_in_the_target_replaces_host() {
    let host = |head: &str| {
        let (request, _) = request_of(head).unwrap();
        let hosts = request.headers.get_all("host").iter();
        let hosts: Vec<_> = hosts.map(|host| host.to_str().unwrap()).collect();
        hosts.join("|")
    };
    for (target, version, lines, says) in [
        ("http://t/", "1.1", "Host: h\r\n", "t"),
        ("http://t:80?q", "1.1", "HOST: h\r\n", "t:80"),
        ("WSS://[::1]:443/p", "1.1", "Host: [::1]\r\n", "[::1]:443"),
        ("http://t", "1.1", "Host: t\r\n", "t"),
        ("http://t/", "1.0", "", "t"),
        ("http://t/", "1.0", "Host: h\r\n", "t"),
        // What is refused afterwards is left for it.
        ("http://t/", "1.1", "", ""),
        ("http://t/", "1.1", "Host: h\r\nHost: h\r\n", "h|h"),
        ("http://t/", "1.1", "Host: h/\r\n", "h/"),
        ("http://t/", "1.0", "Host: h/\r\n", "h/"),
        ("http://u@t/", "1.1", "Host: h\r\n", "h"),
        ("http://t%4/", "1.1", "Host: h\r\n", "h"),
        ("ftp://t/", "1.1", "Host: h\r\n", "h"),
        // These name none.
        ("/http://t/", "1.1", "Host: h\r\n", "h"),
        ("//t/", "1.1", "Host: h\r\n", "h"),
        ("t:80", "1.1", "Host: h\r\n", "h"),
    ] {
        let head = format!("GET {target} HTTP/{version}\r\nA: 1\r\n{lines}B: 2\r\n\r\n");
        assert_eq!(host(&head), says, "{head}");
        let connect = head.replacen("GET", "CONNECT", 1);
        let says = match target {
            "t:80" => target,
            _ => lines.split(": ").nth(1).map_or("", |host| host.trim()),
        };
        if !lines.contains("Host: h\r\nHost") {
            assert_eq!(host(&connect), says, "{connect}");
        }
    }
}

#[test]
fn values_and_target_are_slices_of_the_head() {
    for head in [
        &b"GET /target HTTP/1.1\r\nHost: h.example\r\nX: value\r\n\r\n"[..],
        b"GET /t\xffget HTTP/1.1\r\nHost: h.example\r\nX: value\r\n\r\n",
    ] {
        let head = Bytes::copy_from_slice(head);
        let (request, _) = parse_request(&head, &Limits::default()).unwrap();
        let within = |part: &[u8]| head.as_ptr_range().contains(&part.as_ptr());
        assert!(within(request.headers["x"].as_bytes()));
        assert!(within(request.headers["host"].as_bytes()));
        assert_eq!(within(request.raw_path()), request.raw_path_is_utf8());
    }
    let head = Bytes::from_static(b"HTTP/1.1 200 OK\r\nX: value\r\nY: a\r\n b\r\n\r\n");
    let response = parse_response(&head).unwrap();
    let within = |part: &[u8]| head.as_ptr_range().contains(&part.as_ptr());
    assert!(within(response.headers["x"].as_bytes()));
    assert!(
        !within(response.headers["y"].as_bytes()),
        "a joined value cannot be a slice"
    );
}

#[test]
fn a_head_that_is_not_exactly_one_is_refused() {
    for head in [
        &b""[..],
        b"\r\n",
        b"GET / HTTP/1.1\r\n",
        b"GET / HTTP/1.1\r\nHost: h\r\n",
        b"GET / HTTP/1.1\r\nHost: h\r\n\r\nmore",
        b"GET /\xff HTTP/1.1\r\nHost: h\r\n\r\nmore",
        b"GET /\xff HTTP/1.1\r\nHost: h\r\n",
        b"GET /\xff",
    ] {
        let parsed = parse_request(&Bytes::from_static(head), &Limits::default());
        assert!(parsed.is_err(), "{}", head.escape_ascii());
    }
    for head in [
        &b""[..],
        b"HTTP/1.1 200 OK\r\n",
        b"HTTP/1.1 200 OK\r\n\r\nmore",
    ] {
        assert!(parse_response(&Bytes::from_static(head)).is_err());
    }
}

#[test]
fn status_lines() {
    use Refusal::*;
    let rows: &[(&[u8], Option<Refusal>)] = &[
        (b"HTTP/1.1 200 OK", None),
        (b"HTTP/1.0 200 OK", None),
        (b"HTTP/1.1 200 ", None),
        (b"HTTP/1.1 200", None),
        (b"HTTP/1.1 999 x", None),
        (b"HTTP/1.1 200 \xff caf\xc3\xa9", None),
        (b"HTTP/1.1 200 a\tb", None),
        (b"HTTP/1.1 099 x", Some(StatusLine)),
        (b"HTTP/1.1 20 OK", Some(StatusLine)),
        (b"HTTP/1.1 2000 OK", Some(StatusLine)),
        (b"HTTP/1.1 2x0 OK", Some(StatusLine)),
        (b"HTTP/1.1 -20 OK", Some(StatusLine)),
        (b"HTTP/1.1  200 OK", Some(StatusLine)),
        (b"HTTP/1.1", Some(StatusLine)),
        (b"HTTP/1.1 200 a\rb", Some(StatusLine)),
        (b"HTTP/1.1 200 a\0b", Some(StatusLine)),
        (b"HTTP/2.0 200 OK", Some(Version)),
        (b"HTTP/1.2 200 OK", None),
        (b"HTTP/1.x 200 OK", Some(Version)),
        (b"HTTP/1.12 200 OK", Some(StatusLine)),
        (b"ICY 200 OK", Some(Version)),
    ];
    for (line, want) in rows {
        let got = error(response_of([line, &b"\r\n\r\n"[..]].concat()));
        assert_eq!(got, *want, "{}", line.escape_ascii());
    }
    let response = response_of("HTTP/1.2 200 OK\r\n\r\n").unwrap();
    assert_eq!(response.version, http::Version::HTTP_11);
    let response = response_of("HTTP/1.0 404 Away\r\n\r\n").unwrap();
    assert_eq!(response.status, 404);
    assert_eq!(response.version, http::Version::HTTP_10);
    assert_eq!(response.get_reason_phrase(), Some("Away"));
}

/// What RFC 9112 sections 5.1 and 5.2 forgive to an origin, and nothing more.
#[test]
fn response_fields() {
    let value =
        |lines: &str| response_with(lines).map(|r| r.headers["x"].to_str().unwrap().to_owned());
    let rows = [
        ("X : 1\r\n", Ok("1")),
        ("X\t : 1\r\n", Ok("1")),
        ("X: 1\r\n 2\r\n", Ok("1 2")),
        ("X: 1 \r\n\t 2 \r\n  3\r\n", Ok("1 2 3")),
        ("X:\r\n 1\r\n", Ok("1")),
        ("X: 1\r\n \r\n", Ok("1")),
        ("X: 1\r\n \r\n 2\r\n", Ok("1 2")),
        ("X:\r\n \r\n", Ok("")),
        ("X: 1\r\n", Ok("1")),
        (" X: 1\r\n", Err(Refusal::FieldName)),
        ("X: a\0\r\n", Err(Refusal::FieldValue)),
        ("X: a\r\n b\0\r\n", Err(Refusal::FieldValue)),
        ("X: a\rb\r\n", Err(Refusal::FieldValue)),
        ("X: 1\n", Err(Refusal::BareLineEnd)),
        ("X: 1\r\n 2\n", Err(Refusal::BareLineEnd)),
        ("X Y: 1\r\n", Err(Refusal::FieldName)),
    ];
    for (lines, want) in rows {
        assert_eq!(value(lines), want.map(str::to_owned), "{lines:?}");
    }
    // A name keeps no trace of the space: `X ` would be another field for others.
    let mut wire = Vec::new();
    response_with("X : 1\r\n")
        .unwrap()
        .header_to_h1_wire(&mut wire);
    assert_eq!(wire, b"X: 1\r\n");
    // A coding that hides in a fold is seen.
    let folded = response_with("Transfer-Encoding:\r\n chunked\r\n").unwrap();
    assert_eq!(folded.headers[TRANSFER_ENCODING], "chunked");
    let framing = framing::response(
        Answered::Other,
        folded.status,
        folded.version,
        &folded.headers,
        false,
    );
    assert_eq!(framing, Ok(Framing::Chunked));
}

#[test]
fn leading_empty_lines_are_passed_over() {
    let head = b"\r\n\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\nrest";
    let mut scanner = Scanner::default();
    assert_eq!(scanner.scan(&head[..4], &Limits::default()), Ok(None));
    assert!(!scanner.begun(&head[..4]));
    assert!(!scanner.begun(&head[..5]) || head[4] == b'G');
    let found = scanner.scan(head, &Limits::default());
    let want = Found {
        start: 4,
        end: head.len() - 4,
    };
    assert_eq!(found, Ok(Some(want)));
    assert!(scanner.begun(head));

    let mut cr = Scanner::default();
    assert_eq!(cr.scan(b"\r\n\r", &Limits::default()), Ok(None));
    assert!(!cr.begun(b"\r\n\r"), "half an empty line is not a request");
}

#[test]
fn bare_line_feeds_pass_only_if_that_is_allowed() {
    let lenient = Limits {
        lenient_line_ends: true,
        ..Limits::default()
    };
    for head in [
        "GET / HTTP/1.0\n\n",
        "\nGET / HTTP/1.0\n\n",
        "GET / HTTP/1.1\nHost: h\n\n",
        "GET / HTTP/1.1\r\nHost: h\n\r\n",
        "GET / HTTP/1.1\r\nHost: h\r\n\n",
        "GET /\u{ff} HTTP/1.1\nHost: h\n\n",
    ] {
        assert_eq!(
            error(request_of(head)),
            Some(Refusal::BareLineEnd),
            "{head:?}"
        );
        assert!(read(head.as_bytes(), &lenient).is_ok(), "{head:?}");
    }
    let raw = b"GET /\xff HTTP/1.1\nHost: h\n\n";
    assert_eq!(read(raw, &lenient).unwrap().0.raw_path(), b"/\xff");
    // A bare CR stays what it is.
    for head in [
        "GET / HTTP/1.0\rX: 1\n\n",
        "GET / HTTP/1.0\nX: 1\r2\n\n",
        "GET / HTTP/1.0\n\r\r\n\n",
    ] {
        assert!(read(head.as_bytes(), &lenient).is_err(), "{head:?}");
    }
}

#[test]
fn limits() {
    let limits = Limits {
        head: 200,
        target: 20,
        lenient_line_ends: false,
    };
    let target = |n: usize| format!("GET /{} HTTP/1.0\r\n\r\n", "a".repeat(n - 1));
    assert!(read(target(20).as_bytes(), &limits).is_ok());
    for n in [21, 50, 100, 1000] {
        let refusal = error(read(target(n).as_bytes(), &limits)).unwrap();
        assert_eq!(
            (refusal, refusal.status()),
            (Refusal::TargetTooLong, 414),
            "{n}"
        );
    }
    let raw = b"GET /\xff2345678901234567890 HTTP/1.0\r\n\r\n";
    assert_eq!(error(read(raw, &limits)), Some(Refusal::TargetTooLong));

    let head = |n: usize| format!("GET / HTTP/1.0\r\nX: {}\r\n\r\n", "a".repeat(n - 23));
    assert_eq!(head(200).len(), 200);
    assert!(read(head(200).as_bytes(), &limits).is_ok());
    let refusal = error(read(head(201).as_bytes(), &limits)).unwrap();
    assert_eq!((refusal, refusal.status()), (Refusal::HeadTooLarge, 431));
    // Not only when it is whole.
    for bytes in [&head(300)[..202], &"\r\n".repeat(101)] {
        let refusal = error(Scanner::default().scan(bytes.as_bytes(), &limits));
        assert_eq!(refusal, Some(Refusal::HeadTooLarge), "{bytes:?}");
    }
    let mut first_line = Scanner::default();
    let endless = "G".repeat(100);
    assert_eq!(
        first_line.scan(endless.as_bytes(), &limits),
        Err(Refusal::TargetTooLong)
    );
}

#[test]
fn default_limits() {
    let target = |n: usize| format!("GET /{} HTTP/1.0\r\n\r\n", "a".repeat(n - 1));
    let most = Limits::default().target;
    assert!(request_of(target(most)).is_ok());
    assert_eq!(
        error(request_of(target(most + 1))),
        Some(Refusal::TargetTooLong)
    );
    let head = format!("GET / HTTP/1.0\r\nX: {}\r\n\r\n", "a".repeat(1 << 20));
    assert_eq!(error(request_of(head)), Some(Refusal::HeadTooLarge));
}

#[test]
fn number_of_fields() {
    let fields = |n: usize| "X: y\r\n".repeat(n);
    // The Host is one of them.
    assert!(with_fields(fields(LIMITS.head_fields - 1)).is_ok());
    let refusal = error(with_fields(fields(LIMITS.head_fields))).unwrap();
    assert_eq!((refusal, refusal.status()), (Refusal::TooManyFields, 431));
    assert_eq!(
        error(response_with(fields(LIMITS.head_fields + 1))),
        Some(Refusal::TooManyFields)
    );
    assert!(response_with(fields(LIMITS.head_fields)).is_ok());
    let raw = format!(
        "GET /R HTTP/1.1\r\nHost: h\r\n{}\r\n",
        fields(LIMITS.head_fields)
    );
    let raw: Vec<u8> = raw
        .bytes()
        .map(|b| if b == b'R' { 0xff } else { b })
        .collect();
    assert_eq!(error(request_of(raw)), Some(Refusal::TooManyFields));
}

/// The first line of a response is not bound by the limit of a request target.
#[test]
fn a_reason_phrase_may_be_long() {
    let head = format!("HTTP/1.1 200 {}\r\n\r\n", "x".repeat(100_000));
    for cut in [70_000, head.len() - 1] {
        let mut scanner = Scanner::default();
        let limits = Limits::response();
        assert_eq!(scanner.scan(&head.as_bytes()[..cut], &limits), Ok(None));
        assert!(scanner.scan(head.as_bytes(), &limits).unwrap().is_some());
    }
    assert_eq!(response_of(head).unwrap().status, 200);
    let endless = "x".repeat(1 << 20);
    let refusal = error(Scanner::default().scan(endless.as_bytes(), &Limits::response()));
    assert_eq!(refusal, Some(Refusal::HeadTooLarge));
}

#[test]
fn trailer_sections() {
    let trailers =
        parse_trailers(&Bytes::from_static(b"X-Sum: 1\r\nx-sum: 2\r\nY:\r\n\r\n")).unwrap();
    let sums: Vec<_> = trailers
        .get_all(HeaderName::from_static("x-sum"))
        .iter()
        .collect();
    assert_eq!(sums, ["1", "2"]);
    assert_eq!(trailers["y"], "");
    for section in [
        &b"X: 1\r\n"[..],
        b"X: 1\r\n\r\nmore",
        b"X : 1\r\n\r\n",
        b" X: 1\r\n\r\n",
        b"X: 1\r\n 2\r\n\r\n",
        b"X: \0\r\n\r\n",
        b"X: 1\r2\r\n\r\n",
        b"X\r\n\r\n",
        b": 1\r\n\r\n",
    ] {
        let parsed = parse_trailers(&Bytes::from_static(section));
        assert_eq!(
            parsed.err(),
            Some(Refusal::Trailer),
            "{}",
            section.escape_ascii()
        );
    }
    let many = format!("{}\r\n", "X: y\r\n".repeat(LIMITS.head_fields + 1));
    assert!(parse_trailers(&Bytes::from(many)).is_err());
}

/// What is found, or why it is refused at once or when it is parsed.
fn outcome(
    found: Result<Option<Found>, Refusal>,
    input: &[u8],
    limits: &Limits,
) -> Result<Option<Found>, Refusal> {
    let found = found?;
    if let Some(Found { start, end }) = found {
        parse_request(&Bytes::copy_from_slice(&input[start..end]), limits)?;
    }
    Ok(found)
}

/// Whatever pieces a head comes in, the result is that of the head in one piece.
#[test]
fn every_way_to_cut_a_head() {
    let strict = Limits {
        head: 60,
        target: 10,
        lenient_line_ends: false,
    };
    let inputs = [
        "GET / HTTP/1.1\r\nHost: h\r\n\r\nGET /next",
        "\r\n\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n",
        "\nGET / HTTP/1.1\r\nHost: h\r\n\r\n",
        "GET / HTTP/1.1\nHost: h\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: h\n\n",
        "GET / HTTP/1.1\r\nHost: h\r\r\n\r\n",
        "GET /0123456789012345678901234567890123456789 HTTP/1.1\r\n\r\n",
        "GET /0123456789012345678901234567890123456789 HTTP/1.1\n\n",
        "GET / HTTP/1.1\r\nX: 012345678901234567890123456789012345678901234567\r\n\r\n",
        "GET / HTTP/1.1\r\nX: 012345678901234567890123456789012345678901234567\n\n",
        "\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\nGET / HTTP/1.1\r\nX: 0123456789012345678\r\n\r\n",
        "\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\nGET /0123456789012345678901234567890123456789",
    ];
    let small_head = Limits { head: 20, ..strict };
    let lenient = Limits {
        lenient_line_ends: true,
        ..strict
    };
    for input in inputs.map(str::as_bytes) {
        for limits in [strict, small_head, lenient] {
            let whole = outcome(Scanner::default().scan(input, &limits), input, &limits);
            for first in 0..=input.len() {
                for second in first..=input.len() {
                    let mut scanner = Scanner::default();
                    let cut = [first, second, input.len()]
                        .into_iter()
                        .map(|end| scanner.scan(&input[..end], &limits))
                        .find(|found| !matches!(found, Ok(None)));
                    let cut = outcome(cut.unwrap_or(Ok(None)), input, &limits);
                    let name = input.escape_ascii();
                    assert_eq!(cut, whole, "{name} {first} {second}");
                }
            }
        }
    }
}

/// A head that comes whole has its line ends looked at while it is parsed.
#[test]
fn bare_line_ends_in_whole_heads() {
    let requests = [
        "GET / HTTP/1.1\nHost: h\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: h\nX: y\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: h\nX: y\r\nZ:\nA: \r\n\r\n",
        "GET / HTTP/1.1\r\nHost: h\n\nGET / HTTP/1.1\r\nHost: h\r\n\r\n",
        "GET / HTTP/1.1\n\r\n\r\n",
        "GET / HTTP/1.1\nb a d\r\n\r\n",
    ];
    for request in requests {
        assert_eq!(
            error(request_of(request)),
            Some(Refusal::BareLineEnd),
            "{request:?}"
        );
    }
    let responses = [
        "HTTP/1.1 200 OK\nA: b\r\n\r\n",
        "HTTP/1.1 200 OK\r\nA: b\nC: d\r\n\r\n",
        "HTTP/1.1 200 OK\r\nA: b\n c\r\n\r\n",
        "HTTP/1.1 200 OK\r\nA:\n c\r\n\r\n",
        "HTTP/1.1 200 OK\r\nA: b\r\n c\n d\r\n\r\n",
        "HTTP/1.1 200 OK\r\nA: b\r\n c\nE: d\r\n\r\n",
    ];
    for response in responses {
        assert_eq!(
            error(response_of(response)),
            Some(Refusal::BareLineEnd),
            "{response:?}"
        );
    }
}
