//! Routes, and what they do with a request.

use super::tools::*;
use super::upstreams::origins::{Act, Script};

#[test]
fn a_request_goes_where_its_host_and_path_say() {
    let (api, rest) = (Origin::start("api"), Origin::start("rest"));
    let edge = Edge::start(&format!(
        "  - hosts: a.test
    routes:
      - {{path: /api/*, strip_prefix: /api, proxy: '{}'}}
      - {{path: /old/*, redirect: {{to: 'https://{{host}}/new?x={{query}}', status: 301}}}}
      - {{path: '~/old-(\\d+)/(.*)', redirect: '/new/{{1}}/{{2}}'}}
      - {{path: /hello, respond: {{status: 203, body: 'hello {{client_ip}}', content_type: text/x}}}}
      - {{path: /empty, respond: 204}}
      - {{path: /v1/*, rewrite: '/v2{{path}}', proxy: '{}'}}
      - {{path: /rest/*, proxy: '{}'}}
",
        api.address, api.address, rest.address
    ));
    let mut client = edge.connect();
    let mut get = |path: &str| client.ask("GET", "a.test", path, "");
    assert_eq!(get("/api/x?y=%20").body, "api");
    let head = api.last();
    assert!(head.starts_with("GET /x?y=%20 HTTP/1.1\r\n"), "{head}");
    for field in [
        "x-forwarded-for: 127.0.0.1",
        "x-forwarded-proto: http",
        "x-forwarded-host: a.test",
    ] {
        assert!(head.to_lowercase().contains(field), "{field} in {head}");
    }
    assert_eq!(get("/v1/x").body, "api");
    assert!(api.last().starts_with("GET /v2/v1/x HTTP/1.1\r\n"));
    assert_eq!(get("/rest//%61/../b;p").body, "rest");
    assert!(
        rest.last().starts_with("GET /rest/b;p HTTP/1.1\r\n"),
        "{}",
        rest.last()
    );
    let moved = get("/old/x?q");
    assert_eq!(moved.status, 301);
    assert_eq!(moved.field("location"), Some("https://a.test/new?x=q"));
    let moved = get("/old-12/a/b");
    assert_eq!(moved.field("location"), Some("/new/12/a/b"));
    let hello = get("/hello");
    assert_eq!((hello.status, &*hello.body), (203, "hello 127.0.0.1"));
    assert_eq!(hello.field("content-type"), Some("text/x"));
    let empty = get("/empty");
    assert_eq!((empty.status, empty.field("content-length")), (204, None));
    assert_eq!(get("/nowhere").body, "404 Not Found\n");
    // A bad request is the last of its connection.
    for bad in ["/rest/%2e%2e/..", "/rest/%00"] {
        let mut client = edge.connect();
        let answer = client.ask("GET", "a.test", bad, "");
        assert_eq!((answer.status, client.is_closed()), (400, true), "{bad}");
    }
    let head = client.ask("HEAD", "a.test", "/hello", "");
    assert_eq!(head.field("content-length"), Some("15"));
    assert_eq!(client.ask("GET", "b.test", "/", "").status, 421);
    assert_eq!(client.ask("GET", "a.test", "/hello", "").status, 203);
}

#[test]
fn headers_are_changed_both_ways() {
    let origin = Origin::start("o");
    let edge = Edge::start(&format!(
        "  - routes:
      - path: /x
        proxy: '{}'
        request_headers: {{remove: X-Secret, set: {{x-a: '{{host}}'}}, add: {{X-B: '{{request_id}}'}}}}
        response_headers: {{remove: x-origin, set: {{X-C: '{{path}}'}}}}
      - {{path: /y, respond: 200, response_headers: {{add: {{x-d: d}}}}}}
",
        origin.address
    ));
    let mut client = edge.connect();
    let answer = client.ask(
        "GET",
        "h",
        "/x",
        "X-Secret: s\r\nx-a: no\r\nX_A: no\r\nX_Secret: no\r\n",
    );
    assert_eq!(
        (answer.field("x-origin"), answer.field("x-c")),
        (None, Some("/x"))
    );
    let head = origin.last();
    assert!(
        head.contains("x-a: h\r\n") && !head.contains("X-Secret") && !head.contains(": no"),
        "{head}"
    );
    let id = head.lines().find_map(|line| line.strip_prefix("x-b: "));
    assert_eq!(id.map(str::len), Some(32), "{head}");
    // No client has them taken away on their way by naming them in Connection.
    let named = "Connection: close, X-A\r\nConnection: x-b, x-mine\r\nX-Mine: 1\r\n";
    assert_eq!(client.ask("GET", "h", "/x", named).status, 200);
    let head = origin.last().to_lowercase();
    assert!(
        head.contains("x-a: h\r\n") && head.contains("x-b: "),
        "{head}"
    );
    assert!(!head.contains("x-mine"), "{head}");
    let mut client = edge.connect();
    assert_eq!(client.ask("GET", "h", "/y", "").field("x-d"), Some("d"));
}

#[test]
fn a_server_that_is_down_is_passed_over_and_left_alone() {
    let origin = Origin::start("up");
    let mut edge = Edge::start(&format!(
        "  - routes: {{proxy: {{to: ['{}', '{}']}}}}\n",
        free(),
        origin.address
    ));
    for _ in 0..10 {
        assert_eq!(edge.get("a", "/").body, "up");
    }
    edge.wait_for_log("it is left alone");
}

#[test]
fn servers_that_are_all_down_are_a_502() {
    let edge = Edge::start(&format!("  - routes: {{proxy: '{}'}}\n", free()));
    assert_eq!(edge.get("a", "/").status, 502);
}

#[test]
fn a_name_that_is_not_found_is_a_server_that_is_down() {
    let origin = Origin::start("up");
    let mut edge = Edge::start(&format!(
        "  - routes:
      - {{path: /none, proxy: 'nowhere.invalid:80'}}
      - {{path: /one, proxy: {{to: ['nowhere.invalid:80', '{}']}}}}
      - {{path: /named, proxy: 'localhost:{}'}}
",
        origin.address,
        origin.address.port()
    ));
    edge.wait_for_log("it gets no request until its name is found");
    assert_eq!(edge.get("a", "/none").status, 502);
    assert_eq!(edge.get("a", "/one").body, "up");
    assert_eq!(edge.get("a", "/named").body, "up");
}

#[test]
fn each_way_to_balance_reaches_a_server() {
    let (a, b) = (Origin::start("a"), Origin::start("b"));
    for balance in ["round_robin", "random", "least_requests", "hash"] {
        let to = format!("[{{address: '{}', weight: 3}}, '{}']", a.address, b.address);
        let edge = Edge::start(
            &format!(
                "  - routes: {{proxy: {{to: {to}, balance: {balance}, hash_by: '{{path}}'}}}}\n"
            )
            .replace(
                ", hash_by: '{path}'",
                if balance == "hash" {
                    ", hash_by: '{path}'"
                } else {
                    ""
                },
            ),
        );
        let mut client = edge.connect();
        let mut bodies: Vec<_> = (0..60)
            .map(|n| client.ask("GET", "a", &format!("/{n}"), "").body)
            .collect();
        let again = client.ask("GET", "a", "/0", "").body;
        assert!(balance != "hash" || again == bodies[0], "{balance}");
        bodies.sort();
        bodies.dedup();
        assert_eq!(bodies, ["a", "b"], "{balance}");
    }
}

#[test]
fn a_server_that_is_too_slow_is_a_504() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let edge = Edge::start(&format!(
        "  - routes: {{proxy: {{to: '{}', timeouts: {{response: 50ms}}}}}}\n",
        silent.local_addr().unwrap()
    ));
    assert_eq!(edge.get("a", "/").status, 504);
}

#[test]
fn a_target_without_a_path_is_refused() {
    let origin = Origin::start("origin");
    let edge = Edge::start(&format!("  - routes: {{proxy: '{}'}}\n", origin.address));
    for target in [
        "a",
        "u@a/x",
        "http:a",
        "http://u@a.test/x",
        "ftp://a.test/x",
        "*",
    ] {
        let answer = edge.connect().ask("OPTIONS", "a.test", target, "");
        assert_eq!(answer.status, 400, "{target}");
    }
    let answer = edge.connect().ask("GET", "b.test", "HTTP://a.test/x?y", "");
    assert_eq!(answer.body, "origin");
    // None of the others came here.
    let head = origin.last();
    assert!(head.starts_with("GET /x?y HTTP/1.1\r\n"), "{head}");
}

#[test]
fn no_upgrade_lifts_the_time_of_a_request_and_none_of_both_holds_for_a_websocket() {
    let origin = Script::start(|head, _| {
        if head.to_lowercase().contains("sec-websocket-key") {
            let answer = "HTTP/1.1 101 X\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
            return Act::Echo(answer.into());
        }
        Act::Wait
    });
    let address = free();
    let text = format!(
        "listen: {{address: '{address}', timeouts: {{read: 1s}}}}
sites:
  - routes: {{proxy: {{to: '{}', timeouts: {{request: 1s}}}}}}\n",
        origin.address
    );
    let edge = Edge::start_whole(address, &text);
    let mut socket = edge.connect();
    socket.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n");
    assert!(socket.line().starts_with("HTTP/1.1 101"));
    while socket.line() != "\r\n" {}
    let offer = "Connection: Upgrade\r\nUpgrade: h2c\r\n";
    assert_eq!(edge.connect().ask("GET", "a", "/", offer).status, 504);
    // The limits began before that of this request, and would be over by now.
    std::thread::sleep(std::time::Duration::from_millis(500));
    socket.send("hello\r\n");
    assert_eq!(socket.line(), "hello\r\n");
}
