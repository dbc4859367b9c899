#![allow(clippy::unwrap_used)]

use super::*;
use http::Uri;
use pingora_error::ErrorType;
use H1UpgradePolicy::{Deny, Preserve, WebSocketOnly};
use Version as V;

/// A request of `lines`, as its copy stands before [`apply`] with an upstream of version `to`.
fn request(to: V, lines: &[(&'static str, &str)]) -> RequestHeader {
    let mut req = RequestHeader::build("GET", b"/", None).unwrap();
    req.set_version(to);
    for (name, value) in lines {
        req.append_header(*name, *value).unwrap();
    }
    req
}

fn response(status: u16, lines: &[(&'static str, &str)]) -> ResponseHeader {
    let mut resp = ResponseHeader::build(status, None).unwrap();
    for (name, value) in lines {
        resp.append_header(*name, *value).unwrap();
    }
    resp
}

fn lines(headers: &HeaderMap) -> Vec<String> {
    let mut lines: Vec<String> = headers
        .iter()
        .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
        .collect();
    lines.sort();
    lines
}

/// What of a request in HTTP/1.1 goes on to HTTP/1.1.
fn applied(policy: HttpUpstreamRequestPolicy, sent: &[(&'static str, &str)]) -> Vec<String> {
    let mut req = request(V::HTTP_11, sent);
    apply(&mut req, &policy, V::HTTP_11).unwrap();
    let wire = wire_names(&req);
    let mut map: Vec<_> = req
        .headers
        .keys()
        .map(|name| name.as_str().to_string())
        .collect();
    map.sort();
    assert_eq!(wire, map, "the wire form and the map differ");
    lines(&req.headers)
}

/// The field names that the request would be written with, in lower case, each once.
fn wire_names(req: &RequestHeader) -> Vec<String> {
    let mut wire = Vec::new();
    req.header_to_h1_wire(&mut wire);
    let mut names: Vec<String> = String::from_utf8(wire)
        .unwrap()
        .lines()
        .filter_map(|line| line.split_once(": "))
        .map(|(name, _)| name.to_ascii_lowercase())
        .collect();
    names.sort();
    names.dedup();
    names
}

fn refused(policy: HttpUpstreamRequestPolicy, sent: &[(&'static str, &str)]) -> bool {
    let result = apply(&mut request(V::HTTP_11, sent), &policy, V::HTTP_11);
    result.is_err_and(|e| {
        assert_eq!(*e.etype(), ErrorType::InvalidHTTPHeader);
        assert_eq!(*e.esource(), pingora_error::ErrorSource::Downstream);
        true
    })
}

fn standard() -> HttpUpstreamRequestPolicy {
    HttpUpstreamRequestPolicy::standard()
}

fn upgrades(h1_upgrade: H1UpgradePolicy) -> HttpUpstreamRequestPolicy {
    HttpUpstreamRequestPolicy {
        h1_upgrade,
        ..standard()
    }
}

const HANDSHAKE: [(&str, &str); 4] = [
    ("Upgrade", "WebSocket"),
    ("Connection", "keep-alive, Upgrade"),
    ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ("Sec-WebSocket-Version", "13"),
];

#[test]
fn a_plain_request_passes_as_it_is() {
    let sent = [
        ("Host", "a.test"),
        ("Accept", "*/*"),
        ("Content-Length", "3"),
    ];
    assert_eq!(
        applied(standard(), &sent),
        ["accept: */*", "content-length: 3", "host: a.test"]
    );
}

#[test]
fn hop_by_hop_fields_are_removed_and_framing_is_kept() {
    let sent = [
        ("Host", "a.test"),
        ("Connection", "keep-alive"),
        ("Keep-Alive", "timeout=5"),
        ("Proxy-Connection", "keep-alive"),
        ("Proxy-Authorization", "Basic eA=="),
        ("TE", "gzip;q=0.5"),
        ("Transfer-Encoding", "chunked"),
        ("Upgrade", "h2c"),
        ("HTTP2-Settings", "AAMAAABkAAQAAP__"),
        ("Authorization", "Basic eA=="),
    ];
    let left = [
        "authorization: Basic eA==",
        "host: a.test",
        "transfer-encoding: chunked",
    ];
    assert_eq!(applied(standard(), &sent), left);
}

#[test]
fn what_connection_names_is_removed_over_all_its_lines() {
    let sent = [
        ("Connection", " X-One ,, close"),
        ("X-One", "1"),
        ("x-one", "1 again"),
        ("X-Two", "2"),
        ("X-Three", "3"),
        ("Connection", "x-TWO,\tX-Absent"),
    ];
    assert_eq!(applied(standard(), &sent), ["x-three: 3"]);
}

#[test]
fn too_many_connection_options_are_refused() {
    let options = |n| vec!["x-a"; n].join(",");
    assert!(!refused(standard(), &[("Connection", &options(10))]));
    assert!(refused(standard(), &[("Connection", &options(11))]));
    assert!(refused(
        standard(),
        &[("Connection", &options(6)), ("Connection", &options(5))]
    ));
}

#[test]
fn malformed_connection_options_are_refused_or_ignored_as_the_policy_says() {
    let lenient = HttpUpstreamRequestPolicy {
        reject_malformed_connection_nominations: false,
        ..standard()
    };
    for option in [
        "\"X-One\"",
        "x one",
        "x-one;q=1",
        "x/one",
        "x-one\u{e9}",
        "(x)",
    ] {
        let sent = [("Connection", option), ("X-One", "1")];
        assert!(refused(standard(), &sent), "{option}");
        assert!(!refused(lenient, &sent), "{option}");
    }
    assert_eq!(
        applied(lenient, &[("Connection", "\"X-One\""), ("X-One", "1")]),
        ["x-one: 1"]
    );
    assert!(refused(lenient, &[("Connection", ":authority")]));
}

#[test]
fn to_name_a_protected_field_is_refused() {
    for name in [
        "Host",
        "content-length",
        "Forwarded",
        "Via",
        "X-Forwarded-For",
        "x-forwarded-proto",
        "X-Forwarded-Anything",
        "X-Real-IP",
        "CF-Connecting-IP",
        "CF-IPCountry",
        "Client-IP",
        "X-Original-URL",
    ] {
        assert!(refused(standard(), &[("Connection", name)]), "{name}");
        let off = HttpUpstreamRequestPolicy {
            strip_connection_nominated: false,
            ..standard()
        };
        assert!(!refused(off, &[("Connection", name)]), "{name}");
    }
    // Removing it would lose the framing, and the option says nothing that is not so anyway.
    let sent = [
        ("Connection", "Transfer-Encoding"),
        ("Transfer-Encoding", "chunked"),
    ];
    assert_eq!(applied(standard(), &sent), ["transfer-encoding: chunked"]);
}

#[test]
fn a_websocket_handshake_passes() {
    let passed = applied(standard(), &HANDSHAKE);
    let expected = [
        "connection: Upgrade",
        "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==",
        "sec-websocket-version: 13",
        "upgrade: WebSocket",
    ];
    assert_eq!(passed, expected);
}

#[test]
fn what_is_no_proper_handshake_loses_its_upgrade() {
    let mut broken: Vec<Vec<(&str, &str)>> = Vec::new();
    for missing in 0..HANDSHAKE.len() {
        let mut sent = HANDSHAKE.to_vec();
        sent.remove(missing);
        broken.push(sent);
    }
    for (index, line) in [
        (0, ("Upgrade", "websocket, h2c")),
        (0, ("Upgrade", "h2c")),
        (1, ("Connection", "keep-alive")),
        (1, ("Connection", "Upgrade, Sec-WebSocket-Key")),
        (2, ("Sec-WebSocket-Key", "")),
    ] {
        let mut sent = HANDSHAKE.to_vec();
        sent[index] = line;
        broken.push(sent);
    }
    for extra in [
        ("Upgrade", "h2c"),
        ("Sec-WebSocket-Key", "AAAAAAAAAAAAAAAAAAAAAA=="),
        ("Content-Length", "5"),
        ("Transfer-Encoding", "chunked"),
    ] {
        let mut sent = HANDSHAKE.to_vec();
        sent.push(extra);
        broken.push(sent);
    }
    for sent in broken {
        let left = applied(standard(), &sent);
        let kept = |name| left.iter().any(|line| line.starts_with(name));
        assert!(
            !kept("upgrade:") && !kept("connection:"),
            "{sent:?} -> {left:?}"
        );
    }
}

#[test]
fn a_handshake_is_a_get_in_http_1_1_towards_http_1_1() {
    for (method, received, to, kept) in [
        (Method::GET, V::HTTP_11, V::HTTP_11, true),
        (Method::POST, V::HTTP_11, V::HTTP_11, false),
        (Method::GET, V::HTTP_10, V::HTTP_11, false),
        (Method::GET, V::HTTP_11, V::HTTP_2, false),
    ] {
        for policy in [upgrades(WebSocketOnly), upgrades(Preserve)] {
            let mut req = request(to, &HANDSHAKE);
            req.set_method(method.clone());
            apply(&mut req, &policy, received).unwrap();
            let any_method = policy.h1_upgrade == Preserve && method == Method::POST;
            let found = req.headers.contains_key(header::UPGRADE);
            assert_eq!(
                found,
                kept || any_method,
                "{method} {received:?} {to:?} {policy:?}"
            );
        }
    }
}

#[test]
fn deny_and_preserve_decide_about_every_protocol() {
    let sent = [("Connection", "Upgrade"), ("Upgrade", "irc/6.9")];
    assert!(applied(upgrades(Deny), &sent).is_empty());
    assert!(
        applied(HttpUpstreamRequestPolicy::deny_upgrades(), &HANDSHAKE)
            .iter()
            .all(|line| line.starts_with("sec-websocket-"))
    );
    assert!(applied(upgrades(WebSocketOnly), &sent).is_empty());
    assert_eq!(
        applied(upgrades(Preserve), &sent),
        ["connection: Upgrade", "upgrade: irc/6.9"]
    );
}

#[test]
fn the_preserving_policy_touches_nothing() {
    let sent = [
        ("Connection", "close, \"bad\", Host, Upgrade"),
        ("Keep-Alive", "timeout=5"),
        ("Te", "gzip"),
        ("Upgrade", "h2c"),
    ];
    let untouched = lines(&request(V::HTTP_11, &sent).headers);
    assert_eq!(
        applied(HttpUpstreamRequestPolicy::preserve(), &sent),
        untouched
    );
}

#[test]
fn an_upgrade_is_withdrawn_even_where_hop_by_hop_fields_stay() {
    let policy = HttpUpstreamRequestPolicy {
        h1_upgrade: Deny,
        ..HttpUpstreamRequestPolicy::preserve()
    };
    let sent = [
        ("Connection", "Upgrade, X-One"),
        ("Connection", "close"),
        ("Upgrade", "h2c"),
    ];
    assert_eq!(applied(policy, &sent), ["connection: X-One, close"]);
    assert!(applied(policy, &[("Connection", "upgrade"), ("Upgrade", "h2c")]).is_empty());
    assert!(applied(policy, &[("Upgrade", "h2c")]).is_empty());
    assert_eq!(
        applied(policy, &[("Connection", "close")]),
        ["connection: close"]
    );
}

#[test]
fn the_switches_for_hop_by_hop_and_nominated_fields_are_independent() {
    let sent = [
        ("Connection", "X-One, close"),
        ("X-One", "1"),
        ("Keep-Alive", "timeout=5"),
    ];
    let hop_by_hop = HttpUpstreamRequestPolicy {
        strip_connection_nominated: false,
        ..standard()
    };
    assert_eq!(applied(hop_by_hop, &sent), ["x-one: 1"]);
    let nominated = HttpUpstreamRequestPolicy {
        strip_hop_by_hop: false,
        ..standard()
    };
    let left = ["connection: X-One, close", "keep-alive: timeout=5"];
    assert_eq!(applied(nominated, &sent), left);
}

#[test]
fn te_trailers_passes_where_the_client_may_say_it() {
    let te = ("TE", "gzip;q=0.5, Trailers");
    let h1 = ["connection: TE", "te: trailers"];
    assert_eq!(applied(standard(), &[te, ("Connection", "close, te")]), h1);
    assert!(applied(standard(), &[te]).is_empty());
    assert!(applied(
        standard(),
        &[("TE", "trailers;q=0.5"), ("Connection", "TE")]
    )
    .is_empty());

    for (received, to, left) in [
        (V::HTTP_2, V::HTTP_2, &["te: trailers"][..]),
        (V::HTTP_2, V::HTTP_11, &h1[..]),
        (V::HTTP_10, V::HTTP_11, &[][..]),
    ] {
        let mut req = request(to, &[("TE", "trailers")]);
        apply(&mut req, &standard(), received).unwrap();
        assert_eq!(lines(&req.headers), left, "{received:?} {to:?}");
    }
}

#[test]
fn http_2_gets_no_connection_specific_field_whatever_the_policy() {
    let mut req = request(
        V::HTTP_2,
        &[
            ("Connection", "keep-alive, Upgrade, TE"),
            ("Keep-Alive", "timeout=5"),
            ("Proxy-Connection", "keep-alive"),
            ("Transfer-Encoding", "chunked"),
            ("Upgrade", "websocket"),
            ("TE", "trailers, deflate"),
            ("Accept", "*/*"),
        ],
    );
    apply(&mut req, &HttpUpstreamRequestPolicy::preserve(), V::HTTP_11).unwrap();
    assert_eq!(lines(&req.headers), ["accept: */*", "te: trailers"]);
}

#[test]
fn a_response_loses_what_describes_the_other_connection() {
    let sent = [
        (
            "Connection",
            "close, X-Hop, Content-Length, Transfer-Encoding, \"bad\"",
        ),
        ("X-Hop", "1"),
        ("Keep-Alive", "timeout=5"),
        ("Proxy-Connection", "close"),
        ("TE", "gzip"),
        ("HTTP2-Settings", "AAMAAABkAAQAAP__"),
        ("Upgrade", "h2,h2c"),
        ("Transfer-Encoding", "chunked"),
        ("Proxy-Authenticate", "Basic"),
        ("Trailer", "Digest"),
    ];
    let mut resp = response(200, &sent);
    strip_response(&mut resp, V::HTTP_11);
    let left = [
        "proxy-authenticate: Basic",
        "trailer: Digest",
        "transfer-encoding: chunked",
    ];
    assert_eq!(lines(&resp.headers), left);

    let mut resp = response(200, &sent);
    strip_response(&mut resp, V::HTTP_2);
    assert_eq!(lines(&resp.headers), left[..2]);

    let mut resp = response(
        200,
        &[("Connection", "Content-Length"), ("Content-Length", "3")],
    );
    strip_response(&mut resp, V::HTTP_11);
    assert_eq!(lines(&resp.headers), ["content-length: 3"]);
}

#[test]
fn a_101_keeps_its_upgrade_and_a_426_names_the_protocol() {
    let sent = [
        ("Connection", "Upgrade"),
        ("Upgrade", "websocket"),
        ("Keep-Alive", "timeout=5"),
    ];
    for (status, to, left) in [
        (
            101,
            V::HTTP_11,
            &["connection: Upgrade", "upgrade: websocket"][..],
        ),
        (426, V::HTTP_11, &["upgrade: websocket"][..]),
        (426, V::HTTP_2, &[][..]),
        (200, V::HTTP_11, &[][..]),
        (103, V::HTTP_11, &[][..]),
    ] {
        let mut resp = response(status, &sent);
        strip_response(&mut resp, to);
        assert_eq!(lines(&resp.headers), left, "{status} {to:?}");
    }
}

// Target and Host.

/// The target and the Host lines that are left, or `None` if the request is refused.
fn reconciled(method: Method, target: &[u8], hosts: &[&str]) -> Option<(String, Vec<String>)> {
    let mut req = RequestHeader::build(method, target, None).unwrap();
    for host in hosts {
        req.append_header("Host", *host).unwrap();
    }
    origin_form(&mut req).ok()?;
    site(req)
}

fn site(mut req: RequestHeader) -> Option<(String, Vec<String>)> {
    reconcile_host(&mut req).ok()?;
    let target = String::from_utf8_lossy(req.raw_path()).into_owned();
    let hosts = req.headers.get_all(header::HOST).iter();
    Some((
        target,
        hosts
            .map(|host| host.to_str().unwrap().to_string())
            .collect(),
    ))
}

#[test]
fn one_target_and_one_host_come_out() {
    let table: [(&[u8], &[&str], &str, &str); 12] = [
        (b"/a?b", &["x.test"], "/a?b", "x.test"),
        (b"/", &["x.test:8080"], "/", "x.test:8080"),
        (b"/", &["[::1]:80"], "/", "[::1]:80"),
        (b"//x/y", &["x.test"], "//x/y", "x.test"),
        (b"/", &[], "/", ""),
        (b"/", &[""], "/", ""),
        (b"http://y.test/a?b", &["x.test"], "/a?b", "y.test"),
        (b"HTTPS://y.test:1/a", &[], "/a", "y.test:1"),
        (b"http://y.test", &["y.test"], "/", "y.test"),
        (b"http://y.test?b", &["x.test"], "/?b", "y.test"),
        (b"http://y.test/a", &["x.test", "z.test"], "/a", "y.test"),
        (b"http://y.test/\xff", &["x.test"], "/\u{fffd}", "y.test"),
    ];
    for (sent, hosts, target, host) in table {
        let left = reconciled(Method::GET, sent, hosts);
        assert_eq!(
            left,
            Some((target.to_string(), vec![host.to_string()])),
            "{sent:?} {hosts:?}"
        );
    }
}

#[test]
fn options_and_connect_have_targets_of_their_own() {
    let left = |method, target: &[u8], hosts: &[&str]| reconciled(method, target, hosts).unwrap();
    let host = |host: &str| vec![host.to_string()];
    assert_eq!(
        left(Method::OPTIONS, b"*", &["x.test"]),
        ("*".into(), host("x.test"))
    );
    assert_eq!(
        left(Method::OPTIONS, b"http://y.test", &[]),
        ("*".into(), host("y.test"))
    );
    assert_eq!(
        left(Method::OPTIONS, b"http://y.test/", &[]),
        ("/".into(), host("y.test"))
    );
    let (target, hosts) = left(Method::CONNECT, b"y.test:443", &["x.test"]);
    assert_eq!((target.as_str(), hosts), ("y.test:443", host("y.test:443")));
}

#[test]
fn an_ambiguous_site_is_refused() {
    let table: [(&[u8], &[&str]); 17] = [
        (b"/", &["x.test", "x.test"]),
        (b"/", &["x.test", "y.test"]),
        (b"/", &["x test"]),
        (b"/", &["x.test/path"]),
        (b"/", &["user@x.test"]),
        (b"/", &["x.test:port"]),
        (b"/", &["x.test:123456"]),
        (b"/", &["[::1"]),
        (b"/", &["[::1]x"]),
        (b"/", &[":80"]),
        (b"http://user@y.test/", &["x.test"]),
        (b"http://y@z@w/", &["x.test"]),
        (b"http:/y.test", &["x.test"]),
        (b"http:///a", &["x.test"]),
        (b"ftp://y.test/", &["x.test"]),
        (b"y.test:443", &["x.test"]),
        (b"a", &["x.test"]),
    ];
    for (target, hosts) in table {
        assert_eq!(
            reconciled(Method::GET, target, hosts),
            None,
            "{target:?} {hosts:?}"
        );
    }
}

#[test]
fn an_authority_in_the_parsed_target_goes_to_host() {
    let from_parts = |uri: &str, host: Option<&str>| {
        let mut req = RequestHeader::build("GET", b"/first", None).unwrap();
        req.set_uri(uri.parse::<Uri>().unwrap());
        if let Some(host) = host {
            req.insert_header("Host", host).unwrap();
        }
        let left = site(req.clone());
        origin_form(&mut req).unwrap();
        assert_eq!(req.uri.authority(), None);
        left
    };
    let expected = |target: &str| Some((target.to_string(), vec!["y.test".to_string()]));
    assert_eq!(from_parts("https://y.test/a?b", None), expected("/a?b"));
    let kept = Some(("/".to_string(), vec!["x.test".to_string()]));
    assert_eq!(
        from_parts("https://y.test", Some("x.test")),
        kept,
        "Host counts first"
    );
}

#[test]
fn an_upgrade_that_is_passed_over_needs_no_http1() {
    let asks = |protocol: &str, policy| {
        let mut req = RequestHeader::build("GET", b"/", None).unwrap();
        let handshake = [
            ("Connection", "Upgrade"),
            ("Upgrade", protocol),
            ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
            ("Sec-WebSocket-Version", "13"),
        ];
        for (name, value) in handshake {
            req.insert_header(name, value).unwrap();
        }
        leaves_http(&req, policy)
    };
    assert!(asks("websocket", WebSocketOnly) && asks("websocket", Preserve));
    assert!(asks("h2c", Preserve));
    assert!(!asks("h2c", WebSocketOnly) && !asks("websocket", Deny));
}

#[test]
fn the_host_of_a_custom_protocol_is_its_own_matter() {
    let named = |target: &str, host: Option<&str>| {
        let mut req = RequestHeader::build("GET", b"/", None).unwrap();
        req.set_uri(target.parse::<Uri>().unwrap());
        if let Some(host) = host {
            req.insert_header("Host", host).unwrap();
        }
        name_host(&mut req).unwrap();
        (
            req.uri.to_string(),
            req.headers["host"].to_str().unwrap().to_owned(),
        )
    };
    let row = |uri: &str, host: &str| (uri.to_owned(), host.to_owned());
    assert_eq!(named("proto://svc/x", Some("a")), row("proto://svc/x", "a"));
    assert_eq!(named("proto://svc/x", None), row("proto://svc/x", "svc"));
    assert_eq!(named("/x", None), row("/x", ""));
}

#[test]
fn what_the_application_sets_after_the_first_step_is_what_counts() {
    let mut req = RequestHeader::build("GET", b"http://y.test/a", None).unwrap();
    origin_form(&mut req).unwrap();
    req.insert_header("Host", "mine.test").unwrap();
    assert_eq!(
        site(req),
        Some(("/a".to_string(), vec!["mine.test".to_string()]))
    );
}
