//! Requests that wait for a connection which another one makes.

use std::any::Any;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use futures::future::join_all;
use futures::poll;
use pingora_error::ErrorType::ConnectRefused;
use tokio::net::UnixStream;
use tokio::sync::Semaphore;

use super::*;
use crate::connectors::l4::Connect;
use crate::connectors::ConnectPermit;
use crate::protocols::l4::socket::SocketAddr;
use crate::protocols::l4::stream::Stream as L4Stream;

/// Connects to the origin, or is refused, once it is let.
#[derive(Debug)]
struct Gate {
    connects: AtomicUsize,
    open: Semaphore,
    origin: Option<PathBuf>,
}

impl Gate {
    fn new(origin: Option<&Origin>) -> Arc<Self> {
        Arc::new(Gate {
            connects: AtomicUsize::new(0),
            open: Semaphore::new(0),
            origin: origin.map(|origin| origin.dir.path().join("origin")),
        })
    }

    fn connects(&self) -> usize {
        self.connects.load(Ordering::Relaxed)
    }

    fn peer(self: &Arc<Self>, max_streams: usize) -> HttpPeer {
        let mut peer = HttpPeer::new("127.0.0.1:1", false, String::new());
        peer.options.alpn = ALPN::H2;
        peer.options.max_h2_streams = max_streams;
        peer.options.custom_l4 = Some(self.clone());
        peer
    }
}

#[async_trait]
impl Connect for Gate {
    async fn connect(&self, _: &SocketAddr) -> Result<L4Stream> {
        self.connects.fetch_add(1, Ordering::Relaxed);
        self.open.acquire().await.unwrap().forget();
        match &self.origin {
            Some(path) => Ok(UnixStream::connect(path).await.unwrap().into()),
            None => Error::e_explain(ConnectRefused, "no such luck"),
        }
    }
}

type Made = Result<(HttpSession<()>, bool)>;

#[tokio::test]
async fn a_failure_is_shared_by_those_who_waited() {
    let gate = Gate::new(None);
    let peer = gate.peer(10);
    let connector = Connector::new(None);
    let mut all = Box::pin(join_all((0..5).map(|_| connector.soon(&peer))));
    assert!(poll!(&mut all).is_pending());
    gate.open.add_permits(100);
    let all: Vec<Made> = all.await;
    assert_eq!(gate.connects(), 1);
    for made in all {
        let e = made.err().unwrap();
        assert_eq!(e.etype(), &ConnectRefused);
        assert!(!e.retry() && e.to_string().contains("no such luck"), "{e}");
    }
    // Nobody is taken to be connecting still.
    let late: Made = connector.soon(&peer).await;
    assert!(late.is_err());
    assert_eq!(gate.connects(), 2);
}

/// Counts the connections that were asked for, and the requests that wait for the one of another.
#[derive(Debug, Default)]
struct Told {
    acquired: AtomicUsize,
    joined: AtomicUsize,
}

impl ConnectPermit for Told {
    fn acquire(&self) -> Option<Box<dyn Any + Send + Sync>> {
        self.acquired.fetch_add(1, Ordering::Relaxed);
        Some(Box::new(()))
    }

    fn key(&self) -> u64 {
        1
    }

    fn joins(&self) {
        self.joined.fetch_add(1, Ordering::Relaxed);
    }
}

#[tokio::test]
async fn a_limit_is_told_of_those_who_wait_for_the_connection_of_another() {
    let gate = Gate::new(None);
    let told = Arc::new(Told::default());
    let mut peer = gate.peer(10);
    peer.options.connect_permit = Some(told.clone());
    let connector = Connector::new(None);
    let mut all = Box::pin(join_all((0..5).map(|_| connector.soon::<_, ()>(&peer))));
    assert!(poll!(&mut all).is_pending());
    let count = |of: &AtomicUsize| of.load(Ordering::Relaxed);
    assert_eq!((count(&told.acquired), count(&told.joined)), (1, 4));
}

#[tokio::test]
async fn one_goes_on_when_the_connecting_request_is_gone() {
    let origin = Origin::start();
    let gate = Gate::new(Some(&origin));
    let peer = gate.peer(10);
    let connector = Connector::new(None);
    let mut first = Box::pin(connector.soon::<_, ()>(&peer));
    assert!(poll!(&mut first).is_pending());
    let mut others = Box::pin(join_all((0..5).map(|_| connector.soon(&peer))));
    assert!(poll!(&mut others).is_pending());
    drop(first);
    assert!(poll!(&mut others).is_pending());
    assert_eq!(gate.connects(), 2, "one of them connects");
    gate.open.add_permits(100);
    let others: Vec<Made> = others.await;
    assert_eq!(gate.connects(), 2);
    let reused = others.into_iter().filter(|made| made.as_ref().unwrap().1);
    assert_eq!(reused.count(), 4);
}

#[tokio::test(start_paused = true)]
async fn each_waits_for_as_long_as_it_may_itself() {
    let gate = Gate::new(None);
    let connector = Connector::new(None);
    let patient = gate.peer(10);
    let mut patient = Box::pin(connector.soon::<_, ()>(&patient));
    assert!(poll!(&mut patient).is_pending());
    let limit = Duration::from_secs(3);
    type Limit = fn(&mut HttpPeer, Duration);
    let limits: [Limit; 2] = [
        |peer, limit| peer.options.connection_timeout = Some(limit),
        |peer, limit| peer.options.total_connection_timeout = Some(limit),
    ];
    for set in limits {
        let mut hasty = gate.peer(10);
        set(&mut hasty, limit);
        let since = Instant::now();
        let made: Made = connector.soon(&hasty).await;
        assert_eq!(made.err().unwrap().etype(), &ConnectTimedout);
        assert_eq!(since.elapsed().as_secs(), limit.as_secs());
    }
    assert_eq!(gate.connects(), 1);
    assert!(poll!(&mut patient).is_pending());
}

#[tokio::test(start_paused = true)]
async fn a_limit_of_one_is_no_failure_of_another() {
    let gate = Gate::new(None);
    let connector = Connector::new(None);
    let mut hasty = gate.peer(10);
    hasty.options.total_connection_timeout = Some(Duration::from_secs(3));
    let patient = gate.peer(10);
    let mut first = Box::pin(connector.soon::<_, ()>(&hasty));
    assert!(poll!(&mut first).is_pending());
    let mut others = Box::pin(join_all((0..3).map(|_| connector.soon::<_, ()>(&patient))));
    assert!(poll!(&mut others).is_pending());
    assert_eq!(
        first.await.err().unwrap().etype(),
        &ConnectTimedout,
        "by its own limit"
    );
    assert!(poll!(&mut others).is_pending());
    assert_eq!(gate.connects(), 2, "one of them connects");
}

#[tokio::test]
async fn a_place_of_one_that_left_is_free() {
    let origin = Origin::start();
    let gate = Gate::new(Some(&origin));
    let peer = gate.peer(2);
    let connector = Connector::new(None);
    let mut first = Box::pin(connector.soon::<_, ()>(&peer));
    assert!(poll!(&mut first).is_pending());
    for _ in 0..3 {
        let mut left = Box::pin(connector.soon::<_, ()>(&peer));
        assert!(poll!(&mut left).is_pending());
    }
    assert_eq!(gate.connects(), 1);
}

/// A peer that is slow to connect to, and slow again in what comes on top, has its time for both together.
#[tokio::test(start_paused = true)]
async fn the_total_time_is_for_all_steps() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("silent");
    // It takes connections, and says nothing: its SETTINGS do not come.
    let _silent = UnixListener::bind(&path).unwrap();
    let mut peer = HttpPeer::new_uds(path.to_str().unwrap(), false, String::new()).unwrap();
    peer.options.alpn = ALPN::H2;
    peer.options.total_connection_timeout = Some(Duration::from_secs(4));
    peer.options.custom_l4 = Some(Arc::new(Slow(path)));
    let connector = Connector::new(None);
    let since = Instant::now();
    let e = connector.extended_session(&peer).await.err().unwrap();
    assert_eq!(e.etype(), &ConnectTimedout);
    assert_eq!(since.elapsed().as_secs(), 4);
}

/// Takes three seconds to connect.
#[derive(Debug)]
struct Slow(PathBuf);

#[async_trait]
impl Connect for Slow {
    async fn connect(&self, _: &SocketAddr) -> Result<L4Stream> {
        tokio::time::sleep(Duration::from_secs(3)).await;
        Ok(UnixStream::connect(&self.0).await.unwrap().into())
    }
}
