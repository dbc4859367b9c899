//! What one client asks for, and what others are answered then.

use super::cache::{cached, counted, FRESH};
use super::goaway::{Frames, DATA, END_STREAM, HEADERS, SETTINGS};
use super::scripted::{answer, status, Scripted};
use super::tools::*;

/// Runs a proxy that speaks HTTP/2 without TLS too, of one route with this `cache`.
fn cached_for_http2(origin: &Scripted, cache: &str) -> Edge {
    let (address, to) = (free(), origin.address);
    let routes = format!("[{{proxy: {{to: '{to}', cache: {cache}}}}}]");
    let listen = format!("{{address: '{address}', h2c: true}}");
    Edge::start_whole(
        address,
        &format!("listen: {listen}\nsites:\n  - routes: {routes}\n"),
    )
}

#[test]
fn an_answer_to_a_body_is_not_that_of_the_url() {
    let origin = Scripted::start(|asked, _| {
        answer(
            FRESH,
            &format!("to {:?}", String::from_utf8_lossy(&asked.body)),
        )
    });
    let edge = cached_for_http2(&origin, "true");
    let mut frames = Frames::connect(edge.address);
    frames.begin_request(1, "/", "", 0);
    frames.send(DATA, END_STREAM, 1, b"evil");
    frames.whole(1);
    origin.last(|asked| assert_eq!(asked.body, b"evil"));
    assert_eq!(edge.get("a", "/").body, "to \"\"");
    // Nor does it take what is stored.
    frames.begin_request(3, "/", "", 0);
    frames.send(DATA, END_STREAM, 3, b"more");
    frames.whole(3);
    origin.last(|asked| assert_eq!(asked.body, b"more"));
}

#[test]
fn a_rewrite_chooses_the_response_by_what_it_is_made_of() {
    let origin = Scripted::start(|asked, n| answer(FRESH, &format!("{} {n}", asked.target())));
    let edge = cached(
        &origin,
        "{key: {ignore_query: true}}",
        "        rewrite: '/{cookie.lang}{path}'\n",
    );
    let mut client = edge.connect();
    let mut get = |path: &str, lang: &str| {
        let cookie = format!("Cookie: lang={lang}\r\n");
        client.ask("GET", "a", path, &cookie).body
    };
    assert_eq!(get("/x?1", "de"), "/de/x?1 0");
    assert_eq!(get("/x?1", "en"), "/en/x?1 1");
    // Its query is as little of the key as before.
    assert_eq!(get("/x?2", "de"), "/de/x?1 0");
    assert_eq!(get("/x?2", "en"), "/en/x?1 1");
    let edge = cached(
        &origin,
        "{key: {ignore_query: true}}",
        "        rewrite: '/index?of={path}&{query}&by={header.x-by}'\n",
    );
    let mut client = edge.connect();
    let mut get = |path: &str, by: &str| {
        let by = format!("X-By: {by}\r\n");
        client.ask("GET", "a", path, &by).body
    };
    let one = get("/x", "1");
    assert_eq!(one, "/index?of=/x&&by=1 2");
    assert_eq!(get("/x", "2"), "/index?of=/x&&by=2 3");
    assert_eq!(get("/x", "1"), one);
    // What is made of the URL alone adds nothing.
    let edge = cached(
        &origin,
        "{key: {ignore_query: true}}",
        "        rewrite: '/index?of={path}&{query}'\n",
    );
    let mut client = edge.connect();
    let one = client.ask("GET", "a", "/x?1", "").body;
    assert_eq!(client.ask("GET", "a", "/x?2", "").body, one);
}

#[test]
fn the_host_that_a_trusted_proxy_names_is_in_the_key() {
    let origin = Scripted::start(|asked, _| {
        answer(FRESH, asked.field("x-forwarded-host").unwrap_or_default())
    });
    let (address, to) = (free(), origin.address);
    let edge = Edge::start_whole(
        address,
        &format!(
            "listen: '{address}'\ntrusted_proxies: 127.0.0.1\nsites:\n  - routes: [{{proxy: {{to: '{to}', cache: true}}}}]\n"
        ),
    );
    let mut client = edge.connect();
    for _ in 0..2 {
        for host in ["b", "c"] {
            let field = format!("X-Forwarded-Host: {host}\r\n");
            assert_eq!(client.ask("GET", "a", "/", &field).body, host);
        }
        assert_eq!(client.ask("GET", "a", "/", "").body, "a");
    }
    // The same as Host is no other.
    client.ask("GET", "a", "/", "X-Forwarded-Host: a\r\n");
    assert_eq!(origin.count(), 3);
}

#[test]
fn an_error_for_one_client_leaves_the_cache_on_for_others() {
    let origin = Scripted::start(|asked, n| match asked.field("accept") {
        Some("none") => status(406, "", "not acceptable"),
        _ if n % 2 == 1 => status(500, "", "down"),
        _ => answer(
            "Cache-Control: max-age=60\r\nVary: accept\r\n",
            &format!("body {n}"),
        ),
    });
    let edge = cached(&origin, "true", "");
    let mut client = edge.connect();
    let first = client.ask("GET", "a", "/", "");
    assert_eq!(first.body, "body 0");
    let reloaded = client.ask("GET", "a", "/", "Cache-Control: no-cache\r\n");
    assert_eq!(reloaded.status, 500);
    assert_eq!(client.ask("GET", "a", "/", "").body, "body 0");
    let other = client.ask("GET", "a", "/", "Accept: none\r\n");
    assert_eq!(other.status, 406);
    let hit = client.ask("GET", "a", "/", "");
    assert_eq!(hit.body, "body 0");
    assert_eq!(origin.count(), 3);
}

#[test]
fn nobody_waits_for_a_client_that_takes_no_answer() {
    let origin = counted(FRESH);
    // Whoever waits goes to a server after a second, and stores nothing.
    let edge = cached_for_http2(&origin, "{lock: 1s}");
    let mut frames = Frames::connect(edge.address);
    let no_window = [0, 4, 0, 0, 0, 0];
    frames.send(SETTINGS, 0, 0, &no_window);
    frames.begin_request(1, "/", "only-if-cached", END_STREAM);
    frames.until(HEADERS, 1);
    let answer = edge.get("a", "/");
    assert_eq!(answer.field("cache-status"), Some("edge; fwd=miss; stored"));
    assert_eq!(answer.body, "body 0");
}

#[test]
fn a_validated_variant_leaves_the_others() {
    let origin =
        Scripted::start(|asked, n| {
            let language = asked.field("accept-language").unwrap().to_owned();
            match n {
            0 => answer(
                "Cache-Control: max-age=10\r\nAge: 50\r\nETag: \"e\"\r\nVary: accept-language\r\n",
                &language,
            ),
            2 => status(304, "Cache-Control: max-age=60\r\nAge: 30\r\nETag: \"e\"\r\n", ""),
            _ => answer("Cache-Control: max-age=60\r\nVary: accept-language\r\n", &language),
        }
        });
    let edge = cached(&origin, "true", "");
    let mut client = edge.connect();
    let mut get = |language: &str| {
        let field = format!("Accept-Language: {language}\r\n");
        let answer = client.ask("GET", "a", "/", &field);
        assert_eq!(answer.body, language);
        answer
    };
    for language in ["de", "en", "de"] {
        get(language);
    }
    assert_eq!(origin.count(), 3);
    for language in ["en", "de", "en"] {
        let said = get(language).field("cache-status").unwrap().to_owned();
        assert!(said.starts_with("edge; hit; ttl="), "{language}: {said}");
    }
    // What was validated is as old as the 304 says.
    let age: u32 = get("de").field("age").unwrap().parse().unwrap();
    assert!((30..60).contains(&age), "{age}");
    assert_eq!(origin.count(), 3);
}

#[test]
fn a_change_by_another_route_makes_what_is_stored_invalid() {
    let origin = Scripted::start(|asked, n| match asked.method() {
        "POST" => status(201, "Location: /made?1\r\n", ""),
        "DELETE" => status(500, "", ""),
        _ => answer(FRESH, &format!("body {n}")),
    });
    let to = origin.address;
    let edge = Edge::start(&format!(
        "  - routes:
      - method: [GET, HEAD]
        proxy: {{to: '{to}', cache: {{key: {{ignore_query: true}}}}}}
      - proxy: '{to}'\n"
    ));
    let mut client = edge.connect();
    let mut all =
        || ["/list?1", "/made?2", "/other"].map(|path| client.ask("GET", "a", path, "").body);
    let before = all();
    let empty = "Content-Length: 0\r\n";
    let mut changing = edge.connect();
    assert_eq!(changing.ask("DELETE", "a", "/list", empty).status, 500);
    assert_eq!(changing.ask("OPTIONS", "a", "/list", empty).status, 200);
    assert_eq!(all(), before);
    assert_eq!(changing.ask("POST", "a", "/list?3", empty).status, 201);
    let after = all();
    assert!(before[0] != after[0] && before[1] != after[1], "{after:?}");
    assert_eq!(before[2], after[2]);
}

#[test]
fn an_error_that_a_stale_response_hides_is_counted_and_tried_again() {
    let stale = |body| {
        let fields = "Cache-Control: max-age=10, stale-if-error=1000\r\nAge: 50\r\n";
        answer(fields, body)
    };
    let origin = Scripted::start(move |_, n| match n {
        0 => stale("old"),
        2 => stale("new"),
        _ => status(503, "", "down"),
    });
    let (address, admin, to) = (free(), free(), origin.address);
    let proxy = format!(
        "{{to: '{to}', cache: true, passive_health: 0, retries: {{attempts: 2, on: 5xx}}}}"
    );
    let edge = Edge::start_whole(
        address,
        &format!(
            "listen: '{address}'\nadmin: '{admin}'\nsites:\n  - routes: [{{proxy: {proxy}}}]\n"
        ),
    );
    let mut client = edge.connect();
    // Another try comes first; with none left what is stored answers.
    for (body, count) in [("old", 1), ("new", 3), ("new", 5)] {
        assert_eq!(client.ask("GET", "a", "/", "").body, body);
        assert_eq!(origin.count(), count);
    }
    let mut asking = edge.connect_to(admin);
    eventually("each of them is counted once", || {
        let metrics = asking.ask("GET", "localhost", "/metrics", "").body;
        let mut lines = metrics.lines();
        lines.any(|line| {
            line.starts_with("edge_upstream_responses_total{")
                && line.contains("status=\"5xx\"")
                && line.ends_with(" 3")
        })
    });
}
