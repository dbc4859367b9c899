//! How much clients may ask.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;

use super::scripted::{answer, Scripted};
use super::tools::*;

#[test]
fn a_rate_holds_over_all_workers_and_over_a_reload() {
    let sites = |body: &str| {
        format!(
            "  - rate_limit: {{rate: 12/h, key: header.x-user}}
    routes:
      - path: /own
        rate_limit: {{rate: 2/h, key: header.x-user, status: 503, headers: true}}
        respond: {{body: '{body}'}}
      - {{respond: {{body: '{body}'}}}}\n"
        )
    };
    let mut edge = Edge::start(&sites("one"));
    let ask = |edge: &Edge, path: &str, user: &str| {
        edge.connect()
            .ask("GET", "a", path, &format!("X-User: {user}\r\n"))
    };
    let own: Vec<_> = (0..3).map(|_| ask(&edge, "/own", "ann")).collect();
    let statuses: Vec<_> = own.iter().map(|answer| answer.status).collect();
    assert_eq!(statuses, [200, 200, 503]);
    // The second limit that is asked; the site's is not told.
    assert_eq!(own[0].field("ratelimit-policy"), Some("\"2\";q=2;w=3600"));
    assert_eq!(own[0].field("ratelimit"), Some("\"2\";r=1;t=3600"));
    // Half an hour after the first one, which was a moment ago.
    let seconds = |field: &str, before: &str| -> u32 {
        let value = own[2].field(field).unwrap();
        value.strip_prefix(before).unwrap().parse().unwrap()
    };
    let t = seconds("ratelimit", "\"2\";r=0;t=");
    assert!((1700..=1800).contains(&t), "{t}");
    assert_eq!(seconds("retry-after", ""), t);
    // Nine are left of the site's, whatever worker has the connection.
    let mut passed = 0;
    while ask(&edge, "/", "ann").status == 200 {
        passed += 1;
    }
    assert_eq!(passed, 9);
    assert_eq!(ask(&edge, "/", "ann").status, 429);
    assert_eq!(ask(&edge, "/", "bob").status, 200);
    edge.write(&sites("two"));
    edge.hang_up();
    edge.wait_for_log("the configuration is taken");
    assert_eq!(ask(&edge, "/", "cyd").body, "two");
    assert_eq!(ask(&edge, "/", "ann").status, 429);
    // Those without the header are one.
    for _ in 0..12 {
        assert_eq!(edge.get("a", "/").status, 200);
    }
    assert_eq!(edge.get("a", "/").status, 429);
}

#[test]
fn answers_tell_of_each_limit_whoever_gives_them() {
    let origin = Scripted::start(|_, _| answer("RateLimit-Policy: its own\r\n", "o"));
    let edge = Edge::start(&format!(
        "  - rate_limit: {{rate: 12/h, headers: true}}
    routes:
      - {{path: /here, rate_limit: {{rate: 9/h, headers: true}}, respond: 200}}
      - {{rate_limit: {{rate: 9/h, headers: true}}, proxy: '{}'}}\n",
        origin.address
    ));
    for path in ["/here", "/there"] {
        let head = edge.get("a", path).head.to_lowercase();
        let lines = head.lines();
        let policies = lines.filter_map(|line| line.strip_prefix("ratelimit-policy: "));
        let policies: Vec<_> = policies.collect();
        assert_eq!(
            policies,
            ["\"1\";q=12;w=3600", "\"2\";q=9;w=3600"],
            "{path}"
        );
        assert_eq!(head.matches("\nratelimit: ").count(), 2, "{path}");
    }
}

/// A server that answers when it is told to.
fn held() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    (listener, address)
}

/// Reads until `end`, and returns what was read.
fn read_until(stream: &mut TcpStream, end: &str) -> String {
    let mut read = Vec::new();
    while !read.ends_with(end.as_bytes()) {
        let mut byte = [0];
        assert_eq!(stream.read(&mut byte).unwrap(), 1, "{read:?}");
        read.push(byte[0]);
    }
    String::from_utf8(read).unwrap()
}

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

#[test]
fn requests_at_a_time_are_counted_by_key_and_leave_their_places() {
    let (listener, address) = held();
    let edge = Edge::start(&format!(
        "  - routes:
      - {{path: /x, concurrent_requests: [{{key: header.x-user, max: 2, status: 429}}, 3], proxy: '{address}'}}
      - {{respond: 204}}\n"
    ));
    let begin = |user: &str| {
        let mut client = TcpStream::connect(edge.address).unwrap();
        write!(
            client,
            "GET /x HTTP/1.1\r\nHost: a\r\nX-User: {user}\r\n\r\n"
        )
        .unwrap();
        let (mut server, _) = listener.accept().unwrap();
        read_until(&mut server, "\r\n\r\n");
        (client, server)
    };
    let ask = |user: &str| {
        let fields = format!("X-User: {user}\r\n");
        edge.connect().ask("GET", "a", "/x", &fields)
    };
    let mut open = vec![begin("ann"), begin("ann")];
    let refused = ask("ann");
    assert_eq!(
        (refused.status, refused.field("retry-after")),
        (429, Some("1"))
    );
    open.push(begin("bob"));
    // Three in all.
    assert_eq!(ask("bob").status, 503);
    assert_eq!(edge.get("a", "/").status, 204);
    let (mut client, mut server) = open.remove(0);
    server.write_all(ANSWER).unwrap();
    read_until(&mut client, "ok");
    drop(server);
    // A place is left when the request has ended, which its client may see a little earlier.
    let mut again = None;
    eventually("a place is free", || {
        let mut client = TcpStream::connect(edge.address).unwrap();
        client
            .write_all(b"GET /x HTTP/1.1\r\nHost: a\r\nX-User: ann\r\n\r\n")
            .unwrap();
        listener.set_nonblocking(true).unwrap();
        let mut status = [0; 1];
        client.set_nonblocking(true).unwrap();
        loop {
            if let Ok((server, _)) = listener.accept() {
                again = Some((client, server));
                return true;
            }
            if client.read(&mut status).is_ok() {
                return false;
            }
            std::thread::yield_now();
        }
    });
    // A client that goes away leaves its place too.
    drop(again);
    drop(open);
    listener.set_nonblocking(false).unwrap();
    let answers = std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut head = [0; 4096];
            if stream.read(&mut head).is_ok_and(|read| read > 0) {
                let _ = stream.write_all(ANSWER);
            }
        }
    });
    eventually("all places are free", || {
        ask("ann").status == 200 && ask("bob").status == 200
    });
    drop(answers);
}

/// Sends bytes and returns the status line of the answer.
fn status_of(edge: &Edge, request: &[u8]) -> String {
    let mut client = TcpStream::connect(edge.address).unwrap();
    client.write_all(request).unwrap();
    let line = read_until(&mut client, "\r\n");
    line[9..12].to_owned()
}

#[test]
fn what_is_too_large_is_refused_by_its_head_or_when_it_is_counted() {
    let (listener, address) = held();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            std::thread::spawn(move || {
                // Until the whole body is there, or the proxy gives up.
                let (mut read, mut part) = (Vec::new(), [0; 4096]);
                while let Ok(n @ 1..) = stream.read(&mut part) {
                    read.extend_from_slice(&part[..n]);
                    let whole = ["\r\n\r\n12345", "\r\n0\r\n\r\n"];
                    if whole.iter().any(|end| read.ends_with(end.as_bytes())) {
                        let _ = stream.write_all(ANSWER);
                    }
                }
            });
        }
    });
    let edge = Edge::start(&format!(
        "  - max_body_size: 5B
    max_headers: 4
    max_header_size: 100B
    routes:
      - {{path: /own, max_body_size: 6B, proxy: '{address}'}}
      - {{path: /whole, max_body_size: 1KiB, buffer_request: 5B, proxy: '{address}'}}
      - {{proxy: '{address}'}}\n"
    ));
    let post = |path: &str, rest: &str| {
        let request = format!("POST {path} HTTP/1.1\r\nHost: a\r\n{rest}");
        status_of(&edge, request.as_bytes())
    };
    let chunked = "Transfer-Encoding: chunked\r\n\r\n";
    for path in ["/", "/whole"] {
        assert_eq!(post(path, "Content-Length: 5\r\n\r\n12345"), "200");
        assert_eq!(post(path, "Content-Length: 6\r\n\r\n"), "413");
        assert_eq!(
            post(path, "Expect: 100-continue\r\nContent-Length: 600\r\n\r\n"),
            "413"
        );
        let five = format!("{chunked}3\r\n123\r\n2\r\n45\r\n0\r\n\r\n");
        assert_eq!(post(path, &five), "200");
        let six = format!("{chunked}3\r\n123\r\n3\r\n456\r\n");
        assert_eq!(post(path, &six), "413");
    }
    let six = format!("{chunked}6\r\n123456\r\n0\r\n\r\n");
    assert_eq!(post("/own", &six), "200");
    assert_eq!(
        post("/", "A: 1\r\nB: 1\r\nContent-Length: 5\r\n\r\n12345"),
        "200"
    );
    assert_eq!(
        post("/", "A: 1\r\nB: 1\r\nC: 1\r\nContent-Length: 5\r\n\r\n"),
        "431"
    );
    let long = format!("A: {}\r\nContent-Length: 5\r\n\r\n", "x".repeat(90));
    assert_eq!(post("/", &long), "431");
}

#[test]
fn a_buffered_request_goes_upstream_when_it_is_whole() {
    let (listener, address) = held();
    let edge = Edge::start(&format!(
        "  - routes:
      - {{path: /whole, buffer_request: 1MiB, proxy: '{address}'}}
      - {{path: /parts, proxy: '{address}'}}\n"
    ));
    let begin = |path: &str| {
        let mut client = TcpStream::connect(edge.address).unwrap();
        write!(
            client,
            "POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\n123"
        )
        .unwrap();
        client
    };
    let mut whole = begin("/whole");
    // Later than the first, and yet the first that comes.
    let _parts = begin("/parts");
    let (mut server, _) = listener.accept().unwrap();
    assert!(read_until(&mut server, "\r\n\r\n123").starts_with("POST /parts"));
    whole.write_all(b"456").unwrap();
    let (mut server, _) = listener.accept().unwrap();
    assert!(read_until(&mut server, "\r\n\r\n123456").starts_with("POST /whole"));
    server.write_all(ANSWER).unwrap();
    read_until(&mut whole, "ok");
}

#[test]
fn a_preflight_request_is_told_its_rate() {
    let edge = Edge::start(
        "  - cors: {origins: '*'}
    rate_limit: {rate: 10/s, headers: true}
    routes: {respond: 200}\n",
    );
    let fields = "Origin: https://a.test\r\nAccess-Control-Request-Method: GET\r\n";
    let got = edge.connect().ask("OPTIONS", "a", "/", fields);
    assert_eq!(got.status, 204);
    assert!(got.field("ratelimit").is_some(), "{}", got.head);
}

#[test]
fn nobody_is_sent_to_a_host_that_is_not_told() {
    for site in [
        "  - {https_redirect: true, routes: {respond: 200}}\n",
        "  - {routes: {redirect: 'https://{host}{uri}'}}\n",
        "  - {routes: {redirect: 'https://{header.host}{uri}'}}\n",
    ] {
        let edge = Edge::start(site);
        assert_eq!(status_of(&edge, b"GET /x HTTP/1.0\r\n\r\n"), "400");
        assert_eq!(
            status_of(&edge, b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n")[..2],
            *"30"
        );
    }
}

/// HTTP/2 tells it by `:authority`.
#[test]
fn a_redirect_to_the_host_of_a_header_is_the_same_in_each_version() {
    let address = free();
    let listen = format!("listen: {{address: '{address}', h2c: true}}\n");
    let site = "sites:\n  - routes: {redirect: 'https://{header.host}{uri}'}\n";
    let edge = Edge::start_whole(address, &format!("{listen}{site}"));
    for version in ["--http1.1", "--http2-prior-knowledge"] {
        let asked = Command::new("curl")
            .args(["-s", "-o", "/dev/null", "--noproxy", "*", version])
            .args(["-w", "%{redirect_url}"])
            .arg(format!("http://{}/evil.test/x", edge.address))
            .output()
            .unwrap();
        let to = String::from_utf8(asked.stdout).unwrap();
        assert_eq!(to, format!("https://{address}/evil.test/x"), "{version}");
    }
}
