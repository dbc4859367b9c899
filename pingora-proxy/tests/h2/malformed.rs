//! Requests that break the rules of RFC 9113 section 8: their stream is reset, the connection lives, and
//! the origin sees nothing that it could take for complete.

use super::common::*;
use super::h2_proxy;
use super::raw::*;
use std::sync::{Arc, Mutex};

const OK: &str = "HTTP/1.1 204 No Content\r\n\r\n";

#[test]
fn heads() {
    let origin = Origin::answering(OK);
    let proxy = h2_proxy(&origin);
    let mut raw = Raw::new(&proxy);
    let with = |field: (&'static str, &'static str)| head("POST", &[field]);
    let pseudo = |fields: &[(&str, &str)]| block(fields);
    let method = (":method", "GET");
    let scheme = (":scheme", "http");
    let path = (":path", "/");
    let authority = (":authority", "origin.test");
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("CR LF in a value", with(("x", "a\r\nhost: b"))),
        ("LF in a value", with(("x", "a\nb"))),
        ("CR in a value", with(("x", "a\rb"))),
        ("NUL in a value", with(("x", "a\0b"))),
        ("space before a value", with(("x", " a"))),
        ("tab after a value", with(("x", "a\t"))),
        ("space in a name", with(("x y", "a"))),
        ("colon in a name", with(("x:y", "a"))),
        ("CR LF in a name", with(("x\r\ny", "a"))),
        ("upper case", with(("X-Upper", "a"))),
        ("connection", with(("connection", "close"))),
        ("keep-alive", with(("keep-alive", "5"))),
        ("proxy-connection", with(("proxy-connection", "close"))),
        ("transfer-encoding", with(("transfer-encoding", "chunked"))),
        ("upgrade", with(("upgrade", "h2c"))),
        ("te", with(("te", "gzip"))),
        (
            "te besides trailers",
            head("POST", &[("te", "trailers"), ("te", "gzip")]),
        ),
        ("a foreign Host", with(("host", "elsewhere"))),
        (
            "two Hosts",
            head("POST", &[("host", "origin.test"), ("host", "origin.test")]),
        ),
        ("length that is none", with(("content-length", "x"))),
        ("negative length", with(("content-length", "-1"))),
        (
            "two lengths",
            head("POST", &[("content-length", "1"), ("content-length", "2")]),
        ),
        ("list of lengths", with(("content-length", "0, 0"))),
        (
            "unknown pseudo field",
            pseudo(&[method, scheme, path, authority, (":x", "y")]),
        ),
        (
            "pseudo field of a response",
            pseudo(&[method, scheme, path, authority, (":status", "200")]),
        ),
        (
            "pseudo field after another",
            pseudo(&[method, scheme, ("x", "y"), path, authority]),
        ),
        (
            "two methods",
            pseudo(&[method, method, scheme, path, authority]),
        ),
        (
            "two paths",
            pseudo(&[method, scheme, path, (":path", "/x"), authority]),
        ),
        (
            "two authorities",
            pseudo(&[method, scheme, path, authority, authority]),
        ),
        ("no method", pseudo(&[scheme, path, authority])),
        ("no scheme", pseudo(&[method, path, authority])),
        ("no path", pseudo(&[method, scheme, authority])),
        (
            "empty path",
            pseudo(&[method, scheme, (":path", ""), authority]),
        ),
        (
            "path without a slash",
            pseudo(&[method, scheme, (":path", "x"), authority]),
        ),
        (
            "space in the path",
            pseudo(&[method, scheme, (":path", "/ HTTP/1.1"), authority]),
        ),
        (
            "fragment",
            pseudo(&[method, scheme, (":path", "/a#frag"), authority]),
        ),
        (
            "CR LF in the path",
            pseudo(&[method, scheme, (":path", "/\r\nx: y"), authority]),
        ),
        (
            "CR LF in the method",
            pseudo(&[(":method", "GET / HTTP/1.1\r\n"), scheme, path, authority]),
        ),
        (
            "user information",
            pseudo(&[method, scheme, path, (":authority", "u@origin.test")]),
        ),
        ("no authority", pseudo(&[method, scheme, path])),
        (
            "asterisk",
            pseudo(&[method, scheme, (":path", "*"), authority]),
        ),
        (
            "protocol without CONNECT",
            pseudo(&[method, (":protocol", "websocket"), scheme, path, authority]),
        ),
    ];
    // Thirty-two of them are let pass on one connection, and each may spoil the compression of what follows.
    for (name, block) in cases {
        raw.send(HEADERS, END_HEADERS | END_STREAM, 1, &block);
        assert_eq!(raw.read_reset(1), PROTOCOL_ERROR, "{name}");
        raw.assert_alive(3);
        raw = Raw::new(&proxy);
    }
}

/// What an origin got of a request that never became complete.
fn what_came(attack: impl Fn(&mut Raw)) -> String {
    let came = Arc::new(Mutex::new(Vec::new()));
    let origin = Origin::scripted({
        let came = came.clone();
        move |mut wire, _| came.lock().unwrap().extend(wire.read_to_end())
    });
    let proxy = h2_proxy(&origin);
    let mut raw = Raw::new(&proxy);
    attack(&mut raw);
    drop(raw);
    drop(proxy);
    drop(origin);
    let came = came.lock().unwrap();
    String::from_utf8_lossy(&came).into_owned()
}

#[test]
fn a_length_that_does_not_match_is_never_complete() {
    let too_long = what_came(|raw| {
        raw.request(1, "POST", &[("content-length", "5")], false);
        raw.send(DATA, 0, 1, b"hello");
        raw.send(DATA, END_STREAM, 1, b"GET /smuggled HTTP/1.1\r\n\r\n");
        assert_eq!(raw.read_reset(1), PROTOCOL_ERROR);
    });
    assert!(!too_long.contains("hello"), "{too_long}");
    assert!(!too_long.contains("smuggled"), "{too_long}");

    let too_short = what_came(|raw| {
        raw.request(1, "POST", &[("content-length", "50")], false);
        raw.send(DATA, END_STREAM, 1, b"hello");
        assert_eq!(raw.read_reset(1), PROTOCOL_ERROR);
    });
    assert!(!too_short.contains("0\r\n\r\n"), "{too_short}");

    let none = what_came(|raw| {
        raw.request(1, "POST", &[("content-length", "5")], true);
        assert_eq!(raw.read_reset(1), PROTOCOL_ERROR);
    });
    assert_eq!(none, "");

    // An origin of HTTP/1.1 takes the head alone for complete.
    let promises_nothing = what_came(|raw| {
        raw.request(1, "POST", &[("content-length", "0")], false);
        for _ in 0..10 {
            raw.send(PING, 0, 0, &[0; 8]);
            raw.read_until(PING, 0);
        }
        raw.send(DATA, END_STREAM, 1, b"GET /smuggled HTTP/1.1\r\n\r\n");
        assert_eq!(raw.read_reset(1), PROTOCOL_ERROR);
    });
    assert_eq!(promises_nothing, "");
}

/// A client may say after the head that nothing follows.
#[test]
fn a_length_of_zero_may_end_late() {
    let origin = Origin::scripted(|mut wire, _| {
        while wire.has_more() {
            let head = wire.read_head();
            assert!(
                head.contains("ontent-") && head.contains("ength: 0"),
                "{head}"
            );
            assert!(!head.contains("chunked"), "{head}");
            wire.send(OK);
        }
    });
    let proxy = h2_proxy(&origin);
    let mut raw = Raw::new(&proxy);
    let length = [("content-length", "0")];
    raw.request(1, "POST", &length, false);
    raw.send(DATA, 0, 1, b"");
    raw.send(DATA, END_STREAM, 1, b"");
    raw.read_until(HEADERS, 1);
    raw.request(3, "POST", &length, false);
    let trailers = block(&[("x-sum", "1")]);
    raw.send(HEADERS, END_HEADERS | END_STREAM, 3, &trailers);
    raw.read_until(HEADERS, 3);
    // HTTP/1.1 says the same of a request that ends with its head.
    for (id, method) in [(5, "POST"), (7, "PUT"), (9, "PATCH")] {
        raw.request(id, method, &[], true);
        raw.read_until(HEADERS, id);
    }
}

#[test]
fn trailers() {
    let pseudo: [(&str, Vec<u8>); 6] = [
        ("literal", block(&[(":path", "/x")])),
        ("indexed", vec![0x84]),
        ("indexed name", vec![0x44, 1, b'x']),
        ("indexed name, never indexed", vec![0x14, 1, b'x']),
        ("Huffman name", vec![0, 0x84, 0xb9, 0x58, 0xd3, 0x3f, 0]),
        ("after another", block(&[("x", "y"), (":path", "/x")])),
    ];
    let others: [(&str, Vec<u8>); 3] = [
        ("upper case", block(&[("Upper", "x")])),
        (
            "transfer-encoding",
            block(&[("transfer-encoding", "chunked")]),
        ),
        ("LF", block(&[("x", "a\nb")])),
    ];
    for (name, block) in pseudo.into_iter().chain(others) {
        let came = what_came(|raw| {
            raw.request(1, "POST", &[], false);
            raw.send(DATA, 0, 1, b"hello");
            raw.send(HEADERS, END_HEADERS | END_STREAM, 1, &block);
            assert_eq!(raw.read_reset(1), PROTOCOL_ERROR, "{name}");
        });
        assert!(!came.contains("\r\n0\r\n"), "{name}: {came}");
    }
}

#[test]
fn a_pseudo_field_by_an_entry_of_an_earlier_head() {
    let origin = Origin::scripted(|mut wire, _| {
        while wire.has_more() {
            let head = wire.read_head();
            if head.starts_with("GET") {
                wire.send(OK);
            } else {
                wire.read_to_end();
            }
        }
    });
    let proxy = h2_proxy(&origin);
    let mut raw = Raw::new(&proxy);
    // The path enters the table, then another field.
    let mut first = block(&[(":method", "GET"), (":scheme", "http")]);
    first.extend([0x44, 2, b'/', b'x']);
    first.extend([0x41, 1, b'a']);
    first.extend([0x40, 1, b'n', 1, b'v']);
    raw.send(HEADERS, END_HEADERS | END_STREAM, 1, &first);
    raw.read_until(HEADERS, 1);
    // 62 is the field, 63 the authority, 64 the path.
    for (id, index, refused) in [(3, 0xbe, false), (5, 0xbf, true), (7, 0xc0, true)] {
        raw.request(id, "POST", &[], false);
        raw.send(HEADERS, END_HEADERS | END_STREAM, id, &[index]);
        if refused {
            assert_eq!(raw.read_reset(id), PROTOCOL_ERROR, "{index:x}");
        } else {
            raw.send(RST_STREAM, 0, id, &CANCEL.to_be_bytes());
        }
    }
    raw.assert_alive(9);
}
