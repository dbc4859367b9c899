//! The example of each common use.

use super::tools::*;
use std::io::{Read, Write};
use std::net::Shutdown;
use tempfile::TempDir;

#[test]
fn the_gateway_routes_by_the_longest_prefix() {
    let (api, users) = (Origin::saying("api"), Origin::saying("users"));
    let dir = TempDir::new().unwrap();
    let routes = [
        format!("/api={}", api.address()),
        format!("/api/users={}", users.address()),
    ];
    let args = ["--route", &routes[0], "--route", &routes[1]];
    let gateway = Program::start(env!("CARGO_BIN_EXE_gateway"), &dir.path().join("s"), &args);
    for (path, answer) in [
        ("/api", "api"),
        ("/api/x", "api"),
        ("/api/users", "users"),
        ("/api/users/1?a=b", "users"),
    ] {
        assert!(
            gateway.get(path).ends_with(&format!("\r\n\r\n{answer}")),
            "{path}"
        );
    }
    for path in ["/", "/apiary", "/other"] {
        assert_eq!(status(&gateway.get(path)), "404", "{path}");
    }
}

#[test]
fn the_gateway_spreads_requests_of_a_prefix_in_the_same_way() {
    let origin = Origin::saying("hello");
    let dir = TempDir::new().unwrap();
    let nobody = format!("/=unix:{}", dir.path().join("nobody").display());
    let good = format!("/={}", origin.address());
    let args = ["--route", &nobody, "--route", &good];
    let gateway = Program::start(env!("CARGO_BIN_EXE_gateway"), &dir.path().join("s"), &args);
    for _ in 0..20 {
        let answer = gateway.get("/");
        assert!(answer.ends_with("\r\n\r\nhello"), "{answer}");
    }
}

#[test]
fn headers_are_changed_both_ways() {
    let origin = Origin::start(|mut stream, head| {
        let body = head.to_ascii_lowercase();
        let _ = write!(
            stream,
            "HTTP/1.1 200 OK\r\nConnection: close\r\nServer: secret/1.0\r\nX-Powered-By: secret\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
    });
    let dir = TempDir::new().unwrap();
    let proxy = Program::start(
        env!("CARGO_BIN_EXE_modify-headers"),
        &dir.path().join("s"),
        &["--upstream", &origin.address()],
    );
    let answer = proxy.ask("GET", "/", "X-Forwarded-For: 10.9.8.7\r\n", "");
    let (head, seen_by_origin) = answer.split_once("\r\n\r\n").unwrap();
    assert!(!head.contains("secret"), "{head}");
    assert!(
        head.to_ascii_lowercase()
            .contains("x-content-type-options: nosniff"),
        "{head}"
    );
    assert!(
        seen_by_origin.contains("x-forwarded-proto: http"),
        "{seen_by_origin}"
    );
    assert!(!seen_by_origin.contains("10.9.8.7"), "{seen_by_origin}");
}

/// Reads a frame: a letter and a payload.
fn read_frame(stream: &mut impl Read) -> (u8, String) {
    let mut head = [0; 5];
    stream.read_exact(&mut head).unwrap();
    let length = u32::from_be_bytes(head[1..].try_into().unwrap());
    let mut payload = vec![0; length as usize];
    stream.read_exact(&mut payload).unwrap();
    (head[0], String::from_utf8(payload).unwrap())
}

fn write_frame(stream: &mut impl Write, letter: u8, payload: &str) {
    let length = (payload.len() as u32).to_be_bytes();
    let frame = [&[letter], &length[..], payload.as_bytes()].concat();
    stream.write_all(&frame).unwrap();
}

#[test]
fn a_protocol_of_its_own_is_spoken_to_the_upstream() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("frames");
    let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let server = std::thread::spawn(move || {
        // Both requests come by one connection.
        let (mut stream, _) = listener.accept().unwrap();
        for _ in 0..2 {
            let (letter, head) = read_frame(&mut stream);
            assert_eq!(letter, b'H');
            let mut body = String::new();
            loop {
                match read_frame(&mut stream) {
                    (b'D', data) => body += &data,
                    (letter, _) => break assert_eq!(letter, b'E'),
                }
            }
            assert!(head.starts_with("POST /a\n"), "{head}");
            assert!(!head.to_ascii_lowercase().contains("transfer-encoding"));
            write_frame(&mut stream, b'H', "201\nx-by: frames\n");
            write_frame(&mut stream, b'D', "you said ");
            write_frame(&mut stream, b'D', &body);
            write_frame(&mut stream, b'E', "");
        }
    });
    let upstream = format!("unix:{}", path.display());
    let proxy = Program::start(
        env!("CARGO_BIN_EXE_custom-protocol"),
        &dir.path().join("s"),
        &["--upstream", &upstream],
    );
    for said in ["hello", "again"] {
        let answer = proxy.ask("POST", "/a", "", said);
        assert_eq!(status(&answer), "201");
        assert!(
            answer.to_ascii_lowercase().contains("x-by: frames"),
            "{answer}"
        );
        assert!(
            answer.contains("you said ") && answer.contains(said),
            "{answer}"
        );
    }
    server.join().unwrap();
}

#[test]
fn a_page_is_put_together_from_two_origins() {
    let html = |stream: &mut dyn Write, kind: &str, body: &str| {
        let length = body.len();
        let _ = write!(
            stream,
            "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Type: {kind}\r\nETag: \"1\"\r\n\
             Content-Length: {length}\r\n\r\n{body}"
        );
    };
    let pages = Origin::start(move |mut stream, head| match head.contains("/raw ") {
        true => html(&mut stream, "text/plain", "<!--include /a-->"),
        false => html(
            &mut stream,
            "text/html",
            "<h1><!--include /a--></h1><!--include /none-->.",
        ),
    });
    let parts = Origin::start(move |mut stream, head| match head.starts_with("GET /a ") {
        true => html(&mut stream, "text/html", "hello"),
        false => {
            let _ = write!(
                stream,
                "HTTP/1.1 404 Not Found\r\nConnection: close\r\nContent-Length: 2\r\n\r\nno"
            );
        }
    });
    let dir = TempDir::new().unwrap();
    let proxy = Program::start(
        env!("CARGO_BIN_EXE_subrequest"),
        &dir.path().join("s"),
        &["--upstream", &pages.address(), "--parts", &parts.address()],
    );
    let page = proxy.get("/page");
    assert_eq!(status(&page), "200");
    assert!(page.ends_with("\r\n\r\n<h1>hello</h1>."), "{page}");
    assert!(!page.to_ascii_lowercase().contains("etag"), "{page}");
    let raw = proxy.get("/raw");
    assert!(raw.ends_with("\r\n\r\n<!--include /a-->"), "{raw}");
    assert!(raw.to_ascii_lowercase().contains("etag"), "{raw}");
}

#[test]
fn who_asks_too_often_is_told_so() {
    let origin = Origin::saying("hello");
    let dir = TempDir::new().unwrap();
    let proxy = Program::start(
        env!("CARGO_BIN_EXE_rate-limiter"),
        &dir.path().join("s"),
        &["--limit", "2", "--upstream", &origin.address()],
    );
    for _ in 0..2 {
        assert_eq!(status(&proxy.get("/")), "200");
    }
    let mut refusal = String::new();
    // A second may end in between, and its count with it.
    eventually("too many requests in a second", || {
        refusal = proxy.get("/");
        status(&refusal) == "429"
    });
    assert!(
        refusal.to_ascii_lowercase().contains("retry-after: 1"),
        "{refusal}"
    );
}

#[test]
fn an_upstream_that_comes_back_is_waited_for() {
    let dir = TempDir::new().unwrap();
    let origin = dir.path().join("origin");
    let mut proxy = Program::start(
        env!("CARGO_BIN_EXE_backoff-retry"),
        &dir.path().join("s"),
        &[
            "--backoff",
            "100",
            "--retries",
            "15",
            "--upstream",
            &format!("unix:{}", origin.display()),
        ],
    );
    let mut client = proxy.connect();
    client
        .write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        .unwrap();
    proxy.wait_for_log("trying again");
    Origin::serve_at(&origin, |mut stream, _| answer(&mut stream, "back"));
    assert!(read_to_end(client).ends_with("back"));
}

#[test]
fn an_upstream_that_stays_away_is_a_502() {
    let dir = TempDir::new().unwrap();
    let nobody = format!("unix:{}", dir.path().join("nobody").display());
    let proxy = Program::start(
        env!("CARGO_BIN_EXE_backoff-retry"),
        &dir.path().join("s"),
        &["--backoff", "1", "--retries", "3", "--upstream", &nobody],
    );
    assert_eq!(status(&proxy.get("/")), "502");
}

#[test]
fn websockets_pass_and_those_of_foreign_pages_do_not() {
    let origin = Origin::start(|mut stream, _| {
        let switch = "HTTP/1.1 101 Switching Protocols\r\n\
            Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
        stream.write_all(switch.as_bytes()).unwrap();
        let mut ping = [0; 4];
        while stream.read_exact(&mut ping).is_ok() {
            stream.write_all(&ping).unwrap();
        }
    });
    let dir = TempDir::new().unwrap();
    let proxy = Program::start(
        env!("CARGO_BIN_EXE_websocket"),
        &dir.path().join("s"),
        &[
            "--upstream",
            &origin.address(),
            "--allow-origin",
            "https://good.test",
        ],
    );
    let upgrade = |page: &str| {
        let mut client = proxy.connect();
        let ask = format!(
            "GET /chat HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\
             Origin: {page}\r\n\r\n"
        );
        client.write_all(ask.as_bytes()).unwrap();
        let head = read_head(&mut client);
        (client, head)
    };
    assert_eq!(status(&upgrade("https://evil.test").1), "403");
    let (mut client, head) = upgrade("https://good.test");
    assert_eq!(status(&head), "101");
    for ping in [b"ping", b"\0\x01\r\n"] {
        client.write_all(ping).unwrap();
        let mut pong = [0; 4];
        client.read_exact(&mut pong).unwrap();
        assert_eq!(&pong, ping);
    }
}

#[test]
fn the_echo_service_sends_back_what_it_gets() {
    let dir = TempDir::new().unwrap();
    let echo = Program::start(env!("CARGO_BIN_EXE_tcp-echo"), &dir.path().join("s"), &[]);
    let mut client = echo.connect();
    for words in ["hello\n", "and\0again"] {
        client.write_all(words.as_bytes()).unwrap();
        let mut back = vec![0; words.len()];
        client.read_exact(&mut back).unwrap();
        assert_eq!(back, words.as_bytes());
    }
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_to_end(client), "");
}
