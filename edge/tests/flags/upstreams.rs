//! Upstreams that are down, slow or known by name.

use super::tools::*;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;

const BINARY: &str = env!("CARGO_BIN_EXE_reverse-proxy");

/// Every request succeeds, of many clients at a time.
fn all_succeed(program: &Program) {
    std::thread::scope(|threads| {
        for _ in 0..50 {
            threads.spawn(|| {
                for _ in 0..10 {
                    let answer = program.get("/");
                    assert!(answer.ends_with("\r\n\r\nhello"), "{answer}");
                }
            });
        }
    });
}

#[test]
fn with_one_upstream_down_no_request_fails() {
    let origin = Origin::saying("hello");
    for more in [
        &[][..],
        // The one that is down is tried by every other request.
        &["--max-fails", "0"],
        &["--max-fails", "0", "--work-stealing"],
    ] {
        let dir = TempDir::new().unwrap();
        let nobody = format!("unix:{}", dir.path().join("nobody").display());
        let (good, threads) = (origin.address(), ["--threads", "2"]);
        let args = ["--upstream", &nobody, "--upstream", &good];
        let args = [&args[..], &threads, more].concat();
        let program = Program::start(BINARY, &dir.path().join("s"), &args);
        all_succeed(&program);
    }
}

#[test]
fn one_that_breaks_off_is_left_alone() {
    let good = Origin::saying("hello");
    let asked = Arc::new(AtomicUsize::new(0));
    let breaks_off = Origin::start({
        let asked = asked.clone();
        move |_, _| {
            asked.fetch_add(1, Ordering::SeqCst);
        }
    });
    let dir = TempDir::new().unwrap();
    let (bad, good) = (breaks_off.address(), good.address());
    let args = ["--threads", "1", "--fail-timeout", "1h"];
    let args = [&args[..], &["--upstream", &bad, "--upstream", &good]].concat();
    let program = Program::start(BINARY, &dir.path().join("s"), &args);
    for _ in 0..20 {
        assert!(program.get("/").ends_with("hello"));
    }
    assert_eq!(asked.load(Ordering::SeqCst), 1);
}

/// Two silent origins: one in clear text, one that does not answer in a TLS handshake.
#[test]
fn a_silent_upstream_is_a_504_and_the_reason_is_logged() {
    let silent = Origin::start(|mut stream, _| drop(stream.read_to_end(&mut Vec::new())));
    let dir = TempDir::new().unwrap();
    let short = "100ms";
    let tls = ["--upstream-tls", "--upstream-sni", "localhost"];
    let cases: [(&[&str], &str); 5] = [
        (
            &["--response-timeout", short],
            "no response head within 100ms",
        ),
        (
            &["--response-timeout", "off", "--read-timeout", short],
            "nothing was received for 100ms",
        ),
        (
            &["--request-timeout", short],
            "the request took longer than 100ms",
        ),
        (
            &["--upstream-h2", "--response-timeout", short],
            "nothing for 100ms",
        ),
        (
            &[&tls[..], &["--handshake-timeout", short]].concat(),
            "the TLS handshake took longer than 100ms",
        ),
    ];
    for (at, (args, reason)) in cases.into_iter().enumerate() {
        if args.contains(&"--upstream-tls") && !edge::HAS_TLS {
            continue;
        }
        let socket = dir.path().join(at.to_string());
        let address = silent.address();
        let args = [&["--upstream", &address], args].concat();
        let mut program = Program::start(BINARY, &socket, &args);
        assert_eq!(status(&program.get("/")), "504", "{args:?}");
        program.wait_for_log(reason);
    }
}

/// A listener that has no room for connections: what tries to connect is not answered.
struct Deaf {
    listener: TcpListener,
    _waiting: Vec<TcpStream>,
}

impl Deaf {
    fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        // SAFETY: listen takes two numbers and touches no memory of this process.
        #[allow(unsafe_code)]
        let listens = unsafe { libc::listen(listener.as_raw_fd(), 0) };
        assert_eq!(listens, 0);
        let address = listener.local_addr().unwrap();
        let mut waiting = Vec::new();
        while let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_millis(200)) {
            waiting.push(stream);
            assert!(waiting.len() < 100, "the queue has no end");
        }
        Deaf {
            listener,
            _waiting: waiting,
        }
    }

    fn address(&self) -> SocketAddr {
        self.listener.local_addr().unwrap()
    }
}

#[test]
fn one_that_does_not_answer_a_connect_is_passed_over_in_time() {
    let deaf = Deaf::new();
    let address = deaf.address().to_string();
    let good = Origin::saying("hello");
    let dir = TempDir::new().unwrap();
    let args = ["--connect-timeout", "200ms", "--upstream", &address];
    let mut alone = Program::start(BINARY, &dir.path().join("alone"), &args);
    assert_eq!(status(&alone.get("/")), "504");
    alone.wait_for_log("not connected within 200ms");
    let good = good.address();
    let args = [&args[..], &["--upstream", &good]].concat();
    let program = Program::start(BINARY, &dir.path().join("both"), &args);
    for _ in 0..4 {
        assert!(program.get("/").ends_with("hello"));
    }
}

/// An origin at a port of 127.0.0.1.
fn at_a_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                if stream.read_exact(&mut byte).is_err() {
                    break;
                }
                head.push(byte[0]);
            }
            let answer = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello";
            // A proxy that hung up shows in what the client sees.
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    port
}

#[test]
fn upstreams_are_known_by_name_and_by_url() {
    let port = at_a_port();
    let dir = TempDir::new().unwrap();
    for (at, upstream) in [
        format!("localhost:{port}"),
        format!("http://localhost:{port}"),
        format!("http://127.0.0.1:{port}/"),
    ]
    .iter()
    .enumerate()
    {
        let socket = dir.path().join(at.to_string());
        let program = Program::start(BINARY, &socket, &["--upstream", upstream]);
        for _ in 0..3 {
            assert!(program.get("/").ends_with("hello"), "{upstream}");
        }
    }
}

#[test]
fn requests_sent_together_are_answered_in_turn() {
    let origin = Origin::start(|mut stream, head| {
        let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
        answer(&mut stream, &path);
    });
    let dir = TempDir::new().unwrap();
    let program = Program::start(
        BINARY,
        &dir.path().join("s"),
        &["--upstream", &origin.address()],
    );
    let mut client = program.connect();
    let get = |path: &str, close: &str| format!("GET {path} HTTP/1.1\r\nHost: a\r\n{close}\r\n");
    let all = [
        get("/1", ""),
        get("/2", ""),
        get("/3", ""),
        get("/4", "Connection: close\r\n"),
    ];
    client.write_all(all.concat().as_bytes()).unwrap();
    let answers = read_to_end(client);
    let bodies: Vec<_> = answers.split("\r\n\r\n").skip(1).collect();
    let bodies: Vec<_> = bodies.iter().filter_map(|b| b.get(..2)).collect();
    assert_eq!(bodies, ["/1", "/2", "/3", "/4"], "{answers}");
}

/// The head of a request as the origin got it, in small letters, by a client at 127.0.0.1.
fn as_forwarded(args: &[&str], fields: &str) -> String {
    let origin = Origin::start(|mut stream, head| answer(&mut stream, &head.to_ascii_lowercase()));
    let dir = TempDir::new().unwrap();
    let address = free();
    let (listen, upstream) = (address.to_string(), origin.address());
    let args = [&["--listen", &listen, "--upstream", &upstream], args].concat();
    let _program = Program::start(BINARY, &dir.path().join("s"), &args);
    wait_for_listener(address);
    let mut client = TcpStream::connect(address).unwrap();
    let request = format!("GET / HTTP/1.1\r\nHost: site.test\r\nConnection: close\r\n{fields}\r\n");
    client.write_all(request.as_bytes()).unwrap();
    let mut seen = String::new();
    client.read_to_string(&mut seen).unwrap();
    seen.split_once("\r\n\r\n").expect("an answer").1.to_owned()
}

#[test]
fn upstreams_are_told_who_asked_and_how() {
    let claims = "X-Forwarded-For: 10.9.8.7\r\nX-Forwarded-For: 10.6.5.4\r\n\
                  X-Forwarded-Proto: https\r\nX-Forwarded-Host: evil.test\r\n";
    let more = format!("{claims}X-Forwarded-Port: 1\r\nX-Forwarded-Prefix: /a\r\n");
    for fields in ["", claims, &more] {
        let seen = as_forwarded(&[], fields);
        for field in [
            "x-forwarded-for: 127.0.0.1\r\n",
            "x-forwarded-proto: http\r\n",
            "x-forwarded-host: site.test\r\n",
            "\r\nhost: site.test\r\n",
        ] {
            assert_eq!(seen.matches(field).count(), 1, "{field} in {seen}");
        }
        assert_eq!(seen.matches("x-forwarded-").count(), 3, "{seen}");
    }
    let seen = as_forwarded(&["--forwarded", "append"], claims);
    for field in [
        "x-forwarded-for: 10.9.8.7, 10.6.5.4, 127.0.0.1\r\n",
        "x-forwarded-proto: https\r\n",
        "x-forwarded-host: evil.test\r\n",
    ] {
        assert!(seen.contains(field), "{field} in {seen}");
    }
    assert_eq!(seen.matches("x-forwarded-").count(), 3, "{seen}");
    let pass = ["--forwarded", "pass"];
    let seen = as_forwarded(&pass, claims);
    for field in claims.to_ascii_lowercase().split_inclusive("\r\n") {
        assert!(seen.contains(field), "{field} in {seen}");
    }
    assert!(!as_forwarded(&pass, "").contains("x-forwarded-"));
}
