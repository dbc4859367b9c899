use std::future::Future;
use std::pin::pin;
use std::sync::atomic::AtomicU8;

use tokio::io::{AsyncWriteExt, DuplexStream};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::protocols::l4::stream::Stream as L4Stream;
use crate::protocols::Stream;

const QUIET: u8 = 0;
const CLOSED: u8 = 1;
const DATA: u8 = 2;

/// A connection that is what its test says.
struct Fake {
    name: u32,
    state: Arc<AtomicU8>,
    movable: bool,
    adopted: bool,
    limit: Option<u64>,
}

impl Idle for Fake {
    fn poll_idle(&mut self, _: &mut Context<'_>) -> Poll<Ended> {
        match self.state.load(Ordering::Relaxed) {
            QUIET => Poll::Pending,
            CLOSED => Poll::Ready(Ended::Closed),
            _ => Poll::Ready(Ended::UnexpectedData),
        }
    }

    fn can_move(&self) -> bool {
        self.movable
    }

    fn adopt(mut self) -> Option<Self> {
        self.adopted = true;
        self.movable.then_some(self)
    }

    fn limit_key(&self) -> Option<u64> {
        self.limit
    }
}

fn fake(name: u32) -> Fake {
    Fake {
        name,
        state: Arc::default(),
        movable: true,
        adopted: false,
        limit: None,
    }
}

fn pool(limit: usize) -> Arc<IdlePool<Fake>> {
    IdlePool::new(limit, None)
}

/// A pool in which this worker has room for one, and the shared bucket too.
fn shared_with_another() -> Arc<IdlePool<Fake>> {
    let pool = pool(3);
    elsewhere(|| pool.put(9, fake(9), None));
    pool
}

fn name(taken: Option<Fake>) -> Option<u32> {
    taken.map(|fake| fake.name)
}

/// Runs `work` as another worker.
fn elsewhere<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| scope.spawn(work).join().unwrap())
}

fn swept<T: Idle>(pool: &IdlePool<T>) -> bool {
    let own = pool.buckets.here().unwrap();
    let swept = own.bucket.lock().swept;
    swept
}

#[test]
fn the_latest_of_a_key_first() {
    let pool = pool(10);
    for (key, name) in [(1, 10), (2, 20), (1, 11), (1, 12)] {
        pool.put(key, fake(name), None);
    }
    for (key, expected) in [
        (3, None),
        (1, Some(12)),
        (1, Some(11)),
        (2, Some(20)),
        (1, Some(10)),
        (1, None),
        (2, None),
    ] {
        assert_eq!(name(pool.take(key)), expected);
    }
}

#[test]
fn what_ended_is_passed_over() {
    let pool = pool(10);
    for (i, state) in [QUIET, CLOSED, DATA, QUIET, DATA].into_iter().enumerate() {
        let fake = fake(i as u32);
        fake.state.store(state, Ordering::Relaxed);
        pool.put(1, fake, None);
    }
    assert_eq!(name(pool.take(1)), Some(3));
    assert_eq!(pool.unexpected_data().load(Ordering::Relaxed), 1);
    assert_eq!(name(pool.take(1)), Some(0));
    assert_eq!(pool.unexpected_data().load(Ordering::Relaxed), 2);
    assert_eq!(name(pool.take(1)), None);
}

#[test]
fn nothing_is_kept() {
    let none = pool(0);
    none.put(1, fake(1), None);
    assert_eq!(name(none.take(1)), None);
    let pool = pool(10);
    pool.put(1, fake(1), Some(Duration::ZERO));
    assert_eq!(name(pool.take(1)), None);
    assert!(pool.buckets.here().is_none());
}

#[test]
fn surplus_goes_to_others() {
    let pool = pool(4);
    // Another worker has a share, so this one's is two.
    elsewhere(|| pool.put(9, fake(9), None));
    for name in 0..4 {
        pool.put(1, fake(name), None);
    }
    assert_eq!(pool.shared_len.load(Ordering::Relaxed), 1, "four in all");
    assert_eq!(pool.put(2, fake(4), None).map(|_| ()), None);
    assert_eq!(name(pool.take(2)), Some(4), "in place of the oldest");
    pool.put(1, fake(5), None);
    let taken = elsewhere(|| [pool.take(1), pool.take(1)]);
    let [Some(first), None] = taken else {
        panic!("one connection was shared");
    };
    assert!(first.adopted);
    assert_eq!(first.name, 2);
    for expected in [Some(5), Some(3), None] {
        let taken = pool.take(1);
        assert!(taken.as_ref().is_none_or(|fake| !fake.adopted));
        assert_eq!(name(taken), expected);
    }
}

#[test]
fn the_own_bucket_first() {
    let pool = shared_with_another();
    pool.put(1, fake(0), None);
    pool.put(1, fake(1), None);
    assert_eq!(pool.shared_len.load(Ordering::Relaxed), 1);
    assert_eq!(name(pool.take(1)), Some(0));
    assert_eq!(name(pool.take(1)), Some(1));
}

#[test]
fn what_cannot_move_is_not_shared() {
    let pool = shared_with_another();
    for name in 0..2 {
        let fixed = Fake {
            movable: false,
            ..fake(name)
        };
        pool.put(1, fixed, None);
    }
    assert_eq!(name(pool.take(1)), Some(0));
    assert_eq!(name(pool.take(1)), None);
}

#[test]
fn no_more_than_the_limit() {
    let pool = pool(3);
    for name in 0..10 {
        pool.put(1, fake(name), None);
    }
    let taken = std::iter::from_fn(|| name(pool.take(1))).count();
    assert_eq!(taken, 3);
}

#[tokio::test(start_paused = true)]
async fn an_idle_timeout() {
    let pool = pool(10);
    let seconds = |n| Some(Duration::from_secs(n));
    pool.put(1, fake(1), seconds(100));
    pool.put(1, fake(2), seconds(5));
    pool.put(1, fake(3), Some(Duration::MAX));
    // Without a turn for the sweep.
    tokio::time::advance(Duration::from_secs(6)).await;
    assert_eq!(name(pool.take(1)), Some(3));
    assert_eq!(name(pool.take(1)), Some(1));
    assert_eq!(name(pool.take(1)), None);
}

#[tokio::test(start_paused = true)]
async fn the_callback_is_told_of_reuse() {
    let told = Arc::new(Mutex::new(Vec::new()));
    let tell = told.clone();
    let callback: PoolCallback = Arc::new(move |idle| tell.lock().push(idle));
    let pool = IdlePool::new(10, Some(callback));
    pool.put(1, fake(1), None);
    let closed = fake(2);
    closed.state.store(CLOSED, Ordering::Relaxed);
    pool.put(1, closed, None);
    tokio::time::advance(Duration::from_millis(300)).await;
    assert_eq!(name(pool.take(1)), Some(1));
    assert_eq!(told.lock()[..], [Duration::from_millis(300)]);
}

#[tokio::test(start_paused = true)]
async fn the_sweep() {
    let pool = pool(10);
    let states: Vec<_> = (0..3)
        .map(|i| {
            let fake = fake(i);
            let state = fake.state.clone();
            let timeout = (i == 2).then_some(Duration::from_secs(10));
            pool.put(u64::from(i), fake, timeout);
            state
        })
        .collect();
    let alive = |i: usize| Arc::strong_count(&states[i]) == 2;
    assert!(swept(&pool));
    tokio::time::sleep(SWEEP_PERIOD * 2).await;
    assert!(alive(0) && alive(1) && alive(2));

    states[1].store(DATA, Ordering::Relaxed);
    tokio::time::sleep(SWEEP_PERIOD * 2).await;
    assert!(alive(0) && !alive(1) && alive(2));
    assert_eq!(pool.unexpected_data().load(Ordering::Relaxed), 1);

    tokio::time::sleep(Duration::from_secs(10)).await;
    assert!(alive(0) && !alive(2), "too old");

    assert!(swept(&pool));
    states[0].store(CLOSED, Ordering::Relaxed);
    tokio::time::sleep(SWEEP_PERIOD * 2).await;
    assert!(
        !alive(0) && swept(&pool),
        "empty for a moment only, perhaps"
    );
    tokio::time::sleep(SWEEP_PERIOD * (EMPTY_SWEEPS + 2)).await;
    assert!(!swept(&pool), "nothing is left to look after");

    pool.put(1, fake(7), None);
    assert!(swept(&pool));
    assert_eq!(name(pool.take(1)), Some(7));
}

#[tokio::test(start_paused = true)]
async fn the_sweep_of_what_is_shared() {
    let pool = shared_with_another();
    pool.put(1, fake(0), None);
    let shared = fake(1);
    let state = shared.state.clone();
    pool.put(1, shared, None);
    assert_eq!(name(pool.take_own(1)), Some(0));
    tokio::time::sleep(SWEEP_PERIOD * 2).await;
    assert_eq!(Arc::strong_count(&state), 2);
    assert!(swept(&pool), "what is shared is looked after too");
    state.store(CLOSED, Ordering::Relaxed);
    tokio::time::sleep(SWEEP_PERIOD * 2).await;
    assert_eq!(Arc::strong_count(&state), 1);
    tokio::time::sleep(SWEEP_PERIOD * (EMPTY_SWEEPS + 2)).await;
    assert!(!swept(&pool));
}

#[tokio::test(start_paused = true)]
async fn the_sweep_does_not_keep_the_pool() {
    let pool = pool(10);
    let fake = fake(1);
    let state = fake.state.clone();
    pool.put(1, fake, None);
    tokio::time::sleep(SWEEP_PERIOD * 2).await;
    drop(pool);
    assert_eq!(Arc::strong_count(&state), 1);
}

#[test]
fn the_sweep_of_the_next_runtime() {
    let pool = pool(10);
    pool.put(1, fake(0), None);
    assert!(!swept(&pool), "nobody can");
    for name in 1..3 {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async { pool.put(1, fake(name), None) });
        assert!(swept(&pool));
        drop(runtime);
        assert!(!swept(&pool));
    }
    for expected in [Some(2), Some(1), Some(0), None] {
        assert_eq!(name(pool.take(1)), expected);
    }
}

/// A connection to a server, and the server's end of it.
async fn connection(told: &[u8]) -> (Stream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let (accepted, ours) = tokio::join!(listener.accept(), TcpStream::connect(addr));
    let (mut theirs, ours) = (accepted.unwrap().0, ours.unwrap());
    if !told.is_empty() {
        theirs.write_all(told).await.unwrap();
        ours.readable().await.unwrap();
    }
    (Box::new(L4Stream::from(ours)), theirs)
}

#[tokio::test]
async fn real_connections() {
    let pool = IdlePool::new(10, None);
    let (quiet, _theirs) = connection(b"").await;
    let id = quiet.id();
    pool.put(1, quiet, None);
    let taken = pool.take(1).unwrap();
    assert_eq!(taken.id(), id);

    let (talking, _theirs) = connection(b"HTTP/1.1 408 Request Timeout\r\n\r\n").await;
    pool.put(2, talking, None);
    assert!(pool.take(2).is_none());
    assert_eq!(pool.unexpected_data().load(Ordering::Relaxed), 1);

    // Closed while idle: the reactor is told before the sweep, or the next to take it.
    let (closing, theirs) = connection(b"").await;
    pool.put(3, closing, None);
    drop(theirs);
    let own = pool.buckets.here().unwrap();
    while own.len.load(Ordering::Relaxed) > 0 {
        tokio::task::yield_now().await;
        pool.sweep(worker::current(), true);
    }
    assert_eq!(pool.unexpected_data().load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn pipes_stay_with_their_worker() {
    let pool: Arc<IdlePool<Stream>> = IdlePool::new(1, None);
    elsewhere(|| pool.put(9, Box::new(tokio::io::duplex(1).0), None));
    let pipe = || -> (Stream, DuplexStream) {
        let (ours, theirs) = tokio::io::duplex(8);
        (Box::new(ours), theirs)
    };
    let ((one, _one), (two, mut other)) = (pipe(), pipe());
    pool.put(1, one, None);
    pool.put(1, two, None);
    assert!(pool.take(1).is_some());
    assert!(pool.take(1).is_none());
    assert!(
        other.write_all(b"x").await.is_err(),
        "the surplus is closed"
    );
}

#[test]
fn a_connection_changes_its_worker() {
    let runtime = || {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
    };
    let pool: Arc<IdlePool<Stream>> = IdlePool::new(2, None);
    // Leave an empty bucket, for a share of one.
    elsewhere(|| {
        pool.put(1, Box::new(tokio::io::duplex(1).0), None);
        assert!(pool.take(1).is_none(), "its other end is gone");
    });
    let first = runtime();
    let (own, shared, mut theirs) = first.block_on(async {
        let (own, keep) = connection(b"").await;
        let (shared, theirs) = connection(b"").await;
        let ids = (own.id(), shared.id());
        pool.put(1, own, None);
        pool.put(1, shared, None);
        (keep, ids.1, theirs.into_std().unwrap())
    });
    elsewhere(|| {
        runtime().block_on(async {
            let mut taken = pool.take(1).unwrap();
            assert_eq!(taken.id(), shared);
            assert!(pool.take(1).is_none());
            // It works without the runtime that made it.
            first.shutdown_background();
            std::io::Write::write_all(&mut theirs, b"x").unwrap();
            let byte = tokio::io::AsyncReadExt::read_u8(&mut taken).await.unwrap();
            assert_eq!(byte, b'x');
        });
    });
    drop(own);
}

#[tokio::test]
async fn a_task_without_budget_is_told_the_truth() {
    let (mut talking, _theirs) = connection(b"x").await;
    let mut cx = Context::from_waker(Waker::noop());
    while pin!(tokio::task::coop::consume_budget())
        .poll(&mut cx)
        .is_ready()
    {}
    assert_eq!(
        talking.poll_idle(&mut cx),
        Poll::Ready(Ended::UnexpectedData)
    );
}

#[test]
fn a_sweep_takes_those_that_have_ended_and_leaves_the_others_in_their_order() {
    let pool = pool(10);
    for number in 0..6 {
        let conn = fake(number);
        let ended = [1, 2, 4].contains(&number);
        conn.state
            .store(if ended { CLOSED } else { QUIET }, Ordering::Relaxed);
        pool.put(1, conn, None);
    }
    assert!(pool.sweep(worker::current(), false));
    let left = std::iter::from_fn(|| name(pool.take(1)));
    assert_eq!(left.collect::<Vec<_>>(), [5, 3, 0]);
}

#[test]
fn only_those_of_a_key_are_looked_at_where_it_is_known() {
    let mut bucket = Bucket::default();
    for key in 0..100 {
        let entry = Entry {
            conn: key,
            since: None,
            expires: None,
            number: 0,
        };
        bucket.push(key, entry);
    }
    let looked = std::cell::Cell::new(0);
    let wanted = |_: &u64| {
        looked.set(looked.get() + 1);
        true
    };
    assert_eq!(bucket.oldest(Some(7), wanted), Some(((7, 0), None)));
    assert_eq!(bucket.oldest(Some(100), wanted), None);
    assert_eq!(looked.get(), 1);
    assert_eq!(
        bucket.oldest(None, |_| true),
        Some(((0, 0), None)),
        "it came first"
    );
}
