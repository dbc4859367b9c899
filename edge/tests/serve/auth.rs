//! Passwords, and pages of other origins.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::Command;

use super::tools::*;

/// Asks by curl, and returns the status, the fields and the body.
fn curl(edge: &Edge, path: &str, more: &[&str]) -> (u16, String) {
    let output = Command::new("curl")
        .args(["-s", "-i", "--noproxy", "*"])
        .args(more)
        .arg(format!("http://{}{path}", edge.address))
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    (text[9..12].parse().unwrap(), text.to_lowercase())
}

#[test]
fn only_users_with_their_passwords_are_let_in() {
    let origin = Origin::start("o");
    let hash = bcrypt::hash("open sesame", 4).unwrap();
    let edge = Edge::start(&format!(
        "  - basic_auth: {{users: {{ali: '{hash}'}}, realm: The cave}}
    cors: {{origins: 'https://app.test', credentials: true}}
    hsts: 1d
    routes:
      - {{path: /free, basic_auth: false, respond: 200}}
      - {{path: /here, respond: {{body: here}}}}
      - {{path: /limited, rate_limit: {{rate: 2/h, headers: true}}, respond: 200}}
      - {{proxy: '{}'}}\n",
        origin.address
    ));
    assert_eq!(curl(&edge, "/free", &[]).0, 200);
    let (status, answer) = curl(&edge, "/here", &["-H", "Origin: https://app.test"]);
    assert_eq!(status, 401);
    assert!(answer.contains("www-authenticate: basic realm=\"the cave\", charset=\"utf-8\""));
    assert!(
        answer.contains("access-control-allow-origin: https://app.test"),
        "{answer}"
    );
    let right = ["-u", "ali:open sesame"];
    for _ in 0..3 {
        for path in ["/here", "/x"] {
            let (status, answer) = curl(&edge, path, &right);
            assert_eq!(status, 200, "{answer}");
            for wrong in ["ali:open", "ali:", "baba:open sesame", ":"] {
                assert_eq!(curl(&edge, path, &["-u", wrong]).0, 401, "{path} {wrong}");
            }
            for wrong in ["Basic", "Basic %", "Bearer YWxpOm9wZW4gc2VzYW1l"] {
                let field = format!("Authorization: {wrong}");
                assert_eq!(curl(&edge, path, &["-H", &field]).0, 401, "{path} {wrong}");
            }
        }
    }
    // Two of them are no good, whatever they are.
    let field = "Authorization: Basic YWxpOm9wZW4gc2VzYW1l\r\n";
    let mut client = edge.connect();
    assert_eq!(client.ask("GET", "a", "/here", field).status, 200);
    assert_eq!(
        client.ask("GET", "a", "/here", &field.repeat(2)).status,
        401
    );
    // The rates come before the password, so that passwords cannot be tried out without end.
    let statuses = [0; 3].map(|_| curl(&edge, "/limited", &["-u", "ali:guess"]).0);
    assert_eq!(statuses, [401, 401, 429]);
}

#[test]
fn a_request_whose_password_is_new_goes_on_with_its_body() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let hash = bcrypt::hash("pass", 4).unwrap();
    let edge = Edge::start(&format!(
        "  - basic_auth: {{users: {{ali: '{hash}'}}}}
    routes: {{strip_prefix: /a, path: /a/*, buffer_request: 1MiB, proxy: '{}'}}\n",
        listener.local_addr().unwrap()
    ));
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut read = Vec::new();
        while !read.ends_with(b"the body") {
            let mut part = [0; 1024];
            let n = stream.read(&mut part).unwrap();
            assert!(n > 0);
            read.extend_from_slice(&part[..n]);
        }
        stream
            .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
            .unwrap();
        String::from_utf8(read).unwrap()
    });
    assert_eq!(
        curl(&edge, "/a/x", &["-u", "ali:pass", "-d", "the body"]).0,
        200
    );
    assert!(server.join().unwrap().starts_with("POST /x HTTP/1.1\r\n"));
}

#[test]
fn a_request_takes_no_place_before_its_password_is_known_to_be_right() {
    let server = Held::start();
    let hash = bcrypt::hash("pass", 4).unwrap();
    let edge = Edge::start(&format!(
        "  - basic_auth: {{users: {{ali: '{hash}', bob: '{hash}'}}}}
    concurrent_requests: 1
    routes: [{{path: /held, proxy: '{}'}}, {{respond: 200}}]\n",
        server.address
    ));
    // Its password is new too.
    let mut holder = edge.connect();
    holder.send("GET /held HTTP/1.1\r\nHost: a\r\nAuthorization: Basic YWxpOnBhc3M=\r\n\r\n");
    let held = server.wait();
    assert_eq!(curl(&edge, "/", &["-u", "ali:new"]).0, 401);
    for _ in 0..2 {
        let (status, answer) = curl(&edge, "/", &["-u", "bob:pass"]);
        assert_eq!(status, 503, "{answer}");
        assert!(answer.contains("retry-after: 1\r\n"), "{answer}");
    }
    drop(held);
    assert!(holder.line().starts_with("HTTP/1.1 200 "));
    eventually("its place is free", || {
        curl(&edge, "/", &["-u", "bob:pass"]).0 == 200
    });
}

#[test]
fn pages_of_named_origins_may_read_answers() {
    let edge = Edge::start(
        "  - routes:
      - path: /named
        cors: {origins: ['https://app.test', 'https://*.pages.test'], methods: [GET, PUT], headers: x-a, expose: x-b, credentials: true, max_age: 1h}
        respond: {body: named}
      - {path: /any, cors: '*', respond: {body: any}}
      - {path: /none, respond: 200}\n",
    );
    let ask = |path: &str, method: &str, origin: &str, more: &[&str]| {
        let origin = format!("Origin: {origin}");
        let mut all = vec!["-X", method, "-H", &origin];
        all.extend(more);
        curl(&edge, path, &all)
    };
    let preflight = |path: &str, origin: &str| {
        ask(
            path,
            "OPTIONS",
            origin,
            &["-H", "Access-Control-Request-Method: PUT"],
        )
    };
    let (status, answer) = preflight("/named", "https://app.test");
    assert_eq!(status, 204);
    for field in [
        "access-control-allow-origin: https://app.test\r\n",
        "access-control-allow-methods: get, put\r\n",
        "access-control-allow-headers: x-a\r\n",
        "access-control-allow-credentials: true\r\n",
        "access-control-max-age: 3600\r\n",
        "vary: origin\r\n",
    ] {
        assert!(answer.contains(field), "{field} in {answer}");
    }
    for (origin, allowed) in [
        ("https://app.test", true),
        ("https://x.pages.test", true),
        ("https://x.y.pages.test", true),
        ("https://pages.test", false),
        ("https://evil.test/.pages.test", false),
        ("https://evil.test#.pages.test", false),
        ("https://xpages.test", false),
        ("http://app.test", false),
        ("https://app.test.evil.test", false),
        ("https://app.test:8443", false),
        ("null", false),
    ] {
        assert_eq!(preflight("/named", origin).0 == 204, allowed, "{origin}");
    }
    let (status, answer) = ask("/any", "GET", "https://evil.test", &[]);
    assert_eq!(status, 200);
    assert!(
        answer.contains("access-control-allow-origin: *\r\n"),
        "{answer}"
    );
    assert!(!answer.contains("credentials"), "{answer}");
    let (_, answer) = ask("/none", "GET", "https://evil.test", &[]);
    assert!(!answer.contains("access-control"), "{answer}");
    // Who may not is told nothing, and the answer differs by who asks.
    let (status, answer) = ask("/named", "PUT", "https://evil.test", &[]);
    assert_eq!(status, 200);
    assert!(answer.contains("vary: origin\r\n"), "{answer}");
    assert!(!answer.contains("access-control"), "{answer}");
}

#[test]
fn what_servers_say_to_other_origins_is_replaced() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let edge = Edge::start(&format!(
        "  - routes: {{cors: 'https://app.test', proxy: '{}'}}\n",
        listener.local_addr().unwrap()
    ));
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 4096]);
            let fields =
                "Access-Control-Allow-Origin: *\r\nAccess-Control-Allow-Credentials: true\r\n";
            let answer = format!(
                "HTTP/1.1 200 OK\r\n{fields}Content-Length: 0\r\nConnection: close\r\n\r\n"
            );
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    let (_, answer) = curl(&edge, "/", &["-H", "Origin: https://evil.test"]);
    assert!(!answer.contains("access-control"), "{answer}");
    let (_, answer) = curl(&edge, "/", &["-H", "Origin: https://app.test"]);
    assert_eq!(answer.matches("access-control").count(), 1, "{answer}");
    assert!(
        answer.contains("access-control-allow-origin: https://app.test\r\n"),
        "{answer}"
    );
}

#[test]
fn users_of_a_file_come_and_go_with_it() {
    let address = free();
    let dir = tempfile::TempDir::new().unwrap();
    let users = dir.path().join("users");
    let write = |lines: &str| {
        let new = dir.path().join("new");
        std::fs::write(&new, lines).unwrap();
        std::fs::rename(new, &users).unwrap();
    };
    let line = |name: &str| format!("{name}:{}\n", bcrypt::hash(name, 4).unwrap());
    write(&line("ali"));
    let mut edge = Edge::start_whole(
        address,
        &format!(
            "listen: {address}\nsites:\n  - {{basic_auth: {{users_file: {}}}, routes: {{respond: 200}}}}\n",
            users.display()
        ),
    );
    let ask = |edge: &Edge, user: &str| curl(edge, "/", &["-u", user]).0;
    assert_eq!((ask(&edge, "ali:ali"), ask(&edge, "bob:bob")), (200, 401));
    write(&line("bob"));
    eventually("the other user is let in", || ask(&edge, "bob:bob") == 200);
    assert_eq!(ask(&edge, "ali:ali"), 401);
    write("bob:$apr1$x$y\n");
    let said = edge.wait_for_log("is hashed by MD5");
    assert!(said.contains("line 1: the password of `bob`"), "{said}");
    assert_eq!(ask(&edge, "bob:bob"), 200);
}
