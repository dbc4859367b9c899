//! Compressed responses.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;

use super::scripted::{answer, Scripted};
use super::tools::*;

const TEXT: &str = "Content-Type: text/html; charset=utf-8\r\nETag: \"e\"\r\n";

fn long() -> String {
    "a line that comes again and again\n".repeat(100)
}

fn proxied(origin: &Scripted, keys: &str, cache: bool) -> Edge {
    let to = origin.address;
    Edge::start(&format!(
        "  - routes:\n      - proxy: {{to: '{to}', cache: {{enabled: {cache}, ttl: 1m}}}}\n        compress: {keys}\n"
    ))
}

/// Asks, and returns the head and the bytes of the body as they came.
fn get(edge: &Edge, method: &str, fields: &str) -> (String, Vec<u8>) {
    let mut stream = TcpStream::connect(edge.address).unwrap();
    let request = format!("{method} / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{fields}\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut all = Vec::new();
    stream.read_to_end(&mut all).unwrap();
    let end = all.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
    let body = all.split_off(end);
    (String::from_utf8(all).unwrap().to_lowercase(), body)
}

#[test]
fn a_client_that_is_not_ours_reads_what_is_compressed() {
    let origin = Scripted::start(|_, _| answer(TEXT, &long()));
    let edge = proxied(&origin, "true", false);
    let read = Command::new("curl")
        .args(["-s", "--compressed", "-H", "Accept-Encoding: gzip"])
        .arg(format!("http://{}/", edge.address))
        .output()
        .unwrap();
    assert_eq!(String::from_utf8(read.stdout).unwrap(), long());
}

#[test]
fn a_response_is_compressed_as_the_client_would_rather_have_it() {
    let origin = Scripted::start(|_, _| answer(TEXT, &long()));
    let edge = proxied(&origin, "true", false);
    for (accepted, coding) in [
        ("gzip, deflate, br, zstd", Some("zstd")),
        ("gzip, br;q=0.5", Some("gzip")),
        ("br", Some("br")),
        ("identity", None),
    ] {
        let (head, body) = get(&edge, "GET", &format!("Accept-Encoding: {accepted}\r\n"));
        assert!(head.contains("vary: accept-encoding\r\n"), "{head}");
        match coding {
            Some(coding) => {
                assert!(
                    head.contains(&format!("content-encoding: {coding}\r\n")),
                    "{head}"
                );
                assert!(head.contains("etag: w/\"e\"\r\n"), "{head}");
                assert!(body.len() < long().len() / 2);
            }
            None => {
                assert!(!head.contains("content-encoding"), "{head}");
                assert!(head.contains("etag: \"e\"\r\n"), "{head}");
                assert_eq!(body, long().as_bytes());
            }
        }
    }
    let (head, _) = get(&edge, "GET", "");
    assert!(head.contains("vary: accept-encoding") && !head.contains("content-encoding"));
}

#[test]
fn what_is_not_to_be_compressed_passes_as_it_is() {
    for (fields, body, keys) in [
        ("Content-Type: image/png\r\n", long(), "true"),
        ("Content-Type: text/plain\r\n", "short".to_owned(), "true"),
        (
            "Content-Type: text/plain\r\nContent-Encoding: x-own\r\n",
            long(),
            "true",
        ),
        (
            "Content-Type: text/plain\r\nCache-Control: no-transform\r\n",
            long(),
            "true",
        ),
        ("Content-Type: text/plain\r\n", long(), "{min_size: 1MiB}"),
        ("Content-Type: text/plain\r\n", long(), "{types: text/html}"),
        (
            "Content-Type: text/plain\r\n",
            long(),
            "{algorithms: [zstd]}",
        ),
        ("Content-Type: text/plain\r\n", long(), "false"),
    ] {
        let sent = body.clone();
        let origin = Scripted::start(move |_, _| answer(fields, &sent));
        let edge = proxied(&origin, keys, false);
        let (head, read) = get(&edge, "GET", "Accept-Encoding: gzip\r\n");
        assert_eq!(read, body.as_bytes(), "{fields} {keys}: {head}");
    }
}

#[test]
fn what_is_stored_serves_each_client_in_its_coding() {
    let origin =
        Scripted::start(|_, _| answer(&format!("{TEXT}Vary: Accept-Encoding\r\n"), &long()));
    let edge = proxied(&origin, "true", true);
    let accept = |coding: &str| format!("Accept-Encoding: {coding}\r\n");
    for coding in ["gzip", "br", "zstd"] {
        let (head, body) = get(&edge, "GET", &accept(coding));
        assert!(
            head.contains(&format!("content-encoding: {coding}\r\n")),
            "{head}"
        );
        assert!(body.len() < long().len() / 2);
    }
    let (head, body) = get(&edge, "GET", "");
    assert!(!head.contains("content-encoding"), "{head}");
    assert_eq!(body, long().as_bytes());
    let (head, body) = get(
        &edge,
        "GET",
        &format!("Range: bytes=2-5\r\n{}", accept("gzip")),
    );
    assert!(
        head.starts_with("http/1.1 206") && !head.contains("content-encoding"),
        "{head}"
    );
    assert_eq!(body, &long().as_bytes()[2..6]);
    let same = format!("If-None-Match: W/\"e\"\r\n{}", accept("gzip"));
    let (head, _) = get(&edge, "GET", &same);
    assert!(head.starts_with("http/1.1 304"), "{head}");
    // As that of the compressed body: another cache may hold it.
    assert!(head.contains("etag: w/\"e\"\r\n"), "{head}");
    assert!(head.contains("vary: accept-encoding\r\n"), "{head}");
    let (head, _) = get(&edge, "GET", "If-None-Match: \"e\"\r\n");
    assert!(head.starts_with("http/1.1 304"), "{head}");
    assert!(head.contains("etag: \"e\"\r\n"), "{head}");
    assert_eq!(origin.count(), 1);
    origin.last(|asked| assert_eq!(asked.field("accept-encoding"), Some("identity")));
}

#[test]
fn answers_that_are_given_here_are_compressed_too() {
    let edge = Edge::start(&format!(
        "  - routes: {{compress: true, respond: {{status: 201, body: '{}'}}}}\n",
        "a".repeat(4000)
    ));
    let (head, body) = get(&edge, "GET", "Accept-Encoding: gzip\r\n");
    assert!(head.starts_with("http/1.1 201 "), "{head}");
    assert!(head.contains("content-encoding: gzip\r\n"), "{head}");
    assert!(head.contains("vary: accept-encoding\r\n"), "{head}");
    assert!(!head.contains("content-length: 4000"), "{head}");
    assert!(body.len() < 500, "{}", body.len());
    let (head, body) = get(&edge, "GET", "");
    assert!(head.contains("content-length: 4000\r\n"), "{head}");
    assert_eq!(body.len(), 4000);
    let (head, body) = get(&edge, "HEAD", "Accept-Encoding: gzip\r\n");
    assert!(
        head.starts_with("http/1.1 201 ") && body.is_empty(),
        "{head}"
    );
}
