//! What options of a peer, and of the connector that connects to it, do.

use super::*;
use h2_origin::*;
use pingora_core::connectors::http::v1::Connector;
use pingora_core::connectors::{ConnectorOptions, TransportConnector};
use pingora_core::server::configuration::ServerConf;
use pingora_core::upstreams::peer::{HttpUpstreamRequestPolicy, Peer};
use pingora_http::RequestHeader;
use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{mpsc, Arc};
use std::time::Duration;

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

#[test]
fn an_idle_connection_to_a_peer_ends() {
    let (tell, told) = mpsc::channel();
    let origin = Origin::scripted(move |mut wire, _| {
        if wire.has_more() {
            wire.read_message();
            wire.send(OK);
            assert!(!wire.has_more());
            tell.send(()).unwrap();
        }
    });
    let mut app = forward_to(origin.path());
    app.peer.options.idle_timeout = Some(Duration::from_millis(1));
    let proxy = Proxy::start(app);
    let mut client = proxy.connect();
    assert_eq!(get(&mut client, "").status(), 200);
    told.recv_timeout(PATIENCE).unwrap();
}

#[test]
fn a_peer_that_takes_nothing_ends_with_the_write_timeout() {
    let (tell, told) = mpsc::channel::<()>();
    let told = std::sync::Mutex::new(told);
    let origin = Origin::scripted(move |mut wire, _| {
        if wire.has_more() {
            // Until the client has its answer.
            let _ = told.lock().unwrap().recv();
        }
    });
    let mut app = forward_to(origin.path());
    app.peer.options.write_timeout = Some(Duration::from_millis(50));
    let proxy = Proxy::start(app);
    let client = UnixStream::connect(proxy.path()).unwrap();
    let mut sender = Wire::new(client.try_clone().unwrap());
    let sending = std::thread::spawn(move || {
        sender.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000000\r\n\r\n");
        let piece = vec![b'x'; 1 << 16];
        while sender.send_if_taken(&piece).is_ok() {}
    });
    assert_eq!(Wire::new(client).read_response().status(), 504);
    drop(tell);
    drop(proxy);
    sending.join().unwrap();
}

/// The windows that a peer of HTTP/2 is told.
#[tokio::test]
async fn windows() {
    type Told = Option<(Option<u32>, Option<u32>)>;
    for (stream, connection) in [(Some(100_000), Some(3_000_000)), (Some(70_000), None)] {
        let (tell, told) = mpsc::channel::<Told>();
        let tell = std::sync::Mutex::new(tell);
        let origin = H2Origin::start(move |stream, _| {
            let tell = tell.lock().unwrap().clone();
            async move {
                let mut frames = Frames::begin(stream).await;
                let Some((SETTINGS, _, 0, settings)) = frames.next().await else {
                    tell.send(None).unwrap();
                    return;
                };
                let number = |bytes: &[u8]| bytes.iter().fold(0, |n, b| n << 8 | u32::from(*b));
                let initial = settings.chunks(6).find(|s| s[1] == 4);
                let initial = initial.map(|s| number(&s[2..]));
                let mut more = None;
                while let Some((kind, _, id, payload)) = frames.next().await {
                    match kind {
                        WINDOW_UPDATE if id == 0 => more = Some(number(&payload) + 65_535),
                        HEADERS => {
                            tell.send(Some((initial, more))).unwrap();
                            frames.answer(id).await;
                        }
                        _ => {}
                    }
                }
            }
        });
        let mut peer = h2_peer(&origin.path());
        peer.options.h2_stream_window_size = stream;
        peer.options.h2_connection_window_size = connection;
        let proxy = Proxy::start(Forward { peer });
        let mut client = proxy.connect();
        assert_eq!(get(&mut client, "").status(), 200);
        let default = Some(8 << 20);
        let expected = (stream, connection.or(default));
        assert_eq!(told.recv_timeout(PATIENCE).unwrap(), Some(expected));
    }
}

const WINDOW_UPDATE: u8 = 8;

/// Each switch of the policy, with what it lets pass.
#[test]
fn policies() {
    let origin = Origin::scripted(|mut wire, _| {
        while wire.has_more() {
            let head = wire.read_head().to_lowercase();
            let seen: Vec<&str> = ["connection: ", "keep-alive: ", "x-named: ", "upgrade: "]
                .into_iter()
                .filter(|name| head.contains(&format!("\r\n{name}")))
                .collect();
            let seen = seen.concat();
            wire.send(format!(
                "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{seen}",
                seen.len()
            ));
        }
    });
    let standard = HttpUpstreamRequestPolicy::standard;
    let rows = [
        (standard(), 200, ""),
        (
            HttpUpstreamRequestPolicy::preserve(),
            200,
            "connection: keep-alive: x-named: upgrade: ",
        ),
        (
            HttpUpstreamRequestPolicy {
                strip_hop_by_hop: false,
                ..standard()
            },
            200,
            "connection: keep-alive: ",
        ),
        (
            HttpUpstreamRequestPolicy {
                strip_connection_nominated: false,
                ..standard()
            },
            200,
            "x-named: ",
        ),
    ];
    let fields = "Connection: x-named, upgrade\r\nX-Named: 1\r\nKeep-Alive: 5\r\nUpgrade: x\r\n";
    for (policy, status, seen) in rows {
        let mut app = forward_to(origin.path());
        app.peer.options.http_upstream_request_policy = policy;
        let proxy = Proxy::start(app);
        let response = get(&mut proxy.connect(), fields);
        assert_eq!((response.status(), response.text()), (status, seen));
    }
    for (reject, status) in [(true, 400), (false, 200)] {
        let mut app = forward_to(origin.path());
        let policy = &mut app.peer.options.http_upstream_request_policy;
        policy.reject_malformed_connection_nominations = reject;
        let proxy = Proxy::start(app);
        let response = get(&mut proxy.connect(), "Connection: \"x\"\r\n");
        assert_eq!(response.status(), status);
    }
}

#[test]
fn no_more_connections_are_kept_than_is_set() {
    for (size, connections) in [(0, 3), (1, 1)] {
        let origin = Origin::answering(OK);
        let mut setup = Setup::default();
        setup.conf.upstream_keepalive_pool_size = size;
        let proxy = Proxy::start_with(setup, forward_to(origin.path()));
        let mut client = proxy.connect();
        for _ in 0..3 {
            assert_eq!(get(&mut client, "").status(), 200);
        }
        assert_eq!(origin.accepted(), connections);
    }
}

#[test]
fn connections_come_from_the_address_that_is_set() {
    let origin = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut setup = Setup::default();
    setup.conf.client_bind_to_ipv4 = vec!["127.0.0.7".into()];
    let address = origin.local_addr().unwrap();
    let proxy = Proxy::start_with(
        setup,
        Forward {
            peer: HttpPeer::new(address, false, String::new()),
        },
    );
    let mut client = proxy.connect();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let (stream, from) = origin.accept().unwrap();
    assert_eq!(from.ip().to_string(), "127.0.0.7");
    let mut origin = Wire::over_tcp(stream);
    origin.read_message();
    origin.send(OK);
    assert_eq!(client.read_response().status(), 200);
}

#[tokio::test]
async fn connections_come_from_an_address_of_ipv6() {
    let Ok(origin) = tokio::net::TcpListener::bind("[::1]:0").await else {
        // A machine without IPv6; which of the addresses is taken is tested with the connector.
        return;
    };
    let conf = ServerConf {
        client_bind_to_ipv6: vec!["::1".into()],
        ..ServerConf::default()
    };
    let options = ConnectorOptions::from_server_conf(&conf);
    assert_eq!(options.bind_to_v6, ["[::1]:0".parse().unwrap()]);
    let connector = TransportConnector::new(Some(options));
    let peer = HttpPeer::new(origin.local_addr().unwrap(), false, String::new());
    assert!(connector.new_stream(&peer).await.is_ok());
    // One that is not there is what fails.
    let options = ConnectorOptions {
        bind_to_v6: vec!["[2001:db8::1]:0".parse().unwrap()],
        ..ConnectorOptions::new(1)
    };
    let connector = TransportConnector::new(Some(options));
    assert!(connector.new_stream(&peer).await.is_err());
}

/// The callback is told of each reuse, by both connectors.
#[tokio::test]
async fn reuse_is_told() {
    let origin = Origin::answering("HTTP/1.1 204 No Content\r\n\r\n");
    let peer = forward_to(origin.path()).peer;
    let told = Arc::new(AtomicUsize::new(0));
    let options = || {
        let told = told.clone();
        ConnectorOptions {
            keepalive_pool_callback: Some(Arc::new(move |_| {
                told.fetch_add(1, Ordering::SeqCst);
            })),
            ..ConnectorOptions::new(1)
        }
    };
    let connector = TransportConnector::new(Some(options()));
    let stream = connector.new_stream(&peer).await.unwrap();
    connector.release_stream(stream, peer.reuse_hash(), None);
    assert!(connector.reused_stream(&peer).await.is_some());
    assert_eq!(told.load(Ordering::SeqCst), 1);

    let connector = Connector::new(Some(options()));
    let (mut session, reused) = connector.get_http_session(&peer).await.unwrap();
    assert!(!reused);
    let mut request = RequestHeader::build("GET", b"/", None).unwrap();
    request.insert_header("Host", "a").unwrap();
    session
        .write_request_header(Box::new(request))
        .await
        .unwrap();
    session.read_response().await.unwrap();
    connector.release_http_session(session, &peer, None).await;
    let (_session, reused) = connector.get_http_session(&peer).await.unwrap();
    assert!(reused);
    assert_eq!(told.load(Ordering::SeqCst), 2);
}
