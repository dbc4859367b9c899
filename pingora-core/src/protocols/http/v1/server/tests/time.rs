//! Deadlines, and the shutdown that a waiting connection meets.

use super::*;
use crate::shutdown::Stage;
use tokio::time::Instant;

/// How long `future` takes on the clock that jumps.
async fn timed<F: Future>(future: F) -> (F::Output, Duration) {
    let begun = Instant::now();
    let output = future.await;
    (output, begun.elapsed())
}

fn about(took: Duration, want: Duration) -> bool {
    took >= want && took < want + Duration::from_secs(1)
}

#[tokio::test(start_paused = true)]
async fn a_client_that_sends_nothing() {
    let (_client, mut session) = connect(100);
    let (read, took) = timed(session.read_request()).await;
    assert_eq!(read.unwrap(), None);
    assert!(about(took, LIMITS.client_read), "{took:?}");

    let (_client, mut session) = connect(100);
    session.set_read_timeout(Some(Duration::from_secs(3)));
    let (read, took) = timed(session.read_request()).await;
    assert_eq!(read.unwrap(), None);
    assert!(about(took, Duration::from_secs(3)), "{took:?}");
}

/// An empty line is no beginning of a request: a connection that sends nothing else is idle.
#[tokio::test(start_paused = true)]
async fn a_client_that_sends_empty_lines() {
    let (mut client, mut session) = connect(1000);
    let lines = async {
        loop {
            tokio::time::sleep(LIMITS.client_read / 2 + Duration::from_secs(1)).await;
            if client.0.write_all(b"\r\n").await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    };
    let (read, took) = tokio::select! {
        timed = timed(session.read_request()) => timed,
        () = lines => unreachable!("it sends for ever"),
    };
    assert_eq!(read.unwrap(), None);
    assert!(about(took, LIMITS.client_read), "{took:?}");
}

/// The time is that of the whole head: a byte now and then does not prolong it.
#[tokio::test(start_paused = true)]
async fn a_head_that_trickles() {
    let (mut client, mut session) = connect(1000);
    let trickle = async {
        for byte in GET.as_bytes().iter().cycle() {
            if client.0.write_all(&[*byte]).await.is_err() {
                break;
            }
            tokio::time::sleep(Duration::from_secs(7)).await;
        }
    };
    let read = async {
        let read = session.read_request().await;
        drop(session);
        read
    };
    let ((read, took), ()) = tokio::join!(timed(read), trickle);
    assert_eq!(etype(read), Some(ErrorType::ReadTimedout));
    assert!(about(took, LIMITS.client_read), "{took:?}");
}

/// The time between two requests is one thing, that of a head another.
#[tokio::test(start_paused = true)]
async fn keepalive_timeout() {
    for (keepalive, idle) in [(Some(10), Some(10)), (Some(0), None)] {
        let (mut client, mut session) = asked(GET).await;
        session.set_server_keepalive(keepalive);
        answer(&mut session, "x").await;
        let next = session.reuse().await.unwrap().unwrap();
        let mut session = next.into_inner().into_session();
        let wait = tokio::time::timeout(Duration::from_secs(1000), session.read_request());
        let (read, took) = timed(wait).await;
        match idle {
            Some(idle) => {
                assert_eq!(read.unwrap().unwrap(), None);
                assert!(about(took, Duration::from_secs(idle)), "{took:?}");
            }
            None => {
                assert!(read.is_err(), "an end that nobody asked for");
                client.sends("GET").await;
                let (read, took) = timed(session.read_request()).await;
                assert_eq!(etype(read), Some(ErrorType::ReadTimedout));
                assert!(about(took, LIMITS.client_read), "{took:?}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_head_after_an_idle_time_has_its_own() {
    let (mut client, mut session) = asked(GET).await;
    session.set_server_keepalive(Some(100));
    answer(&mut session, "x").await;
    let next = session.reuse().await.unwrap().unwrap();
    let mut session = next.into_inner().into_session();
    let (read, ()) = tokio::join!(timed(session.read_request()), async {
        tokio::time::sleep(Duration::from_secs(99)).await;
        client.sends("GET").await;
        tokio::time::sleep(Duration::from_secs(59)).await;
        client.sends(&GET[3..]).await;
    });
    assert_eq!(read.0.unwrap(), Some(GET.len()));
}

/// The silence is what counts in a body.
#[tokio::test(start_paused = true)]
async fn a_body_that_stops() {
    let (mut client, mut session) =
        asked("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\n").await;
    session.set_read_timeout(Some(Duration::from_secs(10)));
    let (read, ()) = tokio::join!(
        timed(async {
            for _ in 0..3 {
                session.read_body_bytes().await.unwrap().unwrap();
            }
            session.read_body_bytes().await
        }),
        async {
            for _ in 0..3 {
                tokio::time::sleep(Duration::from_secs(9)).await;
                client.sends("x").await;
            }
        }
    );
    assert_eq!(etype(read.0), Some(ErrorType::ReadTimedout));
    assert!(about(read.1, Duration::from_secs(37)), "{:?}", read.1);
    assert!(!session.will_keepalive());
}

const LONG: Duration = Duration::from_secs(1000);

/// Nothing ends a read, for a long time.
async fn must_wait(session: &mut HttpSession) {
    let read = tokio::time::timeout(LONG, session.read_body_bytes()).await;
    assert!(read.is_err(), "{read:?}");
}

/// The next read ends by its time limit, which begins with it.
async fn must_end_after(session: &mut HttpSession, limit: Duration) {
    let (read, took) = timed(session.read_body_bytes()).await;
    assert_eq!(etype(read), Some(ErrorType::ReadTimedout));
    assert!(about(took, limit), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn the_time_of_an_endpoint_is_for_heads_and_bodies_and_not_for_tunnels() {
    let limit = Duration::from_secs(3);
    let settings = ConnectionSettings {
        read: Some(limit),
        ..ConnectionSettings::default()
    };
    let (_client, mut session) = connect(100);
    session.set_connection_settings(&settings);
    let (read, took) = timed(session.read_request()).await;
    assert_eq!(read.unwrap(), None);
    assert!(about(took, limit), "{took:?}");

    let post = "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\n";
    for own in [None, Some(Duration::from_secs(7))] {
        let (_client, mut session) = asked(post).await;
        session.set_connection_settings(&settings);
        session.set_read_timeout(own);
        must_end_after(&mut session, own.unwrap_or(limit)).await;
    }

    let upgrade = "GET / HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n";
    let (_client, mut session) = asked(upgrade).await;
    session.set_connection_settings(&settings);
    let switch = response(101, &[]);
    session.write_response_header(switch).await.unwrap();
    must_wait(&mut session).await;
}

/// RFC 9110 section 10.1.1: it is to wait for a 100, and need not send its body after a final answer. An application that
/// reads the body itself, and sends none, is not kept for ever.
#[tokio::test(start_paused = true)]
async fn a_client_that_waits_for_a_100_may_do_so() {
    let post = "POST / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\n";
    let (_client, mut session) = asked(post).await;
    must_end_after(&mut session, LIMITS.client_read).await;

    let (_client, mut session) = asked(post).await;
    let for_upstream = std::future::poll_fn(|cx| session.poll_body_for_upstream(cx));
    let read = tokio::time::timeout(LONG, for_upstream).await;
    assert!(read.is_err(), "{read:?}");
    let go_on = response(100, &[]);
    session.write_response_header(go_on).await.unwrap();
    must_end_after(&mut session, LIMITS.client_read).await;

    let (_client, mut session) = asked(post).await;
    let head = response(200, &[("Content-Length", "2")]);
    session.write_response_header(head).await.unwrap();
    session.write_body(b"x").await.unwrap();
    must_wait(&mut session).await;
    session.write_body(b"y").await.unwrap();
    must_end_after(&mut session, LIMITS.client_read).await;
}

/// As in HTTP/2.
#[tokio::test(start_paused = true)]
async fn a_client_that_is_being_answered_may_be_silent() {
    let post = "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n";
    for own in [None, Some(Duration::from_secs(7))] {
        let (_client, mut session) = asked(post).await;
        assert_eq!(session.read_body_bytes().await.unwrap().unwrap(), "abc");
        session.set_read_timeout(own);
        let head = response(200, &[("Content-Length", "2")]);
        session.write_response_header(head).await.unwrap();
        match own {
            Some(own) => must_end_after(&mut session, own).await,
            None => {
                must_wait(&mut session).await;
                session.write_body(b"xy").await.unwrap();
                must_end_after(&mut session, LIMITS.client_read).await;
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_deadline_survives_a_dropped_read() {
    let (_client, mut session) =
        asked("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\n").await;
    session.set_read_timeout(Some(Duration::from_secs(10)));
    let read = async {
        loop {
            let piece = tokio::time::timeout(Duration::from_secs(3), session.read_body_bytes());
            if let Ok(read) = piece.await {
                break read;
            }
        }
    };
    let (read, took) = timed(read).await;
    assert_eq!(etype(read), Some(ErrorType::ReadTimedout));
    assert!(about(took, Duration::from_secs(10)), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_takes_nothing() {
    let (mut client, mut session) = connect(128);
    tokio::join!(client.sends(GET), async {
        session.read_request().await.unwrap()
    });
    session.set_write_timeout(Some(Duration::from_secs(10)));
    let head = response(200, &[("Content-Length", "100000")]);
    session.write_response_header(head).await.unwrap();
    let body = vec![b'x'; 100_000];
    let ((wrote, took), ()) = tokio::join!(timed(session.write_body(&body)), async {
        // A little is taken at first: each time there are another ten seconds.
        for _ in 0..3 {
            tokio::time::sleep(Duration::from_secs(9)).await;
            client.0.read_exact(&mut [0; 10]).await.unwrap();
        }
    });
    assert_eq!(etype(wrote), Some(ErrorType::WriteTimedout));
    assert!(about(took, Duration::from_secs(37)), "{took:?}");
    assert_eq!(etype(session.reuse().await), Some(ErrorType::WriteError));
}

/// With a least rate it does not help to take a little now and then.
#[tokio::test(start_paused = true)]
async fn a_client_that_is_too_slow() {
    let (mut client, mut session) = connect(128);
    tokio::join!(client.sends(GET), async {
        session.read_request().await.unwrap()
    });
    session.set_min_send_rate(Some(1000));
    let body = vec![b'x'; 20_000];
    let head = response(200, &[("Content-Length", "20000")]);
    let write = async {
        session.write_response_header(head).await?;
        let wrote = session.write_body(&body).await;
        drop(session);
        wrote
    };
    let ((wrote, took), ()) = tokio::join!(timed(write), async {
        loop {
            tokio::time::sleep(Duration::from_millis(500)).await;
            let mut piece = [0; 100];
            if client.0.read(&mut piece).await.unwrap() == 0 {
                break;
            }
        }
    });
    assert_eq!(etype(wrote), Some(ErrorType::WriteTimedout));
    assert!(took < Duration::from_secs(23), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_is_fast_enough() {
    let (mut client, mut session) = connect(128);
    tokio::join!(client.sends(GET), async {
        session.read_request().await.unwrap()
    });
    session.set_min_send_rate(Some(1000));
    let ((wrote, took), ()) = tokio::join!(
        timed(async {
            let head = response(200, &[("Transfer-Encoding", "chunked")]);
            session.write_response_header(head).await?;
            let mut wrote = Ok(None);
            for _ in 0..5 {
                wrote = session.write_body(&[b'x'; 20_000]).await;
            }
            drop(session);
            wrote
        }),
        async {
            loop {
                tokio::time::sleep(Duration::from_millis(90)).await;
                let mut piece = [0; 100];
                if client.0.read(&mut piece).await.unwrap() == 0 {
                    break;
                }
            }
        }
    );
    assert_eq!(wrote.unwrap(), Some(20_000));
    assert!(took > Duration::from_secs(60), "{took:?}");
}

/// A connection whose client neither reads nor closes does not hold up its end for ever.
#[tokio::test(start_paused = true)]
async fn a_close_ends() {
    let (client, mut session) = connect(1000);
    let ((), took) = timed(session.shutdown()).await;
    assert!(about(took, LIMITS.client_linger), "{took:?}");
    drop(client);

    let stuck = Stuck(None);
    let mut session = HttpSession::new(Box::new(stuck));
    let ((), took) = timed(session.shutdown()).await;
    assert!(about(took, LIMITS.client_linger), "{took:?}");
}

/// A peer that sends on and on during the close.
#[tokio::test(start_paused = true)]
async fn a_close_ends_while_bytes_come() {
    let (mut client, mut session) = connect(1000);
    let shut = async {
        session.shutdown().await;
        drop(session);
    };
    let (((), took), ()) = tokio::join!(timed(shut), async {
        while client.0.write_all(b"x").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    });
    assert!(about(took, LIMITS.client_linger), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn shutdown_of_an_idle_connection() {
    let registry = Registry::new(1);
    let (_client, mut session) = connect(100);
    session.wait_in(&registry, Duration::from_secs(5));
    let (read, ()) = tokio::join!(timed(session.read_request()), async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        registry.advance(Stage::Draining);
        tokio::time::sleep(Duration::from_secs(1)).await;
        registry.advance(Stage::Closing);
    });
    assert_eq!(read.0.unwrap(), None);
    assert_eq!(
        read.1,
        Duration::from_secs(2),
        "kept while draining, then closed at once"
    );
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_becomes_idle_in_a_shutdown_has_its_time() {
    // Before idle ones close, and after.
    for begins in [4, 7] {
        let registry = Registry::new(1);
        registry.keep_idle(Duration::from_secs(5));
        registry.advance(Stage::Draining);
        let (mut client, mut session) = connect(1000);
        session.wait_in(&registry, Duration::from_secs(1));
        let (read, ()) = tokio::join!(
            async {
                tokio::time::sleep(Duration::from_secs(begins)).await;
                let request = timed(session.read_request()).await;
                (request, session)
            },
            async {
                tokio::time::sleep(Duration::from_secs(5)).await;
                registry.advance(Stage::Closing);
                tokio::time::sleep(Duration::from_millis(3900)).await;
                client.sends(GET).await;
            }
        );
        let ((request, _), _session) = read;
        assert_eq!(request.unwrap(), Some(GET.len()));

        let (_client, mut session) = connect(1000);
        session.wait_in(&registry, Duration::from_secs(1));
        let (read, took) = timed(session.read_request()).await;
        assert_eq!(read.unwrap(), None);
        assert!(about(took, Duration::from_secs(5)), "{took:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_that_lets_reads_end_by_themselves() {
    for sent in ["", "GET "] {
        let registry = Registry::new(1);
        let (mut client, mut session) = connect(100);
        session.wait_in(&registry, Duration::from_secs(5));
        client.sends(sent).await;
        let (read, ()) = tokio::join!(timed(session.read_request()), async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            registry.advance(Stage::Expiring);
        });
        let expected = (!sent.is_empty()).then_some(ErrorType::ReadTimedout);
        assert_eq!(etype(read.0), expected);
        assert_eq!(read.1, Duration::from_secs(6));
    }
}

#[tokio::test(start_paused = true)]
async fn shutdown_in_the_middle_of_a_head() {
    let registry = Registry::new(1);
    let (mut client, mut session) = connect(1000);
    session.wait_in(&registry, Duration::from_secs(5));
    client.sends("GET ").await;
    let (read, ()) = tokio::join!(session.read_request(), async {
        tokio::task::yield_now().await;
        registry.advance(Stage::Closing);
        tokio::time::sleep(Duration::from_secs(4)).await;
        client.sends(&GET[4..]).await;
    });
    assert_eq!(read.unwrap(), Some(GET.len()));
    // Its body has the time that bodies have.
    assert_eq!(session.read_body_bytes().await.unwrap(), None);

    let (mut client, mut session) = connect(1000);
    session.wait_in(&registry, Duration::from_secs(5));
    client.sends("GET ").await;
    let (read, took) = timed(session.read_request()).await;
    assert_eq!(etype(read), Some(ErrorType::ReadTimedout));
    assert!(about(took, Duration::from_secs(5)), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_request_that_is_there_when_the_shutdown_begins() {
    let registry = Registry::new(1);
    let (mut client, mut session) = connect(1000);
    session.wait_in(&registry, Duration::from_secs(5));
    client.sends(GET).await;
    registry.advance(Stage::Closing);
    let there = std::future::poll_fn(|cx| Poll::Ready(session.poll_has_request(cx))).await;
    assert!(there);
    assert_eq!(session.read_request().await.unwrap(), Some(GET.len()));

    let (_client, mut session) = connect(1000);
    session.wait_in(&registry, Duration::from_secs(5));
    let there = std::future::poll_fn(|cx| Poll::Ready(session.poll_has_request(cx))).await;
    assert!(!there);
    assert_eq!(session.read_request().await.unwrap(), None);
}

#[tokio::test(start_paused = true)]
async fn a_farewell_that_is_not_taken_ends_in_time() {
    let (mut client, server) = tokio::io::duplex(1000);
    let mut session = HttpSession::new(Box::new(Stuck(Some(server))));
    let request = "GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";
    client.write_all(request.as_bytes()).await.unwrap();
    session.read_request().await.unwrap();
    answer(&mut session, "x").await;
    let (_, took) = timed(session.shutdown()).await;
    assert_eq!(took, LIMITS.client_linger);
}

/// Never closes, and without a transport neither reads nor writes.
#[derive(Debug)]
struct Stuck(Option<DuplexStream>);

mod stuck {
    use super::Stuck;
    use crate::protocols::http::v1::closed_stream::ClosedStream;
    use crate::protocols::*;
    use std::io;
    use std::pin::Pin;
    use std::sync::Arc;
    use std::task::{Context, Poll};
    use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

    impl AsyncRead for Stuck {
        fn poll_read(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            buf: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            match &mut self.0 {
                Some(io) => Pin::new(io).poll_read(cx, buf),
                None => Poll::Pending,
            }
        }
    }

    impl AsyncWrite for Stuck {
        fn poll_write(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            buf: &[u8],
        ) -> Poll<io::Result<usize>> {
            match &mut self.0 {
                Some(io) => Pin::new(io).poll_write(cx, buf),
                None => Poll::Pending,
            }
        }

        fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            match &mut self.0 {
                Some(io) => Pin::new(io).poll_flush(cx),
                None => Poll::Pending,
            }
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Pending
        }
    }

    #[async_trait::async_trait]
    impl Shutdown for Stuck {
        async fn shutdown(&mut self) {
            std::future::pending().await
        }
    }

    impl UniqueID for Stuck {
        fn id(&self) -> UniqueIDType {
            -1
        }
    }

    impl Ssl for Stuck {}

    impl Peek for Stuck {}

    impl GetTimingDigest for Stuck {
        fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
            ClosedStream.get_timing_digest()
        }
    }

    impl GetProxyDigest for Stuck {
        fn get_proxy_digest(&self) -> Option<Arc<raw_connect::ProxyDigest>> {
            None
        }
    }

    impl GetSocketDigest for Stuck {
        fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
            None
        }
    }
}
