use tempfile::TempDir;
use tokio::net::UnixListener;

use super::*;
use crate::upstreams::peer::HttpPeer;

mod pending_connects;

/// An origin that answers nothing.
struct Origin {
    dir: TempDir,
}

impl Origin {
    fn start() -> Self {
        let dir = TempDir::new().unwrap();
        let listener = UnixListener::bind(dir.path().join("origin")).unwrap();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let mut connection = h2::server::handshake(stream).await.unwrap();
                    let mut streams = Vec::new();
                    while let Some(Ok(stream)) = connection.accept().await {
                        streams.push(stream);
                    }
                });
            }
        });
        Origin { dir }
    }

    fn peer(&self, max_streams: usize) -> HttpPeer {
        let path = self.dir.path().join("origin");
        let mut peer = HttpPeer::new_uds(path.to_str().unwrap(), false, String::new()).unwrap();
        peer.options.alpn = ALPN::H2;
        peer.options.max_h2_streams = max_streams;
        peer
    }
}

async fn session(connector: &Connector, peer: &HttpPeer) -> Http2Session {
    if let Some(session) = connector.reused_http_session(peer).await.unwrap() {
        return session;
    }
    match connector.new_http_session::<_, ()>(peer).await.unwrap() {
        HttpSession::H2(session) => session,
        _ => panic!("HTTP/2 by prior knowledge"),
    }
}

#[tokio::test]
async fn streams_share_connections_up_to_their_limit() {
    let origin = Origin::start();
    let peer = origin.peer(2);
    let connector = Connector::new(None);
    let first = session(&connector, &peer).await;
    assert!(connector
        .in_use_pool()
        .get(peer.reuse_hash())
        .is_some_and(|conn| {
            assert_eq!(conn.free_stream_slots(), 1);
            assert!(conn.can_accept_streams(1) && !conn.can_accept_streams(2));
            connector.in_use_pool().insert(peer.reuse_hash(), conn);
            true
        }));
    let second = session(&connector, &peer).await;
    assert_eq!(first.fd(), second.fd());
    assert!(!first.conn.more_streams_allowed());
    // It is full, and so nobody is given it.
    assert!(connector.in_use_pool().get(peer.reuse_hash()).is_none());
    let third = session(&connector, &peer).await;
    assert_ne!(first.fd(), third.fd());

    connector.release_http_session(second, &peer, None);
    let fourth = session(&connector, &peer).await;
    let fifth = session(&connector, &peer).await;
    let pair = [fourth.fd(), fifth.fd()];
    assert!(pair.contains(&first.fd()) && pair.contains(&third.fd()));
    for used in [first, third, fourth, fifth] {
        connector.release_http_session(used, &peer, None);
    }
    for _ in 0..4 {
        let again = session(&connector, &peer).await;
        assert!(pair.contains(&again.fd()));
        connector.release_http_session(again, &peer, None);
    }
    assert!(
        connector.in_use_pool().get(peer.reuse_hash()).is_none(),
        "all are idle"
    );
}

#[tokio::test]
async fn the_pool_of_connections_in_use_is_its_threads_own() {
    let origin = Origin::start();
    let peer = origin.peer(5);
    let connector = Connector::new(None);
    let used = session(&connector, &peer).await;
    let key = peer.reuse_hash();
    let elsewhere = std::thread::scope(|scope| {
        let get = scope.spawn(|| connector.in_use_pool().get(key).is_some());
        get.join().unwrap()
    });
    assert!(!elsewhere);
    assert!(connector
        .in_use_pool()
        .release(key, used.fd() + 1)
        .is_none());
    let conn = connector.in_use_pool().release(key, used.fd()).unwrap();
    assert!(conn.is_same(&used.conn));
    assert!(connector.in_use_pool().get(key).is_none());
}

#[tokio::test]
async fn what_a_worker_has_no_room_for_goes_to_the_overflow() {
    let origin = Origin::start();
    let peer = origin.peer(1);
    let connector = Connector::new(Some(ConnectorOptions::new(1)));
    let key = peer.reuse_hash();
    let (first, second) = (
        session(&connector, &peer).await,
        session(&connector, &peer).await,
    );
    let ids = [first.fd(), second.fd()];
    connector.release_http_session(first, &peer, None);
    assert!(connector.idle_pool().get(&key).is_none());
    connector.release_http_session(second, &peer, None);
    let (first, second) = (
        session(&connector, &peer).await,
        session(&connector, &peer).await,
    );
    assert_eq!([first.fd(), second.fd()], ids);
    connector.release_http_session(first, &peer, None);
    connector.release_http_session(second, &peer, None);
    assert_eq!(connector.idle_pool().get(&key).unwrap().id(), ids[1]);
}

#[tokio::test]
async fn the_callback_is_told_of_each_that_is_used_again() {
    let origin = Origin::start();
    let peer = origin.peer(1);
    let told = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let count = told.clone();
    let mut options = ConnectorOptions::new(1);
    options.keepalive_pool_callback = Some(Arc::new(move |_| {
        count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
    }));
    let connector = Connector::new(Some(options));
    for round in 0..3 {
        // The second one of the first two is too many for the pool.
        let used = [
            session(&connector, &peer).await,
            session(&connector, &peer).await,
        ];
        assert_eq!(told.load(std::sync::atomic::Ordering::SeqCst), 2 * round);
        for used in used {
            connector.release_http_session(used, &peer, None);
        }
    }
}

#[tokio::test]
async fn nothing_is_kept_that_must_not_be() {
    let origin = Origin::start();
    let peer = origin.peer(1);
    let connector = Connector::new(None);
    let used = session(&connector, &peer).await;
    let conn = used.conn.clone();
    connector.release_http_session(used, &peer, Some(Duration::ZERO));
    let used = session(&connector, &peer).await;
    assert!(!used.conn.is_same(&conn));

    // One that takes no further streams is used by those it has alone.
    used.conn.mark_shutdown();
    assert!(used.conn.is_shutting_down() && !used.conn.more_streams_allowed());
    assert!(used.conn.spawn_stream().await.unwrap().is_none());
    let id = used.conn.clone();
    connector.release_http_session(used, &peer, None);
    let used = session(&connector, &peer).await;
    assert!(!used.conn.is_same(&id));
}

#[tokio::test]
async fn requests_wait_for_a_connection_that_is_being_made() {
    let origin = Origin::start();
    let peer = origin.peer(3);
    let connector = Connector::new(None);
    let (a, b, c, d) = tokio::join!(
        connector.soon::<_, ()>(&peer),
        connector.soon::<_, ()>(&peer),
        connector.soon::<_, ()>(&peer),
        connector.soon::<_, ()>(&peer),
    );
    let reused = [a, b, c, d].map(|made| made.map(|(_, reused)| reused).unwrap());
    assert_eq!(reused, [false, true, true, false]);
}

#[tokio::test]
async fn a_session_that_was_dropped_does_not_keep_its_connection_for_ever() {
    let origin = Origin::start();
    let peer = origin.peer(5);
    let connector = Connector::new(None);
    let used = session(&connector, &peer).await;
    let conn = used.conn.clone();
    drop(used);
    assert!(conn.is_idle() && conn.listed().is_some());
    tokio::time::timeout(Duration::from_secs(60), async {
        while conn.listed().is_some() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .expect("it is looked after");
}

#[tokio::test]
async fn the_version_follows_what_the_peer_takes() {
    let origin = Origin::start();
    let connector = crate::connectors::http::Connector::new(None);
    for (alpn, version) in [(ALPN::H1, 1), (ALPN::H2H1, 1), (ALPN::H2, 2)] {
        let mut peer = origin.peer(5);
        peer.options.alpn = alpn.clone();
        let (session, reused) = connector.get_http_session(&peer).await.unwrap();
        assert!(!reused);
        let found = match session {
            HttpSession::H1(_) => 1,
            HttpSession::H2(_) => 2,
            HttpSession::Custom(()) => 0,
        };
        assert_eq!(found, version, "{alpn}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_nobody_has_closes_though_its_peer_takes_nothing() {
    let (stream, _peer) = tokio::io::duplex(64);
    let conn = handshake::begin(Box::new(stream), H2HandshakeSettings::new(), false);
    let conn = conn.await.unwrap();
    let mut closed = conn.closed();
    let mut session = conn.try_stream().unwrap().unwrap();
    let mut request = pingora_http::RequestHeader::build("POST", b"/", None).unwrap();
    request.insert_header("Host", "a").unwrap();
    session
        .write_request_header(Box::new(request), false)
        .unwrap();
    // Fills what there is between them.
    let body = bytes::Bytes::from_static(&[0; 1024]);
    let written = session.write_request_body(body, false);
    let _ = tokio::time::timeout(Duration::from_secs(1), written).await;
    let since = Instant::now();
    drop((session, conn));
    closed.wait_for(|closed| *closed).await.unwrap();
    assert_eq!(since.elapsed().as_secs(), LIMITS.give_way.as_secs());
}
