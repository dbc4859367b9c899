//! Properties of the parts together: what one writes the other reads, and no input does harm.

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Version};
use proptest::collection::vec;
use proptest::prelude::*;

use super::decode::{Decoded, Decoder};
use super::encode::Encoder;
use super::framing::{self, Framing};
use super::grammar::{self, Leniency};
use super::head::{self, has_bare_line_end, Limits, Scanner};
use super::out::Out;
use crate::protocols::http::v1::client::http_req_header_to_wire;

/// Takes what is queued, in writes of at most `step` bytes.
fn sent(out: &mut Out, step: usize) -> Vec<u8> {
    let mut wire = Vec::new();
    while !out.is_empty() {
        let all: Vec<u8> = out.slices().iter().flat_map(|s| s.to_vec()).collect();
        let n = all.len().min(step);
        wire.extend_from_slice(&all[..n]);
        out.advance(n);
    }
    wire
}

/// Cuts `bytes` at places that random numbers name.
fn cut<'a>(mut bytes: &'a [u8], cuts: &[usize]) -> Vec<&'a [u8]> {
    let mut pieces = Vec::new();
    for cut in cuts {
        let (piece, rest) = bytes.split_at(cut % (bytes.len() + 1));
        pieces.push(piece);
        bytes = rest;
    }
    pieces.push(bytes);
    pieces
}

type Message = (Vec<u8>, Option<HeaderMap>, Vec<u8>);

/// Body, trailers, and what follows; `None` when the body is not whole when the peer closes.
fn decode(framing: Framing, pieces: &[&[u8]]) -> Option<Message> {
    let mut decoder = Decoder::new(framing, false);
    let (mut body, mut input) = (Vec::new(), BytesMut::new());
    let mut pieces = pieces.iter();
    loop {
        match decoder.decode(&mut input).ok()? {
            Decoded::Data(data) => body.extend_from_slice(&data),
            Decoded::End(trailers) => {
                let mut rest = input.to_vec();
                pieces.for_each(|piece| rest.extend_from_slice(piece));
                return Some((body, trailers.map(|t| *t), rest));
            }
            Decoded::NeedMore => match pieces.next() {
                Some(piece) => input.extend_from_slice(piece),
                None => {
                    decoder.eof().ok()?;
                    return Some((body, None, Vec::new()));
                }
            },
        }
    }
}

fn trailers() -> impl Strategy<Value = Option<HeaderMap>> {
    let field = ("[a-z][a-z0-9-]{0,8}", "[!-~]?[ -~]{0,10}[!-~]?");
    let map = vec(field, 1..4).prop_map(|fields| {
        let fields = fields.into_iter().map(|(name, value)| {
            let value = HeaderValue::from_str(value.trim()).unwrap();
            (name.parse::<http::HeaderName>().unwrap(), value)
        });
        fields.collect::<HeaderMap>()
    });
    proptest::option::of(map)
}

/// Bytes that parsers care about, and others.
fn byte() -> impl Strategy<Value = u8> {
    prop_oneof![
        3 => proptest::sample::select(&b"\r\n\r\n \t:;,/0159aAfFx%#?@\0\x7f\xff"[..]),
        1 => any::<u8>(),
    ]
}

const HEADS: [&str; 6] = [
    "GET /a?b HTTP/1.1\r\nHost: h\r\nX-Y: z\r\n\r\n",
    "POST http://h/ HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n",
    "POST /\u{e9} HTTP/1.1\r\nHost: [::1]:80\r\nTransfer-Encoding: chunked\r\nTE: trailers\r\n\r\n",
    "PUT / HTTP/1.0\r\nConnection: keep-alive\r\nContent-Length: 07, 7\r\n\r\n",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\nX : y\r\n z\r\n\r\n",
    "HTTP/1.0 404 Not Found\r\nContent-Length: 3\r\nSet-Cookie: a\r\nSet-Cookie: b\r\n\r\n",
];

/// A valid head with a few bytes replaced, put in or taken out.
fn mutated_head() -> impl Strategy<Value = Vec<u8>> {
    let change = (any::<prop::sample::Index>(), byte(), 0u8..3);
    (0..HEADS.len(), vec(change, 0..4)).prop_map(|(head, changes)| {
        let mut head = HEADS[head].as_bytes().to_vec();
        for (at, byte, kind) in changes {
            let at = at.index(head.len());
            match kind {
                0 => head[at] = byte,
                1 => head.insert(at, byte),
                _ => drop(head.remove(at)),
            }
        }
        head
    })
}

/// What must hold of a request that was accepted.
fn check_accepted(head: &Bytes) -> Result<(), TestCaseError> {
    let limits = Limits::default();
    let _ = head::parse_response(head);
    let _ = head::parse_trailers(head);
    let Ok((request, framing)) = head::parse_request(head, &limits) else {
        return Ok(());
    };
    // One interpretation of its framing: the coding without a length, or at most one plain length.
    let lengths: Vec<_> = request.headers.get_all("content-length").iter().collect();
    let codings: Vec<_> = request
        .headers
        .get_all("transfer-encoding")
        .iter()
        .collect();
    match framing {
        Framing::Chunked => {
            prop_assert!(lengths.is_empty() && codings.len() == 1);
            prop_assert!(codings[0].as_bytes().eq_ignore_ascii_case(b"chunked"));
            prop_assert_eq!(request.version, Version::HTTP_11);
        }
        Framing::Length(n) => {
            prop_assert!(codings.is_empty() && lengths.len() <= 1);
            let stated = lengths.first().map_or("0", |v| v.to_str().unwrap());
            prop_assert!(stated.bytes().all(|b| b.is_ascii_digit()));
            prop_assert_eq!(stated.parse::<u64>().unwrap(), n);
        }
        other => prop_assert!(false, "a request framed as {:?}", other),
    }
    for (_, value) in &request.headers {
        prop_assert!(!value.as_bytes().iter().any(|b| b"\r\n\0".contains(b)));
    }
    // What is sent on is read as the same request.
    let wire = http_req_header_to_wire(&request).unwrap().freeze();
    let found = Scanner::default().scan(&wire, &limits);
    prop_assert_eq!(
        found.map(|f| f.map(|f| (f.start, f.end))),
        Ok(Some((0, wire.len())))
    );
    let (again, same) = head::parse_request(&wire, &limits).unwrap();
    prop_assert_eq!(same, framing);
    prop_assert_eq!(again.raw_path(), request.raw_path());
    prop_assert_eq!(&again.method, &request.method);
    prop_assert_eq!(again.version, request.version);
    prop_assert_eq!(&again.headers, &request.headers);
    prop_assert_eq!(http_req_header_to_wire(&again).unwrap().freeze(), wire);
    Ok(())
}

/// A first line, and the fields behind it.
type Parts<'a, Line> = (Line, Vec<(&'a [u8], &'a [u8])>);

/// Method, target and version.
type RequestLine<'a> = (&'a [u8], &'a [u8], Version);

/// The fields from `at` to the end of a head; `None` when it is malformed.
fn fields_of(head: &[u8], mut at: usize, lenient: Leniency) -> Option<Vec<(&[u8], &[u8])>> {
    let mut fields = Vec::new();
    while let Some(line) = grammar::field_line(head, at, lenient).ok()? {
        let name = &head[line.name];
        http::HeaderName::from_bytes(name).ok()?;
        // Where a folded value begins is a matter of taste, until it is joined.
        fields.push((name, head[line.value].trim_ascii()));
        at = line.next;
    }
    Some(fields)
}

fn request_parts(head: &[u8], lenient: Leniency) -> Option<Parts<'_, RequestLine<'_>>> {
    let line = grammar::request_line(head, lenient).ok()?;
    let method = &head[line.method];
    http::Method::from_bytes(method).ok()?;
    let fields = fields_of(head, line.next, lenient)?;
    Some(((method, &head[line.target], line.version), fields))
}

fn response_parts(head: &[u8], lenient: Leniency) -> Option<Parts<'_, (u16, Version)>> {
    let line = grammar::status_line(head, lenient).ok()?;
    let fields = fields_of(head, line.next, lenient)?;
    Some(((line.code, line.version), fields))
}

fn version(minor: u8) -> Version {
    match minor {
        0 => Version::HTTP_10,
        _ => Version::HTTP_11,
    }
}

fn fields_of_httparse<'a>(fields: &[httparse::Header<'a>]) -> Vec<(&'a [u8], &'a [u8])> {
    let parts = fields.iter();
    parts
        .map(|field| (field.name.as_bytes(), field.value))
        .collect()
}

fn request_parts_of_httparse(head: &[u8]) -> Option<Parts<'_, RequestLine<'_>>> {
    let mut fields = [httparse::EMPTY_HEADER; 300];
    let mut parsed = httparse::Request::new(&mut fields);
    match parsed.parse(head) {
        Ok(httparse::Status::Complete(n)) if n == head.len() => {}
        _ => return None,
    }
    let line = (
        parsed.method?.as_bytes(),
        parsed.path?.as_bytes(),
        version(parsed.version?),
    );
    Some((line, fields_of_httparse(parsed.headers)))
}

fn response_parts_of_httparse(head: &[u8]) -> Option<Parts<'_, (u16, Version)>> {
    let mut config = httparse::ParserConfig::default();
    config.allow_spaces_after_header_name_in_responses(true);
    config.allow_obsolete_multiline_headers_in_responses(true);
    let mut fields = [httparse::EMPTY_HEADER; 300];
    let mut parsed = httparse::Response::new(&mut fields);
    match config.parse_response(&mut parsed, head) {
        Ok(httparse::Status::Complete(n)) if n == head.len() => {}
        _ => return None,
    }
    let line = (parsed.code?, version(parsed.version?));
    Some((line, fields_of_httparse(parsed.headers)))
}

/// Where a head ends, looked for in the plainest way.
fn naive_end(input: &[u8], lenient: bool) -> Option<Result<(usize, usize), ()>> {
    let (mut start, mut at) = (0, 0);
    loop {
        let lf = at + input[at..].iter().position(|b| *b == b'\n')?;
        let line = &input[at..lf];
        let bare = line.last() != Some(&b'\r');
        if bare && !lenient {
            return Some(Err(()));
        }
        let empty = line.is_empty() || line == b"\r";
        match (empty, at == start) {
            (true, true) => start = lf + 1,
            (true, false) => return Some(Ok((start, lf + 1))),
            _ => {}
        }
        at = lf + 1;
    }
}

proptest! {
    /// A body comes out as it went in, whatever the framing and however it is cut on either side.
    #[test]
    fn bodies_survive_the_wire(
        pieces in vec(vec(any::<u8>(), 0..2000), 0..6),
        kind in 0usize..3,
        trailers in trailers(),
        step in 1usize..5000,
        cuts in vec(any::<usize>(), 0..8),
    ) {
        let body = pieces.concat();
        let framing = [
            Framing::Chunked,
            Framing::Length(body.len() as u64),
            Framing::UntilClose,
        ][kind];
        let (mut encoder, mut out) = (Encoder::new(framing), Out::default());
        let mut wire = Vec::new();
        for (i, piece) in pieces.iter().enumerate() {
            prop_assert_eq!(encoder.body(piece.clone().into(), &mut out), piece.len());
            if i % 2 == 0 {
                wire.extend(sent(&mut out, step));
            }
        }
        prop_assert_eq!(encoder.finish(trailers.as_ref(), &mut out), Ok(()));
        wire.extend(sent(&mut out, step));
        let mut next: &[u8] = b"";
        if framing != Framing::UntilClose {
            next = b"GET / HTTP/1.1\r\n";
            wire.extend_from_slice(next);
        }
        let (got, got_trailers, rest) = decode(framing, &cut(&wire, &cuts)).unwrap();
        prop_assert_eq!(got, body);
        prop_assert_eq!(rest, next);
        match framing {
            Framing::Chunked => prop_assert_eq!(got_trailers, trailers),
            _ => prop_assert_eq!(got_trailers, None),
        }
    }

    /// A body that is cut short is never whole.
    #[test]
    fn a_part_of_a_body_is_not_a_body(
        body in vec(any::<u8>(), 1..200),
        chunked: bool,
        at: prop::sample::Index,
    ) {
        let framing = if chunked { Framing::Chunked } else { Framing::Length(body.len() as u64) };
        let (mut encoder, mut out) = (Encoder::new(framing), Out::default());
        encoder.body(body.into(), &mut out);
        encoder.finish(None, &mut out).unwrap();
        let wire = sent(&mut out, usize::MAX);
        prop_assert!(decode(framing, &[&wire[..at.index(wire.len())]]).is_none());
    }

    /// Any bytes, cut anyhow, are decoded as they are in one piece, and read only as far as the body goes.
    #[test]
    fn cuts_do_not_change_what_is_decoded(
        input in vec(byte(), 0..200),
        lead in proptest::sample::select(&["", "5\r\nhello\r\n", "0\r\n", "3;x=y\r\nabc\r\n0\r\nA: b\r\n"][..]),
        cuts in vec(any::<usize>(), 0..8),
    ) {
        let input = [lead.as_bytes(), &input].concat();
        let whole = decode(Framing::Chunked, &[&input]);
        prop_assert_eq!(&decode(Framing::Chunked, &cut(&input, &cuts)), &whole);
        let bytes: Vec<&[u8]> = input.chunks(1).collect();
        prop_assert_eq!(&decode(Framing::Chunked, &bytes), &whole);
    }

    /// The scanner agrees with a search that has no state, for every way to cut the input, but for line ends in
    /// heads that come whole.
    #[test]
    fn the_scanner_finds_the_end(
        input in vec(prop_oneof![byte(), Just(b'\r'), Just(b'\n')], 0..60),
        lenient: bool,
        cuts in vec(any::<usize>(), 0..8),
    ) {
        let limits = Limits { lenient_line_ends: lenient, ..Limits::default() };
        let mut scanner = Scanner::default();
        let mut end = 0;
        let mut got = None;
        for piece in cut(&input, &cuts) {
            end += piece.len();
            got = match scanner.scan(&input[..end], &limits) {
                Ok(None) => None,
                // Left to be noticed when it is parsed.
                Ok(Some(found)) if !lenient && has_bare_line_end(&input[..found.end]) => Some(Err(())),
                Ok(Some(found)) => Some(Ok((found.start, found.end))),
                Err(_) => Some(Err(())),
            };
            if got.is_some() {
                break;
            }
            let any = input[..end].iter().any(|b| *b != b'\r' && *b != b'\n');
            prop_assert_eq!(scanner.begun(&input[..end]), any);
        }
        prop_assert_eq!(got, naive_end(&input, lenient));
    }

    #[test]
    fn no_bytes_do_harm(head in vec(byte(), 0..300)) {
        check_accepted(&head.into())?;
    }

    #[test]
    fn nearly_valid_heads(head in mutated_head()) {
        check_accepted(&head.into())?;
    }

    /// The grammar takes the requests that httparse takes, which lets lines end in LF alone, and sees the same in them.
    #[test]
    fn requests_are_read_as_by_another_parser(head in mutated_head()) {
        let lenient = Leniency { line_ends: true, ..Leniency::default() };
        let ours = request_parts(&head, lenient);
        // It refuses targets that are not UTF-8, and empty lines before the first it passes over.
        let is_text = ours.as_ref().is_none_or(|((_, target, _), _)| std::str::from_utf8(target).is_ok());
        // It takes no later minor version for the one that it knows (RFC 9110 section 2.5).
        let is_later = |at: &[u8]| at.starts_with(b"HTTP/1.") && matches!(at[7], b'2'..=b'9');
        let is_known = is_text && !head.windows(8).any(is_later);
        if is_known && !matches!(head.first(), Some(b'\r' | b'\n')) {
            prop_assert_eq!(&ours, &request_parts_of_httparse(&head));
        }
        let strict = request_parts(&head, Leniency::default());
        prop_assert_eq!(strict, ours.filter(|_| !has_bare_line_end(&head)));
    }

    /// The same for responses.
    #[test]
    fn responses_are_read_as_by_another_parser(head in mutated_head()) {
        let lenient = Leniency { line_ends: true, fields: true };
        let ours = response_parts(&head, lenient);
        if !matches!(head.first(), Some(b'\r' | b'\n')) {
            prop_assert_eq!(&ours, &response_parts_of_httparse(&head));
        }
        let strict = response_parts(&head, Leniency { line_ends: false, ..lenient });
        prop_assert_eq!(strict, ours.filter(|_| !has_bare_line_end(&head)));
    }

    /// Framing of a response is decided for any fields, in one way only.
    #[test]
    fn responses_have_one_framing(head in mutated_head(), lenient: bool) {
        let Ok(response) = head::parse_response(&head.into()) else {
            return Ok(());
        };
        let answered = framing::Answered::Other;
        let framing = framing::response(
            answered,
            response.status,
            response.version,
            &response.headers,
            lenient,
        );
        let coded = response.headers.contains_key("transfer-encoding");
        match framing {
            Ok(Framing::Empty) => prop_assert!(framing::bodiless(answered, response.status)),
            Ok(Framing::Chunked) => prop_assert!(coded && response.version == Version::HTTP_11),
            Ok(Framing::Length(n)) => {
                prop_assert!(!coded);
                prop_assert_eq!(framing::content_length(&response.headers), Ok(Some(n)));
            }
            Ok(Framing::UntilClose) => {
                let length = framing::content_length(&response.headers);
                prop_assert!(coded || length == Ok(None) || (lenient && length.is_err()));
            }
            Err(_) => {}
        }
    }
}

/// Heads that are made to be read over and over, or to be taken for others. Each is looked at once or twice: a parser
/// that began anew at each byte would not end here.
#[test]
fn hostile_heads() {
    use super::Refusal::*;
    let long = 1 << 20;
    let request = |fields: &str| format!("GET / HTTP/1.1\r\nHost: h\r\n{fields}\r\n\r\n");
    let requests = [
        (request("X\r\nY: z"), FieldName),
        (request("X\r\n\r\nY: z"), FieldName),
        (request("X\nY: z"), BareLineEnd),
        (request(&"x".repeat(long)), FieldName),
        (request(&"x\r\n".repeat(long / 4)), FieldName),
        (request(&format!("X{}: z", " ".repeat(long))), FieldName),
        (
            request(&format!("X: a{}", "\r\n b".repeat(long / 4))),
            FieldName,
        ),
        (request(&format!("X: {}\0", "\t".repeat(long))), FieldValue),
        ("GET\r\nA: b / HTTP/1.1\r\n\r\n".to_owned(), RequestLine),
        (
            format!("GET{}/ HTTP/1.1\r\n\r\n", " ".repeat(long)),
            RequestLine,
        ),
        ("x".repeat(long), RequestLine),
        ("\r\n".repeat(long), RequestLine),
        (
            format!("GET / HTTP/1.1\r\n{}", "x:".repeat(long)),
            FieldValue,
        ),
    ];
    for (head, refusal) in requests {
        let start = head[..head.len().min(60)].to_owned();
        let limits = Limits {
            target: usize::MAX,
            ..Limits::default()
        };
        let parsed = head::parse_request(&Bytes::from(head), &limits);
        assert_eq!(parsed.err(), Some(refusal), "{start:?}");
    }
    let response = |fields: &str| Bytes::from(format!("HTTP/1.1 200 OK\r\n{fields}\r\n\r\n"));
    let refused = [
        (response("X\r\nY: z"), FieldName),
        (response("X\nY: z"), BareLineEnd),
        (response(&"x".repeat(long)), FieldName),
        (response(&format!("{}: z", " ".repeat(long))), FieldName),
        (response(&format!("X: {}\0", "\t".repeat(long))), FieldValue),
        (
            response(&format!("X: a{}\0", "\r\n b".repeat(long / 4))),
            FieldValue,
        ),
        (Bytes::from("HTTP/1.1 ".repeat(long)), StatusLine),
    ];
    for (head, refusal) in refused {
        assert_eq!(
            head::parse_response(&head).err(),
            Some(refusal),
            "{:?}",
            head.slice(..50)
        );
    }
    let folds = 100_000;
    let accepted = [
        (format!("X{}: z", " ".repeat(long)), "z".to_owned()),
        (format!("X:{}z{0}", "\t ".repeat(long)), "z".to_owned()),
        (format!("X: a{}", "\r\n \t".repeat(folds)), "a".to_owned()),
        (
            format!("X:{}", "\r\n b ".repeat(folds)),
            vec!["b"; folds].join(" "),
        ),
    ];
    for (field, value) in accepted {
        let parsed = head::parse_response(&response(&field)).unwrap();
        assert!(parsed.headers["x"] == value, "{:?}", &field[..20]);
    }
}
