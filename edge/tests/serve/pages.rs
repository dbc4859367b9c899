//! Pages of errors.

use std::process::Command;

use super::scripted::{answer, Scripted};
use super::tools::*;

#[test]
fn the_page_next_to_a_route_is_the_body_of_an_error() {
    let address = free();
    let edge = Edge::start_whole(
        address,
        &format!(
            "listen: {address}
errors: {{body: 'root {{status}} {{host}}'}}
sites:
  - hosts: a.test
    errors:
      - {{status: 404, body: '<p>{{reason}}: {{path}} {{query.q}}</p>', content_type: text/html}}
      - {{status: 403, body: '{{{{\"id\": \"{{request_id}}\", \"agent\": \"{{header.user-agent}}\"}}', content_type: application/json}}
    routes:
      - {{path: /in/*, access: {{deny: 127.0.0.0/8}}, respond: 200}}
      - {{path: /own, errors: {{status: 5xx, body: 'own {{path}}'}}, rewrite: /other, proxy: '{}'}}
      - {{path: /down, proxy: '{}'}}
      - {{path: /said, respond: {{status: 404, body: said}}}}
      - {{path: /closed, maintenance: {{body: closed}}, respond: 200}}
      - {{path: /bare, respond: 404}}
      - {{path: /html, respond: {{body: '<p>{{query.q}}</p>', content_type: text/html}}}}
      - {{path: /text, respond: {{body: '{{query.q}}'}}}}
      - {{path: /json, maintenance: {{body: '\"{{query.q}}\"', content_type: application/json}}, respond: 200}}
",
            free(),
            free()
        ),
    );
    let mut client = edge.connect();
    let none = client.ask("GET", "a.test", "/x%3Cb%3E?q=%3Cscript%3E'", "");
    assert_eq!(none.status, 404);
    assert_eq!(none.body, "<p>Not Found: /x%3Cb%3E &lt;script&gt;&#39;</p>");
    assert_eq!(none.field("content-type"), Some("text/html"));
    let head = client.ask("HEAD", "a.test", "/none", "");
    let length = "<p>Not Found: /none </p>".len().to_string();
    assert_eq!(head.field("content-length"), Some(&*length));
    let refused = client.ask("GET", "a.test", "/in/x", "User-Agent: \"},{\\\r\n");
    assert_eq!(refused.status, 403);
    let agent = "\", \"agent\": \"\\u0022},{\\u005c\"}";
    assert!(refused.body.ends_with(agent), "{}", refused.body);
    // An id of 32 digits, though nothing else of the request needs one.
    assert_eq!(refused.body.len(), "{\"id\": \"".len() + 32 + agent.len());
    // Each failure ends its connection.
    let down = edge.get("a.test", "/own");
    assert_eq!((down.status, &*down.body), (502, "own /own"));
    let down = edge.get("a.test", "/down");
    assert_eq!((down.status, &*down.body), (502, "root 502 a.test"));
    assert_eq!(client.ask("GET", "a.test", "/said", "").body, "said");
    assert_eq!(client.ask("GET", "a.test", "/closed", "").body, "closed");
    let bare = client.ask("GET", "a.test", "/bare", "");
    assert_eq!(
        (bare.status, &*bare.body),
        (404, "<p>Not Found: /bare </p>")
    );
    let html = client.ask("GET", "a.test", "/html?q=%3Cscript%3E", "");
    assert_eq!((html.status, &*html.body), (200, "<p>&lt;script&gt;</p>"));
    let text = client.ask("GET", "a.test", "/text?q=%0A%3C%00%1b%C3%A4%09", "");
    assert_eq!(text.body, "<\u{e4}\t");
    let json = client.ask("GET", "a.test", "/json?q=%22", "");
    assert_eq!((json.status, &*json.body), (503, "\"\\u0022\""));
    let other = client.ask("GET", "b.test", "/", "");
    assert_eq!((other.status, &*other.body), (421, "root 421 b.test"));
    let grpc = client.ask("POST", "b.test", "/", "Content-Type: application/grpc\r\n");
    assert_eq!(grpc.body, "421 Misdirected Request\n");
}

#[test]
fn answers_of_servers_get_a_page_where_that_is_told() {
    let origin = Scripted::start(|asked, _| {
        match asked.target() {
        "/chunks" => "HTTP/1.1 500 No\r\nETag: \"e\"\r\nContent-Encoding: gzip\r\nDigest: a=b\r\nContent-Digest: a=:b:\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n3\r\ndef\r\n0\r\nx-t: t\r\n\r\n".to_owned(),
        "/empty" => "HTTP/1.1 500 No\r\nContent-Length: 0\r\nSet-Cookie: a=b\r\n\r\n".to_owned(),
        "/head" => "HTTP/1.1 500 No\r\nContent-Length: 7\r\n\r\n".to_owned(),
        "/missing" => "HTTP/1.1 404 No\r\nContent-Length: 2\r\n\r\nno".to_owned(),
        "/same" => "HTTP/1.1 304 Same\r\nETag: \"e\"\r\n\r\n".to_owned(),
        "/long" => {
            let body = "x".repeat(3 << 20);
            format!("HTTP/1.1 500 No\r\nContent-Length: {}\r\n\r\n{body}", body.len())
        }
        _ => answer("", "well"),
    }
    });
    let address = free();
    let (dir, admin) = (tempfile::TempDir::new().unwrap(), free());
    let log = dir.path().join("access.log");
    let text = format!(
        "listen: {{address: '{address}', h2c: true}}
admin: {admin}
access_log: {{to: {}, format: json, fields: [status, path, error]}}
sites:
  - errors: [{{status: 5xx, intercept: true, body: 'page {{path}}'}}, {{status: 404, body: never}}]
    routes: {{proxy: '{}', response_headers: {{set: {{x-set: '1'}}}}}}\n",
        log.display(),
        origin.address
    );
    let edge = Edge::start_whole(address, &text);
    let mut client = edge.connect();
    for (path, status, body) in [
        ("/chunks", 500, "page /chunks"),
        ("/well", 200, "well"),
        ("/empty", 500, "page /empty"),
        ("/missing", 404, "no"),
        ("/same", 304, ""),
        ("/empty", 500, "page /empty"),
    ] {
        let got = client.ask("GET", "a", path, "");
        assert_eq!((got.status, &*got.body), (status, body), "{path}");
        assert_eq!(got.field("x-set"), Some("1"), "{path}");
        if path == "/chunks" {
            let gone = [
                "etag",
                "content-encoding",
                "transfer-encoding",
                "digest",
                "content-digest",
            ];
            assert!(
                gone.iter().all(|name| got.field(name).is_none()),
                "{}",
                got.head
            );
        }
        if path == "/empty" {
            assert_eq!(got.field("set-cookie"), Some("a=b"));
        }
    }
    let head = client.ask("HEAD", "a", "/head", "");
    assert_eq!(
        (head.status, head.field("content-length")),
        (500, Some("10"))
    );
    assert_eq!(client.ask("GET", "a", "/well", "").body, "well");
    let grpc = client.ask("GET", "a", "/empty", "Content-Type: application/grpc\r\n");
    assert_eq!(grpc.body, "");
    // All of the page arrives, also before the rest of a body that is too long to be read away.
    let long = edge.get("a", "/long");
    assert_eq!((long.status, &*long.body), (500, "page /long"));
    assert_eq!(long.field("connection"), Some("close"));
    for path in ["/empty", "/long", "/chunks", "/long"] {
        let url = format!("http://{address}{path}");
        let output = Command::new("nghttp").args(["-v", &url]).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(said.contains(&format!("page {path}")), "{said}");
        let whole = said.contains("END_STREAM") && !said.contains("RST_STREAM");
        assert!(whole, "{path}: {said}");
    }
    // The client has all of the page: nothing has failed.
    eventually("all are logged", || {
        let lines = std::fs::read_to_string(&log).unwrap_or_default();
        let lines = lines
            .split_inclusive('\n')
            .filter(|line| line.ends_with('\n'));
        let lines: Vec<_> = lines.filter(|line| line.contains("/long")).collect();
        let good = |line: &&str| line.contains("500") && line.contains("\"error\":null");
        assert!(lines.iter().all(good), "{lines:?}");
        lines.len() == 3
    });
    let metrics = edge
        .connect_to(admin)
        .ask("GET", "localhost", "/metrics", "");
    let mut failures = metrics
        .body
        .lines()
        .filter(|line| line.starts_with("edge_request_failures_total"));
    assert!(
        failures.all(|line| line.ends_with(" 0")),
        "{}",
        metrics.body
    );
}

#[test]
fn a_page_in_a_file_is_taken_anew_and_a_missing_one_is_an_error_of_the_file() {
    let address = free();
    let mut edge = Edge::start_whole(address, &format!("listen: {address}\nsites: []\n"));
    let page = edge.file().with_file_name("page.html");
    std::fs::write(&page, "<style>a { b: c }</style>{status}").unwrap();
    let text = format!("listen: {address}\nerrors: {{file: page.html}}\nsites: []\n");
    edge.write_whole(&text);
    eventually("the page is there", || {
        edge.get("a", "/").body == "<style>a { b: c }</style>421"
    });
    let got = edge.get("a", "/");
    assert_eq!(got.field("content-type"), Some("text/html; charset=utf-8"));
    std::fs::remove_file(&page).unwrap();
    let said = edge.wait_for_log("cannot read the file `page.html`");
    assert!(said.contains("edge.yaml:2:16"), "{said}");
    assert_eq!(edge.get("a", "/").body, "<style>a { b: c }</style>421");
}

#[test]
fn clients_of_http_2_get_pages_too() {
    let address = free();
    let text = format!(
        "listen: {{address: '{address}', h2c: true}}
errors: {{body: '{{status}} {{path}}', content_type: text/html}}
sites:
  - {{hosts: a.test, routes: [{{path: /down, proxy: '{}'}}, {{path: /in, access: {{deny: 127.0.0.0/8}}, respond: 200}}]}}\n",
        free()
    );
    let _edge = Edge::start_whole(address, &text);
    for (path, status) in [("/none", 404), ("/down", 502), ("/in", 403)] {
        let output = Command::new("curl")
            .args(["-s", "-D", "-", "--noproxy", "*", "--http2-prior-knowledge"])
            .args(["-H", "Host: a.test", &format!("http://{address}{path}")])
            .output()
            .unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        assert!(said.starts_with(&format!("HTTP/2 {status}")), "{said}");
        assert!(said.contains("content-type: text/html\r\n"), "{said}");
        assert!(
            said.ends_with(&format!("\r\n\r\n{status} {path}")),
            "{said}"
        );
    }
}

#[test]
fn an_answer_to_a_request_that_failed_tells_what_every_answer_does() {
    let (held, address) = (Held::start(), free());
    let edge = Edge::start_whole(
        address,
        &format!(
            "listen: {address}
trusted_proxies: 127.0.0.1
sites:
  - hsts: 1d
    max_body_size: 5B
    cors: {{origins: '*'}}
    routes:
      - {{path: /down, proxy: '{0}'}}
      - {{path: /page, errors: {{body: page}}, proxy: '{0}'}}
      - {{proxy: '{1}'}}\n",
            free(),
            held.address
        ),
    );
    let chunks = "Transfer-Encoding: chunked\r\n\r\n6\r\n123456\r\n0\r\n";
    for (path, more, status, body) in [
        ("/down", "", 502, ""),
        ("/page", "", 502, "page"),
        ("/x", chunks, 413, ""),
    ] {
        let fields = format!("X-Forwarded-Proto: https\r\nOrigin: https://a.test\r\n{more}");
        let got = edge.connect().ask("PUT", "a", path, &fields);
        assert_eq!((got.status, &*got.body), (status, body), "{path}");
        for (name, value) in [
            ("strict-transport-security", "max-age=86400"),
            ("access-control-allow-origin", "*"),
        ] {
            assert_eq!(got.field(name), Some(value), "{path}: {}", got.head);
        }
    }
}

#[test]
fn a_long_body_behind_a_page_is_stored_whole_and_ends_no_connection() {
    let body = "x".repeat(3 << 20);
    let origin = Scripted::start(move |_, _| {
        let length = body.len();
        format!("HTTP/1.1 404 No\r\nContent-Length: {length}\r\n\r\n{body}")
    });
    let edge = Edge::start(&format!(
        "  - errors: {{status: 404, intercept: true, body: page}}
    routes: {{proxy: {{to: '{}', cache: {{ttl_by_status: {{404: 60s}}}}}}}}\n",
        origin.address
    ));
    let mut client = edge.connect();
    for _ in 0..3 {
        let got = client.ask("GET", "a", "/", "");
        assert_eq!((got.status, &*got.body), (404, "page"));
        assert_eq!(got.field("connection"), None);
    }
    assert_eq!(origin.count(), 1);
}

#[test]
fn a_request_without_a_good_path_has_an_id_in_its_page() {
    let address = free();
    let text = format!(
        "listen: {address}\nerrors: {{body: 'id {{request_id}}'}}\nsites: {{routes: {{respond: 200}}}}\n"
    );
    let edge = Edge::start_whole(address, &text);
    let got = edge.get("a", "/../x");
    assert_eq!((got.status, got.body.len()), (400, "id ".len() + 32));
}
