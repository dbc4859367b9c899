use std::any::Any;
use std::future::Future;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::atomic::{AtomicUsize, Ordering};

use pingora_error::ErrorSource;
use pingora_error::ErrorType::ConnectTimedout;
use pingora_http::RequestHeader;
use tokio::runtime::{Builder, Runtime};

use super::*;
use crate::connectors::http::{v1, v2};
use crate::connectors::l4::is_local_shortage;
use crate::connectors::{lacks_connect_permit, TransportConnector};
use crate::protocols::http::client::HttpSession;
use crate::protocols::http::v1::client::HttpSession as Http1Session;
use crate::protocols::{UniqueIDType, ALPN};
use crate::upstreams::peer::HttpPeer;

/// At most so many connections.
#[derive(Clone, Debug)]
struct Most {
    max: usize,
    key: u64,
    open: Arc<AtomicUsize>,
}

struct Place(Arc<AtomicUsize>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Most {
    fn new(max: usize) -> Self {
        static KEYS: AtomicUsize = AtomicUsize::new(1);
        Most {
            max,
            key: KEYS.fetch_add(1, Ordering::SeqCst) as u64,
            open: Arc::default(),
        }
    }

    fn open(&self) -> usize {
        self.open.load(Ordering::SeqCst)
    }

    /// A peer at `listener` whose connections are limited, and not shared with those of another group.
    fn peer(&self, listener: &TcpListener, group: u64) -> HttpPeer {
        let address = listener.local_addr().unwrap();
        let mut peer = HttpPeer::new(address, false, String::new());
        peer.group_key = group;
        peer.options.connect_permit = Some(Arc::new(self.clone()));
        peer
    }
}

impl ConnectPermit for Most {
    fn acquire(&self) -> Option<Box<dyn Any + Send + Sync>> {
        let more = |open: usize| (open < self.max).then(|| open + 1);
        let taken = self
            .open
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, more);
        taken
            .is_ok()
            .then(|| Box::new(Place(self.open.clone())) as _)
    }

    fn key(&self) -> u64 {
        self.key
    }
}

/// A worker: a runtime of one thread, on which tasks go on while nobody waits for them.
struct Worker(Runtime);

impl Worker {
    fn start() -> Self {
        let runtime = { Builder::new_multi_thread() }
            .worker_threads(1)
            .enable_all()
            .build();
        Worker(runtime.unwrap())
    }

    fn run<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> T {
        self.0.block_on(self.0.spawn(work)).unwrap()
    }

    fn h1(&self, of: &Arc<v1::Connector>, peer: &HttpPeer) -> Result<(Http1Session, bool)> {
        let (of, peer) = (of.clone(), peer.clone());
        self.run(async move { of.get_http_session(&peer).await })
    }

    /// Leaves an idle connection to the peer, and returns what tells it from others.
    fn kept(&self, of: &Arc<v1::Connector>, peer: &HttpPeer) -> UniqueIDType {
        let (of, peer) = (of.clone(), peer.clone());
        self.run(async move {
            let (mut session, _) = of.get_http_session(&peer).await.unwrap();
            exchange(&mut session).await;
            let id = session.stream().id();
            of.release_http_session(session, &peer, None).await;
            id
        })
    }
}

/// A server of HTTP/1.1 that answers every request, and one of HTTP/2 that needs no answer: the kernel accepts.
fn listener() -> TcpListener {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let accepting = listener.try_clone().unwrap();
    std::thread::spawn(move || {
        for stream in accepting.incoming() {
            std::thread::spawn(move || answer(stream.unwrap()));
        }
    });
    listener
}

/// Answers each request, and an HTTP/2 preface with nothing.
fn answer(mut stream: std::net::TcpStream) {
    let mut part = [0; 1024];
    while let Ok(count @ 1..) = stream.read(&mut part) {
        if part[..count].ends_with(b"\r\n\r\n") && part.starts_with(b"GET") {
            let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
            stream.write_all(answer).unwrap();
        }
    }
}

/// Sends a request on a session, and reads the answer, after which its connection can be kept.
async fn exchange(session: &mut Http1Session) {
    let request = RequestHeader::build("GET", b"/", None).unwrap();
    session
        .write_request_header(Box::new(request))
        .await
        .unwrap();
    session.read_response().await.unwrap();
    while session.read_body_ref().await.unwrap().is_some() {}
}

#[test]
fn without_a_place_there_is_no_connection_and_the_server_is_not_to_blame() {
    let (listener, most, worker) = (listener(), Most::new(1), Worker::start());
    let peer = most.peer(&listener, 0);
    let h1 = Arc::new(v1::Connector::new(None));
    let held = worker.h1(&h1, &peer).unwrap().0;
    let e = worker.h1(&h1, &peer).err().unwrap();
    assert!(lacks_connect_permit(&e) && !is_local_shortage(&e));
    assert_eq!(
        (e.etype(), e.esource()),
        (&HTTPStatus(503), &ErrorSource::Upstream)
    );
    assert!(!lacks_connect_permit(&Error::new_up(HTTPStatus(503))));
    drop(held);
    assert_eq!(most.open(), 0);
    // A dial that fails leaves its place, too.
    let closed = TcpListener::bind("127.0.0.1:0").unwrap();
    let nobody = most.peer(&closed, 0);
    drop(closed);
    let e = worker.h1(&h1, &nobody).err().unwrap();
    assert!(!lacks_connect_permit(&e));
    assert_eq!(most.open(), 0);
}

#[test]
fn an_idle_connection_of_another_worker_is_taken() {
    let (listener, most) = (listener(), Most::new(1));
    let (one, other) = (Worker::start(), Worker::start());
    let peer = most.peer(&listener, 0);
    let h1 = Arc::new(v1::Connector::new(None));
    let first = one.kept(&h1, &peer);
    let (session, reused) = other.h1(&h1, &peer).unwrap();
    assert!(reused);
    assert_eq!((session.stream().id(), most.open()), (first, 1));
}

#[test]
fn an_idle_connection_that_is_of_no_use_gives_way() {
    let (listener, most) = (listener(), Most::new(2));
    let (one, other) = (Worker::start(), Worker::start());
    let peers = [1, 2, 3].map(|group| most.peer(&listener, group));
    // Of another limit.
    let spared = Most::new(1);
    let spare = spared.peer(&listener, 0);
    let [h1, beside] = [(); 2].map(|()| Arc::new(v1::Connector::new(None)));
    one.kept(&h1, &spare);
    one.kept(&h1, &peers[0]);
    let held = one.h1(&h1, &peers[1]).unwrap();
    // Another worker, and another pool.
    let (_session, reused) = other.h1(&beside, &peers[2]).unwrap();
    assert!(!reused);
    assert_eq!((most.open(), spared.open()), (2, 1));
    assert!(lacks_connect_permit(
        &other.h1(&beside, &peers[0]).err().unwrap()
    ));
    drop(held);
    assert!(!one.h1(&h1, &peers[0]).unwrap().1);
}

#[test]
fn an_idle_connection_of_http2_gives_way() {
    let (listener, most) = (listener(), Most::new(1));
    let (one, other) = (Worker::start(), Worker::start());
    let mut peer = most.peer(&listener, 0);
    peer.options.alpn = ALPN::H2;
    let h2 = Arc::new(v2::Connector::new(None));
    let session = |worker: &Worker| {
        let (h2, peer) = (h2.clone(), peer.clone());
        worker.run(async move { h2.new_http_session::<_, ()>(&peer).await })
    };
    let HttpSession::H2(held) = session(&one).unwrap() else {
        panic!("HTTP/2 by prior knowledge");
    };
    assert!(lacks_connect_permit(&session(&other).err().unwrap()));
    let (keeping, of) = (h2.clone(), peer.clone());
    one.run(async move { keeping.release_http_session(held, &of, None) });
    let made = session(&other).unwrap();
    assert_eq!(most.open(), 1);
    drop(made);
}

/// Keeps a connection that never closes.
struct Stubborn {
    limit: u64,
    _open: watch::Sender<bool>,
    closing: watch::Receiver<bool>,
}

impl Stubborn {
    fn start(most: &Most) -> Arc<Self> {
        let (open, closing) = watch::channel(false);
        let pool = Arc::new(Stubborn {
            limit: most.key,
            _open: open,
            closing,
        });
        let weak: Weak<Self> = Arc::downgrade(&pool);
        register(weak);
        pool
    }
}

impl IdleConnections for Stubborn {
    fn close_oldest(&self, limit: u64) -> Option<Closing> {
        (limit == self.limit).then(|| Closing(Some(self.closing.clone())))
    }
}

#[test]
fn what_does_not_give_way_keeps_no_pool_alive_and_takes_no_longer_than_connecting_may() {
    let (listener, most, worker) = (listener(), Most::new(1), Worker::start());
    let mut peer = most.peer(&listener, 0);
    let _stubborn = Stubborn::start(&most);
    let beside = Arc::new(v1::Connector::new(None));
    worker.kept(&beside, &peer);
    assert_eq!(most.open(), 1);

    // Of another limit, so that it is the stubborn one that is asked.
    let none = Most {
        max: 0,
        ..most.clone()
    };
    peer.options.connect_permit = Some(Arc::new(none));
    peer.options.total_connection_timeout = Some(LIMITS.give_way / 10);
    let paused = { Builder::new_current_thread() }
        .enable_all()
        .start_paused(true)
        .build();
    paused.unwrap().block_on(async {
        let connector = TransportConnector::new(None);
        let mut connecting = std::pin::pin!(connector.new_stream(&peer));
        assert!(futures::poll!(connecting.as_mut()).is_pending());
        drop(beside);
        eventually(|| most.open() == 0);
        let e = connecting.await.err().unwrap();
        assert_eq!(e.etype(), &ConnectTimedout);
    });
}

/// Waits for what happens on other threads.
fn eventually(holds: impl Fn() -> bool) {
    let since = std::time::Instant::now();
    while !holds() {
        assert!(since.elapsed().as_secs() < 60);
        std::thread::yield_now();
    }
}

#[test]
fn threads_never_open_more_and_none_that_is_idle_is_in_the_way() {
    let (listener, most) = (listener(), Most::new(4));
    let peer = most.peer(&listener, 0);
    let h1 = Arc::new(v1::Connector::new(None));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            let (h1, peer, most) = (&h1, &peer, &most);
            scope.spawn(move || {
                let worker = Worker::start();
                for _ in 0..50 {
                    // One for each thread: there is always one that is not in use.
                    worker.kept(h1, peer);
                    assert!(most.open() <= 4);
                }
            });
        }
    });
    drop(h1);
    // Who makes way in another test looks into all pools.
    eventually(|| most.open() == 0);
}
