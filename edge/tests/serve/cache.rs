//! What is answered from memory, and what never is.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::mpsc;
use std::sync::Mutex;

use super::scripted::{answer, status, Scripted};
use super::tools::*;

/// Runs a proxy of one route with these keys at its `cache`, and more at the route.
pub fn cached(origin: &Scripted, cache: &str, route: &str) -> Edge {
    let to = origin.address;
    Edge::start(&format!(
        "  - routes:\n      - proxy: {{to: '{to}', cache: {cache}}}\n{route}"
    ))
}

pub fn counted(fields: &'static str) -> Scripted {
    Scripted::start(move |_, n| answer(fields, &format!("body {n}")))
}

pub const FRESH: &str = "Cache-Control: max-age=60\r\n";
/// Stale from the start, and good for much later.
const STALE: &str =
    "Cache-Control: max-age=10, stale-while-revalidate=1000, stale-if-error=1000\r\nAge: 50\r\n";

#[test]
fn a_hit_asks_nobody() {
    let origin = counted("Cache-Control: max-age=60\r\nETag: \"e\"\r\nAge: 5\r\n");
    let edge = cached(&origin, "true", "");
    let mut client = edge.connect();
    let first = client.ask("GET", "a.test", "/x?y", "");
    assert_eq!(first.body, "body 0");
    assert_eq!(first.field("cache-status"), Some("edge; fwd=miss; stored"));
    let hit = client.ask("GET", "a.test", "/x?y", "");
    assert_eq!(hit.body, "body 0");
    let said = hit.field("cache-status").unwrap();
    let ttl = said.strip_prefix("edge; hit; ttl=");
    let ttl: u32 = ttl.unwrap_or_else(|| panic!("{said}")).parse().unwrap();
    assert!((1..=55).contains(&ttl), "{said}");
    let age: u32 = hit.field("age").unwrap().parse().unwrap();
    assert!((5..60).contains(&age), "{age}");
    let head = client.ask("HEAD", "a.test", "/x?y", "");
    assert_eq!(head.field("content-length"), Some("6"));
    let same = client.ask("GET", "a.test", "/x?y", "If-None-Match: \"e\"\r\n");
    assert_eq!(same.status, 304);
    let part = client.ask("GET", "a.test", "/x?y", "Range: bytes=1-2\r\n");
    assert_eq!((part.status, &*part.body), (206, "od"));
    let parts = client.ask("GET", "a.test", "/x?y", "Range: bytes=0-1,4-5\r\n");
    assert_eq!(parts.status, 206);
    let parts: Vec<_> = parts.body.split("\r\n\r\n").collect();
    assert!(
        parts.len() == 3 && parts[1].starts_with("bo\r\n--") && parts[2].starts_with(" 0\r\n--"),
        "{parts:?}"
    );
    // The path is the same in its normal form.
    assert_eq!(
        client.ask("GET", "A.test", "/z/../%78?y", "").body,
        "body 1"
    );
    assert_eq!(
        client.ask("GET", "a.test", "/z/../%78?y", "").body,
        "body 0"
    );
    assert_eq!(client.ask("GET", "a.test", "/x?z", "").body, "body 2");
    assert_eq!(origin.count(), 3);
}

#[test]
fn what_may_not_be_shared_is_never_stored() {
    let origin = Scripted::start(|asked, n| {
        let fields = match asked.target() {
            "/cookie" => "Cache-Control: max-age=60\r\nSet-Cookie: a=b\r\n",
            "/any" => "Cache-Control: max-age=60\r\nVary: Accept, *\r\n",
            "/private" => "Cache-Control: private, max-age=60\r\n",
            "/none" => "Cache-Control: no-store, max-age=60\r\n",
            _ => FRESH,
        };
        answer(fields, &format!("body {n}"))
    });
    let edge = cached(&origin, "true", "");
    let mut client = edge.connect();
    for path in ["/cookie", "/any", "/private", "/none"] {
        let one = client.ask("GET", "a", path, "").body;
        let other = client.ask("GET", "a", path, "");
        assert_ne!(one, other.body, "{path}");
        let said = other.field("cache-status").unwrap();
        assert!(!said.contains("stored") && !said.contains("hit"), "{said}");
    }
    let one = client.ask("GET", "a", "/auth", "Authorization: Basic eDp5\r\n");
    let other = client.ask("GET", "a", "/auth", "Authorization: Basic eDp6\r\n");
    let without = client.ask("GET", "a", "/auth", "");
    assert!(one.body != other.body && other.body != without.body);
    // A request of one client turns the cache off for no other.
    assert_eq!(client.ask("GET", "a", "/auth", "").body, without.body);
}

#[test]
fn a_response_is_that_of_its_host_port_and_variant() {
    let origin = Scripted::start(|asked, _| {
        let host = asked.field("host").unwrap().to_owned();
        let language = asked.field("accept-language").unwrap_or("none").to_owned();
        answer(
            "Cache-Control: max-age=60\r\nVary: accept-language\r\n",
            &format!("{host} {language}"),
        )
    });
    let edge = cached(&origin, "true", "");
    let mut client = edge.connect();
    for _ in 0..2 {
        for host in ["a.test", "a.test:81", "b.test"] {
            for language in ["de", "en"] {
                let field = format!("Accept-Language: {language}\r\n");
                let answer = client.ask("GET", host, "/", &field);
                assert_eq!(answer.body, format!("{host} {language}"));
            }
            assert_eq!(
                client.ask("GET", host, "/", "").body,
                format!("{host} none")
            );
        }
    }
    assert_eq!(origin.count(), 9);
}

#[test]
fn a_response_varies_by_what_its_server_is_told() {
    let origin = Scripted::start(|asked, _| {
        let name = asked.target().trim_start_matches('/');
        let value = asked.field(name).unwrap().to_owned();
        answer(
            &format!("Cache-Control: max-age=60\r\nVary: {name}\r\n"),
            &value,
        )
    });
    let address = free();
    let edge = Edge::start_whole(
        address,
        &format!(
            "listen: '{address}'
trusted_proxies: 127.0.0.1
sites:
  routes:
    request_headers: {{set: {{x-user: '{{header.x-name}}'}}}}
    proxy: {{to: '{}', cache: true}}\n",
            origin.address
        ),
    );
    let mut client = edge.connect();
    for (name, host, field, told) in [
        (
            "x-forwarded-for",
            "a",
            "X-Forwarded-For: 10.0.0.1",
            "10.0.0.1",
        ),
        (
            "x-forwarded-for",
            "a",
            "X-Forwarded-For: 10.0.0.2",
            "10.0.0.2",
        ),
        ("x-forwarded-proto", "a", "X-Forwarded-Proto: http", "http"),
        (
            "x-forwarded-proto",
            "a",
            "X-Forwarded-Proto: https",
            "https",
        ),
        ("x-forwarded-host", "a", "X-Forwarded-Host: b", "b"),
        ("x-forwarded-host", "a", "X-Forwarded-Host: c", "c"),
        ("host", "a", "X-Name: 1", "a"),
        ("host", "b", "X-Name: 1", "b"),
        ("x-user", "a", "X-Name: 1", "1"),
        ("x-user", "a", "X-Name: 2", "2"),
    ] {
        let before = origin.count();
        for _ in 0..2 {
            let answer = client.ask("GET", host, &format!("/{name}"), &format!("{field}\r\n"));
            assert_eq!(answer.body, told, "{name} of {field}");
        }
        assert_eq!(origin.count(), before + 1, "{name} of {field}");
    }
    // What the server would not see, it could not have answered to.
    let hidden = "X-Forwarded-For: 10.0.0.1\r\nConnection: X-Forwarded-For\r\n";
    let refused = client.ask("GET", "a", "/x-forwarded-for", hidden);
    assert_eq!(refused.status, 400);
}

/// Returns the fields of the last request, sorted.
fn fields(origin: &Scripted) -> Vec<String> {
    origin.last(|asked| {
        let lines = asked.head.lines().skip(1).filter(|line| !line.is_empty());
        let mut lines: Vec<_> = lines.map(str::to_ascii_lowercase).collect();
        lines.sort();
        lines
    })
}

#[test]
fn a_server_is_told_the_same_with_a_cache() {
    let origin = Scripted::start(|asked, _| {
        let control = match asked.target() {
            "/behind" => "stale-while-revalidate=1000",
            _ => "must-revalidate",
        };
        let stale = format!("Cache-Control: max-age=10, {control}\r\nAge: 50\r\nETag: \"e\"\r\n");
        answer(&stale, "")
    });
    let to = origin.address;
    let edge = Edge::start(&format!(
        "  - routes:
      - path: /plain
        request_headers: {{set: {{x-user: '{{client_ip}}'}}, remove: x-secret}}
        proxy: '{to}'
      - request_headers: {{set: {{x-user: '{{client_ip}}'}}, remove: x-secret}}
        proxy: {{to: '{to}', cache: true}}\n"
    ));
    let mut client = edge.connect();
    let said = "X-Forwarded-For: 10.0.0.1\r\nX-Forwarded-Port: 1\r\nForwarded: for=10.0.0.1\r\nX-User: me\r\n\
                X-Secret: s\r\nX-Own: 1\r\nAccept: */*\r\nAccept-Encoding: gzip\r\n";
    client.ask("GET", "a", "/plain", said);
    let told = fields(&origin);
    for field in [
        "x-forwarded-for: 127.0.0.1",
        "x-forwarded-host: a",
        "x-user: 127.0.0.1",
    ] {
        assert!(told.iter().any(|line| line == field), "{field}: {told:?}");
    }
    let mut asked = told.clone();
    asked.push("if-none-match: \"e\"".to_owned());
    asked.sort();
    for path in ["/before", "/behind"] {
        let begun = origin.count();
        client.ask("GET", "a", path, said);
        assert_eq!(fields(&origin), told, "{path}");
        client.ask("GET", "a", path, said);
        eventually("it is revalidated", || origin.count() == begun + 2);
        assert_eq!(fields(&origin), asked, "{path}");
    }
}

#[test]
fn routes_share_nothing_that_may_differ() {
    let (one, other) = (
        counted(FRESH),
        Scripted::start(|_, _| answer(FRESH, "other")),
    );
    let edge = Edge::start(&format!(
        "  - routes:
      - {{header: {{x-beta: '1'}}, proxy: {{to: '{}', cache: true}}}}
      - {{proxy: {{to: '{}', cache: true}}}}\n",
        other.address, one.address
    ));
    let mut client = edge.connect();
    for _ in 0..2 {
        assert_eq!(client.ask("GET", "a", "/", "").body, "body 0");
        assert_eq!(client.ask("GET", "a", "/", "x-beta: 1\r\n").body, "other");
    }
    assert_eq!((one.count(), other.count()), (1, 1));
}

/// Asks without waiting for an answer.
fn send(edge: &Edge, path: &str) -> TcpStream {
    let mut stream = TcpStream::connect(edge.address).unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    stream
}

fn whole(mut stream: TcpStream) -> String {
    let mut all = String::new();
    // One that is cut short may end by a reset.
    let _ = stream.read_to_string(&mut all);
    all
}

#[test]
fn a_body_that_was_cut_short_is_not_stored() {
    let origin = Scripted::start(|_, n| {
        match n {
        0 => format!("HTTP/1.1 200 OK\r\nContent-Length: 100\r\nConnection: close\r\n{FRESH}\r\nhalf"),
        1 => format!(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n{FRESH}\r\n4\r\nhalf\r\n"
        ),
        _ => answer(FRESH, "whole"),
    }
    });
    let edge = cached(&origin, "true", "");
    // What the client has of it shows that something is missing, if it has anything.
    let first = whole(send(&edge, "/"));
    let said = first.contains("Content-Length: 100\r\n");
    assert!(!first.starts_with("HTTP/1.1 200") || said, "{first}");
    let second = whole(send(&edge, "/"));
    assert!(!second.ends_with("0\r\n\r\n"), "{second}");
    assert_eq!(edge.get("a", "/").body, "whole");
    assert_eq!(edge.get("a", "/").body, "whole");
    assert_eq!(origin.count(), 3);
}

#[test]
fn those_that_come_at_once_wait_for_one_fill() {
    let (go, wait) = mpsc::channel::<()>();
    let wait = Mutex::new(wait);
    let origin = Scripted::start(move |_, _| {
        wait.lock().unwrap().recv().unwrap();
        answer(FRESH, "once")
    });
    let edge = cached(&origin, "{lock: 1h}", "");
    let first = send(&edge, "/");
    eventually("the server is asked", || origin.count() == 1);
    let others: Vec<_> = (0..20).map(|_| send(&edge, "/")).collect();
    // Another one passes: those before it have come in.
    go.send(()).unwrap();
    for stream in others.into_iter().chain([first]) {
        assert!(whole(stream).ends_with("once"));
    }
    assert_eq!(origin.count(), 1);
}

#[test]
fn nobody_waits_for_a_fill_that_died() {
    let origin = Scripted::start(|_, n| match n {
        // Not even a head: the connection closes.
        0 => "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n".replace("HTTP", "XTTP"),
        _ => answer(FRESH, "second"),
    });
    let edge = cached(&origin, "{lock: 1h}", "");
    let streams: Vec<_> = (0..8).map(|_| send(&edge, "/")).collect();
    let answers: Vec<_> = streams.into_iter().map(whole).collect();
    let served = answers.iter().filter(|answer| answer.ends_with("second"));
    assert!(served.count() >= 7, "{answers:?}");
    assert_eq!(edge.get("a", "/").body, "second");
}

#[test]
fn a_stale_response_answers_while_it_is_revalidated_where_its_route_goes() {
    let origin = Scripted::start(|_, n| match n {
        0 => answer(STALE, "old"),
        _ => answer(FRESH, "new"),
    });
    let to = origin.address;
    let edge = Edge::start(&format!(
        "  - routes:
      - path: /api/*
        strip_prefix: /api
        request_headers: {{set: {{x-user: '{{client_ip}}'}}}}
        proxy: {{to: '{to}', cache: true}}
      - respond: 404\n"
    ));
    let mut client = edge.connect();
    assert_eq!(client.ask("GET", "a", "/api/x", "").body, "old");
    let stale = client.ask("GET", "a", "/api/x", "");
    assert_eq!(stale.body, "old");
    let said = stale.field("cache-status").unwrap();
    assert!(said.starts_with("edge; hit; ttl=-"), "{said}");
    eventually("it is revalidated", || origin.count() == 2);
    origin.last(|asked| {
        assert_eq!(asked.target(), "/x");
        assert_eq!(asked.field("x-user"), Some("127.0.0.1"));
    });
    eventually("the new one answers", || {
        client.ask("GET", "a", "/api/x", "").body == "new"
    });
    assert_eq!(origin.count(), 2);
}

#[test]
fn a_stale_response_answers_in_place_of_an_error() {
    let origin = Scripted::start(|asked, n| match (asked.target(), n) {
        ("/told", 0) => answer(
            "Cache-Control: max-age=10\r\nAge: 50\r\nETag: \"e\"\r\n",
            "old",
        ),
        (_, 1..3) => status(503, "", "down"),
        _ => status(304, "Cache-Control: max-age=60\r\nETag: \"e\"\r\n", ""),
    });
    let edge = cached(&origin, "{stale_if_error: 1h}", "");
    let mut client = edge.connect();
    assert_eq!(client.ask("GET", "a", "/told", "").body, "old");
    for _ in 0..2 {
        let answer = client.ask("GET", "a", "/told", "");
        assert_eq!((answer.status, &*answer.body), (200, "old"));
    }
    let confirmed = client.ask("GET", "a", "/told", "");
    assert_eq!(confirmed.body, "old");
    assert_eq!(
        confirmed.field("cache-status"),
        Some("edge; fwd=stale; fwd-status=304")
    );
    origin.last(|asked| assert_eq!(asked.field("if-none-match"), Some("\"e\"")));
    let hit = client.ask("GET", "a", "/told", "");
    assert!(hit
        .field("cache-status")
        .unwrap()
        .starts_with("edge; hit; ttl="));
    assert_eq!(origin.count(), 4);
}

#[test]
fn a_route_says_what_a_response_does_not() {
    let origin = Scripted::start(|asked, n| {
        let body = format!("body {n}");
        match asked.target() {
            "/404" => status(404, "", &body),
            "/500" => status(500, "", &body),
            "/says" => answer("Cache-Control: max-age=0\r\n", &body),
            "/cookie" => answer("Set-Cookie: a=b\r\n", &body),
            _ => answer("", &body),
        }
    });
    let edge = cached(
        &origin,
        "{ttl: 1m, ttl_by_status: {404: 1m}, ignore: set_cookie}",
        "",
    );
    let mut client = edge.connect();
    let mut twice = |path: &str| {
        let one = client.ask("GET", "a", path, "");
        let other = client.ask("GET", "a", path, "");
        (one.body == other.body, one, other)
    };
    assert!(twice("/x").0);
    assert!(twice("/404").0);
    assert!(!twice("/500").0);
    assert!(!twice("/says").0);
    let (same, one, other) = twice("/cookie");
    assert!(same);
    assert_eq!(one.field("set-cookie"), Some("a=b"));
    assert_eq!(other.field("set-cookie"), None);
    let edge = cached(&origin, "{ttl: 1m, ignore: [cache_control]}", "");
    assert_eq!(edge.get("a", "/says").body, edge.get("a", "/says").body);
}

#[test]
fn a_key_holds_what_the_route_says() {
    let origin = counted(FRESH);
    let edge = cached(
        &origin,
        "{key: {query: [a, b], headers: [x-kind], cookies: [lang]}, bypass: {cookie: {session: '*'}}}",
        "",
    );
    let mut client = edge.connect();
    let mut get = |path: &str, fields: &str| client.ask("GET", "a", path, fields).body;
    let first = get("/?a=1&utm=2&b=3", "");
    assert_eq!(get("/?b=3&a=1&utm=9", ""), first);
    assert_ne!(get("/?a=1&b=4", ""), first);
    assert_ne!(get("/?a=1&b=3", "x-kind: 1\r\n"), first);
    let german = get("/?a=1&b=3", "Cookie: x=y; lang=de\r\n");
    assert_ne!(german, first);
    assert_eq!(get("/?a=1&b=3", "Cookie: lang=de; z=1\r\n"), german);
    let own = get("/?a=1&b=3", "Cookie: session=1\r\n");
    assert_ne!(own, first);
    assert_ne!(get("/?a=1&b=3", "Cookie: session=1\r\n"), own);
    assert_eq!(get("/?a=1&b=3", ""), first);
    let edge = cached(&origin, "{key: {ignore_query: true}, min_uses: 3}", "");
    let mut client = edge.connect();
    let bodies: Vec<_> = (0..5)
        .map(|n| client.ask("GET", "a", &format!("/?{n}"), "").body)
        .collect();
    assert!(
        bodies[0] != bodies[1] && bodies[1] != bodies[2],
        "{bodies:?}"
    );
    assert_eq!(bodies[2..4], bodies[3..5]);
}

#[test]
fn clients_ask_for_more_or_less_than_what_is_stored() {
    let origin = counted(FRESH);
    let edge = cached(&origin, "true", "");
    let mut client = edge.connect();
    let only = client.ask("GET", "a", "/", "Cache-Control: only-if-cached\r\n");
    assert_eq!((only.status, origin.count()), (504, 0));
    assert_eq!(client.ask("GET", "a", "/", "").body, "body 0");
    let only = client.ask("GET", "a", "/", "Cache-Control: only-if-cached\r\n");
    assert_eq!(only.body, "body 0");
    let fresh = client.ask("GET", "a", "/", "Cache-Control: no-cache\r\n");
    assert_eq!(fresh.body, "body 1");
    let edge = cached(&origin, "{ignore: request_cache_control}", "");
    let mut client = edge.connect();
    assert_eq!(client.ask("GET", "a", "/", "").body, "body 2");
    let same = client.ask("GET", "a", "/", "Cache-Control: no-cache\r\n");
    assert_eq!(same.body, "body 2");
}

#[test]
fn a_change_makes_what_is_stored_invalid() {
    let origin = Scripted::start(|asked, n| match asked.method() {
        "POST" => status(201, "Location: /made\r\n", ""),
        _ => answer(FRESH, &format!("body {n}")),
    });
    let edge = cached(&origin, "true", "");
    let mut client = edge.connect();
    let mut get = |path: &str| client.ask("GET", "a", path, "").body;
    let all = ["/list", "/made", "/other"];
    let before = all.map(&mut get);
    let posted = edge
        .connect()
        .ask("POST", "a", "/list", "Content-Length: 0\r\n");
    assert_eq!(posted.field("cache-status"), Some("edge; fwd=method"));
    let after = all.map(&mut get);
    assert!(before[0] != after[0] && before[1] != after[1], "{after:?}");
    assert_eq!(before[2], after[2]);
}

#[test]
fn what_is_stored_is_purged_by_those_who_may() {
    let origin = Scripted::start(|_, n| {
        answer(
            "Cache-Control: max-age=60\r\nVary: accept-language\r\n",
            &format!("body {n}"),
        )
    });
    let edge = cached(&origin, "{purge: 127.0.0.0/8}", "");
    let mut client = edge.connect();
    assert_eq!(client.ask("PURGE", "a", "/x", "").status, 404);
    for language in ["de", "en"] {
        client.ask(
            "GET",
            "a",
            "/x",
            &format!("Accept-Language: {language}\r\n"),
        );
    }
    client.ask("GET", "a", "/y", "");
    let purged = client.ask("PURGE", "a", "/x", "");
    assert_eq!((purged.status, &*purged.body), (200, "2 removed\n"));
    let again = client.ask("GET", "a", "/x", "Accept-Language: de\r\n");
    assert_eq!(again.body, "body 3");
    assert_eq!(client.ask("GET", "a", "/y", "").body, "body 2");
    let edge = cached(&origin, "{purge: 10.0.0.0/8}", "");
    assert_eq!(edge.connect().ask("PURGE", "a", "/x", "").status, 403);
    // Without the key it is a method like any other.
    let edge = cached(&origin, "true", "");
    assert_eq!(edge.connect().ask("PURGE", "a", "/x", "").status, 200);
    origin.last(|asked| assert_eq!(asked.method(), "PURGE"));
}

#[test]
fn changes_to_a_response_are_those_of_each_request() {
    let origin = counted(FRESH);
    let edge = cached(
        &origin,
        "true",
        "        response_headers: {set: {x-path: '{query}', x-id: '{request_id}'}, remove: cache-status}\n",
    );
    let mut client = edge.connect();
    let one = client.ask("GET", "a", "/?1", "");
    let other = client.ask("GET", "a", "/?1", "");
    assert_eq!(one.body, other.body);
    assert_ne!(one.field("x-id"), other.field("x-id"));
    assert_eq!(other.field("cache-status"), None);
    assert_eq!(origin.count(), 1);
}

#[test]
fn what_is_stored_outlives_a_reload() {
    let origin = counted(FRESH);
    let mut edge = cached(&origin, "true", "");
    assert_eq!(edge.get("a", "/").body, "body 0");
    let to = origin.address;
    edge.write(&format!(
        "  - routes:\n      - proxy: {{to: '{to}', cache: {{lock: 1s}}}}\n        response_headers: {{set: {{x-new: y}}}}\n"
    ));
    edge.hang_up();
    edge.wait_for_log("the configuration is taken");
    let hit = edge.get("a", "/");
    assert_eq!((&*hit.body, hit.field("x-new")), ("body 0", Some("y")));
    assert_eq!(origin.count(), 1);
}

#[test]
fn what_was_asked_for_before_a_purge_is_not_stored() {
    let (begun, came) = mpsc::channel();
    let (go, told) = mpsc::channel::<()>();
    let told = Mutex::new(told);
    let origin = Scripted::start(move |asked, n| {
        if asked.field("x-hold").is_some() {
            begun.send(()).unwrap();
            // An error says that the test has ended.
            let _ = told.lock().unwrap().recv();
        }
        answer(FRESH, &format!("{n}"))
    });
    let (address, own) = (free(), free());
    let edge = Edge::start_whole(
        address,
        &format!(
            "listen: '{address}'\nadmin: '{own}'\nsites:\n  - hosts: a\n    routes: {{proxy: {{to: '{}', cache: true}}}}\n",
            origin.address
        ),
    );
    let purges = ["", r#"{"url": "a/1"}"#, r#"{"prefix": "a/"}"#];
    for (n, purge) in purges.into_iter().enumerate() {
        let mut client = edge.connect();
        client.send(&format!(
            "GET /{n} HTTP/1.1\r\nHost: a\r\nX-Hold: 1\r\nConnection: close\r\n\r\n"
        ));
        came.recv().unwrap();
        if !purge.is_empty() {
            let mut admin = edge.connect_to(own);
            admin.send(&format!(
                "POST /api/cache/purge HTTP/1.1\r\nHost: {own}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{purge}",
                purge.len()
            ));
            let answer = admin.rest();
            assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        }
        go.send(()).unwrap();
        assert!(client.rest().starts_with("HTTP/1.1 200"));
        let path = format!("/{n}");
        let stored = edge.get("a", &path).body == edge.get("a", &path).body;
        assert!(stored, "what was asked for after the purge is");
        assert_eq!(origin.count(), [1, 3, 5][n], "{purge}");
    }
}
