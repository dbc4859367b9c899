//! Another service that decides about requests.

use super::scripted::{answer, Scripted};
use super::tools::*;

/// A service that lets cookies with `in` pass.
fn service() -> Scripted {
    Scripted::start(|asked, _| {
        let cookie = asked.field("cookie").unwrap_or("");
        match cookie {
            "in" => answer("Remote-User: ali\r\nRemote-Groups: a\r\nX-Other: no\r\n", ""),
            "nobody" => answer("", ""),
            "broken" => "HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n".to_owned(),
            "long" => answer("", &"x".repeat((1 << 20) + 1)),
            "same" => "HTTP/1.1 304 Same\r\n\r\n".to_owned(),
            "closes" => {
                "HTTP/1.1 200 OK\r\nContent-Length: 10\r\nConnection: close\r\n\r\ncut".to_owned()
            }
            "away" => "HTTP/1.1 302 Away\r\nLocation: https://login.test/?rd=x\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\nServer: it\r\nConnection: x-hop\r\nX-Hop: 1\r\nContent-Type: text/html\r\nContent-Length: 5\r\n\r\nlogin".to_owned(),
            _ => "HTTP/1.1 401 No\r\nWWW-Authenticate: Bearer\r\nCache-Control: no-cache\r\nContent-Length: 2\r\n\r\nno".to_owned(),
        }
    })
}

#[test]
fn a_service_decides_and_tells_the_server_who_asks() {
    let (service, origin) = (service(), Origin::start("o"));
    let edge = Edge::start(&format!(
        "  - forward_auth: {{to: '{}', path: /verify?a, upstream_headers: [remote-user, remote-groups]}}
    hsts: 1d
    routes:
      - {{path: /free, forward_auth: false, respond: {{body: free}}}}
      - {{path: /here, respond: {{body: here}}}}
      - {{strip_prefix: /app, path: /app/*, proxy: '{}'}}\n",
        service.address, origin.address
    ));
    let mut client = edge.connect();
    let mut ask = |path: &str, fields: &str| client.ask("PUT", "a.test", path, fields);
    assert_eq!(ask("/free", "").body, "free");
    assert_eq!(service.count(), 0);
    let refused = ask("/app/x", "");
    assert_eq!((refused.status, &*refused.body), (401, "no"));
    assert_eq!(refused.field("www-authenticate"), Some("Bearer"));
    assert_eq!(refused.field("cache-control"), Some("no-cache"));
    let away = ask("/here", "Cookie: away\r\n");
    assert_eq!((away.status, &*away.body), (302, "login"));
    assert_eq!(away.field("location"), Some("https://login.test/?rd=x"));
    assert_eq!(away.head.to_lowercase().matches("set-cookie:").count(), 2);
    assert_eq!(away.head.to_lowercase().matches("content-type:").count(), 1);
    assert!(!away.head.contains("Server: it"), "{}", away.head);
    let forged = "Remote-User: root\r\nremote_user: root\r\nREMOTE-groups: root\r\nRemote_Groups: root\r\n\
                  Connection: remote-user, keep-alive\r\nX-Forwarded-Uri: /free\r\nx_forwarded_method: HEAD\r\n\
                  X_Real_IP: 192.0.2.66\r\nTrue-Client-IP: 192.0.2.66\r\n\
                  X-Original-URL: http://a.test/free\r\nX_Original_Method: HEAD\r\nX-Rewrite-Url: /free\r\n\
                  If-None-Match: \"e\"\r\nRange: bytes=0-\r\n";
    let passed = ask("/app//y%2e/../z?q=1", &format!("Cookie: in\r\n{forged}"));
    assert_eq!((passed.status, &*passed.body), (200, "o"));
    let told = origin.last().to_lowercase();
    assert!(told.starts_with("put /z?q=1 "), "{told}");
    assert!(told.contains("remote-user: ali\r\n"), "{told}");
    assert!(told.contains("remote-groups: a\r\n"), "{told}");
    assert!(
        !told.contains("root") && !told.contains("x-other"),
        "{told}"
    );
    let asked = service.last(Clone::clone);
    assert!(
        asked.head.starts_with("GET /verify?a HTTP/1.1\r\n"),
        "{}",
        asked.head
    );
    for (name, value) in [
        ("host", service.address.to_string().as_str()),
        ("x-forwarded-method", "PUT"),
        ("x-forwarded-uri", "/app/z?q=1"),
        ("x-forwarded-host", "a.test"),
        ("x-forwarded-proto", "http"),
        ("x-forwarded-for", "127.0.0.1"),
    ] {
        assert_eq!(asked.field(name), Some(value), "{}", asked.head);
    }
    let head = asked.head.to_lowercase();
    for gone in [
        "root",
        "if-none-match",
        "range",
        "x_forwarded",
        "/free",
        "x_original",
        "192.0.2.66",
    ] {
        assert!(!head.contains(gone), "{gone} in {head}");
    }
    // A client is nobody where the service names nobody.
    assert_eq!(
        ask("/app/x", &format!("Cookie: nobody\r\n{forged}")).status,
        200
    );
    let told = origin.last().to_lowercase();
    assert!(!told.contains("remote"), "{told}");
    assert_eq!(ask("/here", "Cookie: in\r\n").body, "here");
}

#[test]
fn nobody_passes_when_the_service_fails() {
    let service = service();
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let edge = Edge::start(&format!(
        "  - routes:
      - {{path: /a, forward_auth: {{to: '{}'}}, respond: {{body: passed}}}}
      - {{path: /down, forward_auth: {{to: '{}'}}, respond: {{body: passed}}}}
      - {{path: /slow, forward_auth: {{to: '{}', timeout: 50ms}}, respond: {{body: passed}}}}
      - {{path: /page, forward_auth: {{to: '{}'}}, errors: {{body: page}}, respond: {{body: passed}}}}\n",
        service.address,
        free(),
        silent.local_addr().unwrap(),
        free(),
    ));
    let mut client = edge.connect();
    for (path, fields, status) in [
        ("/a", "Cookie: in\r\n", 200),
        ("/a", "Cookie: broken\r\n", 502),
        ("/a", "Cookie: same\r\n", 502),
        ("/a", "Cookie: closes\r\n", 502),
        ("/a", "Cookie: in\r\n", 200),
        ("/a", "Cookie: long\r\n", 502),
        ("/down", "Cookie: in\r\n", 502),
        ("/slow", "Cookie: in\r\n", 504),
        ("/page", "Cookie: in\r\n", 502),
    ] {
        let got = client.ask("GET", "a", path, fields);
        assert_eq!(got.status, status, "{path} {fields}");
        assert_eq!(got.body == "passed", status == 200, "{path} {fields}");
        assert!(path != "/page" || got.body == "page", "{}", got.body);
    }
    // On kept connections too, it is asked once.
    assert_eq!(service.count(), 6);
}

#[test]
fn connections_to_a_service_are_kept() {
    let (service, origin) = (Origin::start("yes"), Origin::start("o"));
    let hash = bcrypt::hash("pass", 4).unwrap();
    let edge = Edge::start(&format!(
        "  - forward_auth: {{to: '{}'}}
    basic_auth: {{users: {{ali: '{hash}'}}}}
    routes: {{proxy: '{}'}}\n",
        service.address, origin.address
    ));
    let mut client = edge.connect();
    // Who has no password is asked about nowhere else.
    assert_eq!(client.ask("GET", "a", "/", "").status, 401);
    let connections = || {
        service
            .connections
            .load(std::sync::atomic::Ordering::Relaxed)
    };
    assert_eq!(connections(), 0);
    for _ in 0..20 {
        let field = "Authorization: Basic YWxpOnBhc3M=\r\n";
        assert_eq!(client.ask("GET", "a", "/", field).status, 200);
    }
    // One worker serves the connection.
    assert_eq!(connections(), 1);
}

/// nginx is the service: it lets a cookie pass, and tells by which protocol it was asked.
#[cfg(feature = "rustls")]
#[test]
fn a_service_is_asked_over_tls_and_over_http_2() {
    use super::certs::{Authority, Leaf};
    use super::upstreams::origins::Nginx;
    let authority = Authority::new();
    let leaf = Leaf {
        names: &["service.test"],
        ..Leaf::default()
    };
    let pair = authority.issue("service", &leaf);
    let (secure, clear, origin) = (free(), free(), Origin::start("o"));
    let verify = "location /verify { if ($cookie_session != in) { return 401 no; } \
                  add_header Remote-User \"ali $server_protocol $https\"; return 200; }";
    let _secure = Nginx::start(
        secure,
        &format!(
            "listen {secure} ssl http2; ssl_certificate {}; ssl_certificate_key {}; {verify}",
            pair.cert, pair.key
        ),
    );
    let _clear = Nginx::start(clear, &format!("listen {clear} http2; {verify}"));
    let tls = format!("tls: {{name: service.test, ca: '{}'}}", authority.file());
    let route = |path: &str, to: &str| {
        format!(
            "      - {{path: {path}, forward_auth: {{to: {{{to}}}, path: /verify, upstream_headers: remote-user}}, proxy: '{}'}}\n",
            origin.address
        )
    };
    let edge = Edge::start(&format!(
        "  - routes:\n{}{}{}{}",
        route("/h1", &format!("to: '{secure}', {tls}, protocol: h1")),
        route("/h2", &format!("to: '{secure}', {tls}, protocol: h2")),
        route("/h2c", &format!("to: '{clear}', protocol: h2c")),
        // Its certificate is not the one of this name.
        route(
            "/other",
            &format!(
                "to: '{secure}', tls: {{name: other.test, ca: '{}'}}",
                authority.file()
            )
        ),
    ));
    let mut client = edge.connect();
    for (path, told) in [
        ("/h1", "ali HTTP/1.1 on"),
        ("/h2", "ali HTTP/2.0 on"),
        ("/h2c", "ali HTTP/2.0 "),
    ] {
        let refused = client.ask("GET", "a", path, "");
        assert_eq!((refused.status, &*refused.body), (401, "no"), "{path}");
        let passed = client.ask("GET", "a", path, "Cookie: session=in\r\n");
        assert_eq!((passed.status, &*passed.body), (200, "o"), "{path}");
        let head = origin.last();
        let field = head
            .lines()
            .find_map(|line| line.strip_prefix("remote-user: "));
        let field = field.unwrap_or_else(|| panic!("{head}"));
        assert_eq!(field.trim_end(), told.trim_end(), "{path}");
    }
    let failed = edge.get("a", "/other");
    assert_eq!(failed.status, 502);
}
