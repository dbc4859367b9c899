//! TLS with clients and with servers.

#[path = "handshakes.rs"]
mod handshakes;
pub use handshakes::secure;

use std::process::Command;

use super::certs::{Authority, Leaf};
use super::tools::*;

/// Asks by curl, which trusts `ca`; returns the body, or nothing when the handshake fails.
fn curl(ca: &str, host: &str, edge: &Edge, more: &[&str]) -> Option<String> {
    let address = edge.address;
    let output = Command::new("curl")
        .args(["-s", "--noproxy", "*", "--cacert", ca, "--resolve"])
        .arg(format!("{host}:{}:{}", address.port(), address.ip()))
        .args(more)
        .arg(format!("https://{host}:{}/", address.port()))
        .output()
        .unwrap();
    let body = String::from_utf8(output.stdout).unwrap();
    output.status.success().then_some(body)
}

fn issue(authority: &Authority, name: &str) -> String {
    let leaf = Leaf {
        names: &[name],
        ..Leaf::default()
    };
    let pair = authority.issue(name, &leaf);
    format!("{{cert: '{}', key: '{}'}}", pair.cert, pair.key)
}

#[test]
fn each_site_shows_its_certificate_and_a_new_one_is_taken() {
    let authority = Authority::new();
    let (a, b) = (issue(&authority, "a.test"), issue(&authority, "b.test"));
    let sites = format!(
        "  - {{hosts: a.test, tls: {a}, routes: {{respond: {{body: 'a {{scheme}}'}}}}}}
  - {{hosts: b.test, tls: {b}, routes: {{respond: {{body: b}}}}}}\n"
    );
    let edge = Edge::start("  - routes: {respond: 404}\n");
    // The listener of TLS, on an address of its own.
    let secure = free();
    let plain = edge.address;
    drop(edge);
    let edge = Edge::start_whole(
        secure,
        &format!("listen: [{plain}, {{address: '{secure}', tls: true}}]\nsites:\n{sites}"),
    );
    let ca = authority.file();
    assert_eq!(curl(&ca, "a.test", &edge, &[]).as_deref(), Some("a https"));
    assert_eq!(
        curl(&ca, "b.test", &edge, &["--http2"]).as_deref(),
        Some("b")
    );
    assert_eq!(curl(&ca, "c.test", &edge, &[]), None);
    // Of another authority, in the same files.
    let other = Authority::new();
    issue(&other, "a.test");
    for name in ["a.test.pem", "a.test.key"] {
        std::fs::copy(other.path(name), authority.path(name)).unwrap();
    }
    eventually("the new certificate is shown", || {
        curl(&other.file(), "a.test", &edge, &[]).is_some()
    });
    assert_eq!(curl(&ca, "b.test", &edge, &[]).as_deref(), Some("b"));
}

#[test]
fn servers_are_spoken_to_with_tls() {
    let authority = Authority::new();
    let pair = issue(&authority, "server.test");
    let address = free();
    let origin = Edge::start_whole(
        address,
        &format!("listen: {{address: '{address}', tls: true}}\nsites:\n  - {{tls: {pair}, routes: {{respond: {{body: 'over {{scheme}}'}}}}}}\n"),
    );
    let (ca, at) = (authority.file(), origin.address);
    let edge = Edge::start(&format!(
        "  - routes:
      - {{path: /good, proxy: {{to: '{at}', tls: {{ca: '{ca}', name: server.test}}}}}}
      - {{path: /other, proxy: {{to: '{at}', tls: {{ca: '{ca}', name: other.test}}}}}}
      - {{path: /unknown, proxy: {{to: '{at}', tls: {{name: server.test}}}}}}
      - {{path: /any, proxy: {{to: '{at}', tls: {{insecure: true}}}}}}
      - {{path: /off, proxy: {{to: '{at}', tls: false}}}}
"
    ));
    for (path, status) in [
        ("/good", 200),
        ("/other", 502),
        ("/unknown", 502),
        ("/any", 200),
    ] {
        assert_eq!(edge.get("a", path).status, status, "{path}");
    }
    assert_eq!(edge.get("a", "/good").body, "over https");
    assert_ne!(edge.get("a", "/off").status, 200);
}
