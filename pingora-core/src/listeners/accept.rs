//! Accepting connections and handing them to workers.
//!
//! One task per socket (times `listener_tasks_per_fd`) accepts, and gives each connection to the
//! worker that has the fewest. The descriptor crosses threads raw; the worker registers it with its
//! own reactor.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use socket2::Socket;
use tokio::io::unix::AsyncFd;
use tokio::io::Interest;
use tokio::net::{TcpStream, UnixStream};
use tokio::task::JoinSet;

use super::l4::Listening;
use super::Endpoint;
use crate::protocols::l4::stream::Stream as L4Stream;
use crate::server::{upgrading, ShutdownWatch};
use crate::worker::Workers;

/// Connections that are accepted in a row before others of the thread have their turn.
const BATCH: usize = 32;
/// How long to wait when the process can open no more files.
const PAUSE: Duration = Duration::from_millis(100);
/// How often at most that is told.
const TELL: Duration = Duration::from_secs(1);
/// How long a socket that takes no more connections must stay quiet until it is closed: about the
/// time that a handshake under way may still need.
const QUIET: Duration = Duration::from_millis(20);
/// How often it may fail to.
const QUIET_TRIES: usize = 25;

/// A connection that is registered with no reactor yet.
pub(crate) struct Accepted {
    socket: Socket,
    /// The client's address, none for a Unix socket.
    pub(super) peer: Option<SocketAddr>,
}

impl Accepted {
    /// Registers the connection with the reactor of the calling task.
    pub(super) fn into_stream(self) -> io::Result<L4Stream> {
        match self.peer {
            // TCP_NODELAY was inherited from the listening socket.
            Some(peer) => {
                let tcp = TcpStream::from_std(self.socket.into())?;
                Ok(L4Stream::with_peer(tcp, peer))
            }
            None => Ok(UnixStream::from_std(self.socket.into())?.into()),
        }
    }
}

/// The connections that a worker has. On a cache line of its own (two, for the line that is
/// fetched along): workers write theirs at the end of each connection.
#[repr(align(128))]
#[derive(Default)]
struct Live(AtomicUsize);

/// The workers of a service, and how many connections each of them has.
pub(crate) struct Pool {
    workers: Workers,
    live: Box<[Live]>,
    turn: AtomicUsize,
}

impl Pool {
    pub(crate) fn new(workers: Workers) -> Arc<Self> {
        let live = workers.handles().iter().map(|_| Live::default()).collect();
        Arc::new(Pool {
            workers,
            live,
            turn: AtomicUsize::new(0),
        })
    }

    /// The worker with the fewest connections; of several, each in its turn.
    fn least_loaded(&self) -> usize {
        let n = self.live.len();
        let first = self.turn.fetch_add(1, Ordering::Relaxed);
        (0..n)
            .map(|i| first.wrapping_add(i) % n)
            .min_by_key(|&i| self.live[i].0.load(Ordering::Relaxed))
            .unwrap_or(0)
    }

    /// Runs a connection on the worker that has the fewest.
    fn hand_over(self: &Arc<Self>, connection: impl Future<Output = ()> + Send + 'static) {
        let handles = self.workers.handles();
        if let [only] = handles {
            only.spawn(connection);
            return;
        }
        let worker = self.least_loaded();
        self.live[worker].0.fetch_add(1, Ordering::Relaxed);
        let place = Place(self.clone(), worker);
        handles[worker].spawn(async move {
            let _place = place;
            connection.await
        });
    }
}

/// A connection's place at its worker; given up at its end, even by a panic.
struct Place(Arc<Pool>, usize);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.live[self.1].0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Accepts connections at an endpoint until `shutdown` turns true, and then closes it.
///
/// `index` says which endpoint of its service it is, so that not all are accepted at by the same
/// worker. A connection whose handshake was complete is served, not reset: unless a new process
/// has the socket too, what waits is still accepted.
///
/// # Errors
/// When the socket cannot be registered with a reactor.
pub(crate) async fn run<C>(
    endpoint: Endpoint,
    index: usize,
    tasks: usize,
    pool: Arc<Pool>,
    shutdown: ShutdownWatch,
    connect: impl Fn(Accepted) -> C + Send + Sync + 'static,
) -> Result<(), String>
where
    C: Future<Output = ()> + Send + 'static,
{
    let Endpoint { listening, .. } = endpoint;
    let acceptor = Arc::new(Acceptor {
        listening,
        pool,
        connect,
        told: Mutex::new(None),
    });
    let handles = acceptor.pool.workers.handles();
    let mut registered: Vec<Option<Arc<AsyncFd<Arc<Socket>>>>> = vec![None; handles.len()];
    let mut loops = JoinSet::new();
    for task in 0..tasks.max(1) {
        let worker = (index + task) % handles.len();
        let fd = match &registered[worker] {
            Some(fd) => fd.clone(),
            None => {
                let fd = acceptor.register(worker)?;
                registered[worker].insert(fd).clone()
            }
        };
        let (acceptor, shutdown) = (acceptor.clone(), shutdown.clone());
        loops.spawn_on(
            async move { acceptor.accept_until(fd, shutdown).await },
            &handles[worker],
        );
    }
    drop(registered);
    while let Some(ended) = loops.join_next().await {
        if let Err(e) = ended {
            log::error!("{}: accepting has failed: {e}", acceptor.listening.bind);
        }
    }
    if !upgrading() {
        acceptor.accept_rest().await;
    }
    log::info!("no longer listening on {}", acceptor.listening.bind);
    Ok(())
}

struct Acceptor<F> {
    listening: Listening,
    pool: Arc<Pool>,
    connect: F,
    /// When it was last told that accepting fails.
    told: Mutex<Option<Instant>>,
}

impl<F, C> Acceptor<F>
where
    F: Fn(Accepted) -> C,
    C: Future<Output = ()> + Send + 'static,
{
    /// Registers the socket with the reactor of a worker.
    // What stands in for the deprecated function is in the newest tokio only; it differs for types
    // whose descriptor may change.
    #[allow(deprecated)]
    fn register(&self, worker: usize) -> Result<Arc<AsyncFd<Arc<Socket>>>, String> {
        let _there = self.pool.workers.handles()[worker].enter();
        AsyncFd::with_interest(self.listening.socket.clone(), Interest::READABLE)
            .map(Arc::new)
            .map_err(|e| format!("cannot listen on {}: {e}", self.listening.bind))
    }

    async fn accept_until(&self, fd: Arc<AsyncFd<Arc<Socket>>>, mut shutdown: ShutdownWatch) {
        // An error says that the server is gone.
        let mut stop = pin!(shutdown.wait_for(|on| *on));
        loop {
            let ready = tokio::select! {
                biased;
                _ = &mut stop => return,
                ready = fd.readable() => ready,
            };
            let mut ready = match ready {
                Ok(ready) => ready,
                // The runtime ends.
                Err(_) => return,
            };
            let mut pause = false;
            for _ in 0..BATCH {
                match ready.try_io(|fd| accept(fd.get_ref())) {
                    Err(_would_block) => break,
                    Ok(Ok(accepted)) => self.pool.hand_over((self.connect)(accepted)),
                    Ok(Err(e)) if concerns_one(&e) => {}
                    Ok(Err(e)) => {
                        self.tell(&e);
                        pause = true;
                        break;
                    }
                }
            }
            drop(ready);
            if pause {
                tokio::select! {
                    biased;
                    _ = &mut stop => return,
                    () = tokio::time::sleep(PAUSE) => {}
                }
            } else {
                tokio::task::yield_now().await;
            }
        }
    }

    /// Accepts what waits, and lets nothing new come to wait.
    async fn accept_rest(&self) {
        let socket = &*self.listening.socket;
        if let Err(e) = refuse_new(&self.listening) {
            log::debug!("{}: {e}", self.listening.bind);
        }
        for round in 0..QUIET_TRIES {
            let mut none = true;
            loop {
                match accept(socket) {
                    Ok(accepted) => {
                        none = false;
                        self.pool.hand_over((self.connect)(accepted));
                    }
                    Err(e) if concerns_one(&e) => {}
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                    // Files may be closed by the next round.
                    Err(e) => {
                        if !self.listening.unix {
                            self.tell(&e);
                            none = false;
                        }
                        break;
                    }
                }
            }
            if self.listening.unix || (none && round > 0) {
                return;
            }
            tokio::time::sleep(QUIET).await;
        }
    }

    fn tell(&self, e: &io::Error) {
        let now = Instant::now();
        let mut told = self.told.lock();
        if told.is_none_or(|last| now.duration_since(last) >= TELL) {
            *told = Some(now);
            log::error!("{}: cannot accept connections: {e}", self.listening.bind);
        }
    }
}

/// Whether an error concerns one connection and not the socket: the next one may be accepted.
fn concerns_one(e: &io::Error) -> bool {
    // accept(2): errors of the network that are already pending on the new connection come up here.
    matches!(
        e.raw_os_error(),
        Some(
            libc::ECONNABORTED
                | libc::EINTR
                | libc::EPERM
                | libc::EPROTO
                | libc::ENETDOWN
                | libc::ENETUNREACH
                | libc::EHOSTDOWN
                | libc::EHOSTUNREACH
                | libc::ENOPROTOOPT
                | libc::EOPNOTSUPP
                | libc::ETIMEDOUT
        )
    )
}

#[cfg(not(target_vendor = "apple"))]
pub(super) fn accept(socket: &Socket) -> io::Result<Accepted> {
    let (socket, peer) = socket.accept4(libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC)?;
    let peer = peer.as_socket();
    Ok(Accepted { socket, peer })
}

#[cfg(target_vendor = "apple")]
pub(super) fn accept(socket: &Socket) -> io::Result<Accepted> {
    let (socket, peer) = socket.accept()?;
    socket.set_nonblocking(true)?;
    let peer = peer.as_socket();
    Ok(Accepted { socket, peer })
}

/// Lets no new connection begin at a socket; those that wait to be accepted stay.
fn refuse_new(listening: &Listening) -> io::Result<()> {
    if listening.unix {
        listening.socket.shutdown(std::net::Shutdown::Read)
    } else {
        drop_syns(&listening.socket)
    }
}

/// Drops segments that begin a connection (SYN without ACK): their clients ask again, and then
/// find the port closed instead of a connection that is reset. Segments that complete a handshake
/// pass.
#[cfg(target_os = "linux")]
pub(super) fn drop_syns(socket: &Socket) -> io::Result<()> {
    use socket2::SockFilter;
    const FLAGS: u32 = 13; // The offset of the flags in a TCP header.
    const SYN: u32 = 0x02;
    const ACK: u32 = 0x10;
    let op = |class: u32, how: u32| (class | how) as u16;
    socket.attach_filter(&[
        SockFilter::new(op(libc::BPF_LD, libc::BPF_B | libc::BPF_ABS), 0, 0, FLAGS),
        SockFilter::new(
            op(libc::BPF_ALU, libc::BPF_AND | libc::BPF_K),
            0,
            0,
            SYN | ACK,
        ),
        SockFilter::new(op(libc::BPF_JMP, libc::BPF_JEQ | libc::BPF_K), 0, 1, SYN),
        SockFilter::new(op(libc::BPF_RET, libc::BPF_K), 0, 0, 0),
        SockFilter::new(op(libc::BPF_RET, libc::BPF_K), 0, 0, u32::MAX),
    ])
}

#[cfg(not(target_os = "linux"))]
pub(super) fn drop_syns(_socket: &Socket) -> io::Result<()> {
    Ok(())
}
