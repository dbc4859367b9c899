//! Requests that pass, and what they lose on their way to the origin.

use super::common::*;
use super::requests::cuts;
use std::sync::mpsc::{channel, Receiver};

/// A request as the origin got it, with its body decoded.
#[derive(Debug, PartialEq)]
struct Seen {
    head: String,
    body: String,
}

/// Bytes as characters of the same number.
fn latin(bytes: &[u8]) -> String {
    bytes.iter().map(|b| char::from(*b)).collect()
}

fn telling_origin() -> (Origin, Receiver<Seen>) {
    let (tell, told) = channel();
    let origin = Origin::scripted(move |mut wire, _| {
        while wire.has_more() {
            let seen = read_seen(&mut wire);
            // A test that has failed listens no more.
            let _ = tell.send(seen);
            wire.send("HTTP/1.1 204 No Content\r\n\r\n");
        }
    });
    (origin, told)
}

fn read_seen(wire: &mut Wire) -> Seen {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.extend(wire.read_exact(1));
    }
    let head = latin(&head);
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("Content-Length: "))
        .map(|length| length.parse().unwrap());
    let body = match length {
        Some(length) => wire.read_exact(length),
        None if head.contains("\r\nTransfer-Encoding: ") => {
            let mut body = Vec::new();
            loop {
                let size = wire.read_until("\r\n");
                let size = usize::from_str_radix(size.trim_end(), 16).unwrap();
                body.extend(wire.read_exact(size));
                assert_eq!(wire.read_until("\r\n"), "\r\n");
                if size == 0 {
                    break body;
                }
            }
        }
        None => Vec::new(),
    };
    Seen {
        head,
        body: latin(&body),
    }
}

/// Sends each request whole and in two pieces, and expects this at the origin each time.
fn pass(rows: &[(&str, &[u8], &[u8], &str)]) {
    let (origin, told) = telling_origin();
    let proxy = Proxy::to(&origin);
    for (name, request, head, body) in rows {
        let expected = Seen {
            head: latin(head),
            body: (*body).into(),
        };
        let whole = std::iter::once(None);
        for cut in whole.chain(cuts(request.len()).map(Some)) {
            let mut client = proxy.connect();
            client.send_split(request, cut.as_slice());
            let status = client.read_response().status();
            assert_eq!(status, 204, "{name}, cut at {cut:?}");
            let seen = told.recv_timeout(PATIENCE).unwrap();
            assert_eq!(seen, expected, "{name}, cut at {cut:?}");
        }
    }
}

#[test]
fn what_is_allowed_passes() {
    pass(&[
        (
            "empty lines before the request line",
            b"\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
            "",
        ),
        (
            "bytes >= 0x80 in the target",
            b"GET /\x80\xff?\xe4 HTTP/1.1\r\nHost: a\r\n\r\n",
            b"GET /\x80\xff?\xe4 HTTP/1.1\r\nHost: a\r\n\r\n",
            "",
        ),
        (
            "bytes >= 0x80 in a value",
            b"GET / HTTP/1.1\r\nHost: a\r\nX: \x80\xff\xe4\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: a\r\nX: \x80\xff\xe4\r\n\r\n",
            "",
        ),
        (
            "any other method",
            b"M-SEARCH!#$ / HTTP/1.1\r\nHost: a\r\n\r\n",
            b"M-SEARCH!#$ / HTTP/1.1\r\nHost: a\r\n\r\n",
            "",
        ),
        (
            "white space around a value",
            b"GET / HTTP/1.1\r\nHost:a\r\nX: \t a \tb\t \r\nY:\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: a\r\nX: a \tb\r\nY: \r\n\r\n",
            "",
        ),
        (
            "the same length in two lines",
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok",
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n",
            "ok",
        ),
        (
            "the same length twice in one line",
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2, 2\r\n\r\nok",
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n",
            "ok",
        ),
        (
            "chunks with extensions",
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n1;a=b\r\no\r\n01\r\nk\r\n0;c\r\n\r\n",
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n",
            "ok",
        ),
        (
            "bad white space around chunk extensions",
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1 ;a=b\r\no\r\n1\t ; a = \"b\" ;c\r\nk\r\n0 ;d\r\n\r\n",
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
            "ok",
        ),
        (
            "absolute-form, which overrides Host",
            b"GET http://b:81/p?q HTTP/1.1\r\nHost: a\r\n\r\n",
            b"GET /p?q HTTP/1.1\r\nHost: b:81\r\n\r\n",
            "",
        ),
        (
            "absolute-form without a path",
            b"GET http://b?q HTTP/1.1\r\nHost: b\r\n\r\n",
            b"GET /?q HTTP/1.1\r\nHost: b\r\n\r\n",
            "",
        ),
        (
            "OPTIONS *",
            b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
            b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
            "",
        ),
        (
            "OPTIONS in absolute-form without a path",
            b"OPTIONS http://a HTTP/1.1\r\nHost: a\r\n\r\n",
            b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
            "",
        ),
        (
            "HTTP/1.0 without Host",
            b"GET / HTTP/1.0\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: \r\n\r\n",
            "",
        ),
        (
            "an IPv6 address as Host",
            b"GET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n",
            "",
        ),
    ]);
}

#[test]
fn what_is_for_the_next_hop_only_is_stripped() {
    pass(&[
        (
            "the fields of the connection",
            b"GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive\r\nKeep-Alive: 5\r\nProxy-Connection: keep-alive\r\nTE: gzip\r\nX: a\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n\r\n",
            "",
        ),
        (
            "credentials for a proxy",
            b"GET / HTTP/1.1\r\nHost: a\r\nProxy-Authorization: Basic eA==\r\nAuthorization: Basic eQ==\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: a\r\nAuthorization: Basic eQ==\r\n\r\n",
            "",
        ),
        (
            "an Upgrade that Connection does not name",
            b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: h2c\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
            "",
        ),
        (
            "what Connection names, over several lines",
            b"GET / HTTP/1.1\r\nHost: a\r\nX-One: 1\r\nConnection: x-one, close\r\nx-TWO: 2\r\nConnection: , X-Two\r\nX-Three: 3\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: a\r\nX-Three: 3\r\n\r\n",
            "",
        ),
    ]);
}
