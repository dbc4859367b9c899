//! The server's part in a handshake.

use std::any::Any;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use async_trait::async_trait;
use pingora_error::ErrorSource;
use pingora_error::ErrorType::TLSHandshakeFailure;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;
use crate::listeners::{ListenerConfig, Listeners, TlsAccept};
use crate::protocols::tls::TlsRef;
use crate::server::configuration::ServerConf;

#[test]
fn files_that_do_not_belong_together() {
    let authority = Authority::new();
    let (a, b) = (authority.ordinary(), authority.issue("b", &Leaf::default()));
    assert!(TlsSettings::intermediate(&a.cert, &b.key).is_err());
    assert!(TlsSettings::intermediate(&a.cert, &a.cert).is_err());
    assert!(TlsSettings::intermediate("/nonexistent", &a.key).is_err());
}

#[tokio::test]
async fn an_endpoint_without_a_certificate_does_not_listen() {
    struct Nothing;
    impl TlsAccept for Nothing {}
    let settings = backend::callbacks_only(Box::new(Nothing));
    let Some(settings) = settings else { return };
    let mut listeners = Listeners::new();
    listeners.add_tls_with_settings("127.0.0.1:0", None, settings);
    let text = listeners.listen(None, 1).await.err().unwrap();
    assert!(text.contains("127.0.0.1:0 with TLS: "), "{text}");
    assert!(text.contains("no certificate is set"), "{text}");
}

#[tokio::test]
async fn callbacks_see_the_session() {
    struct Look;
    #[async_trait]
    impl TlsAccept for Look {
        async fn handshake_complete_callback(
            &self,
            ssl: &TlsRef,
        ) -> Option<Arc<dyn Any + Send + Sync>> {
            let name = backend::server_name(ssl).map(str::to_owned);
            Some(Arc::new(name))
        }
    }
    let authority = Authority::new();
    let settings = backend::with_callbacks(Box::new(Look), &authority.ordinary());
    let server = Server::new(settings).await;
    let (_client, accepted) = server.agree(&trusting(&authority), &peer(&server)).await;
    let digest = accepted.get_ssl_digest().unwrap();
    let name: &Option<String> = digest.extension.get().unwrap();
    assert_eq!(name.as_deref(), Some("name.example"));
}

/// A callback that fetches a certificate may take most of it.
#[tokio::test]
async fn the_time_of_a_handshake_is_all_of_it() {
    const FETCH: Duration = Duration::from_millis(20);
    struct Fetch;
    #[async_trait]
    impl TlsAccept for Fetch {
        async fn certificate_callback(&self, _ssl: &mut TlsRef) {
            tokio::time::sleep(FETCH).await;
        }
    }
    let authority = Authority::new();
    let settings = backend::with_callbacks(Box::new(Fetch), &authority.ordinary());
    let server = Server::new(settings).await;
    let (_client, accepted) = server.agree(&trusting(&authority), &peer(&server)).await;
    let layers = accepted.get_timing_digest();
    let took = layers[1].as_ref().unwrap().establishment_duration.unwrap();
    assert!(took >= FETCH, "{took:?}");
}

#[tokio::test]
async fn handshakes_on_other_threads() {
    let authority = Authority::new();
    let pair = authority.ordinary();
    let conf = |threads| ServerConf {
        downstream_tls_offload_threadpools: Some(2),
        downstream_tls_offload_thread_per_pool: Some(threads),
        ..ServerConf::default()
    };
    type Set = Box<dyn Fn(&mut TlsSettings)>;
    let by_conf = |threads| -> Set {
        Box::new(move |s| s.set_offload_threadpool_from_server_conf(&conf(threads)))
    };
    let here: Set = Box::new(|s| s.set_offload_threadpool(2, 0));
    let apart: Set = Box::new(|s| s.set_offload_threadpool(2, 1));
    for (set, offloads) in [
        (apart, true),
        (here, false),
        (by_conf(1), true),
        (by_conf(0), false),
    ] {
        let mut settings = TlsSettings::intermediate(&pair.cert, &pair.key).unwrap();
        set(&mut settings);
        let server = Server::new(settings).await;
        let (mut client, mut accepted) = server.agree(&trusting(&authority), &peer(&server)).await;
        let layers = accepted.get_timing_digest();
        let waited = layers[1].as_ref().unwrap().offload_wait_duration;
        assert_eq!(waited.is_some(), offloads);
        client.write_all(b"a").await.unwrap();
        client.flush().await.unwrap();
        accepted.read_exact(&mut [0]).await.unwrap();
    }
}

#[tokio::test]
async fn what_is_no_tls_client() {
    let authority = Authority::new();
    let server = Server::with(&authority.ordinary()).await;
    let client = async {
        let mut tcp = TcpStream::connect(server.address()).await.unwrap();
        tcp.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
        let _ = tcp.read(&mut [0; 64]).await;
        tcp
    };
    let (accepted, _tcp) = tokio::join!(server.accept(), client);
    let e = accepted.unwrap_err();
    assert_eq!(e.etype(), &TLSHandshakeFailure);
    assert_eq!(e.esource(), &ErrorSource::Downstream);
    assert!(e.to_string().contains("not TLS"), "{e}");
}

/// Clients that begin a handshake and do not go on are disconnected at the limit, and hold nobody up.
#[tokio::test]
async fn half_open_handshakes() {
    let authority = Authority::new();
    let pair = authority.ordinary();
    let mut listeners = Listeners::new();
    // One for those that never end their handshakes, and one whose limit a busy machine does not reach.
    for limit in [Duration::from_millis(300), Duration::from_secs(60)] {
        let settings = TlsSettings::intermediate(&pair.cert, &pair.key).unwrap();
        listeners.add_listener(
            ListenerConfig::tcp("127.0.0.1:0")
                .tls(settings)
                .tls_handshake_timeout(limit),
        );
    }
    let endpoints = listeners.listen(None, 1).await.unwrap();
    let entrance = endpoints[0].entrance.clone();
    let address = endpoints[0].address();
    let mut clients = Vec::new();
    for i in 0..100 {
        let mut client = TcpStream::connect(address).await.unwrap();
        let entrance = entrance.clone();
        let accepted = endpoints[0].accept_one().unwrap();
        let served = tokio::spawn(async move { entrance.pass(accepted).await.is_some() });
        // Some say nothing at all, and some begin a ClientHello.
        if i % 2 == 0 {
            client
                .write_all(b"\x16\x03\x01\x02\x00\x01\x00")
                .await
                .unwrap();
        }
        clients.push((client, served));
    }
    let peer = HttpPeer::new(endpoints[1].address(), true, "name.example".into());
    let connector = trusting(&authority);
    let serving = async {
        loop {
            tokio::task::yield_now().await;
            if let Some(accepted) = endpoints[1].accept_one() {
                return endpoints[1].entrance.pass(accepted).await;
            }
        }
    };
    let (client, served) = tokio::join!(connector.new_stream(&peer), serving);
    assert!(client.is_ok() && served.is_some());
    for (mut client, served) in clients {
        assert!(!served.await.unwrap());
        // An alert may come first; then it is over.
        let _ = client.read_to_end(&mut Vec::new()).await;
    }
}

/// Runs the client of OpenSSL against a server that answers each connection with a line and closes it.
async fn s_client(server: &Server, args: &[&str]) -> (Output, Vec<Option<String>>) {
    let mut command = Command::new("openssl");
    command
        .args(["s_client", "-connect", &server.address().to_string()])
        .args(args)
        .stdin(Stdio::null());
    let client = tokio::task::spawn_blocking(move || {
        command
            .output()
            .expect("these tests need the openssl command")
    });
    tokio::pin!(client);
    let mut served = Vec::new();
    loop {
        tokio::select! {
            output = &mut client => return (output.unwrap(), served),
            accepted = server.accept() => served.push(match accepted {
                Err(e) => Some(e.to_string()),
                Ok(mut stream) => {
                    stream.write_all(b"hello\n").await.unwrap();
                    stream.flush().await.unwrap();
                    stream.shutdown().await.ok();
                    let _ = stream.read(&mut [0]).await;
                    None
                }
            }),
        }
    }
}

fn text(output: &Output) -> String {
    let both = [&output.stdout[..], &output.stderr[..]].concat();
    String::from_utf8_lossy(&both).into_owned()
}

#[tokio::test]
async fn openssl_connects_verifies_and_resumes() {
    let authority = Authority::new();
    let server = Server::with(&authority.ordinary()).await;
    let (ca, session) = (authority.file(), authority.path("session"));
    for version in ["-tls1_2", "-tls1_3"] {
        let checks = ["-CAfile", &ca, "-verify_return_error"];
        let name = [
            "-servername",
            "name.example",
            "-verify_hostname",
            "name.example",
        ];
        let save = [version, "-sess_out", &session];
        let args = [&checks[..], &name, &save, &["-ign_eof"]].concat();
        let (output, _) = s_client(&server, &args).await;
        let said = text(&output);
        assert!(
            said.contains("Verify return code: 0 (ok)"),
            "{version}: {said}"
        );
        assert!(said.contains("hello"), "{version}: {said}");
        assert!(said.contains("New, "), "{version}: {said}");
        let again = [version, "-sess_in", &session];
        let args = [&checks[..], &name, &again, &["-ign_eof"]].concat();
        let (output, _) = s_client(&server, &args).await;
        let said = text(&output);
        assert!(said.contains("Reused, "), "{version}: {said}");
    }
}

#[tokio::test]
async fn clients_with_nothing_in_common() {
    let authority = Authority::new();
    let server = Server::with(&authority.ordinary()).await;
    let old = ["-tls1_1", "-cipher", "DEFAULT@SECLEVEL=0"];
    let weak = ["-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-SHA"];
    for (args, why) in [
        (&old[..], "no common protocol version"),
        (&weak[..], "no common cipher"),
    ] {
        let (output, served) = s_client(&server, args).await;
        assert!(text(&output).contains("alert"), "{}", text(&output));
        let [Some(e)] = &served[..] else {
            panic!("{args:?} was served: {served:?}");
        };
        assert!(e.contains(why), "{e}");
        assert!(e.contains("Downstream"), "{e}");
    }
}
