//! Certificates that are ordered when a client first asks for the name.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};

use tempfile::TempDir;

use super::acme::{get, Addresses, Pebble};
use super::certs::Leaf;
use super::tools::*;

/// A service that is asked about names: those that begin with `good` are allowed.
struct Ask {
    address: SocketAddr,
    asked: Arc<Mutex<HashMap<String, usize>>>,
    /// While it is locked, names that begin with `held` are not answered.
    held: Arc<Mutex<()>>,
}

impl Ask {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let ask = Self {
            address: listener.local_addr().unwrap(),
            asked: Arc::default(),
            held: Arc::default(),
        };
        let (asked, held) = (ask.asked.clone(), ask.held.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = BufReader::new(stream.unwrap());
                let mut line = String::new();
                stream.read_line(&mut line).unwrap();
                // All of the head: what is left unread makes the end of the connection a reset.
                let mut rest = String::new();
                while !rest.ends_with("\r\n\r\n") && stream.read_line(&mut rest).unwrap() > 0 {}
                let name = line.strip_prefix("GET /allowed?from=edge&domain=");
                let name = name.and_then(|rest| rest.split(' ').next());
                let name = name.unwrap_or_else(|| panic!("{line}")).to_owned();
                *asked.lock().unwrap().entry(name.clone()).or_default() += 1;
                if name.starts_with("held") {
                    // Answered when the lock is free.
                    drop(held.lock().unwrap());
                }
                let status = match &name[..3] {
                    "hel" => "204 No Content",
                    "goo" => "204 No Content",
                    "awa" => "503 Service Unavailable",
                    "els" => "302 Found\r\nLocation: /allowed?from=edge&domain=good",
                    _ => "404 Not Found",
                };
                let answer =
                    format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
                // Who has gone needs no answer.
                let _ = stream.get_mut().write_all(answer.as_bytes());
            }
        });
        ask
    }

    fn rule(&self, more: &str) -> String {
        let address = self.address;
        format!(", on_demand: {{ask: 'http://{address}/allowed?from=edge'{more}}}")
    }

    /// Returns how often it was asked about a name.
    fn times(&self, name: &str) -> usize {
        self.asked.lock().unwrap().get(name).copied().unwrap_or(0)
    }
}

const SITE: &str =
    "sites:\n  - {hosts: '*.a.test', tls: auto, routes: {respond: {body: '{host}'}}}\n";

fn count(edge: &Edge, admin: SocketAddr, result: &str) -> String {
    let metrics = edge
        .connect_to(admin)
        .ask("GET", &admin.to_string(), "/metrics", "");
    let family = format!("edge_certificate_orders_total{{result=\"{result}\"}} ");
    let line = metrics.body.lines().find_map(|l| l.strip_prefix(&family));
    line.unwrap_or_else(|| panic!("{}", metrics.body))
        .to_owned()
}

#[test]
fn a_name_has_a_certificate_when_it_is_first_asked_for() {
    let (addresses, storage) = (Addresses::new(), TempDir::new().unwrap());
    let (mut pebble, ask, admin) = (Pebble::started(&addresses), Ask::start(), free());
    let text = format!(
        "{}admin: {admin}\n{}{SITE}",
        addresses.listen(),
        pebble.settings(storage.path(), &ask.rule("")),
    );
    let mut edge = Edge::start_whole(addresses.plain, &text);
    let root = pebble.root();
    let secure = addresses.secure;
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let root = root.clone();
            std::thread::spawn(move || get(&root, "good.a.test", secure))
        })
        .collect();
    for client in clients {
        let body = client.join().unwrap();
        assert_eq!(body.as_deref(), Some("good.a.test"));
    }
    edge.wait_for_log("a certificate for good.a.test was issued");
    assert_eq!(ask.times("good.a.test"), 1, "all waited for one try");
    assert_eq!(count(&edge, admin, "issued"), "1");
    let mut client = edge.connect_to(admin);
    let status = client.ask("GET", &admin.to_string(), "/api/status", "");
    assert!(status.body.contains("\"good.a.test\""), "{}", status.body);
    let certificates = pebble.folder(storage.path()).join("certificates");
    assert!(certificates.join("good.a.test.pem").is_file());
    drop(edge);
    // The next start reads it when it is asked for, without the authority and the rule.
    pebble.stop();
    let mut edge = Edge::start_whole(addresses.plain, &text);
    assert_eq!(
        get(&root, "good.a.test", secure).as_deref(),
        Some("good.a.test")
    );
    edge.wait_for_log("a certificate for good.a.test was found");
    assert_eq!(ask.times("good.a.test"), 1);
}

#[test]
fn a_name_that_is_not_allowed_is_refused_and_costs_one_question() {
    let (addresses, storage) = (Addresses::new(), TempDir::new().unwrap());
    let (pebble, ask, admin) = (Pebble::started(&addresses), Ask::start(), free());
    let rule = ask.rule(", allow: ['*.a.test', good.b.test]");
    let text = format!(
        "{}admin: {admin}\n{}sites:\n  - {{tls: auto, routes: {{respond: 200}}}}\n",
        addresses.listen(),
        pebble.settings(storage.path(), &rule),
    );
    let edge = Edge::start_whole(addresses.plain, &text);
    let root = pebble.root();
    // Once: who gave no answer is soon asked again.
    assert_eq!(get(&root, "away.a.test", addresses.secure), None);
    for _ in 0..3 {
        for name in ["bad.a.test", "else.a.test", "good.c.test", "b.test"] {
            assert_eq!(get(&root, name, addresses.secure), None, "{name}");
        }
    }
    for (name, times) in [
        ("bad.a.test", 1),
        ("else.a.test", 1),
        ("away.a.test", 1),
        // Not of `allow`.
        ("good.c.test", 0),
        ("b.test", 0),
        // Not after a redirect either.
        ("good", 0),
    ] {
        assert_eq!(ask.times(name), times, "{name}");
    }
    assert_eq!(count(&edge, admin, "denied"), "2");
    assert_eq!(count(&edge, admin, "failed"), "1");
    assert_eq!(count(&edge, admin, "issued"), "0");
    let folder = pebble.folder(storage.path());
    for kind in ["certificates", "courses", "challenges", "locks"] {
        let left = std::fs::read_dir(folder.join(kind)).unwrap();
        assert_eq!(left.count(), 0, "{kind}");
    }
    assert!(!folder.join("account.json").exists(), "no order was made");
    let served = get(&root, "good.b.test", addresses.secure);
    assert_eq!(served.as_deref(), Some(""));
}

#[test]
fn no_more_names_than_the_limit_have_one() {
    let (addresses, storage) = (Addresses::new(), TempDir::new().unwrap());
    let pebble = Pebble::started(&addresses);
    // By handshakes alone: the authority asks for a name that has no certificate yet.
    let text = |most: usize| {
        let rule = format!(", on_demand: {{allow: '*.a.test', max_names: {most}}}");
        format!(
            "listen: {{address: '{}', tls: true}}\n{}{SITE}",
            addresses.secure,
            pebble.settings(storage.path(), &rule),
        )
    };
    let certificates = pebble.folder(storage.path()).join("certificates");
    std::fs::create_dir_all(&certificates).unwrap();
    // One that is over makes room.
    let leaf = Leaf {
        names: &["old.a.test"],
        years: (2001, 2002),
        ..Leaf::default()
    };
    let old = pebble.authority.issue("old", &leaf);
    let both = [&old.key, &old.cert].map(|file| std::fs::read_to_string(file).unwrap());
    std::fs::write(certificates.join("old.a.test.pem"), both.concat()).unwrap();
    let mut edge = Edge::start_whole(addresses.secure, &text(1));
    let root = pebble.root();
    let secure = addresses.secure;
    assert_eq!(get(&root, "x.a.test", secure).as_deref(), Some("x.a.test"));
    assert!(!certificates.join("old.a.test.pem").exists());
    assert_eq!(get(&root, "y.a.test", secure), None);
    edge.wait_for_log("`max_names` is 1");
    assert_eq!(get(&root, "x.a.test", secure).as_deref(), Some("x.a.test"));
    // Another limit is tried at once.
    edge.write_whole(&text(2));
    edge.hang_up();
    edge.wait_for_log("the configuration is taken");
    eventually("it has room", || {
        get(&root, "y.a.test", secure).as_deref() == Some("y.a.test")
    });
}

#[test]
fn a_certificate_on_demand_is_renewed_when_it_is_used() {
    let (addresses, storage) = (Addresses::new(), TempDir::new().unwrap());
    let (pebble, ask) = (Pebble::started(&addresses), Ask::start());
    let leaf = Leaf {
        names: &["good.a.test", "bad.a.test"],
        years: (1990, 2040),
        ..Leaf::default()
    };
    let old = pebble.authority.issue("old", &leaf);
    let certificates = pebble.folder(storage.path()).join("certificates");
    std::fs::create_dir_all(&certificates).unwrap();
    let both = [&old.key, &old.cert].map(|file| std::fs::read_to_string(file).unwrap());
    for name in ["good.a.test", "bad.a.test"] {
        std::fs::write(certificates.join(format!("{name}.pem")), both.concat()).unwrap();
    }
    let rule = format!(", renew_before: 10000d{}", ask.rule(""));
    let text = format!(
        "{}{}{SITE}",
        addresses.listen(),
        pebble.settings(storage.path(), &rule),
    );
    let mut edge = Edge::start_whole(addresses.plain, &text);
    let own = pebble.authority.file();
    for name in ["bad.a.test", "good.a.test"] {
        assert_eq!(get(&own, name, addresses.secure).as_deref(), Some(name));
    }
    edge.wait_for_log("a certificate for good.a.test was issued");
    let renewed = get(&pebble.root(), "good.a.test", addresses.secure);
    assert_eq!(renewed.as_deref(), Some("good.a.test"));
    // One that is not allowed any more stays until its end.
    eventually("it is asked for", || ask.times("bad.a.test") == 1);
    let kept = get(&own, "bad.a.test", addresses.secure);
    assert_eq!(kept.as_deref(), Some("bad.a.test"));
}

#[test]
fn a_name_that_a_reload_forbids_meanwhile_is_not_served() {
    let (addresses, storage) = (Addresses::new(), TempDir::new().unwrap());
    let (pebble, ask) = (Pebble::started(&addresses), Ask::start());
    let text = |allow: &str| {
        format!(
            "{}{}{SITE}",
            addresses.listen(),
            pebble.settings(storage.path(), &ask.rule(&format!(", allow: '{allow}'"))),
        )
    };
    let mut edge = Edge::start_whole(addresses.plain, &text("*.a.test"));
    let (root, secure) = (pebble.root(), addresses.secure);
    std::thread::scope(|scope| {
        let held = ask.held.lock().unwrap();
        let client = scope.spawn(|| get(&root, "held.a.test", secure));
        eventually("it is asked", || ask.times("held.a.test") == 1);
        edge.write_whole(&text("*.b.a.test"));
        edge.hang_up();
        edge.wait_for_log("the configuration is taken");
        drop(held);
        edge.wait_for_log("a certificate for held.a.test was issued, but is not used");
        assert_eq!(client.join().unwrap(), None);
    });
    assert_eq!(get(&root, "held.a.test", secure), None);
    let other = get(&root, "good.b.a.test", secure);
    assert_eq!(other.as_deref(), Some("good.b.a.test"));
}

#[test]
fn names_that_are_asked_for_at_the_same_time_are_no_more_than_the_limit() {
    let (addresses, storage) = (Addresses::new(), TempDir::new().unwrap());
    let pebble = Pebble::started(&addresses);
    let rule = ", on_demand: {allow: '*.a.test', max_names: 2}";
    let text = format!(
        "{}{}{SITE}",
        addresses.listen(),
        pebble.settings(storage.path(), rule),
    );
    let _edge = Edge::start_whole(addresses.plain, &text);
    let (root, secure) = (pebble.root(), addresses.secure);
    let served = std::thread::scope(|scope| {
        let root = &root;
        let clients: Vec<_> = (0..6)
            .map(|n| scope.spawn(move || get(root, &format!("n{n}.a.test"), secure)))
            .collect();
        let bodies = clients.into_iter().map(|client| client.join().unwrap());
        bodies.flatten().count()
    });
    assert_eq!(served, 2);
    let folder = pebble.folder(storage.path());
    let count = |kind: &str| std::fs::read_dir(folder.join(kind)).unwrap().count();
    assert_eq!((count("certificates"), count("reserved")), (2, 0));
}

#[test]
fn the_rule_is_asked_over_https_by_the_authorities_of_the_system() {
    let (addresses, storage) = (Addresses::new(), TempDir::new().unwrap());
    let (pebble, ask) = (Pebble::started(&addresses), free());
    let own = ask.ip().to_string();
    let leaf = Leaf {
        names: &[&own],
        ..Leaf::default()
    };
    let pair = pebble.authority.issue("ask", &leaf);
    let text = format!(
        "listen: {{address: '{ask}', tls: true}}\nsites:\n  - tls: {{cert: '{}', key: '{}'}}\n    routes: {{respond: 204}}\n",
        pair.cert, pair.key
    );
    let _ask = Edge::start_whole(ask, &text);
    let rule = format!(", on_demand: {{ask: 'https://{ask}/'}}");
    let text = format!(
        "{}{}{SITE}",
        addresses.listen(),
        pebble.settings(storage.path(), &rule),
    );
    let mut command = std::process::Command::new(BINARY);
    command.env("SSL_CERT_FILE", pebble.authority.file());
    let _edge = Edge::start_by(command, addresses.plain, &text);
    let root = pebble.root();
    for name in ["x.a.test", "y.a.test"] {
        let served = get(&root, name, addresses.secure);
        assert_eq!(served.as_deref(), Some(name));
    }
}
