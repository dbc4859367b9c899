//! Connections that are given to the proxy one by one, from runtimes of one's own, with the flag set at a
//! moment that the test picks.

use super::common::{forward_to, Forward, Origin};
use super::raw::{frame, head, Raw, DATA, END_HEADERS, END_STREAM, HEADERS, SETTINGS};
use super::*;
use async_trait::async_trait;
use pingora_core::apps::{HttpServerApp, HttpServerOptions, ServerApp};
use pingora_core::protocols::http::ServerSession;
use pingora_core::protocols::l4::stream::Stream;
use pingora_core::server::configuration::{ServerConf, ShutdownPolicy};
use pingora_core::server::ShutdownWatch;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_core::Result;
use pingora_proxy::{http_proxy, HttpProxy, ProxyHttp, Session};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{mpsc, Arc, Mutex};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;

fn runtime() -> Runtime {
    Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap()
}

fn proxy<P: ProxyHttp>(conf: ServerConf, app: P) -> Arc<HttpProxy<P>> {
    Arc::new(http_proxy(&Arc::new(conf), app))
}

/// A loop of one's own, that hands its connections to a proxy.
struct Hand<P> {
    proxy: Arc<HttpProxy<P>>,
    runtime: Runtime,
    /// Never turns true: only the proxy's own flag is there.
    watch: ShutdownWatch,
    _watched: watch::Sender<bool>,
    ended: Arc<AtomicUsize>,
}

impl<P> Hand<P>
where
    P: ProxyHttp + Send + Sync + 'static,
    P::CTX: Send + Sync,
{
    fn of(proxy: Arc<HttpProxy<P>>) -> Self {
        let (watched, watch) = watch::channel(false);
        Hand {
            proxy,
            runtime: runtime(),
            watch,
            _watched: watched,
            ended: Arc::default(),
        }
    }

    /// A connection on which these bytes were sent before the proxy got it.
    fn connect_with(&self, bytes: impl AsRef<[u8]>) -> Client {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let mut client = Client::over(ours);
        client.wire.send(bytes);
        theirs.set_nonblocking(true).unwrap();
        let (proxy, watch, ended) = (self.proxy.clone(), self.watch.clone(), self.ended.clone());
        self.runtime.spawn(async move {
            let stream = Stream::from(tokio::net::UnixStream::from_std(theirs).unwrap());
            let kept = proxy.process_new(Box::new(stream), &watch).await;
            assert!(kept.is_none());
            ended.fetch_add(1, Ordering::SeqCst);
        });
        client
    }

    /// An idle connection, which has had a request.
    fn idle(&self) -> Client {
        let mut client = self.connect_with("");
        client.get();
        client
    }

    /// Waits until the proxy let go of so many connections.
    #[track_caller]
    fn expect_ended(&self, connections: usize) {
        eventually("the connections end", || {
            self.ended.load(Ordering::SeqCst) == connections
        });
    }
}

/// Sets the flag, and waits until idle connections are no longer kept.
fn shut_down<P>(proxy: &Arc<HttpProxy<P>>)
where
    P: ProxyHttp + Send + Sync + 'static,
    P::CTX: Send + Sync,
{
    runtime().block_on(proxy.cleanup());
}

fn finish() -> ServerConf {
    ServerConf {
        shutdown_read_timeout_seconds: 60,
        ..ServerConf::default()
    }
}

fn strict() -> ServerConf {
    ServerConf {
        shutdown_policy: ShutdownPolicy::Strict,
        ..finish()
    }
}

#[test]
fn one_proxy_may_serve_several_loops() {
    let origin = Origin::answering(HELLO);
    let proxy = proxy(finish(), forward_to(origin.path()));
    let loops = [Hand::of(proxy.clone()), Hand::of(proxy.clone())];
    let mut idle: Vec<Client> = loops
        .iter()
        .flat_map(|hand| [hand.idle(), hand.connect_with("")])
        .collect();
    shut_down(&proxy);
    idle.iter_mut().for_each(Client::expect_fin);
    drop(idle);
    for hand in loops {
        // Who comes later is served once if it has asked, and else let go.
        hand.connect_with(GET).expect_last();
        hand.connect_with("").expect_fin();
        hand.expect_ended(4);
    }
}

#[test]
fn a_connection_ends_with_the_proxy_that_has_it() {
    let origin = Origin::answering(HELLO);
    let [first, second] = [(); 2].map(|()| proxy(finish(), forward_to(origin.path())));
    let (ours, theirs) = UnixStream::pair().unwrap();
    let mut client = Client::over(ours);
    theirs.set_nonblocking(true).unwrap();
    let runtime = runtime();
    let served = runtime.spawn({
        let (first, second) = (first.clone(), second.clone());
        async move {
            let (_watched, watch) = watch::channel(false);
            let stream = Stream::from(tokio::net::UnixStream::from_std(theirs).unwrap());
            let session = ServerSession::new_http1(Box::new(stream));
            let kept = first.process_new_http(session, &watch).await.unwrap();
            let mut moved = 0;
            let mut kept = Some(kept);
            while let Some(connection) = kept {
                let (stream, settings) = connection.consume();
                let mut session = ServerSession::new_http1(stream);
                settings.unwrap().apply_to_session(&mut session);
                moved += 1;
                kept = second.process_new_http(session, &watch).await;
            }
            moved
        }
    });
    client.get();
    client.get();
    // Not that of the one it left.
    shut_down(&first);
    client.get();
    client.expect_open();
    shut_down(&second);
    client.expect_fin();
    drop(client);
    assert_eq!(runtime.block_on(served).unwrap(), 3);
}

/// Blocks its worker for requests to `/block`: after it said so, until it may go on.
struct Block {
    forward: Forward,
    blocks: Mutex<mpsc::Sender<()>>,
    may_go: Mutex<mpsc::Receiver<()>>,
}

#[async_trait]
impl ProxyHttp for Block {
    type CTX = ();

    fn new_ctx(&self) {}

    async fn request_filter(&self, session: &mut Session, _: &mut ()) -> Result<bool> {
        session.set_pipelining_enabled(true);
        if session.req_header().uri.path() == "/block" {
            self.blocks.lock().unwrap().send(()).unwrap();
            self.may_go.lock().unwrap().recv().unwrap();
        }
        Ok(false)
    }

    async fn upstream_peer(&self, session: &mut Session, ctx: &mut ()) -> Result<Box<HttpPeer>> {
        self.forward.upstream_peer(session, ctx).await
    }
}

#[test]
fn requests_in_the_receive_queue_are_answered() {
    let origin = Origin::answering(HELLO);
    let (blocks, is_blocked) = mpsc::channel();
    let (go, may_go) = mpsc::channel();
    let app = Block {
        forward: forward_to(origin.path()),
        blocks: Mutex::new(blocks),
        may_go: Mutex::new(may_go),
    };
    let hand = Hand::of(proxy(finish(), app));
    let mut asking: Vec<Client> = (0..10).map(|_| hand.idle()).collect();
    let mut silent = hand.idle();
    let mut blocked = hand.connect_with("GET /block HTTP/1.1\r\nHost: a\r\n\r\n");
    is_blocked.recv().unwrap();
    // The only worker is busy, so that nobody reads these before the flag is set.
    for client in &mut asking {
        client.wire.send(GET);
    }
    asking.push(hand.connect_with(GET));
    let mut by_half = hand.connect_with("GET / HTTP/1.1\r\nHost: a\r\n");
    shut_down(&hand.proxy);
    go.send(()).unwrap();
    blocked.expect_last();
    asking.iter_mut().for_each(Client::expect_last);
    silent.expect_fin();
    by_half.wire.send("\r\n");
    by_half.expect_last();
    drop((asking, silent, blocked, by_half));
    hand.expect_ended(14);
}

/// A client of HTTP/2 without TLS is known by its first bytes alone.
#[test]
fn http2_requests_in_the_receive_queue_are_answered() {
    let origin = Origin::answering(HELLO);
    let (blocks, is_blocked) = mpsc::channel();
    let (go, may_go) = mpsc::channel();
    let app = Block {
        forward: forward_to(origin.path()),
        blocks: Mutex::new(blocks),
        may_go: Mutex::new(may_go),
    };
    let mut proxy = http_proxy(&Arc::new(finish()), app);
    let mut options = HttpServerOptions::default();
    options.h2c = true;
    proxy.server_options = Some(options);
    let hand = Hand::of(Arc::new(proxy));
    let mut blocked = hand.connect_with("GET /block HTTP/1.1\r\nHost: a\r\n\r\n");
    is_blocked.recv().unwrap();
    let request = [
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
        frame(SETTINGS, 0, 0, &[]),
        frame(HEADERS, END_HEADERS | END_STREAM, 1, &head("GET", &[])),
    ]
    .concat();
    // The only worker is busy, so that nobody looks at these before the flag is set.
    let mut asking: Vec<Client> = (0..10).map(|_| hand.connect_with(&request)).collect();
    let mut by_half = hand.connect_with(&request[..10]);
    let mut of_http1 = hand.connect_with(GET);
    let mut silent = hand.connect_with("");
    shut_down(&hand.proxy);
    go.send(()).unwrap();
    blocked.expect_last();
    of_http1.expect_last();
    silent.expect_fin();
    by_half.wire.send(&request[10..]);
    asking.push(by_half);
    for client in asking {
        let mut client = Raw::over(client.wire);
        let of_the_stream = std::iter::repeat_with(|| client.read()).filter(|frame| frame.id == 1);
        let answer: Vec<_> = of_the_stream.take(2).collect();
        assert_eq!((answer[0].kind, answer[1].kind), (HEADERS, DATA));
        assert_eq!(answer[1].payload, b"hello");
    }
    drop((of_http1, silent, blocked));
    hand.expect_ended(14);
}

#[test]
fn a_request_behind_another_is_answered() {
    let (arrived, has_arrived) = mpsc::channel();
    let (go, may_go) = mpsc::channel();
    let (arrived, may_go) = (Mutex::new(arrived), Mutex::new(may_go));
    let origin = Origin::scripted(move |mut wire, _| {
        while wire.has_more() {
            if wire.read_message().head.starts_with("GET /held ") {
                wire.send(&HELLO[..HELLO.len() - 2]);
                arrived.lock().unwrap().send(()).unwrap();
                may_go.lock().unwrap().recv().unwrap();
                wire.send("lo");
            } else {
                wire.send(HELLO);
            }
        }
    });
    let app = Block {
        forward: forward_to(origin.path()),
        blocks: Mutex::new(mpsc::channel().0),
        may_go: Mutex::new(mpsc::channel().1),
    };
    let hand = Hand::of(proxy(finish(), app));
    let mut client = hand.connect_with("GET /held HTTP/1.1\r\nHost: a\r\n\r\n");
    has_arrived.recv().unwrap();
    // The head is out, and with it the promise that the connection goes on.
    let head = client.wire.read_head();
    assert!(!head.contains("close"), "{head}");
    client.wire.send(GET);
    shut_down(&hand.proxy);
    go.send(()).unwrap();
    assert_eq!(client.wire.read_exact(5), b"hello");
    client.expect_last();
    drop(client);
    hand.expect_ended(1);
}

#[test]
fn idle_connections_are_kept_for_one_more_request_while_it_drains() {
    let origin = Origin::answering(HELLO);
    let mut conf = finish();
    // Longer than the test: idle connections are never closed in it.
    conf.shutdown_drain_seconds = Some(600);
    let hand = Hand::of(proxy(conf, forward_to(origin.path())));
    let mut idle: Vec<Client> = (0..10).map(|_| hand.idle()).collect();
    let cleaning = runtime();
    cleaning.spawn({
        let proxy = hand.proxy.clone();
        async move { proxy.cleanup().await }
    });
    let mut probes = 0;
    eventually("the flag is set", || {
        let mut probe = hand.connect_with(GET);
        probes += 1;
        probe.wire.read_response().field("Connection") == Some("close")
    });
    for client in &mut idle {
        client.expect_open();
        client.wire.send(GET);
        client.expect_last();
    }
    // A connection that was on its way is treated as the others are.
    let mut late = hand.connect_with("");
    late.wire.send(GET);
    late.expect_last();
    drop((idle, late));
    hand.expect_ended(11 + probes);
    cleaning.shutdown_background();
}

#[test]
fn strict_is_the_check_of_the_flag_alone() {
    let origin = Origin::answering(HELLO);
    let (blocks, is_blocked) = mpsc::channel();
    let (go, may_go) = mpsc::channel();
    let app = Block {
        forward: forward_to(origin.path()),
        blocks: Mutex::new(blocks),
        may_go: Mutex::new(may_go),
    };
    let hand = Hand::of(proxy(strict(), app));
    let (mut idle, mut by_half) = (hand.idle(), hand.idle());
    by_half.wire.send("GET / HTTP/1.1\r\nHo");
    let mut blocked = hand.connect_with("GET /block HTTP/1.1\r\nHost: a\r\n\r\n");
    is_blocked.recv().unwrap();
    shut_down(&hand.proxy);
    go.send(()).unwrap();

    // Under way: finishes.
    blocked.expect_last();
    // About to read: dropped, whether it has asked or not.
    hand.connect_with("").expect_fin();
    hand.connect_with(GET).expect_fin();
    // Waiting already: stays, until a head is complete.
    idle.expect_open();
    by_half.expect_open();
    idle.wire.send(GET);
    idle.expect_fin();
    by_half.expect_open();
    by_half.wire.send("st: a\r\n\r\n");
    by_half.expect_fin();
    drop((idle, by_half, blocked));
    hand.expect_ended(5);
}

/// The read that waits is what lasts longest.
#[test]
fn under_strict_reads_end_with_the_shutdown_read_timeout() {
    let origin = Origin::answering(HELLO);
    let mut conf = strict();
    conf.shutdown_read_timeout_seconds = 1;
    let hand = Hand::of(proxy(conf, forward_to(origin.path())));
    let (mut idle, mut by_half, mut fresh) = (hand.idle(), hand.idle(), hand.connect_with(""));
    by_half.wire.send("GET / HTTP/1.1\r\nHo");
    shut_down(&hand.proxy);
    idle.expect_fin();
    fresh.expect_fin();
    if by_half.wire.has_more() {
        assert_eq!(by_half.wire.read_response().status(), 408);
    }
    by_half.expect_fin();
    drop((idle, by_half, fresh));
    hand.expect_ended(3);
}
