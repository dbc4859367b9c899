//! Who a client is, and who is refused.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;

use super::scripted::{answer, Scripted};
use super::tools::*;

/// Asks by curl from an address of this machine, and returns the status and the body in a line.
fn from(source: &str, edge: &Edge, path: &str, more: &[&str]) -> String {
    let output = Command::new("curl")
        .args([
            "-s",
            "--noproxy",
            "*",
            "--path-as-is",
            "--interface",
            source,
        ])
        .args(["-w", "|%{http_code}", "-H", "Host: a.test"])
        .args(more)
        .arg(format!("http://{}{path}", edge.address))
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let (body, status) = text.rsplit_once('|').unwrap();
    format!("{status} {}", body.trim_end())
}

fn start(root: &str, sites: &str) -> Edge {
    let address = free();
    Edge::start_whole(
        address,
        &format!("listen: {address}\n{root}sites:\n{sites}"),
    )
}

#[test]
fn only_trusted_proxies_say_who_the_client_is() {
    let origin = Origin::start("o");
    let edge = start(
        "trusted_proxies: 127.0.0.2\nforwarded: append\n",
        &format!(
            "  - routes:
      - {{path: /who, respond: {{body: '{{client_ip}} {{scheme}}'}}}}
      - {{path: /who, client: 192.0.2.7, respond: {{body: 'the one'}}}}
      - {{path: /inside, access: {{allow: [10.0.0.0/8]}}, respond: 200}}
      - {{proxy: '{}'}}\n",
            origin.address
        ),
    );
    let claim = |ip: &str| format!("X-Forwarded-For: {ip}");
    let ask = |source: &str, path: &str, ip: &str| {
        let claim = claim(ip);
        from(
            source,
            &edge,
            path,
            &["-H", &claim, "-H", "X-Forwarded-Proto: https"],
        )
    };
    for (source, claimed, who, inside) in [
        ("127.0.0.1", "10.0.0.1", "127.0.0.1 http", "403"),
        ("127.0.0.3", "10.0.0.1, 127.0.0.2", "127.0.0.3 http", "403"),
        ("127.0.0.2", "10.0.0.1", "10.0.0.1 https", "200"),
        ("127.0.0.2", "10.0.0.1, 192.0.2.9", "192.0.2.9 https", "403"),
        ("127.0.0.2", "10.0.0.1, 127.0.0.2", "10.0.0.1 https", "200"),
        ("127.0.0.2", "10.0.0.1, x", "127.0.0.2 https", "403"),
    ] {
        assert_eq!(ask(source, "/who", claimed), format!("200 {who}"));
        assert!(
            ask(source, "/inside", claimed).starts_with(inside),
            "{source} {claimed}"
        );
    }
    assert_eq!(ask("127.0.0.2", "/who", "192.0.2.7"), "200 the one");
    let told = |source: &str| {
        assert_eq!(ask(source, "/", "10.0.0.1"), "200 o");
        let head = origin.last().to_lowercase();
        let lines = head.lines().filter(|line| line.contains("forwarded"));
        lines.map(str::to_owned).collect::<Vec<_>>().join(", ")
    };
    assert_eq!(
        told("127.0.0.1"),
        "x-forwarded-for: 127.0.0.1, x-forwarded-proto: http, x-forwarded-host: a.test"
    );
    assert_eq!(
        told("127.0.0.2"),
        "x-forwarded-for: 10.0.0.1, 127.0.0.2, x-forwarded-proto: https, x-forwarded-host: a.test"
    );
}

#[test]
fn no_spelling_of_a_path_gets_around_a_rule() {
    let origin = Origin::start("o");
    let edge = start(
        "",
        &format!(
            "  - routes:
      - {{path: /admin/*, access: {{deny: [127.0.0.0/8]}}, proxy: '{0}'}}
      - {{proxy: '{0}'}}\n",
            origin.address
        ),
    );
    for path in [
        "/admin",
        "/admin/",
        "/admin/x",
        "//admin",
        "///admin//x",
        "/%61dmin",
        "/%61%64%6d%69%6e/x",
        "/./admin",
        "/%2e/admin",
        "/x/../admin",
        "/x/%2e%2E/admin/",
        "/x/.%2e/admin",
        "/admin;a=b",
        "/admin;/x",
        "/;x/admin",
        "/admin/..;/admin",
        "/x/..;/admin",
        "/x/..%2fadmin",
        "/admin/%2e%2e/admin/x",
        "/admin?x",
        "/admin/?/../..",
    ] {
        let answer = from("127.0.0.1", &edge, path, &[]);
        let refused = answer.starts_with("403") || answer.starts_with("400");
        assert!(refused, "{path}: {answer}");
    }
    // What is not refused reaches the server in the form that the rule saw.
    for (path, seen) in [
        ("/x/../y", "/y"),
        ("/%41DMIN", "/ADMIN"),
        ("/x%2Fadmin", "/x%2Fadmin"),
        ("/x%5cadmin", "/x%5Cadmin"),
        ("/administrator", "/administrator"),
        ("/x//%79;p", "/x/y;p"),
    ] {
        assert_eq!(from("127.0.0.1", &edge, path, &[]), "200 o", "{path}");
        let head = origin.last();
        assert!(
            head.starts_with(&format!("GET {seen} HTTP/1.1\r\n")),
            "{head}"
        );
    }
    // The whole address as a target, and a host in capitals.
    let mut client = edge.connect();
    assert_eq!(
        client
            .ask("GET", "A.test", "http://A.test/x/../admin", "")
            .status,
        403
    );
    assert_eq!(client.ask("GET", "a.test.", "/admin", "").status, 403);
}

#[test]
fn the_narrowest_network_decides_and_a_route_has_its_own_rule() {
    let edge = start(
        "",
        "  - access: {allow: [127.0.0.0/8], deny: [127.0.0.3, 127.0.1.0/24]}
    maintenance: {allow: [127.0.1.1]}
    routes:
      - {path: /site, maintenance: false, respond: 200}
      - {path: /own, maintenance: false, access: {allow: [127.0.1.0/24]}, respond: 200}
      - {path: /closed, maintenance: {retry_after: 2m, body: 'Back soon {path}'}, respond: 200}
      - {path: /site-closed, respond: 200}\n",
    );
    let status = |source: &str, path: &str| from(source, &edge, path, &[])[..3].to_owned();
    for (source, path, expected) in [
        ("127.0.0.1", "/site", "200"),
        ("127.0.0.3", "/site", "403"),
        ("127.0.1.1", "/site", "403"),
        ("127.0.0.1", "/own", "403"),
        ("127.0.1.1", "/own", "200"),
        ("127.0.0.1", "/site-closed", "503"),
        // Let through by the one rule, refused by the next.
        ("127.0.1.1", "/site-closed", "403"),
    ] {
        assert_eq!(status(source, path), expected, "{source} {path}");
    }
    let closed = edge.get("a", "/closed");
    assert_eq!((closed.status, &*closed.body), (503, "Back soon /closed"));
    assert_eq!(closed.field("retry-after"), Some("120"));
    assert_eq!(
        edge.get("a", "/site-closed").field("retry-after"),
        Some("300")
    );
}

#[test]
fn http_is_sent_to_https_before_anything_else() {
    let edge = start(
        "trusted_proxies: 127.0.0.2\n",
        "  - hosts: a.test
    https_redirect: {status: 301, port: 8443}
    hsts: {max_age: 365d, include_subdomains: true}
    maintenance: true
    routes: {path: /x, maintenance: false, respond: 200}
  - hosts: b.test
    https_redirect: true
    routes: {respond: 200}\n",
    );
    let moved = edge.get("A.test", "/x/%2e/y?z=1");
    assert_eq!(moved.status, 301);
    assert_eq!(moved.field("location"), Some("https://a.test:8443/x/y?z=1"));
    assert_eq!(moved.field("strict-transport-security"), None);
    let moved = edge.get("b.test", "//evil.test/");
    assert_eq!(moved.status, 308);
    assert_eq!(moved.field("location"), Some("https://b.test/evil.test/"));
    let secure = ["-H", "X-Forwarded-Proto: https", "-D", "-"];
    for (path, status) in [("/x", "200"), ("/none", "404")] {
        let answer = from("127.0.0.2", &edge, path, &secure);
        assert!(answer.starts_with(status), "{answer}");
        let answer = answer.to_lowercase();
        let told = "strict-transport-security: max-age=31536000; includesubdomains";
        assert!(answer.contains(told), "{answer}");
    }
    // Anybody may say so, and only the proxy is believed.
    assert!(from("127.0.0.1", &edge, "/x", &secure).starts_with("301"));
}

#[test]
fn queries_of_other_bytes_have_answers_of_their_own() {
    let origin =
        Scripted::start(|asked, _| answer("Cache-Control: max-age=60\r\n", asked.target()));
    let to = origin.address;
    let edge = Edge::start(&format!(
        "  - routes:
      - {{path: /strip/*, strip_prefix: /strip, proxy: '{to}'}}
      - {{path: /only, proxy: {{to: '{to}', cache: {{key: {{query: [q]}}}}}}}}
      - {{proxy: {{to: '{to}', cache: true}}}}\n"
    ));
    let ask = |target: &[u8]| {
        let mut stream = TcpStream::connect(edge.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let end = b" HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
        stream.write_all(&[b"GET ", target, end].concat()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (_, body) = answer.split_once("\r\n\r\n").unwrap();
        body.to_owned()
    };
    for path in ["/", "/only", "/strip/"] {
        for (byte, seen) in [(0xe9, "%E9"), (0xe8, "%E8"), (0xe9, "%E9")] {
            let target = [path.as_bytes(), b"?q=", &[byte]].concat();
            let path = path.trim_start_matches("/strip");
            assert_eq!(ask(&target), format!("{path}?q={seen}"));
        }
    }
    // Two of each of the first two, and all of the last.
    assert_eq!(origin.count(), 7);
}
