//! Copies of requests for other servers.

use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::scripted::{answer, Scripted};
use super::tools::*;
use super::upstreams::origins::{Act, Grpc, Script};

/// Returns the counts of copies over all routes: sent, failed and dropped.
fn counts(edge: &Edge, admin: std::net::SocketAddr) -> [u64; 3] {
    let text = edge
        .connect_to(admin)
        .ask("GET", "localhost", "/metrics", "")
        .body;
    ["sent", "failed", "dropped"].map(|result| {
        let label = format!("result=\"{result}\"");
        let lines = text
            .lines()
            .filter(|line| line.starts_with("edge_mirrored_requests_total"));
        let lines = lines.filter(|line| line.contains(&label));
        lines
            .map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap())
            .sum()
    })
}

fn start(routes: &str) -> (Edge, std::net::SocketAddr) {
    let (address, admin) = (free(), free());
    let text = format!("listen: {address}\nadmin: {admin}\nsites:\n  - routes:\n{routes}");
    (Edge::start_whole(address, &text), admin)
}

#[test]
fn a_share_of_requests_is_copied_with_their_bodies() {
    let origin = Scripted::start(|_, _| answer("", "well"));
    let shadow = Scripted::start(|_, _| answer("", "shadow"));
    let (edge, admin) = start(&format!(
        "      - path: /all/*
        strip_prefix: /all
        request_headers: {{set: {{x-set: '1'}}}}
        mirror: {{to: '{0}', max_body: 8B}}
        proxy: '{1}'
      - {{path: /none, mirror: {{to: '{0}', share: 0%}}, proxy: '{1}'}}
      - {{path: /some, mirror: {{to: '{0}', share: 50%, max_in_flight: 200}}, proxy: '{1}'}}\n",
        shadow.address, origin.address
    ));
    let mut client = edge.connect();
    for _ in 0..20 {
        assert_eq!(client.ask("GET", "a", "/none", "").body, "well");
    }
    client.send("POST /all/x?y HTTP/1.1\r\nHost: a.test\r\nConnection: x-hop\r\nX-Hop: 1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n2\r\ncd\r\n0\r\n\r\n");
    assert_eq!(client.ask("GET", "b", "/none", "").body, "well");
    eventually("the copy comes", || shadow.count() == 1);
    shadow.last(|asked| {
        let head = asked.head.to_lowercase();
        assert!(head.starts_with("post /x?y http/1.1\r\n"), "{head}");
        assert_eq!(asked.body, b"abcd");
        assert!(
            head.contains("host: a.test\r\n") && head.contains("x-set: 1\r\n"),
            "{head}"
        );
        assert!(!head.contains("hop") && !head.contains("chunked"), "{head}");
    });
    eventually("it is counted", || counts(&edge, admin) == [1, 0, 0]);
    let mut other = edge.connect();
    other.send("POST /all/x HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n123456789");
    eventually("a long one is dropped", || {
        counts(&edge, admin) == [1, 0, 1]
    });
    for _ in 0..200 {
        assert_eq!(client.ask("GET", "a", "/some", "").status, 200);
    }
    // Of 200 by halves: outside of this less than once in 10^9 runs.
    let halves = 57..=143;
    eventually("all are counted", || {
        let seen = shadow.count() as u64;
        halves.contains(&(seen - 1)) && counts(&edge, admin) == [seen, 0, 1]
    });
}

#[test]
fn no_request_waits_for_a_copy_or_fails_by_it() {
    let origin = Origin::start("well");
    let held = Held::start();
    let (edge, admin) = start(&format!(
        "      - {{path: /held, mirror: {{to: '{}', max_in_flight: 1}}, proxy: '{1}'}}
      - {{path: /down, mirror: '{2}', proxy: '{1}'}}\n",
        held.address,
        origin.address,
        free()
    ));
    // One connection is of one worker.
    let mut client = edge.connect();
    assert_eq!(client.ask("GET", "a", "/held", "").body, "well");
    let first = held.wait();
    for _ in 0..3 {
        assert_eq!(client.ask("GET", "a", "/held", "").body, "well");
    }
    eventually("the others are dropped", || {
        counts(&edge, admin) == [0, 0, 3]
    });
    drop(first);
    eventually("the first is answered", || {
        counts(&edge, admin) == [1, 0, 3]
    });
    assert_eq!(client.ask("GET", "a", "/down", "").body, "well");
    eventually("a failure is counted", || counts(&edge, admin) == [1, 1, 3]);
}

#[test]
fn requests_of_http_2_are_copied_too() {
    // It reads the whole body before it answers: a request that ends before its body is not copied.
    let origin = Grpc::start();
    let shadow = Scripted::start(|_, _| answer("", "shadow"));
    let (address, admin) = (free(), free());
    let text = format!(
        "listen: {{address: '{address}', h2c: true}}
admin: {admin}
sites:
  - routes: {{mirror: '{}', proxy: {{to: '{}', protocol: h2c}}}}\n",
        shadow.address, origin.address
    );
    let edge = Edge::start_whole(address, &text);
    let dir = tempfile::TempDir::new().unwrap();
    let file = dir.path().join("body");
    std::fs::write(&file, "hello").unwrap();
    // With a length, and without one.
    for (sent, fields) in [(1, "content-length: 5"), (2, "content-length:")] {
        let output = Command::new("curl")
            .args(["-s", "--noproxy", "*", "--http2-prior-knowledge"])
            .args(["-T", "-", "-H", "Host: a.test", "-H", fields])
            .args(["-H", "Cookie: a=1", "-H", "Cookie: b=2"])
            .arg(format!("http://{address}/x?y"))
            .stdin(std::fs::File::open(&file).unwrap())
            .output()
            .unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), "hello");
        eventually("the copy comes", || shadow.count() == sent);
        shadow.last(|asked| {
            let head = asked.head.to_lowercase();
            assert!(head.starts_with("put /x?y http/1.1\r\n"), "{head}");
            assert!(head.contains("\r\nhost: a.test\r\n"), "{head}");
            assert!(head.contains("\r\ncookie: a=1; b=2\r\n"), "{head}");
            assert_eq!(asked.body, b"hello");
        });
    }
    eventually("both are counted", || counts(&edge, admin) == [2, 0, 0]);
}

#[test]
fn a_request_that_is_tried_again_is_copied_once_and_whole() {
    let tries = AtomicUsize::new(0);
    let origin = Script::start(move |_, body| {
        if tries.fetch_add(1, Ordering::SeqCst) == 0 {
            Act::Close
        } else {
            Act::Answer(200, format!("got {body}"))
        }
    });
    let shadow = Scripted::start(|_, _| answer("", "shadow"));
    let (edge, admin) = start(&format!(
        "      - {{mirror: '{}', proxy: {{to: '{}', passive_health: 0, retries: {{on: reset}}}}}}\n",
        shadow.address, origin.address
    ));
    // The line end after the fields is of the body.
    let body = "Content-Length: 7\r\n\r\nhello";
    let mut client = edge.connect();
    let answer = client.ask("PUT", "a", "/", body);
    assert_eq!((answer.status, &*answer.body), (200, "got hello\r\n"));
    assert_eq!(origin.count(), 2);
    eventually("it is counted", || counts(&edge, admin) == [1, 0, 0]);
    assert_eq!(shadow.count(), 1);
    shadow.last(|asked| assert_eq!(asked.body, b"hello\r\n"));
}

#[test]
fn a_copy_whose_answer_is_long_is_sent_once_and_has_not_failed() {
    let origin = Scripted::start(|_, _| answer("", "well"));
    let shadow = Scripted::start(|asked, _| match asked.method() {
        "POST" => answer("", &"x".repeat(300 << 10)),
        _ => answer("", "shadow"),
    });
    let (edge, admin) = start(&format!(
        "      - {{mirror: '{}', proxy: '{}'}}\n",
        shadow.address, origin.address
    ));
    let mut client = edge.connect();
    // The connection to the shadow is kept after the first.
    for (sent, method) in [(1, "GET"), (2, "POST")] {
        let answer = client.ask(method, "a", "/", "Content-Length: 0\r\n");
        assert_eq!(answer.body, "well");
        eventually("it is counted", || counts(&edge, admin) == [sent, 0, 0]);
    }
    assert_eq!(shadow.count(), 2);
}
