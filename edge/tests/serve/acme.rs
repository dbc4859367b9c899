//! Automatic certificates, by an authority that is not ours: pebble, with the server of names that comes with it.

use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use super::certs::{Authority, Leaf};
use super::tools::*;

/// Addresses of a proxy: one without TLS and one with it, at the same IP address.
pub struct Addresses {
    pub plain: SocketAddr,
    pub secure: SocketAddr,
}

fn another(ip: IpAddr) -> SocketAddr {
    let listener = TcpListener::bind((ip, 0)).unwrap();
    listener.local_addr().unwrap()
}

impl Addresses {
    pub fn new() -> Self {
        let plain = free();
        let secure = loop {
            let secure = another(plain.ip());
            if secure != plain {
                break secure;
            }
        };
        Self { plain, secure }
    }

    pub fn listen(&self) -> String {
        let Self { plain, secure } = self;
        format!("listen: ['{plain}', {{address: '{secure}', tls: true}}]\n")
    }
}

/// An authority, for hosts that are all at one address.
pub struct Pebble {
    directory: SocketAddr,
    management: SocketAddr,
    pub authority: Authority,
    dir: TempDir,
    config: String,
    names: SocketAddr,
    running: Vec<Child>,
}

impl Drop for Pebble {
    fn drop(&mut self) {
        self.stop();
    }
}

fn spawn(command: &mut Command) -> Child {
    let program = command.get_program().to_owned();
    let null = command.stdout(Stdio::null()).stderr(Stdio::null());
    null.spawn().unwrap_or_else(|e| {
        panic!("{program:?} does not start: {e}; install the package pebble, as test.sh does")
    })
}

impl Pebble {
    /// One that looks for answers at the addresses of a proxy. It does not run yet.
    fn at(addresses: &Addresses, more: &str) -> Self {
        let (directory, authority) = (free(), Authority::new());
        let management = free();
        let (own, other) = (directory.ip().to_string(), management.ip().to_string());
        let pair = authority.issue(
            "pebble",
            &Leaf {
                names: &[&own, &other],
                ..Leaf::default()
            },
        );
        let (http, tls) = (addresses.plain.port(), addresses.secure.port());
        let config = format!(
            r#"{{"pebble": {{"listenAddress": "{directory}", "managementListenAddress": "{management}",
            "certificate": "{}", "privateKey": "{}", "httpPort": {http}, "tlsPort": {tls},
            "ocspResponderURL": ""{more}}}}}"#,
            pair.cert, pair.key
        );
        let (names, answers) = (free(), free());
        let mut server = Command::new("pebble-challtestsrv");
        server
            .args(["-http01", "", "-https01", "", "-tlsalpn01", ""])
            .args(["-defaultIPv6", "", "-defaultIPv4"])
            .arg(addresses.plain.ip().to_string())
            .args(["-dns01", &names.to_string()])
            .args(["-management", &answers.to_string()]);
        let server = spawn(&mut server);
        eventually("the server of names listens", || {
            [names, answers]
                .map(TcpStream::connect)
                .iter()
                .all(Result::is_ok)
        });
        Self {
            directory,
            management,
            authority,
            dir: TempDir::new().unwrap(),
            config,
            names,
            running: vec![server],
        }
    }

    fn start(&mut self) {
        let file = self.dir.path().join("pebble.json");
        std::fs::write(&file, &self.config).unwrap();
        let mut pebble = Command::new("pebble");
        pebble
            .arg("-config")
            .arg(file)
            .args(["-dnsserver", &self.names.to_string()])
            .env("PEBBLE_VA_NOSLEEP", "1")
            // Else it refuses what it was sent now and then, and all tries of a request with a chance of 1 in 160,000.
            .env("PEBBLE_WFE_NONCEREJECT", "0")
            .env("PEBBLE_AUTHZREUSE", "0");
        self.running.push(spawn(&mut pebble));
        let (directory, management) = (self.directory, self.management);
        eventually("the authority listens", || {
            TcpStream::connect(directory).is_ok() && TcpStream::connect(management).is_ok()
        });
    }

    pub fn stop(&mut self) {
        for mut child in self.running.drain(..) {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    pub fn started(addresses: &Addresses) -> Self {
        let mut pebble = Self::at(addresses, "");
        pebble.start();
        pebble
    }

    /// The settings of a proxy that uses it, with its files in `storage`.
    pub fn settings(&self, storage: &Path, more: &str) -> String {
        let (directory, ca, storage) = (self.directory, self.authority.file(), storage.display());
        format!(
            "acme: {{directory: 'https://{directory}/dir', ca: '{ca}', storage: '{storage}'{more}}}\n"
        )
    }

    /// The folder that it has in a storage.
    pub fn folder(&self, storage: &Path) -> PathBuf {
        let name = format!("{}-dir-", self.directory).replace(':', "-");
        storage.join(name)
    }

    /// The file of the certificate that its certificates are known by.
    pub fn root(&self) -> String {
        let file = self.dir.path().join("root.pem");
        let root = Command::new("curl")
            .args(["-s", "--noproxy", "*", "--cacert", &self.authority.file()])
            .arg(format!("https://{}/roots/0", self.management))
            .output()
            .unwrap();
        assert!(root.status.success());
        std::fs::write(&file, root.stdout).unwrap();
        file.to_str().unwrap().to_owned()
    }
}

/// Asks by curl, which trusts `ca`; returns the body, or nothing when the handshake fails.
pub fn get(ca: &str, host: &str, secure: SocketAddr) -> Option<String> {
    let (ip, port) = (secure.ip(), secure.port());
    let output = Command::new("curl")
        .args(["-s", "--noproxy", "*", "--cacert", ca, "--resolve"])
        .arg(format!("{host}:{port}:{ip}"))
        .arg(format!("https://{host}:{port}/"))
        .output()
        .unwrap();
    let body = String::from_utf8(output.stdout).unwrap();
    output.status.success().then_some(body)
}

pub fn site(host: &str) -> String {
    format!("  - {{hosts: {host}, tls: auto, routes: {{respond: {{body: {host}}}}}}}\n")
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn a_host_has_a_certificate_by_http_and_keeps_it() {
    let (addresses, storage) = (Addresses::new(), TempDir::new().unwrap());
    let mut pebble = Pebble::started(&addresses);
    let text = format!(
        "{}admin: {}\n{}sites:\n  - {{hosts: a.test, tls: auto, https_redirect: true, \
         access: {{deny: 127.0.0.0/8}}, routes: {{respond: {{body: a, }}, access: {{allow: 127.0.0.0/8}}}}}}\n",
        addresses.listen(),
        free(),
        pebble.settings(storage.path(), ", challenges: http-01, email: a@example.org"),
    );
    let mut edge = Edge::start_whole(addresses.plain, &text);
    edge.wait_for_log("a certificate for a.test was issued");
    let root = pebble.root();
    assert_eq!(get(&root, "a.test", addresses.secure).as_deref(), Some("a"));
    // What nobody waits for is not answered in the place of the site.
    let path = "/.well-known/acme-challenge/unknown";
    assert_eq!(edge.get("a.test", path).status, 308);
    let folder = pebble.folder(storage.path());
    assert_eq!(mode(&folder), 0o700);
    assert_eq!(mode(&folder.join("account.json")), 0o600);
    assert_eq!(mode(&folder.join("certificates/a.test.pem")), 0o600);
    let left = std::fs::read_dir(folder.join("challenges")).unwrap();
    assert_eq!(left.count(), 0, "answers are taken back");
    drop(edge);
    // The next start has it at once, without the authority.
    pebble.stop();
    let edge = Edge::start_whole(addresses.plain, &text);
    assert_eq!(get(&root, "a.test", addresses.secure).as_deref(), Some("a"));
    drop(edge);
}

#[test]
fn a_host_has_a_certificate_by_a_handshake() {
    let (addresses, storage) = (Addresses::new(), TempDir::new().unwrap());
    let pebble = Pebble::started(&addresses);
    let text = format!(
        "listen: {{address: '{}', tls: true}}\n{}sites:\n{}{}",
        addresses.secure,
        pebble.settings(storage.path(), ""),
        site("a.test"),
        site("b.test"),
    );
    let mut edge = Edge::start_whole(addresses.secure, &text);
    for _ in 0..2 {
        edge.wait_for_log("was issued");
    }
    let root = pebble.root();
    for host in ["a.test", "b.test"] {
        assert_eq!(get(&root, host, addresses.secure).as_deref(), Some(host));
    }
}

#[test]
fn a_certificate_is_renewed_while_it_serves() {
    let (addresses, storage) = (Addresses::new(), TempDir::new().unwrap());
    let pebble = Pebble::started(&addresses);
    // More than half of its life is over.
    let leaf = Leaf {
        names: &["a.test"],
        years: (1990, 2040),
        ..Leaf::default()
    };
    let old = pebble.authority.issue("old", &leaf);
    let certificates = pebble.folder(storage.path()).join("certificates");
    std::fs::create_dir_all(&certificates).unwrap();
    let both = [&old.key, &old.cert].map(|file| std::fs::read_to_string(file).unwrap());
    std::fs::write(certificates.join("a.test.pem"), both.concat()).unwrap();
    let settings = |renew_before: &str| {
        format!(
            "{}{}sites:\n{}",
            addresses.listen(),
            pebble.settings(storage.path(), renew_before),
            site("a.test")
        )
    };
    let mut edge = Edge::start_whole(addresses.plain, &settings(", renew_before: 1d"));
    let served = || get(&pebble.authority.file(), "a.test", addresses.secure);
    assert_eq!(served().as_deref(), Some("a.test"));
    edge.write_whole(&settings(", renew_before: 10000d"));
    edge.hang_up();
    edge.wait_for_log("a certificate for a.test was issued");
    let renewed = get(&pebble.root(), "a.test", addresses.secure);
    assert_eq!(renewed.as_deref(), Some("a.test"));
    assert_eq!(served(), None);
}

#[test]
fn an_account_is_bound_to_one_of_the_authority() {
    let (addresses, storage) = (Addresses::new(), TempDir::new().unwrap());
    let key = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W";
    let more = format!(
        r#", "externalAccountBindingRequired": true, "externalAccountMACKeys": {{"kid-1": "{key}"}}"#
    );
    let mut pebble = Pebble::at(&addresses, &more);
    pebble.start();
    let text = |eab: &str| {
        format!(
            "{}{}sites:\n{}",
            addresses.listen(),
            pebble.settings(storage.path(), eab),
            site("a.test")
        )
    };
    let mut edge = Edge::start_whole(addresses.plain, &text(""));
    let line = edge.wait_for_log("no certificate for a.test");
    assert!(line.contains("externalAccountRequired"), "{line}");
    // Other settings are tried at once.
    edge.write_whole(&text(&format!(", eab: {{kid: kid-1, key: {key}}}")));
    edge.hang_up();
    edge.wait_for_log("a certificate for a.test was issued");
}

#[test]
fn one_of_two_processes_orders_and_the_other_one_takes_it() {
    let (addresses, others) = (Addresses::new(), Addresses::new());
    let storage = TempDir::new().unwrap();
    let pebble = Pebble::started(&addresses);
    let text = |addresses: &Addresses| {
        format!(
            "{}{}sites:\n{}",
            addresses.listen(),
            pebble.settings(storage.path(), ", challenges: http-01"),
            site("a.test")
        )
    };
    // The first one is where the authority looks; whichever of them orders, it answers.
    let mut all = [&addresses, &others].map(|own| Edge::start_whole(own.plain, &text(own)));
    let root = pebble.root();
    let mut issued = 0;
    for edge in &mut all {
        let line = edge.wait_for_log("a certificate for a.test was");
        issued += usize::from(line.contains("was issued"));
    }
    assert_eq!(issued, 1);
    for own in [&addresses, &others] {
        assert_eq!(get(&root, "a.test", own.secure).as_deref(), Some("a.test"));
    }
}

#[test]
fn a_process_answers_the_challenges_of_another_one() {
    let (addresses, others) = (Addresses::new(), Addresses::new());
    let storage = TempDir::new().unwrap();
    let pebble = Pebble::started(&addresses);
    for (challenge, host) in [("http-01", "a.test"), ("tls-alpn-01", "b.test")] {
        let text = |addresses: &Addresses| {
            let challenges = format!(", challenges: {challenge}");
            let settings = pebble.settings(storage.path(), &challenges);
            format!("{}{settings}sites:\n{}", addresses.listen(), site(host))
        };
        let mut alone = Edge::start_whole(others.plain, &text(&others));
        let line = alone.wait_for_log(" certificate for");
        assert!(line.contains("does not accept the challenge"), "{line}");
        drop(alone);
        // Where the authority looks there is one that orders nothing: the last failure keeps it from that.
        let admin = free();
        let with_admin = format!("admin: {admin}\n{}", text(&addresses));
        let answers = Edge::start_whole(addresses.plain, &with_admin);
        eventually("it knows of the failure", || {
            if TcpStream::connect(admin).is_err() {
                return false;
            }
            let mut client = answers.connect_to(admin);
            let status = client.ask("GET", &admin.to_string(), "/api/status", "");
            status.body.contains("does not accept the challenge")
        });
        let courses = pebble.folder(storage.path()).join("courses");
        std::fs::remove_file(courses.join(format!("{host}.json"))).unwrap();
        let mut orders = Edge::start_whole(others.plain, &text(&others));
        orders.wait_for_log(&format!("a certificate for {host} was issued"));
        drop(answers);
    }
}

#[test]
fn an_authority_that_is_away_is_tried_again() {
    let (addresses, storage) = (Addresses::new(), TempDir::new().unwrap());
    let mut pebble = Pebble::at(&addresses, "");
    let text = format!(
        "{}{}sites:\n{}",
        addresses.listen(),
        pebble.settings(storage.path(), ""),
        site("a.test")
    );
    let mut edge = Edge::start_whole(addresses.plain, &text);
    let line = edge.wait_for_log("no certificate for a.test");
    assert!(line.contains("next try in"), "{line}");
    assert_eq!(edge.get("a.test", "/").body, "a.test");
    assert_eq!(
        get(&pebble.authority.file(), "a.test", addresses.secure),
        None
    );
    pebble.start();
    edge.wait_for_log("a certificate for a.test was issued");
}

#[test]
fn a_reload_adds_and_removes_hosts() {
    let (addresses, storage) = (Addresses::new(), TempDir::new().unwrap());
    let pebble = Pebble::started(&addresses);
    let text = |hosts: &[&str]| {
        let sites: String = hosts.iter().map(|host| site(host)).collect();
        format!(
            "{}{}sites:\n{sites}",
            addresses.listen(),
            pebble.settings(storage.path(), "")
        )
    };
    let mut edge = Edge::start_whole(addresses.plain, &text(&["a.test"]));
    edge.wait_for_log("a certificate for a.test was issued");
    edge.write_whole(&text(&["a.test", "b.test"]));
    edge.hang_up();
    edge.wait_for_log("a certificate for b.test was issued");
    let root = pebble.root();
    assert_eq!(
        get(&root, "b.test", addresses.secure).as_deref(),
        Some("b.test")
    );
    edge.write_whole(&text(&["b.test"]));
    edge.hang_up();
    edge.wait_for_log("the configuration is taken");
    assert_eq!(get(&root, "a.test", addresses.secure), None);
    assert_eq!(
        get(&root, "b.test", addresses.secure).as_deref(),
        Some("b.test")
    );
}

/// A proxy before the authority adds what this version of pebble lacks.
#[test]
fn a_certificate_is_renewed_when_the_authority_wants_it() {
    let (addresses, storage) = (Addresses::new(), TempDir::new().unwrap());
    let pebble = Pebble::started(&addresses);
    let leaf = Leaf {
        names: &["a.test"],
        years: (2020, 2090),
        ..Leaf::default()
    };
    let old = pebble.authority.issue("old", &leaf);
    let front = free();
    let own = front.ip().to_string();
    let pair = pebble.authority.issue(
        "front",
        &Leaf {
            names: &[&own],
            ..Leaf::default()
        },
    );
    let of = |path: &str| format!("https://{}/{path}", pebble.directory);
    let (nonce, account) = (of("nonce-plz"), of("sign-me-up"));
    let (order, revoke, change) = (
        of("order-plz"),
        of("revoke-cert"),
        of("rollover-account-key"),
    );
    let text = format!(
        r#"
listen: {{address: '{front}', tls: true}}
sites:
  - tls: {{cert: '{}', key: '{}'}}
    routes:
      - path: /dir
        respond:
          body: '{{{{"newNonce": "{nonce}", "newAccount": "{account}", "newOrder": "{order}", "revokeCert": "{revoke}",
            "keyChange": "{change}", "renewalInfo": "https://{front}/renewal"}}'
      - path: /renewal/*
        response_headers: {{set: {{retry-after: "3600"}}}}
        respond: {{body: '{{{{"suggestedWindow": {{{{"start": "2020-03-01T00:00:00Z", "end": "2020-03-02T00:00:00Z"}}}}'}}
"#,
        pair.cert, pair.key
    );
    let _front = Edge::start_whole(front, &text);
    let directory = format!("{front}-dir-").replace(':', "-");
    let certificates = storage.path().join(directory).join("certificates");
    std::fs::create_dir_all(&certificates).unwrap();
    let both = [&old.key, &old.cert].map(|file| std::fs::read_to_string(file).unwrap());
    std::fs::write(certificates.join("a.test.pem"), both.concat()).unwrap();
    let settings = pebble.settings(storage.path(), "");
    let settings = settings.replace(&pebble.directory.to_string(), &front.to_string());
    let text = format!("{}{settings}sites:\n{}", addresses.listen(), site("a.test"));
    let mut edge = Edge::start_whole(addresses.plain, &text);
    edge.wait_for_log("to be renewed on 2020-03-0");
    edge.wait_for_log("a certificate for a.test was issued");
    let renewed = get(&pebble.root(), "a.test", addresses.secure);
    assert_eq!(renewed.as_deref(), Some("a.test"));
}
