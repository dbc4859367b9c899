#![allow(clippy::unwrap_used)]

#[path = "../../../pingora-core/tests/tls_certs/mod.rs"]
mod certs;

use std::process::{Command, Stdio};
use std::time::Instant;

use pingora_core::apps::ServerApp;
use pingora_core::listeners::{ListenerConfig, Listeners};
use pingora_core::protocols::Stream;
use pingora_core::server::configuration::ServerConf;
use pingora_core::server::{RunArgs, Server, ShutdownSignal, ShutdownSignalWatch};
use pingora_core::services::background::GenBackgroundService;
use pingora_core::services::listening::Service;

use super::*;
use certs::{Authority, Leaf};

#[test]
fn what_cannot_be_used_leaves_the_old_one() {
    let authority = Authority::new();
    let pair = authority.ordinary();
    assert!(Certificates::load("/nonexistent", &pair.key).is_err());
    let certificates = Certificates::load(&pair.cert, &pair.key).unwrap();
    assert!(!certificates.reload().unwrap());
    let before = certificates.current();
    let other = authority.issue("other", &Leaf::default());
    std::fs::copy(&other.cert, &pair.cert).unwrap();
    assert!(certificates.reload().is_err(), "the key is of another one");
    assert!(!certificates.reload().unwrap(), "it is not tried again");
    assert!(Arc::ptr_eq(&before, &certificates.current()));
    std::fs::copy(&other.key, &pair.key).unwrap();
    assert!(certificates.reload().unwrap());
    assert!(!Arc::ptr_eq(&before, &certificates.current()));
}

#[test]
fn what_a_certificate_is_worth_is_told() {
    let authority = Authority::new();
    let now = unix_seconds(SystemTime::now());
    let told = |pair: &certs::Pair| {
        let validity = Certificates::load(&pair.cert, &pair.key)
            .unwrap()
            .validity()
            .unwrap();
        (validity.level(now), validity.text(now))
    };
    let (level, text) = told(&authority.ordinary());
    assert!(
        level == Level::Info && text.contains("is valid until 2099-01-01"),
        "{text}"
    );
    for (years, words) in [
        ((2020, 2021), "has expired on 2021-01-01"),
        ((2098, 2099), "is not valid before 2098-01-01"),
    ] {
        let leaf = Leaf {
            years,
            ..Leaf::default()
        };
        let (level, text) = told(&authority.issue("other", &leaf));
        assert!(level == Level::Warn && text.contains(words), "{text}");
    }
    if cfg!(feature = "rustls") {
        let (level, text) = told(&authority.own());
        assert!(
            level == Level::Warn && text.contains("a CA's own"),
            "{text}"
        );
    }
}

#[test]
fn certificates_to_trust_are_counted() {
    let authority = Authority::new();
    assert_eq!(authorities(&authority.file()).ok(), Some(1));
    let empty = authority.path("empty.pem");
    std::fs::write(&empty, "").unwrap();
    assert_ne!(authorities(&empty).ok(), Some(1));
    assert!(authorities("/nonexistent").is_err());
}

struct Close;

#[async_trait]
impl ServerApp for Close {
    async fn process_new(
        self: &Arc<Self>,
        mut session: Stream,
        _: &ShutdownWatch,
    ) -> Option<Stream> {
        session.shutdown().await;
        None
    }
}

struct Signal(tokio::sync::watch::Receiver<bool>);

#[async_trait]
impl ShutdownSignalWatch for Signal {
    async fn recv(&self) -> ShutdownSignal {
        // An error means that the test is over, too.
        let _ = self.0.clone().wait_for(|stop| *stop).await;
        ShutdownSignal::FastShutdown
    }
}

/// The serial number of the certificate that is served.
fn served(address: &str) -> String {
    let mut client = Command::new("openssl")
        .args(["s_client", "-connect", address])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("these tests need the openssl command");
    let shown = Command::new("openssl")
        .args(["x509", "-noout", "-serial"])
        .stdin(client.stdout.take().unwrap())
        .output()
        .unwrap();
    client.wait().unwrap();
    String::from_utf8(shown.stdout).unwrap().trim().to_owned()
}

#[test]
fn a_server_exchanges_its_certificate_while_it_runs() {
    let authority = Authority::new();
    let pair = authority.ordinary();
    let certificates = Certificates::load(&pair.cert, &pair.key).unwrap();
    let address = std::net::TcpListener::bind("127.0.0.1:0")
        .and_then(|socket| socket.local_addr())
        .unwrap()
        .to_string();
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let server = std::thread::spawn({
        let address = address.clone();
        move || {
            let mut server = Server::new_with_opt_and_conf(None, ServerConf::default());
            server.bootstrap();
            let mut listeners = Listeners::new();
            let settings = certificates.settings().unwrap();
            listeners.add_listener(ListenerConfig::tcp(address).tls(settings));
            server.add_service(Service::with_listeners("tls".into(), listeners, Close));
            server.add_service(GenBackgroundService::new(
                "certificates".into(),
                certificates,
            ));
            server.run(RunArgs {
                shutdown_signal: Box::new(Signal(stopped)),
            });
        }
    });
    let until = |serial: &str| {
        let end = Instant::now() + Duration::from_secs(20);
        while served(&address) != serial {
            assert!(Instant::now() < end, "{serial} is not served");
        }
    };
    until("serial=1A2B3C");
    let renewed = Leaf {
        serial: 0x4D5E6F,
        ..Leaf::default()
    };
    authority.issue("ordinary", &renewed);
    until("serial=4D5E6F");
    stop.send_replace(true);
    server.join().unwrap();
}
