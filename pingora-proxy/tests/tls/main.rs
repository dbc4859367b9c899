//! TLS on both sides of the proxy, with programs that people use: curl and openssl in front, nginx behind.

#![cfg(feature = "any_tls")]
#![allow(clippy::unwrap_used)]

#[path = "../../../pingora-core/tests/tls_certs/mod.rs"]
mod certs;
#[path = "../common/mod.rs"]
mod common;
mod crowds;
mod nginx;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use pingora_core::listeners::tls::TlsSettings;
use pingora_core::protocols::ALPN;
use pingora_core::server::configuration::ServerConf;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_core::{Error, Result};
use pingora_proxy::{ProxyHttp, Session};

use certs::{Authority, Leaf};
use common::{logs, Forward, Origin, Proxy, Setup};
use nginx::Nginx;

/// A setup that serves `name.example`, and trusts this authority.
fn setup(authority: &Authority) -> Setup {
    let pair = authority.ordinary();
    let plain = Setup::default();
    Setup {
        tls: Some(TlsSettings::intermediate(&pair.cert, &pair.key).unwrap()),
        conf: ServerConf {
            ca_file: Some(authority.file()),
            ..plain.conf
        },
        ..plain
    }
}

fn over_tls(address: SocketAddr) -> HttpPeer {
    HttpPeer::new(address, true, "name.example".into())
}

/// What curl prints when it asks the proxy for `https://name.example/` and `paths`; it must succeed.
#[track_caller]
fn curl(proxy: &Proxy, authority: &Authority, args: &[&str], paths: &[&str]) -> Vec<u8> {
    let address = proxy.tls();
    let base = format!("https://name.example:{}", address.port());
    let output = Command::new("curl")
        .args(["--silent", "--show-error", "--max-time", "60", "--http1.1"])
        .args(["--cacert", &authority.file()])
        .args([
            "--resolve",
            &format!("name.example:{}:{}", address.port(), address.ip()),
        ])
        .args(args)
        .args(paths.iter().map(|path| format!("{base}{path}")))
        .output()
        .expect("these tests need curl");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "curl {args:?}: {said}");
    output.stdout
}

fn letters(size: usize) -> Vec<u8> {
    (0..size)
        .map(|i| b'a' + (i % 26 + i / 4096) as u8 % 26)
        .collect()
}

#[test]
fn curl_and_nginx_exchange_files_of_all_sizes() {
    let authority = Authority::new();
    let nginx = Nginx::start(&authority);
    let peer = over_tls(nginx.address());
    let proxy = Proxy::start_with(setup(&authority), Forward { peer });
    let local = authority.path("local");
    for size in [0, 1, 1000, 16_384, 65_536, 3 << 20] {
        let content = letters(size);
        std::fs::write(nginx.file("file"), &content).unwrap();
        let got = curl(&proxy, &authority, &[], &["/file"]);
        assert!(got == content, "{size} bytes: {} came", got.len());
        std::fs::write(&local, &content).unwrap();
        let args = ["-T", &local, "-w", "%{http_code}"];
        let path = format!("/put-{size}");
        assert_eq!(curl(&proxy, &authority, &args, &[&path]), b"201");
        let stored = std::fs::read(nginx.file(&format!("put-{size}"))).unwrap();
        assert!(stored == content, "{size} bytes: {} arrived", stored.len());
    }
}

#[test]
fn connections_are_used_again_on_both_sides() {
    let authority = Authority::new();
    let nginx = Nginx::start(&authority);
    std::fs::write(nginx.file("file"), "").unwrap();
    let peer = over_tls(nginx.address());
    let proxy = Proxy::start_with(setup(&authority), Forward { peer });
    let args = ["-w", "%{num_connects}-%header{x-connection} "];
    let said = curl(&proxy, &authority, &args, &["/file", "/file", "/file"]);
    let said = String::from_utf8(said).unwrap();
    let [first, second, third]: [&str; 3] = said
        .split_whitespace()
        .collect::<Vec<_>>()
        .try_into()
        .unwrap();
    let (connects, connection) = first.split_once('-').unwrap();
    assert_eq!(connects, "1");
    assert!(!connection.is_empty());
    assert_eq!((second, third), (&*format!("0-{connection}"), second));
    // Another client is served over the same connection to nginx.
    let other = curl(&proxy, &authority, &args, &["/file"]);
    assert_eq!(String::from_utf8(other).unwrap().trim(), first);
}

/// Every pair of versions, each chosen in the handshake.
#[test]
fn versions_are_chosen_in_the_handshakes() {
    let authority = Authority::new();
    let nginx = Nginx::start(&authority);
    let content = letters(200_000);
    std::fs::write(nginx.file("file"), &content).unwrap();
    for (alpn, behind) in [(ALPN::H2H1, "HTTP/2.0"), (ALPN::H1, "HTTP/1.1")] {
        let mut peer = over_tls(nginx.address());
        peer.options.alpn = alpn;
        let mut setup = setup(&authority);
        setup.tls.as_mut().unwrap().enable_h2();
        let proxy = Proxy::start_with(setup, Forward { peer });
        for (offer, in_front) in [("--http2", "2"), ("--http1.1", "1.1")] {
            assert!(curl(&proxy, &authority, &[offer], &["/file"]) == content);
            let format = "%{http_version} %header{x-version}";
            let args = [offer, "-o", "/dev/null", "-w", format];
            let said = curl(&proxy, &authority, &args, &["/file"]);
            let said = String::from_utf8(said).unwrap();
            assert_eq!(said, format!("{in_front} {behind}"));
        }
    }
}

/// Notes why a request could not be forwarded.
struct Noting {
    peer: HttpPeer,
    why: Arc<Mutex<Vec<String>>>,
}

#[async_trait]
impl ProxyHttp for Noting {
    type CTX = ();

    fn new_ctx(&self) {}

    async fn upstream_peer(&self, _: &mut Session, _: &mut ()) -> Result<Box<HttpPeer>> {
        Ok(Box::new(self.peer.clone()))
    }

    async fn logging(&self, _: &mut Session, e: Option<&Error>, _: &mut ()) {
        let why = e.map(ToString::to_string).unwrap_or_default();
        self.why.lock().unwrap().push(why);
    }
}

#[test]
fn an_origin_that_cannot_be_trusted_is_a_502() {
    let authority = Authority::new();
    let stranger = Authority::new();
    let expired = Leaf {
        years: (2019, 2021),
        ..Leaf::default()
    };
    let other = Leaf {
        names: &["other.example"],
        ..Leaf::default()
    };
    for (pair, part) in [
        (authority.issue("expired", &expired), "has expired"),
        (authority.issue("other", &other), "is for another name"),
        (stranger.ordinary(), "unknown CA"),
    ] {
        let nginx = Nginx::start_with(&pair);
        let why = Arc::new(Mutex::new(Vec::new()));
        let app = Noting {
            peer: over_tls(nginx.address()),
            why: why.clone(),
        };
        let proxy = Proxy::start_with(setup(&authority), app);
        let args = ["-o", "/dev/null", "-w", "%{http_code}"];
        assert_eq!(curl(&proxy, &authority, &args, &["/"]), b"502", "{part}");
        common::eventually("the request is logged", || !why.lock().unwrap().is_empty());
        let why = why.lock().unwrap();
        assert!(why[0].contains(part), "not {part:?}: {}", why[0]);
        assert!(why[0].contains("Upstream InvalidCert"), "{}", why[0]);
        assert!(why[0].contains(&nginx.address().to_string()), "{}", why[0]);
    }
}

/// A client with TLS whose bytes are the test's own: the command of OpenSSL, as a pipe.
struct Pipe(std::process::Child);

impl Pipe {
    fn connect(proxy: &Proxy, authority: &Authority) -> Self {
        let client = Command::new("openssl")
            .args(["s_client", "-quiet", "-no_ign_eof", "-verify_return_error"])
            .args([
                "-connect",
                &proxy.tls().to_string(),
                "-servername",
                "name.example",
            ])
            .args(["-CAfile", &authority.file()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("these tests need the openssl command");
        Pipe(client)
    }

    fn send(&mut self, bytes: &str) {
        let stdin = self.0.stdin.as_mut().unwrap();
        stdin.write_all(bytes.as_bytes()).unwrap();
        stdin.flush().unwrap();
    }

    fn read(&mut self, n: usize) -> String {
        let mut got = vec![0; n];
        let stdout = self.0.stdout.as_mut().unwrap();
        stdout.read_exact(&mut got).unwrap();
        String::from_utf8(got).unwrap()
    }

    fn read_to_end(&mut self) -> String {
        let mut got = String::new();
        let stdout = self.0.stdout.as_mut().unwrap();
        stdout.read_to_string(&mut got).unwrap();
        got
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_shutdown_ends_idle_connections_and_answers_what_is_asked() {
    let authority = Authority::new();
    let origin = Origin::answering("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi");
    let proxy = Proxy::start_with(setup(&authority), common::forward_to(origin.path()));
    let request = "GET / HTTP/1.1\r\nHost: name.example\r\n\r\n";
    let mut idle = Pipe::connect(&proxy, &authority);
    let first = "HTTP/1.1 200 OK\r\n";
    for _ in 0..2 {
        idle.send(request);
        assert_eq!(idle.read(first.len()), first);
        let mut rest = String::new();
        while !rest.ends_with("\r\n\r\nhi") {
            rest += &idle.read(1);
        }
    }
    let mut begun = Pipe::connect(&proxy, &authority);
    begun.send("GET / HTTP/1.1\r\n");
    let mut done = Pipe::connect(&proxy, &authority);
    done.send("GET / HTTP/1.1\r\nHost: name.example\r\nConnection: close\r\n\r\n");
    assert!(done.read_to_end().ends_with("hi"));
    proxy.begin_shutdown();
    assert_eq!(idle.read_to_end(), "");
    proxy.wait();
}

#[test]
fn a_shutdown_does_not_wait_for_clients_that_never_began() {
    let authority = Authority::new();
    let origin = Origin::answering("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi");
    let proxy = Proxy::start_with(setup(&authority), common::forward_to(origin.path()));
    let silent: Vec<TcpStream> = (0..20)
        .map(|_| TcpStream::connect(proxy.tls()).unwrap())
        .collect();
    // Accepted after them: who is served says that they are being waited for.
    let mut done = Pipe::connect(&proxy, &authority);
    done.send("GET / HTTP/1.1\r\nHost: name.example\r\nConnection: close\r\n\r\n");
    assert!(done.read_to_end().ends_with("hi"));
    proxy.begin_shutdown();
    proxy.wait();
    for mut client in silent {
        assert_eq!(client.read(&mut [0]).unwrap(), 0);
    }
}

/// TLS has an end of one direction, too.
#[test]
fn a_client_that_has_said_all_gets_its_answer() {
    use pingora_core::connectors::{ConnectorOptions, TransportConnector};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    let authority = Authority::new();
    let (came, comes) = std::sync::mpsc::channel();
    let (go, goes) = std::sync::mpsc::channel::<()>();
    let shared = Mutex::new((came, goes));
    let origin = Origin::scripted(move |mut wire, number| {
        wire.read_message();
        if number == 0 {
            let shared = shared.lock().unwrap();
            shared.0.send(()).unwrap();
            shared.1.recv().unwrap();
        }
        wire.send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello");
    });
    let peer = common::forward_to(origin.path()).peer;
    let proxy = Proxy::start_with(setup(&authority), Forward { peer });
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let mut options = ConnectorOptions::new(1);
        options.ca_file = Some(authority.file());
        let connector = TransportConnector::new(Some(options));
        let mut client = connector.new_stream(&over_tls(proxy.tls())).await.unwrap();
        let get = "GET / HTTP/1.1\r\nHost: name.example\r\n\r\n";
        client.write_all(get.as_bytes()).await.unwrap();
        client.flush().await.unwrap();
        AsyncWriteExt::shutdown(&mut client).await.unwrap();
        comes.recv().unwrap();
        // The proxy has read the end of this client when it has served others.
        for _ in 0..3 {
            let got = curl(&proxy, &authority, &[], &["/"]);
            assert_eq!(got, b"hello");
        }
        go.send(()).unwrap();
        let mut got = Vec::new();
        client.read_to_end(&mut got).await.unwrap();
        assert!(got.ends_with(b"\r\n\r\nhello"));
    });
}

/// The line of the log says once why.
#[test]
fn a_certificate_that_nobody_trusts_is_named_in_the_log() {
    logs::keep();
    let nginx = Nginx::start(&Authority::new());
    let peer = over_tls(nginx.address());
    let named = peer.to_string();
    let proxy = Proxy::start_with(setup(&Authority::new()), Forward { peer });
    let mut client = proxy.connect();
    client.send("GET /untrusted HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    assert_eq!(client.read_response().status(), 502);
    let line = logs::line_with("/untrusted");
    assert_eq!(logs::said_twice(&line), None, "{line}");
    let begin = format!(
        "ERROR fail to proxy: Upstream InvalidCert context: TLS with peer: {named} \
         cause:  context: unknown CA: the issuer of the peer's certificate is not trusted cause: "
    );
    assert!(line.starts_with(&begin), "{line}");
}
